"""What all requests share: the present state of the files, the connections, and what is remembered of those that have ended."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import aiohttp

from jaxroute.serve.conversations import Conversations
from jaxroute.serve.drift import Drifting
from jaxroute.serve.finished import Finished
from jaxroute.serve.metrics import Metrics
from jaxroute.serve.pauses import Pauses
from jaxroute.serve.places import Places
from jaxroute.serve.records import Records
from jaxroute.serve.remembered import Remembered
from jaxroute.serve.shared import BEAT_SECONDS, TOLL, Shared, SharedRemembered, is_total
from jaxroute.serve.state import State
from jaxroute.serve.status_page import MOST_RECENT, Recent
from jaxroute.serve.traces import Traces, wanted

MOST_REMEMBERED = 10_000


@dataclass(frozen=True)
class Place:
    """Where a response is stored."""

    model: str
    """At whose endpoint."""
    client: str | None
    """Whose it is."""


class Service:
    """Within one event loop; `async with` it, and exchange `state` at any time."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.log = logging.getLogger("jaxroute.serve")
        self.access = logging.getLogger("jaxroute.serve.access")
        worker = state.config.worker
        self.shared = None if worker is None else Shared(worker)
        """What the workers know of each other; None where there is but one process."""
        self.stored: Remembered[str, Place] | SharedRemembered[Place] = Remembered(MOST_REMEMBERED)
        """Where which response is stored."""
        self.under_way = 0
        """Requests that are being answered."""
        self._counted: dict[str, float] = {}
        """By choosers that were exchanged."""
        self.wrong_files = ""
        """What is wrong with the files since they were read; empty where nothing is."""
        self.conversations = Conversations(self.shared)
        self.places = Places()
        """What a place at each model is worth."""
        self.pauses = Pauses(self.shared)
        """Models that have asked not to be asked for a while."""
        self.answers: Remembered[str, Finished] | SharedRemembered[Finished] = Remembered(MOST_REMEMBERED)
        """The requests that have ended, by the number that the client got."""
        if self.shared is not None:
            self.stored = self.shared.remembered("stored", MOST_REMEMBERED, _written, lambda text: Place(**json.loads(text)))
            self.answers = self.shared.remembered("answers", MOST_REMEMBERED, _written, Finished.read)
        config = state.config
        self.records = None if config.record == "none" else Records(config.record_file, config.record)
        self.drift = Drifting(state, self.log)
        self.traces = Traces(config.traces) if wanted(config.traces) else None
        """None: no spans are made."""
        self.metrics = Metrics(self)
        self.recent = Recent()
        self.observers: list[Callable[[Finished], None]] = [self.metrics, self.recent, self.drift]
        """Called with every request that has ended."""
        self._session: aiohttp.ClientSession | None = None

    def place(self, number: str, client: str | None) -> Place | None:
        """Where a client's response is stored; None where that is not known, or it is another client's."""
        place = self.stored.get(number)
        return place if place is not None and place.client == client else None

    @property
    def session(self) -> aiohttp.ClientSession:
        """Connections to the endpoints."""
        assert self._session is not None, "the service has not started"
        return self._session

    async def __aenter__(self) -> Service:
        # Requests under way are limited by model, and the time-outs are the phases'.
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
        timeout = aiohttp.ClientTimeout(total=None, connect=self.state.config.timeouts.connect_seconds)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent",),
            read_bufsize=2**18,
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        self.state.accounts.close()
        if self.records is not None:
            self.records.close()
        self.drift.close()
        if self.shared is not None:
            self.shared.close()
        if self.traces is not None:
            await asyncio.to_thread(self.traces.close)

    def figures(self) -> dict[str, float]:
        """For the metrics, of all workers: name -> number, at this moment."""
        return self.own_figures() if self.shared is None else self.shared.figures()

    def own_figures(self) -> dict[str, float]:
        """Those of this process alone."""
        own = {"requests_under_way": float(self.under_way), **self.state.pace.figures()}
        own |= {f"{TOLL}{model}": toll for model, toll in self.places.tolls().items()}
        chosen: dict[str, float] = getattr(self.state.chooser, "figures", dict)()
        for name, value in self._counted.items():
            chosen[name] = chosen.get(name, 0.0) + value
        return {**own, **chosen}

    def exchange(self, state: State) -> None:
        """Answer what comes from now on with this; a request that has begun keeps the state that it began with."""
        if state.chooser is not self.state.chooser:
            # Another checkpoint counts from 0; what is exported never falls.
            own = self.own_figures()
            self._counted = {name: value for name, value in own.items() if is_total(name)}
        self.state, self.wrong_files = state, ""
        self.drift.follow(state)

    async def beat(self) -> None:
        """Give signs of life, where there are other workers, until it is cancelled."""
        while self.shared is not None:
            try:
                self.shared.beat(self.own_figures())
            except sqlite3.Error as error:
                self.log.error("no sign of life: %s", error)
            await asyncio.sleep(BEAT_SECONDS)

    async def look_back(self) -> None:
        """Where there are other workers, let `recent` hold what they have answered too."""
        if isinstance(self.answers, SharedRemembered):
            latest = await asyncio.to_thread(self.answers.latest, MOST_RECENT)
            self.recent.requests.clear()
            self.recent.requests.extend(latest)

    def finish(self, finished: Finished, prompt: Callable[[], str]) -> None:
        """A request has ended: remember it, keep what is to be kept, tell the observers, and write its line of the log."""
        self.answers.put(finished.id, finished)
        if self.records is not None:
            try:
                self.records.add(finished, prompt())
            except sqlite3.Error as error:
                # The answer has been sent: a full disk must not take it back.
                self.log.error("%s is not recorded: %s", finished.id, error)
        for observer in self.observers:
            observer(finished)
        if self.access.isEnabledFor(logging.INFO):
            self.access.info("%s", access_line(finished))


def _written(entry: Place | Finished) -> str:
    return json.dumps(asdict(entry))


def access_line(finished: Finished) -> str:
    """JSON; nothing of what was asked or answered, and no key."""
    usage = finished.usage
    content = {
        "time": round(time.time(), 3),
        "id": finished.id,
        "kind": finished.kind,
        "routed": finished.routed,
        "client": finished.client,
        "model": finished.model,
        "status": finished.status,
        "reason": finished.reason or None,
        "failures": [f"{model}: {reason}" for model, reason in finished.failures] or None,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "quality": None if finished.quality is None else round(finished.quality, 4),
        "expected_usd": finished.expected_usd,
        "p_value": None if finished.p_value is None else round(finished.p_value, 5),
        "cost_usd": finished.cost_usd,
        "spent_usd": finished.spent_usd,
        "first_byte_ms": None if finished.first_byte_seconds is None else round(1000 * finished.first_byte_seconds, 3),
        "total_ms": round(1000 * finished.total_seconds, 3),
        "overhead_ms": round(1000 * finished.overhead_seconds, 3),
    }
    return json.dumps({name: value for name, value in content.items() if value is not None})
