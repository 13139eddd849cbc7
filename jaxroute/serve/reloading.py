"""The files are read again when they change or when that is asked for; wrong ones leave the old state as it is."""

from __future__ import annotations

import asyncio

from jaxroute.errors import JaxrouteError
from jaxroute.serve.service import Service
from jaxroute.serve.state import read_state, stamps
from solvers import ProblemError


class Reloading:
    """`await watch()` beside the service; `now()` reads the files again at once."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._wanted = asyncio.Event()

    def now(self) -> None:
        """On SIGHUP."""
        self._wanted.set()

    async def watch(self) -> None:
        """Until it is cancelled."""
        seconds = self.service.state.config.watch_seconds
        seen = self.service.state.stamps
        while True:
            try:
                await asyncio.wait_for(self._wanted.wait(), seconds or None)
                self._wanted.clear()
            except TimeoutError:
                if await asyncio.to_thread(stamps, self.service.state.config) == seen:
                    continue
            seen = await self._read()

    async def _read(self) -> dict[str, object]:
        """Exchange the state, or say why not; returns what was looked at."""
        service, before = self.service, self.service.state
        seen = await asyncio.to_thread(stamps, before.config)
        try:
            state = await asyncio.to_thread(read_state, before.config, before)
        except (JaxrouteError, ProblemError, OSError) as error:
            service.wrong_files = str(error)
            service.metrics.reloads.labels("wrong").inc()
            service.log.error("the files have changed and are wrong, so what was read before still holds: %s", error)
            return seen
        service.exchange(state)
        service.metrics.reloads.labels("read").inc()
        service.log.warning("the files were read again: %d models, %d routed", len(state.upstreams), len(state.routed))
        return seen
