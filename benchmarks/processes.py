"""Processes below another one, as Linux lists them; numbers are used again, so each is known by the time of its start too."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """One process."""

    pid: int
    born: str
    """When it was started, in ticks since the machine was."""
    command: str

    @property
    def alive(self) -> bool:
        """Whether it still runs; one that has ended and waits for its parent does not."""
        state = _state(self.pid)
        return state is not None and state[0] not in "ZX" and state[19] == self.born


def descendants(pid: int) -> Iterator[Process]:
    """All below it."""
    below: dict[int, list[Process]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (state := _state(int(folder.name))):
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            below.setdefault(int(state[1]), []).append(Process(int(folder.name), state[19], command))
    waiting = below.get(pid, [])
    while waiting:
        one = waiting.pop()
        yield one
        waiting += below.get(one.pid, [])


def still_there(processes: Collection[Process], *, seconds: float) -> list[Process]:
    """Those that have not ended after so many seconds; returns as soon as all have."""
    deadline = time.monotonic() + seconds
    while left := [process for process in processes if process.alive]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return left


def _state(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat behind the name: state, parent, ...; None where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
