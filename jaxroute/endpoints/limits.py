"""How many requests of one endpoint may be under way, and how many may begin in a minute.

Requests begin at least 60 / `requests_per_minute` seconds apart, so that no minute, wherever it begins, has more than one
above the limit. While an endpoint has asked to wait, none begins. The limits are those of one client: several processes share
them out.
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

    def __init__(self, endpoint: Endpoint) -> None:
        rate = endpoint.requests_per_minute
        self._interval = SECONDS / rate if rate else 0.0
        self._places = asyncio.Semaphore(endpoint.concurrent_requests)
        self._next = self._paused_until = 0.0

    @property
    def full(self) -> bool:
        """Whether a request that came now would have to wait."""
        return self._places.locked() or max(self._next, self._paused_until) > asyncio.get_running_loop().time()

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
        if (start := max(self._next, self._paused_until, loop.time())) > deadline:
            raise DeadlinePassed
        self._next = start + self._interval
        # Others may be asked to wait while this one sleeps.
        while (left := max(start, self._paused_until) - loop.time()) > 0:
            if self._paused_until > deadline:
                raise DeadlinePassed
            await asyncio.sleep(left)
