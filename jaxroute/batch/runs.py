"""A batch answered within a budget: estimated, assigned, asked, assigned again as true costs come in; resumed after any stop.

OUTPUT        one line per prompt, in the order of the input, written when every prompt has an answer or a reason why not
OUTPUT.db     every answer and every dollar, from the first call on (an `AnswerStore`); the same command resumes from it
"""

from __future__ import annotations

import asyncio
import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float
from tqdm.auto import tqdm

from jaxroute.batch.answer_lines import Lines, write_answers
from jaxroute.batch.asked import Asked, read_asked, worst_cases
from jaxroute.batch.hard_budget import NO_MODEL, NOTHING_FITS, Batch, Call, HardBudget, Pace
from jaxroute.data.estimates import Estimates, Estimator, check_models
from jaxroute.data.prices import Price
from jaxroute.data.prompts import Prompts, read_prompts
from jaxroute.data.table import Queries
from jaxroute.endpoints import AnswerStore, Client, ClientConfig, Endpoint, StoredAnswer, load_models, read_keys
from jaxroute.errors import EndpointError, JaxrouteWarning, OutputError, TableError, counted, listed
from jaxroute.predictor.checkpoint import description_of
from jaxroute.routing.request import CAPACITY, capacity_of, naming_models
from jaxroute.routing.router import Router
from jaxroute.storage.digests import file_digest
from jaxroute.storage.files import check_file
from solvers import SOLVERS, Problem

STATE = ".db"
MOST_FAILURES = 10
"""A model whose calls have failed so often, one after the other, is asked nothing more."""
ITS_OWN_FAULT = ("rejected", "deadline", "budget")
"""Reasons that say nothing of whether a model works."""
TURNS = 4
"""So many of a model's turns, at its rate, fit into a prompt's deadline at least."""
MINUTE = 60.0


@dataclass(frozen=True)
class RunOptions:
    """How a batch is answered."""

    format: Literal["jsonl", "openai-batch"] = "jsonl"
    """Of the output: the fields of each row and its answer, or OpenAI's batch output for a batch file as input."""
    only: tuple[str, ...] | None = None
    """Only these models; default: all that both the checkpoint and models.yaml know."""
    output_tokens: int | None = None
    """The longest answer, where a row sets no limit; default: each model's in models.yaml. It decides what a call can cost at
    most."""
    capacity: Annotated[Mapping[str, int] | None, CAPACITY] = None
    """MODEL=COUNT for every model that takes only so many prompts; others take all."""
    solver: Literal["auto", "lagrangian", "exact", "greedy_ratio"] = "lagrangian"
    """How the prompts that are left are assigned, each time."""
    concurrent_calls: int = 64
    """The most calls under way at once, of all models together."""
    deadline_seconds: float = 900.0
    """For one prompt, over all tries and models, from its first call on."""
    guarantee: bool = False
    """Keep the cheapest worst case of every prompt still to come, so that none stays unanswered for want of money. Uses less of
    a small budget."""
    again: bool = False
    """Ask models once more that failed on a prompt in the run that is resumed."""
    seed: int = 0
    """Of the order of the calls."""

    def __post_init__(self) -> None:
        problems = []
        if self.output_tokens is not None and self.output_tokens < 1:
            problems.append(f"output_tokens={self.output_tokens} must be at least 1")
        if self.concurrent_calls < 1:
            problems.append(f"concurrent_calls={self.concurrent_calls} must be at least 1")
        if not self.deadline_seconds > 0:
            problems.append(f"deadline_seconds={self.deadline_seconds} must be above 0")
        if self.seed < 0:
            problems.append(f"seed={self.seed} must be at least 0")
        if self.solver not in ("auto", *SOLVERS):
            problems.append(f"solver={self.solver!r} must be one of auto, {', '.join(SOLVERS)}")
        if self.capacity and self.solver == "greedy_ratio":
            problems.append("solver='greedy_ratio' knows no capacity: take another, or leave capacity out")
        if problems:
            raise OutputError("; ".join(problems))


@dataclass(frozen=True)
class RunConfig:
    """Which batch is answered by whom, within which budget."""

    checkpoint: Path
    """Folder of an estimator."""
    prompts: Path
    """A file that `read_prompts` reads."""
    models: Path
    """models.yaml."""
    budget_usd: float
    """Dollars for all calls together, failed ones too. Never exceeded."""
    output: Path
    """One line per prompt; the state lies beside it."""
    options: RunOptions = field(default_factory=RunOptions)
    encoder: str | None = None
    """Where the encoder lies now, if it has moved."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.budget_usd) and self.budget_usd >= 0):
            raise OutputError(f"budget_usd={self.budget_usd} must be a number of dollars")

    @property
    def state(self) -> Path:
        """Where answers and dollars are kept."""
        return self.output.with_name(self.output.name + STATE)


@dataclass(frozen=True)
class ModelReport:
    """What one model has answered."""

    model: str
    prompts: int
    cost_usd: float
    """True dollars of these answers."""
    quality: float
    """Mean estimate over these prompts; NaN where there are none."""


@dataclass(frozen=True)
class RunReport:
    """What became of a batch."""

    prompts: int
    answered: int
    already: int
    """Answers that were there before, from an earlier run."""
    models: list[ModelReport]
    budget_usd: float
    spent_usd: float
    """All that was paid, failed and interrupted calls too."""
    unanswered: dict[str, int]
    """Prompts by why they have no answer."""
    assumption: str
    """How expected costs were arrived at."""
    interrupted: int
    """Calls of killed runs that count as spent at their worst case."""

    def __str__(self) -> str:
        width = max([len(one.model) for one in self.models] + [len("model")])
        lines = [f"{'model':<{width}} {'prompts':>9} {'dollars':>12} {'estimated quality':>18}"]
        for one in self.models:
            quality = "" if math.isnan(one.quality) else f"{one.quality:.3f}"
            lines.append(f"{one.model:<{width}} {one.prompts:>9,} {one.cost_usd:>12.6f} {quality:>18}")
        share = f", {self.spent_usd / self.budget_usd:.1%}" if self.budget_usd else ""
        there = f", {self.already:,} of them before" if self.already else ""
        lines.append(f"{self.answered:,} of {counted(self.prompts, 'prompt')} answered{there}")
        lines.append(f"spent {self.spent_usd:.6f} of {self.budget_usd:g} dollars{share}")
        if self.interrupted:
            calls = counted(self.interrupted, "call")
            lines.append(f"{calls} were under way when a run was stopped, and count as spent at their worst case")
        lines += [f"{count:,} unanswered: {reason}" for reason, count in self.unanswered.items()]
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A batch that was checked and estimated; nothing has been asked yet."""

    config: RunConfig
    prompts: Prompts
    asked: list[Asked]
    endpoints: dict[str, Endpoint]
    """The models that are asked, in the order of the checkpoint."""
    estimates: Estimates
    batch: Batch
    reasons: dict[int, str]
    """Why no model can answer these rows."""
    notes: list[str] = field(default_factory=list)
    """What a user should know before anything is asked."""


def prepare(config: RunConfig) -> Prepared:
    """Read, check and estimate everything. Raises a `JaxrouteError` for wrong input; nothing is asked, written or paid."""
    check_file("output", config.output, source=config.prompts)
    check_file("output", config.state, source=config.prompts)
    listed_models = load_models(config.models)
    prompts = read_prompts(config.prompts)
    asked = read_asked(config.prompts, prompts, batch=config.options.format == "openai-batch")
    router = Router.load(config.checkpoint, encoder=config.encoder)
    endpoints, notes = _matched(config, router.models, listed_models)
    read_keys(endpoints.values())
    worst, available, reasons = worst_cases(asked, endpoints, config.options.output_tokens)
    capacity = None
    if config.options.capacity:
        capacity = capacity_of(config.options.capacity, list(endpoints), len(asked))
        rows = available.any(axis=1)
        if rows.any():
            with naming_models(list(endpoints), int(rows.sum())):
                Problem(np.zeros((int(rows.sum()), len(endpoints))), worst[rows], available=available[rows], capacity=capacity)
    notes += _budget_notes(config, np.where(available, worst, np.inf).min(axis=1), reasons)
    estimates = _estimates(router.estimator, prompts.queries, endpoints, notes)
    expected = np.minimum(estimates.cost_usd, np.where(available, worst, np.inf))
    batch = Batch(estimates.quality, expected, worst, available, capacity)
    return Prepared(config, prompts, asked, endpoints, estimates, batch, reasons, notes)


def run(prepared: Prepared, client_config: ClientConfig | None = None) -> RunReport:
    """Ask, and write the output; what an earlier run has stored is not asked again.

    Raises `OutputError` where the state is that of another run, naming what differs, and `LedgerError` where answers cannot be
    stored any more, such as on a full disk; what is stored by then is kept.
    """
    config = prepared.config
    about = {
        "kind": "run",
        "checkpoint_sha256": file_digest(description_of(config.checkpoint)),
        "prompts": len(prepared.asked),
        "output_tokens": config.options.output_tokens,
        "models": list(prepared.endpoints),
    }
    queries = {_name(row): one.content for row, one in enumerate(prepared.asked)}
    with AnswerStore(config.state, config.budget_usd, about=about, models=prepared.endpoints, queries=queries) as store:
        answering = _Answering(prepared, store)
        client_config = replace(client_config or ClientConfig(), deadline_seconds=config.options.deadline_seconds)
        asyncio.run(answering.run(client_config))
        lines = Lines(prepared.prompts.fields, list(prepared.endpoints), prepared.estimates.quality, answering.errors())
        write_answers(config.output, config.options.format, lines, store.answers())
        return answering.report()


class _Answering:
    """The calls of one run: starts what the controller says, and hands it what became of them."""

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
        self.already = 0
        for stored in store.answers():
            self._restore(stored)

    async def run(self, client_config: ClientConfig) -> None:
        """Until every prompt has an answer or a reason."""
        controller, tasks = self.controller, set[asyncio.Task[tuple[Call, StoredAnswer, float]]]()
        async with Client(self.prepared.endpoints, client_config, ledger=self.store.ledger) as client:
            with tqdm(total=len(controller.choice), initial=self._done(), desc="answering", unit=" prompts") as bar:
                try:
                    while not controller.finished:
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
                    await asyncio.gather(*tasks, return_exceptions=True)

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

    def report(self) -> RunReport:
        """What became of the batch."""
        controller, quality = self.controller, self.prepared.estimates.quality
        models = []
        for column, model in enumerate(self.names):
            mine = controller.choice == column
            mean = float(quality[mine, column].mean()) if mine.any() else math.nan
            models.append(ModelReport(model, int(mine.sum()), float(self.cost_usd[column]), mean))
        return RunReport(
            prompts=len(controller.choice),
            answered=int((controller.choice >= 0).sum()),
            already=self.already,
            models=models,
            budget_usd=self.config.budget_usd,
            spent_usd=self.store.ledger.totals().settled_usd,
            unanswered=dict(Counter(SAID.get(reason, reason) for reason in controller.unanswered.values())),
            assumption=self.prepared.estimates.assumption,
            interrupted=self.store.interrupted,
        )

    def _done(self) -> int:
        return int((self.controller.choice >= 0).sum()) + len(self.controller.unanswered)

    def _restore(self, stored: StoredAnswer) -> None:
        if stored.purpose or stored.model not in self.names or not stored.query_id.isdigit():
            return
        row, column = int(stored.query_id), self.names.index(stored.model)
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
        before = self.store.get(_name(call.query), model)
        stored = await self.store.ask(
            client,
            _name(call.query),
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


SAID = {
    NOTHING_FITS: "no worst case fits into the rest of the budget",
    NO_MODEL: "no model can answer them, or all have failed",
    "deadline": "the deadline has passed",
}


def _name(row: int) -> str:
    """Sorted as texts, names have the order of the rows."""
    return f"{row:09d}"


def _places(endpoint: Endpoint, deadline_seconds: float) -> int:
    """How many calls may be under way, so that none spends its deadline waiting for its turn."""
    if endpoint.requests_per_minute is None:
        return endpoint.concurrent_requests
    turns = endpoint.requests_per_minute * deadline_seconds / MINUTE / TURNS
    return max(1, int(min(endpoint.concurrent_requests, turns)))


def _matched(config: RunConfig, known: list[str], endpoints: dict[str, Endpoint]) -> tuple[dict[str, Endpoint], list[str]]:
    """The endpoints of the models that are asked, in the order of the checkpoint."""
    both = [model for model in known if model in endpoints]
    if not both:
        raise EndpointError(
            f"models={str(config.models)!r} names none of the checkpoint's models: it has {listed(endpoints)}; the checkpoint "
            f"knows {listed(known)}: give the same names"
        )
    if config.options.only is not None and (wrong := [model for model in config.options.only if model not in both]):
        raise EndpointError(
            f"only={listed(wrong)}: not among the models that both the checkpoint and models.yaml know: {listed(both)}"
        )
    chosen = [model for model in both if model in (config.options.only or both)]
    check_models(config.options.only, both)
    notes = []
    if config.options.only is None and (lacking := [model for model in known if model not in endpoints]):
        notes.append(f"not in {config.models}, so not asked: {listed(lacking)}")
    if further := [model for model in endpoints if model not in known]:
        notes.append(f"unknown to the checkpoint, so not asked: {listed(further)}")
    return {model: endpoints[model] for model in chosen}, notes


def _budget_notes(config: RunConfig, lowest: Float[np.ndarray, " queries"], reasons: dict[int, str]) -> list[str]:
    """Raises `TableError` where not one call fits into the budget."""
    some = lowest[np.isfinite(lowest)]
    notes = []
    if reasons:
        row, why = next(iter(reasons.items()))
        notes.append(f"no model can answer {counted(len(reasons), 'prompt')}, the first of them row {row + 1}: {why}")
    if not len(some):
        raise EndpointError(f"no model can answer any of the prompts: {next(iter(reasons.values()))}")
    if some.min() > config.budget_usd and not config.state.exists():
        raise TableError(
            f"budget_usd={config.budget_usd:g} is below the worst case of any call: give at least {some.min():.6g}, or lower "
            "output_tokens"
        )
    if some.sum() > config.budget_usd:
        notes.append(
            f"the cheapest worst cases of all prompts add up to {some.sum():.6g} dollars, more than the budget: answers "
            "usually cost far less, but some prompts may stay unanswered"
        )
    return notes


def _estimates(estimator: Estimator, queries: Queries, endpoints: dict[str, Endpoint], notes: list[str]) -> Estimates:
    """Of the models that are asked, at the prices of models.yaml where the checkpoint counts tokens."""
    models = list(endpoints)
    prices = {name: Price(one.price.input, one.price.output) for name, one in endpoints.items()}
    try:
        estimator = estimator.priced(prices)
    except TableError as error:
        notes.append(f"expected costs are the checkpoint's own, not at the prices of models.yaml: {error}")
    estimates = estimator.estimate(queries).select(models)
    if np.isnan(estimates.cost_usd).any():
        raise TableError(f"{estimates.assumption}: train on outcomes of these models")
    local: Sequence[bool] = [endpoint.local for endpoint in endpoints.values()]
    return replace(estimates, cost_usd=np.where(local, 0.0, estimates.cost_usd))
