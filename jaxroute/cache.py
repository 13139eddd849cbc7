"""Where jaxroute keeps what it can make or fetch again."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax
import pooch


def cache_folder() -> Path:
    """The folder named by the environment variable `JAXROUTE_CACHE`, else the operating system's cache folder."""
    named = os.environ.get("JAXROUTE_CACHE")
    return Path(named).expanduser() if named else Path(pooch.os_cache("jaxroute"))


def keep_compiled() -> None:
    """Let JAX keep compiled programs in the cache folder, so that a second start does not compile; for programs to call.

    A folder that the user gave JAX (`JAX_COMPILATION_CACHE_DIR`) stays. Programs for a CPU use what this very kind of CPU
    has, so every kind gets a folder of its own.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled" / _machine()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _machine() -> str:
    try:
        flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        flags = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(flags.encode()).hexdigest()[:12]}"
