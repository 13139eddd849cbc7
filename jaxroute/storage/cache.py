"""Where jaxroute keeps what it can make or fetch again."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """The folder named by the environment variable `JAXROUTE_CACHE`, else the operating system's cache folder."""
    named = os.environ.get("JAXROUTE_CACHE")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("jaxroute"))


def keep_compiled() -> None:
    """Let JAX keep compiled programs in the cache folder, so that a second start does not compile; for programs to call before
    JAX is imported, which reads these variables then.

    A folder that the user gave JAX (`JAX_COMPILATION_CACHE_DIR`) stays. Programs for a CPU use what this very kind of CPU
    has, so every kind gets a folder of its own.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache_folder() / "compiled" / _machine())
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def _machine() -> str:
    try:
        flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        flags = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(flags.encode()).hexdigest()[:12]}"
