"""A batch of cells is asked: every model at its own pace, within the budget, until all are stored or somebody stops it.

A cell whose worst case does not fit into the budget waits while other calls are under way, since what they leave of theirs
comes back; it stays without an answer only where nothing is under way any more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxroute.collect.plans import Cell
from jaxroute.collect.questions import Question
from jaxroute.endpoints import AnswerStore, Client, Endpoint, StoredAnswer, build_request

CONNECTIONS_LOST = 5
"""So many cells of a model in a row without a connection: nobody is there."""


@dataclass(frozen=True)
class AskingConfig:
    """What every request holds, and how many are under way."""

    output_tokens: int | None = None
    """How many tokens an answer may have; default: each model's output_tokens in models.yaml."""
    deadline_seconds: float = 900.0
    """One answer over all tries."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the request."""
    concurrency: int | None = None
    """How many requests to one model may be under way; default, and at most, its concurrent_requests."""
    again: bool = False
    """Whether stored failures are asked once more."""

    def worst_case_usd(self, endpoint: Endpoint, question: Question) -> float:
        """What the answer can cost at most. Raises `EndpointError` where the request cannot be sent."""
        request = build_request(endpoint, question.prompt, output_tokens=self.output_tokens, options=self.options)
        return request.worst_case_usd


class Asking:
    """Asks through one client; `stop` lets what is under way end and begins nothing more."""

    def __init__(
        self, store: AnswerStore, client: Client, config: AskingConfig, answered: Callable[[StoredAnswer], None]
    ) -> None:
        self.store, self.client, self.config, self.answered = store, client, config, answered
        self.stopped = False
        self.left_out: dict[str, str] = {}
        """Models that are not asked any more in this run, and why."""
        self.under_way = 0
        self._ended = asyncio.Condition()
        self._lost: dict[str, int] = {}

    def stop(self) -> None:
        """Begin no further call."""
        self.stopped = True

    async def ask(self, cells: Sequence[Cell], questions: Sequence[Question], models: Sequence[str]) -> None:
        """Ask them all; every one of them is stored in the end, but for those of models that are left out."""
        waiting: dict[str, deque[Question]] = {}
        for row, column in cells:
            waiting.setdefault(models[column], deque()).append(questions[row])
        tasks = [
            asyncio.create_task(self._work(model, queue))
            for model, queue in waiting.items()
            for _ in range(min(self._places(self.client.endpoints[model]), len(queue)))
        ]
        if not tasks:
            return
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _places(self, endpoint: Endpoint) -> int:
        """How many calls are begun at once. With few requests per minute more would only wait, until their deadlines pass."""
        most = min(endpoint.concurrent_requests, self.config.concurrency or endpoint.concurrent_requests)
        if endpoint.requests_per_minute is None:
            return most
        return max(1, int(min(most, endpoint.requests_per_minute * self.config.deadline_seconds / 60 / 2)))

    async def _work(self, model: str, queue: deque[Question]) -> None:
        while queue and not self.stopped and model not in self.left_out:
            stored = await self._one(model, queue.popleft())
            if stored is None:
                return
            self._watch(stored)
            self.answered(stored)

    async def _one(self, model: str, question: Question) -> StoredAnswer | None:
        """The cell's answer or failure; None where the run was stopped while it waited for money."""
        config = self.config
        needed = config.worst_case_usd(self.client.endpoints[model], question)
        while True:
            self.under_way += 1
            try:
                stored = await self.store.ask(
                    self.client,
                    question.query_id,
                    model,
                    question.prompt,
                    again=config.again,
                    output_tokens=config.output_tokens,
                    deadline_seconds=config.deadline_seconds,
                    options=config.options,
                )
            finally:
                self.under_way -= 1
                async with self._ended:
                    self._ended.notify_all()
            if stored.reason != "budget":
                return stored
            async with self._ended:
                while self.under_way and self.store.ledger.left_usd < needed:
                    await self._ended.wait()
            if self.store.ledger.left_usd < needed:
                return stored
            if self.stopped:
                return None

    def _watch(self, stored: StoredAnswer) -> None:
        """Leave a model out whose key is wrong, or that nobody answers for."""
        model = stored.model
        self._lost[model] = self._lost.get(model, 0) + 1 if stored.reason == "connect" else 0
        if stored.reason == "unauthorized":
            self.left_out[model] = f"its key was rejected ({stored.detail})"
        elif self._lost[model] >= CONNECTIONS_LOST:
            self.left_out[model] = f"no connection, {CONNECTIONS_LOST} times in a row ({stored.detail})"
