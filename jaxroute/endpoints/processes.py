"""Which process made a reservation, and whether it is still there."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path

ENDED = "ZX"
"""States in /proc of processes that have ended and that their parent has not yet asked about."""


def this_process() -> str:
    """`HOST/NUMBER/START` of this process; the start tells it from a later one that got the same number."""
    return f"{_host()}/{os.getpid()}/{_start(os.getpid())}"


def is_running(process: str) -> bool:
    """Whether that process may still be there: True where it cannot be known, as for another host."""
    host, number, start = process.rsplit("/", 2) if process.count("/") >= 2 else ("", "", "")
    if host != _host() or not number.isdigit() or os.name == "nt":
        # On Windows, signal 0 would not ask but interrupt.
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _start(int(number)) == start


@cache
def _host() -> str:
    return socket.gethostname()


def _start(number: int) -> str:
    """When it started, in ticks since the boot, from Linux's /proc (proc(5), fields 3 and 22 of stat); elsewhere empty."""
    try:
        # The name before the last bracket may hold anything.
        fields = Path(f"/proc/{number}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "ended" if fields[0] in ENDED else fields[19]
