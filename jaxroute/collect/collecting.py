"""A collection from its questions to its grades: what is wrong is raised first, what is stored is never asked again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxroute.collect.askable import Askable, askable
from jaxroute.collect.asking import Asking, AskingConfig
from jaxroute.collect.database import Collection
from jaxroute.collect.graders import Grader, find_grader
from jaxroute.collect.grading import Grading, Judging
from jaxroute.collect.plans import Collected, Plan, find_plan
from jaxroute.collect.progress import Progress
from jaxroute.collect.questions import Question, check_questions, read_questions
from jaxroute.collect.summary import Summary, summarised
from jaxroute.data.table import Queries
from jaxroute.endpoints import Client, ClientConfig, Endpoint, load_models, read_keys
from jaxroute.endpoints.interrupts import given_up, interrupted_by
from jaxroute.endpoints.stored_answers import ASKED_AGAIN
from jaxroute.errors import CollectError, PlanError, counted, listed, shortened
from jaxroute.storage.files import check_file

MOST_CONCURRENCY = 10_000


@dataclass(frozen=True)
class CollectConfig:
    """Ask models questions, grade the answers, and keep everything in one file."""

    prompts: Path
    """The questions, with a `reference` each where the grader compares with one."""
    models: Path
    """models.yaml: which models can be asked, and at which prices."""
    grader: str
    """Such as `choice`, `numeric:tolerance=0.01` or `mine.py`."""
    output: Path
    """The database; what is in it is kept, and the same command resumes from it."""
    budget_usd: float
    """What all runs on this database may spend together, dollars."""
    only: tuple[str, ...] = ()
    """Ask only these models of the file; default: all of them."""
    plan: str = "full"
    """Which cells are asked."""
    cells: int | None = None
    """Of a plan that chooses: how many cells at most."""
    output_tokens: int | None = None
    """How many tokens an answer may have; default: each model's output_tokens in models.yaml."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of every request, such as temperature."""
    concurrency: int | None = None
    """How many requests to one model may be under way; default, and at most, its concurrent_requests."""
    retry_failed: bool = False
    """Whether calls that failed in an earlier run are asked again."""

    def __post_init__(self) -> None:
        problems = []
        if not (math.isfinite(self.budget_usd) and self.budget_usd > 0):
            problems.append(f"budget_usd={self.budget_usd} must be a number of dollars above 0")
        if self.output_tokens is not None and self.output_tokens < 1:
            problems.append(f"output_tokens={self.output_tokens} must be at least 1")
        if self.concurrency is not None and not 1 <= self.concurrency <= MOST_CONCURRENCY:
            problems.append(f"concurrency={self.concurrency} must be from 1 to {MOST_CONCURRENCY:,}")
        if self.cells is not None and self.cells < 1:
            problems.append(f"cells={self.cells} must be at least 1")
        if problems:
            raise CollectError("; ".join(problems))


def collect(
    config: CollectConfig,
    client: ClientConfig | None = None,
    *,
    endpoints: Mapping[str, Endpoint] | None = None,
    identities: Mapping[str, Endpoint] | None = None,
) -> Summary:
    """Ask, grade and store until the plan is done or the budget is spent; returns what there is.

    `endpoints` are taken in place of the file's models, as by a demo; `identities` say what the database knows them as, where
    their addresses differ from run to run. Raises `JaxrouteError`, before anything is asked, for whatever is wrong;
    and `KeyboardInterrupt` after the first Ctrl-C, once nothing is under way.
    """
    client = client or ClientConfig()
    found = _Inputs.read(config, endpoints)
    check_file("output", config.output)
    known = identities or found.endpoints
    with Collection(
        config.output,
        config.budget_usd,
        questions=found.questions,
        models={name: known[name] for name in found.models},
        grader=found.grader,
        request={"output_tokens": config.output_tokens} | {f"request.{name}": one for name, one in config.options.items()},
    ) as collection:
        run = _Run(config, client, found, collection)
        if given_up(run.all()):
            run.stopped = True
        if run.stopped:
            raise KeyboardInterrupt
        return run.summary()


@dataclass(frozen=True)
class _Inputs:
    """What is asked, whom, and how it is graded; checked."""

    questions: list[Question]
    repeated: int
    """Rows of the file that are the same as an earlier one."""
    endpoints: dict[str, Endpoint]
    """Those that are asked, and those that the grader asks."""
    models: list[str]
    """Those that are asked."""
    grader: Grader
    plan: Plan
    possible: Askable

    @staticmethod
    def read(config: CollectConfig, endpoints: Mapping[str, Endpoint] | None) -> _Inputs:
        """Raise `JaxrouteError` for the first thing that is wrong."""
        grader, plan = find_grader(config.grader), find_plan(config.plan, config.cells)
        every = dict(endpoints) if endpoints is not None else load_models(config.models)
        if unknown := [name for name in config.only if name not in every]:
            raise CollectError(f"only: {listed(unknown)} are none of the models, which are {listed(every)}")
        models = list(dict.fromkeys(config.only)) or list(every)
        asks = grader.asks
        if asks:
            grader.check_models(every, models)
        wanted = {name: every[name] for name in (*models, *(grader.asked_models if asks else ()))}
        read_keys(wanted.values())
        questions, repeated = read_questions(config.prompts)
        check_questions(config.prompts, questions, grader)
        possible = askable(questions, {name: wanted[name] for name in models}, _asking_config(config))
        return _Inputs(questions, repeated, wanted, models, grader, plan, possible)


def _asking_config(config: CollectConfig, deadline_seconds: float = AskingConfig.deadline_seconds) -> AskingConfig:
    return AskingConfig(config.output_tokens, deadline_seconds, dict(config.options), config.concurrency, config.retry_failed)


class _Run:
    """One run on an open collection."""

    def __init__(self, config: CollectConfig, client: ClientConfig, found: _Inputs, collection: Collection) -> None:
        self.config, self.client, self.found, self.collection = config, client, found, collection
        self.asking_config = _asking_config(config, client.deadline_seconds)
        self.tried: set[tuple[int, int]] = set()
        """Cells of this run."""
        self.left_out: dict[str, str] = {}
        self.stopped = False

    async def all(self) -> None:
        """Ask and grade, until nothing is left or it is stopped."""
        async with Client(self.found.endpoints, self.client, ledger=self.collection.store.ledger) as client:
            with Progress(self.found.models) as progress:
                await self._all(client, progress)

    def summary(self) -> Summary:
        """What there is, and what is missing."""
        return summarised(
            self.collection,
            grader=self.found.grader,
            notes=self._notes(),
            left_out=self.left_out,
            worst_case_usd=self._worst_case_usd,
        )

    def _worst_case_usd(self, row: int, column: int) -> float:
        return self.asking_config.worst_case_usd(self.found.endpoints[self.found.models[column]], self.found.questions[row])

    def _notes(self) -> list[str]:
        """What else a user should know of the run."""
        notes, again = list(self.found.possible.notes), self.collection.graded_again
        if again:
            notes.append(f"{counted(again, 'stored grade')} made again: the grader or fields of the questions have changed")
        if self.found.repeated:
            notes.append(f"{counted(self.found.repeated, 'row')} of the file only repeated another, and counted once")
        return [*notes, *filter(None, [self.found.plan.note])]

    async def _all(self, client: Client, progress: Progress) -> None:
        asks = self.found.grader.asks
        grading = Grading(self.collection, self.found.grader)
        judging = Judging(self.collection, self.found.grader, client, again=self.config.retry_failed, progress=progress.judging)

        def came(stored: Any) -> None:
            progress.answered(stored)
            if not asks:
                grading.add(stored)

        asking = Asking(self.collection.store, client, self.asking_config, came)
        self.left_out = asking.left_out

        def stop() -> None:
            self.stopped = judging.stopped = True
            asking.stop()
            progress.say(f"waiting for {counted(asking.under_way, 'answer')} under way; Ctrl-C again gives them up")

        graders = judging if asks else grading
        with interrupted_by(stop):
            await graders.stored()
            while not self.stopped:
                cells = await asyncio.to_thread(self._next_cells)
                if not cells:
                    break
                progress.begin(cells)
                background = None if asks else asyncio.create_task(grading.run())
                try:
                    await _both(asking, asking.ask(cells, self.found.questions, self.found.models), background)
                finally:
                    # What is stored is graded in any case; where the disk is full, the first error counts.
                    self.tried.update(cells)
                await graders.stored()
                if asks and judging.left_out:
                    self.left_out[", ".join(self.found.grader.asked_models)] = judging.left_out
                if self._nothing_but_budget(cells):
                    break

    def _next_cells(self) -> list[tuple[int, int]]:
        """The plan's next batch, without what was asked already."""
        state, models = self.collection.state(), self.found.models
        shape = (len(self.found.questions), len(models))
        worst = np.zeros(shape)
        asked = state.reason == ""
        if not self.config.retry_failed:
            asked |= ~np.isin(state.reason.astype(str), ["None", *ASKED_AGAIN])
        for cell in self.tried:
            asked[cell] = True
        for column, name in enumerate(models):
            asked[:, column] |= name in self.left_out
        possible = self.found.possible.cells
        if getattr(self.found.plan, "weighs_cost", True):
            for row, column in np.argwhere(possible).tolist():
                worst[row, column] = self._worst_case_usd(row, column)
        queries = Queries([one.text for one in self.found.questions], [one.domain for one in self.found.questions])
        endpoints = {name: self.found.endpoints[name] for name in models}
        left = self.collection.store.ledger.left_usd
        cells = self.found.plan.next_cells(
            Collected(queries, models, endpoints, state.quality, state.cost_usd, asked, worst, left, possible)
        )
        for row, column in cells:
            if not (0 <= row < shape[0] and 0 <= column < shape[1]):
                raise PlanError(f"plan={shortened(self.config.plan)}: it names the cell {(row, column)}, of {shape}")
        return [
            (int(row), int(column))
            for row, column in dict.fromkeys(map(tuple, cells))
            if possible[row, column] and not asked[row, column]
        ]

    def _nothing_but_budget(self, cells: list[tuple[int, int]]) -> bool:
        """Whether no cell of the batch could be paid."""
        reasons = self.collection.state().reason
        return all(reasons[cell] in (None, "budget") for cell in cells)


async def _both(asking: Asking, cells: Coroutine[Any, Any, None], background: asyncio.Task | None) -> None:
    """Ask while the background grades. Where grading fails, calls that are under way are still stored, since they are paid."""
    main = asyncio.create_task(cells)
    try:
        if background is not None:
            await asyncio.wait([main, background], return_when=asyncio.FIRST_COMPLETED)
            if background.done():
                asking.stop()
        await main
        if background is not None and background.done():
            background.result()
    finally:
        for task in (main, background):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
