"""Processes share what Python compiles, as those of an installed program do.

Where `PYTHONDONTWRITEBYTECODE` is set, as in many containers, every process compiles all that it imports, JAX and Ray among it:
about 3 s that no user waits for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

SWITCH, PREFIX = "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"


@contextmanager
def shared_bytecode() -> Iterator[None]:
    """This process, and those that it starts, read and write bytecode in a temporary folder; nothing changes where they do so
    anyway. What is to gain from it is imported within.
    """
    if not os.environ.get(SWITCH):
        yield
        return
    before = {name: os.environ.get(name) for name in (SWITCH, PREFIX)}
    here = sys.dont_write_bytecode, sys.pycache_prefix
    with TemporaryDirectory() as folder:
        try:
            os.environ[PREFIX] = sys.pycache_prefix = folder
            sys.dont_write_bytecode = False
            del os.environ[SWITCH]
            yield
        finally:
            sys.dont_write_bytecode, sys.pycache_prefix = here
            for name, value in before.items():
                os.environ.pop(name, None)
                os.environ |= {} if value is None else {name: value}
