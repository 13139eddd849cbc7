"""Where jaxroute keeps what it can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path

import pooch


def cache_folder() -> Path:
    """The folder named by the environment variable `JAXROUTE_CACHE`, else the operating system's cache folder."""
    named = os.environ.get("JAXROUTE_CACHE")
    return Path(named).expanduser() if named else Path(pooch.os_cache("jaxroute"))
