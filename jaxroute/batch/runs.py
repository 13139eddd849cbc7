"""A batch answered within a budget: estimated, assigned, asked, assigned again as true costs come in; resumed after any stop.

OUTPUT        one line per prompt, in the order of the input, written when every prompt has an answer or a reason why not
OUTPUT.db     every answer and every dollar, from the first call on (an `AnswerStore`); the same command resumes from it
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from dataclasses import dataclass, replace

from jaxroute.batch.answer_lines import Lines, write_answers
from jaxroute.batch.answering import Answering, row_name
from jaxroute.batch.hard_budget import NO_MODEL, NOTHING_FITS
from jaxroute.batch.prepare import Prepared
from jaxroute.endpoints import AnswerStore, ClientConfig
from jaxroute.endpoints.interrupts import given_up
from jaxroute.endpoints.money import naming_budget
from jaxroute.errors import JaxrouteWarning, counted
from jaxroute.predictor.checkpoint import description_of
from jaxroute.storage.digests import file_digest

SHOWN_USD = 1e-6
"""The smallest sum that a summary shows."""
SAID = {
    NOTHING_FITS: "no worst case fits into the rest of the budget",
    NO_MODEL: "no model can answer them, or all have failed",
    "deadline": "the deadline has passed",
}
"""Why prompts stay without an answer, in a summary."""


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
    interrupted: int
    """Calls under way when runs were killed; they count as spent at their worst case."""
    interrupted_usd: float = 0.0
    """These worst cases together, dollars."""

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
        lost = self.spent_usd - math.fsum(one.cost_usd for one in self.models)
        if lost > SHOWN_USD / 2:
            lines.append(f"{lost:.6f} of them for tries that brought no answer, at their worst cases")
        if self.interrupted:
            taken = _taken_words(self.interrupted, self.interrupted_usd, self.budget_usd)
            lines.append(f"{taken}; a larger --budget-usd makes up for it")
        lines += [f"{count:,} unanswered: {reason}" for reason, count in self.unanswered.items()]
        return "\n".join(lines)


def run(prepared: Prepared, client_config: ClientConfig | None = None) -> RunReport:
    """Ask, and write the output; what an earlier run has stored is not asked again.

    Warns where an earlier run was killed, of what its calls under way have taken of the budget. Raises `OutputError` where the
    state is that of another run, naming what differs; `LedgerError` where answers cannot be
    stored any more, such as on a full disk; and `KeyboardInterrupt` after the first Ctrl-C, once nothing is under way. What is
    stored by then is kept.
    """
    config = prepared.config
    about = {
        "kind": "run",
        "checkpoint_sha256": file_digest(description_of(config.checkpoint)),
        "prompts": len(prepared.asked),
        "output_tokens": config.options.output_tokens,
        "models": list(prepared.endpoints),
    }
    config.state.parent.mkdir(parents=True, exist_ok=True)
    queries = {row_name(row): one.content for row, one in enumerate(prepared.asked)}
    with naming_budget():
        opened = AnswerStore(config.state, config.budget_usd, about=about, models=prepared.endpoints, queries=queries)
    with opened as store:
        answering = Answering(prepared, store)
        if store.interrupted:
            taken = _taken_words(store.interrupted, store.interrupted_usd, config.budget_usd)
            enough = f"--budget-usd {config.budget_usd + store.interrupted_usd:.9g} leaves as much for answers as there was"
            warnings.warn(f"{taken}; {enough}", JaxrouteWarning, stacklevel=2)
        client_config = replace(client_config or ClientConfig(), deadline_seconds=config.options.deadline_seconds)
        if given_up(answering.run(client_config)):
            answering.stopped = True
        if answering.stopped and not answering.controller.finished:
            raise KeyboardInterrupt
        lines = Lines(prepared.prompts.fields, list(prepared.endpoints), prepared.estimates.quality, answering.errors())
        write_answers(config.output, config.options.format, lines, store.answers())
        return _report(prepared, answering, store.ledger.totals().settled_usd)


def _taken_words(calls: int, usd: float, budget_usd: float) -> str:
    """What calls that were under way at a kill have taken of the budget."""
    share = f" ({usd / budget_usd:.0%} of the budget)" if budget_usd else ""
    were = "was" if calls == 1 else "were"
    return f"{counted(calls, 'call')} {were} under way when a run was killed: {usd:.6f} dollars{share} count as spent at worst"


def _report(prepared: Prepared, answering: Answering, spent_usd: float) -> RunReport:
    controller, models = answering.controller, []
    for column, model in enumerate(answering.names):
        mine = controller.choice == column
        mean = float(prepared.estimates.quality[mine, column].mean()) if mine.any() else math.nan
        models.append(ModelReport(model, int(mine.sum()), float(answering.cost_usd[column]), mean))
    return RunReport(
        prompts=len(controller.choice),
        answered=int((controller.choice >= 0).sum()),
        already=answering.already,
        models=models,
        budget_usd=prepared.config.budget_usd,
        spent_usd=spent_usd,
        unanswered=dict(Counter(SAID.get(reason, reason) for reason in controller.unanswered.values())),
        interrupted=answering.interrupted,
        interrupted_usd=answering.interrupted_usd,
    )
