"""The calls of one run: starts what the controller says, and hands it what became of them."""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections import Counter

import numpy as np
from tqdm.auto import tqdm

from jaxroute.batch.hard_budget import NO_MODEL, NOTHING_FITS, Call, HardBudget, Pace
from jaxroute.batch.prepare import Prepared
from jaxroute.endpoints import AnswerStore, Client, ClientConfig, Endpoint, StoredAnswer
from jaxroute.endpoints.interrupts import interrupted_by
from jaxroute.errors import JaxrouteWarning, counted

MOST_FAILURES = 10
"""A model whose calls have failed so often, one after the other, is asked nothing more."""
ITS_OWN_FAULT = ("rejected", "deadline", "budget")
"""Reasons that say nothing of whether a model works."""
TURNS = 4
"""So many of a model's turns, at its rate, fit into a prompt's deadline at least."""
MINUTE = 60.0


class Answering:
    """Of a prepared batch; what the store holds of an earlier run is taken over."""

    def __init__(self, prepared: Prepared, store: AnswerStore) -> None:
        self.prepared, self.store, self.config = prepared, store, prepared.config
        self.names, self.options = list(prepared.endpoints), prepared.config.options
        config, options = self.config, self.options
        pace = Pace(options.concurrent_calls, solver=options.solver, guarantee=options.guarantee, seed=options.seed)
        places = [_places(one, options.deadline_seconds) for one in prepared.endpoints.values()]
        spent = store.ledger.totals().settled_usd
        self.controller = HardBudget(prepared.batch, config.budget_usd, pace, places=places, spent_usd=spent)
        self.failed: dict[int, list[str]] = {}
        self.cost_usd = np.zeros(len(self.names))
        self.first: dict[int, float] = {}
        self.in_a_row: Counter[int] = Counter()
        self.postponed: Counter[int] = Counter()
        self.already = self.interrupted = 0
        self.interrupted_usd = 0.0
        self.stopped = False
        """Whether Ctrl-C has ended it before every prompt had an answer or a reason."""
        for stored in store.answers():
            self._restore(stored)

    async def run(self, client_config: ClientConfig) -> None:
        """Until every prompt has an answer or a reason, or Ctrl-C has stopped it."""
        controller, tasks = self.controller, set[asyncio.Task[tuple[Call, StoredAnswer, float]]]()
        done: set[asyncio.Task[tuple[Call, StoredAnswer, float]]] = set()

        def stop() -> None:
            self.stopped = True
            waiting = f"waiting for {counted(len(controller.under_way), 'answer')} under way; Ctrl-C again gives them up"
            tqdm.write(waiting, file=sys.stderr)

        async with Client(self.prepared.endpoints, client_config, ledger=self.store.ledger) as client:
            total = len(controller.choice)
            with (
                tqdm(total=total, initial=self._done(), desc="answering", unit=" prompts") as bar,
                interrupted_by(stop),
            ):
                try:
                    while tasks if self.stopped else not controller.finished:
                        if not self.stopped:
                            tasks |= {asyncio.create_task(self._ask(client, call)) for call in controller.calls()}
                        if tasks:
                            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                            for task in done:
                                self._settle(*task.result())
                        bar.set_postfix_str(
                            f"{controller.settled_usd:.4f} of {self.config.budget_usd:g} dollars", refresh=False
                        )
                        bar.update(self._done() - bar.n)
                finally:
                    for task in tasks:
                        task.cancel()
                    # Those that are done may have failed as well, for the same reason as the one that is raised.
                    await asyncio.gather(*tasks, *done, return_exceptions=True)

    def errors(self) -> dict[int, str]:
        """Why each of these rows has no answer, for its line."""
        found = {}
        for row, reason in self.controller.unanswered.items():
            said = "; ".join(self.failed.get(row, []))
            if reason == NOTHING_FITS:
                lowest = np.where(self.controller.available[row], self.prepared.batch.worst_usd[row], np.inf).min()
                said = f"no worst case fits into the rest of the budget: the cheapest is {lowest:.6g} dollars" + (
                    f"; before, {said}" if said else ""
                )
            elif reason == NO_MODEL:
                said = said or self.prepared.reasons.get(row, "no model is left to be asked")
            found[row] = f"{reason}: {said}" if said else reason
        return found

    def _done(self) -> int:
        return int((self.controller.choice >= 0).sum()) + len(self.controller.unanswered)

    def _restore(self, stored: StoredAnswer) -> None:
        if stored.purpose or stored.model not in self.names or not stored.query_id.isdigit():
            return
        row, column = int(stored.query_id), self.names.index(stored.model)
        self.interrupted += stored.killed
        self.interrupted_usd += stored.killed_usd
        if stored.answered:
            self.controller.restore(row, column, stored.spent_usd, answered=True)
            self._count(stored, column)
            self.already += 1
        elif stored.is_final and not self.options.again:
            self.controller.restore(row, column, stored.spent_usd, answered=False)
            self.failed.setdefault(row, []).append(f"{stored.model}: {stored.reason}")

    async def _ask(self, client: Client, call: Call) -> tuple[Call, StoredAnswer, float]:
        asked, model = self.prepared.asked[call.query], self.names[call.model]
        now = asyncio.get_running_loop().time()
        left = self.first.setdefault(call.query, now) + self.options.deadline_seconds - now
        before = self.store.get(row_name(call.query), model)
        stored = await self.store.ask(
            client,
            row_name(call.query),
            model,
            asked.prompt,
            again=self.options.again,
            output_tokens=asked.output_tokens or self.options.output_tokens,
            deadline_seconds=max(0.0, left),
            options=asked.options,
        )
        return call, stored, stored.spent_usd - (0.0 if before is None else before.spent_usd)

    def _settle(self, call: Call, stored: StoredAnswer, spent_usd: float) -> None:
        controller = self.controller
        if stored.answered:
            self.in_a_row[call.model] = 0
            self._count(stored, call.model)
            controller.settle(call, spent_usd)
            return
        if stored.reason == "budget" and not spent_usd and self.postponed[call.query] < MOST_FAILURES:
            # Another call's further try holds what was meant for this one; it waits until that has settled.
            self.postponed[call.query] += 1
            controller.postpone(call)
            return
        self.failed.setdefault(call.query, []).append(f"{stored.model}: {stored.reason}")
        controller.settle(call, spent_usd, answered=False)
        if stored.reason not in ITS_OWN_FAULT:
            self.in_a_row[call.model] += 1
        if stored.reason == "unauthorized" or self.in_a_row[call.model] >= MOST_FAILURES:
            if controller.available[:, call.model].any():
                said = f"{stored.model} is asked nothing more: {stored.reason}: {stored.detail}"
                warnings.warn(said, JaxrouteWarning, stacklevel=2)
            controller.leave_out(call.model)
        now = asyncio.get_running_loop().time()
        if now - self.first[call.query] >= self.options.deadline_seconds:
            controller.drop(call.query, "deadline")

    def _count(self, stored: StoredAnswer, column: int) -> None:
        self.cost_usd[column] += stored.spent_usd if stored.cost_usd is None else stored.cost_usd


def row_name(row: int) -> str:
    """Sorted as texts, names have the order of the rows."""
    return f"{row:09d}"


def _places(endpoint: Endpoint, deadline_seconds: float) -> int:
    """How many calls may be under way, so that none spends its deadline waiting for its turn."""
    if endpoint.requests_per_minute is None:
        return endpoint.concurrent_requests
    turns = endpoint.requests_per_minute * deadline_seconds / MINUTE / TURNS
    return max(1, int(min(endpoint.concurrent_requests, turns)))
