"""How many requests of one endpoint may be under way, and how many may begin in a minute.

Requests begin at least 60 / `requests_per_minute` seconds apart, so that no minute, wherever it begins, has more than one
above the limit. With a `burst`, a part of the limit may begin at once and the others come at a lower rate, which keeps to the
same (the generic cell rate algorithm, ITU-T I.371). While an endpoint has asked to wait, none begins. The limits are those of
one client: several processes share them out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from jaxroute.endpoints.models import Endpoint

SECONDS = 60.0


class DeadlinePassed(Exception):
    """The turn of a request would come after its deadline."""


class Limits:
    """Of one endpoint, on one event loop."""

    def __init__(self, endpoint: Endpoint, *, burst: float = 0.0) -> None:
        rate = endpoint.requests_per_minute
        at_once = int(burst * rate) if rate else 0
        self._interval = SECONDS / (rate - at_once) if rate else 0.0
        # So much earlier than evenly spaced may a request begin.
        self._early = at_once * self._interval
        self.places = endpoint.concurrent_requests
        """How many may be under way."""
        self._places = asyncio.Semaphore(self.places)
        self._next = self._paused_until = 0.0

    @property
    def full(self) -> bool:
        """Whether a request that came now would have to wait."""
        return self._places.locked() or max(self._next - self._early, self._paused_until) > asyncio.get_running_loop().time()

    @property
    def per_second(self) -> float | None:
        """How many requests may begin on average; None where no rate limits them."""
        return 1 / self._interval if self._interval else None

    def pause(self, seconds: float) -> None:
        """Begin no request for so many seconds."""
        self._paused_until = max(self._paused_until, asyncio.get_running_loop().time() + seconds)

    @asynccontextmanager
    async def turn(self, deadline: float) -> AsyncIterator[None]:
        """Hold one place, once its time has come; raises `DeadlinePassed` where that is after `deadline`, of the loop."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._places.acquire()
        except TimeoutError:
            raise DeadlinePassed from None
        try:
            await self._start(deadline)
            yield
        finally:
            self._places.release()

    async def _start(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        if (start := max(self._next - self._early, self._paused_until, loop.time())) > deadline:
            raise DeadlinePassed
        self._next = max(self._next, start) + self._interval
        # Others may be asked to wait while this one sleeps.
        while (left := max(start, self._paused_until) - loop.time()) > 0:
            if self._paused_until > deadline:
                raise DeadlinePassed
            await asyncio.sleep(left)
