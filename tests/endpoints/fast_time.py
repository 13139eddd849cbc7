"""An event loop whose clock jumps to the next timer when nothing else is to be done: seconds of waiting take none."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
REAL_SECONDS = 0.002
"""How long sockets of this process may take to become ready before the clock jumps."""


class _JumpingSelector(selectors.DefaultSelector):
    skipped = 0.0

    def select(self, timeout: float | None = None) -> list:
        ready = super().select(0 if timeout is not None and timeout <= 0 else REAL_SECONDS)
        if not ready and timeout is not None and timeout > 0:
            self.skipped += timeout
        while not ready and timeout is None:
            ready = super().select(1.0)
        return ready


class FastLoop(asyncio.SelectorEventLoop):
    """Its `time` is the real one plus all that was skipped."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return super().time() + self._jumping.skipped


def run_fast(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on such a loop."""
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        return runner.run(main)
