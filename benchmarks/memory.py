"""The most memory that this process has held, in gigabytes (2^30 bytes)."""

from __future__ import annotations

import resource
from pathlib import Path


def peak_gigabytes() -> float:
    """Resident, since the program began.

    getrusage alone would count what the parent process held before it started this one, since Linux hands that number on.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
