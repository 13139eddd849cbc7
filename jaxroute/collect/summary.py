"""What a collection holds, model by model, and what is missing for which reason."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from jaxroute.collect.database import Collection
from jaxroute.collect.graders import Grader
from jaxroute.endpoints import STORED_REASONS
from jaxroute.endpoints.money import PICO, enough
from jaxroute.endpoints.stored_answers import ASKED_AGAIN
from jaxroute.errors import counted, shortened

NOT_ASKED = "not asked"
COUNTS = """SELECT model, reason, count(*), sum(refusal IS NOT NULL OR finish_reason = 'content_filter'),
    sum(finish_reason = 'length'), sum(coalesce(cost_pico, 0)), sum(spent_pico), sum(killed), sum(killed_pico),
    sum(reason = '' AND cost_pico IS NULL) FROM answer_cells WHERE purpose {} '' GROUP BY model, reason"""


@dataclass
class ModelSummary:
    """Of one model's cells."""

    answered: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """Of cells without an answer."""
    refused: int = 0
    """Of the answers, those that are marked as refusals or were filtered."""
    truncated: int = 0
    """Of the answers, those that reached the limit of their length."""
    uncounted: int = 0
    """Of the answers, those whose tokens the endpoint has not counted."""
    graded: int = 0
    quality: float = math.nan
    """Mean grade."""
    cost_usd: float = 0.0
    """True dollars of answers."""
    spent_usd: float = 0.0
    """What the ledger was charged, tries without an answer among them."""


@dataclass(frozen=True)
class Summary:
    """What there is of the questions and models that were asked for."""

    models: dict[str, ModelSummary]
    questions: int
    limit_usd: float
    spent_usd: float
    """Of all cells, judges among them."""
    judged_usd: float
    """The part that a grader has spent."""
    killed: int
    """Calls that were under way when a process was killed, of all runs."""
    killed_usd: float
    """Their worst cases, which count as spent."""
    missing_usd: float
    """What cells that lacked money are expected to cost."""
    most_missing_usd: float
    """Their worst cases."""
    enough_usd: float
    """A budget with which they can be asked, as far as can be expected."""
    left_out: Mapping[str, str]
    """Models that were not asked any more, and why."""
    details: Mapping[str, str] = field(default_factory=dict)
    """What an endpoint said, once for each reason."""
    notes: tuple[str, ...] = ()

    @property
    def graded(self) -> int:
        """Cells with a grade."""
        return sum(one.graded for one in self.models.values())

    @property
    def lacking(self) -> int:
        """Cells that lacked money."""
        return sum(one.reasons["budget"] for one in self.models.values())

    def __str__(self) -> str:
        width = max(map(len, [*self.models, "model"]))
        head = ("answered", "failed", "not asked", "refused", "truncated", "graded", "quality", "dollars")
        lines = [f"{'model':<{width}} " + " ".join(f"{name:>9}" for name in head)]
        for name, one in self.models.items():
            failed = one.reasons.total() - one.reasons[NOT_ASKED] - one.reasons["budget"]
            absent = one.reasons[NOT_ASKED] + one.reasons["budget"]
            counts = (one.answered, failed, absent, one.refused, one.truncated, one.graded)
            quality = "" if math.isnan(one.quality) else f"{one.quality:.4f}"
            lines.append(
                f"{name:<{width}} " + " ".join(f"{count:>9,}" for count in counts) + f" {quality:>9} {one.spent_usd:>9.4f}"
            )
        reasons = sum((one.reasons for one in self.models.values()), Counter[str]())
        for reason in (name for name in reasons if name not in (NOT_ASKED, "budget")):
            detail = f"; such as: {shortened(self.details[reason], 160, quoted=False)}" if self.details.get(reason) else ""
            lines.append(f"failed, {reason}: {reasons[reason]:,} ({STORED_REASONS[reason]}{detail})")
        if any(reason not in (NOT_ASKED, *ASKED_AGAIN) for reason in reasons):
            lines.append("what failed is missing, and is asked again with --retry-failed")
        if uncounted := sum(one.uncounted for one in self.models.values()):
            lines.append(f"{counted(uncounted, 'answer')} without counted tokens: charged at the worst case")
        lines += [f"{name} was left out: {why}" for name, why in self.left_out.items()]
        judged = f", {self.judged_usd:.6f} of them by the grader" if self.judged_usd else ""
        killed = f"; {counted(self.killed, 'call')} under way when a process ended counted {self.killed_usd:.6f}" * bool(
            self.killed
        )
        lines.append(f"spent {self.spent_usd:.6f} of {self.limit_usd:g} dollars{judged}{killed}")
        if self.lacking:
            lines.append(
                f"{counted(self.lacking, 'cell')} missing for lack of money: about {self.missing_usd:.6f} dollars more, at "
                f"most {self.most_missing_usd:.6f}; continue with --budget-usd {enough(self.enough_usd)}"
            )
        return "\n".join([*lines, *self.notes])


def summarised(
    collection: Collection,
    *,
    grader: Grader,
    notes: Iterable[str],
    left_out: Mapping[str, str],
    worst_case_usd: Callable[[int, int], float],
) -> Summary:
    """The summary of what is stored; `worst_case_usd` is that of a cell."""
    state, names = collection.state(), collection.models
    models = {name: ModelSummary() for name in names}
    for column, name in enumerate(names):
        graded = state.quality[~np.isnan(state.quality[:, column]), column]
        models[name].graded = len(graded)
        models[name].quality = math.fsum(graded) / len(graded) if len(graded) else math.nan
        reasons = Counter(NOT_ASKED if reason is None else reason for reason in state.reason[:, column])
        models[name].answered = reasons.pop("", 0)
        models[name].reasons = reasons
    killed = killed_pico = judged = 0
    with collection.store.ledger.reading() as connection:
        own = connection.execute(COUNTS.format("=")).fetchall()
        others = connection.execute(COUNTS.format("<>")).fetchall()
        lacking = connection.execute(
            "SELECT model, count(*), max(reason) FROM collect_grades WHERE score IS NULL GROUP BY model"
        ).fetchall()
        details = dict(connection.execute("SELECT reason, max(detail) FROM answer_cells WHERE purpose = '' GROUP BY reason"))
    for name, _, _, refused, truncated, cost, spent, times, lost, uncounted in own:
        killed, killed_pico = killed + times, killed_pico + lost
        if name in models:
            one = models[name]
            one.refused, one.truncated = one.refused + (refused or 0), one.truncated + (truncated or 0)
            one.uncounted += uncounted or 0
            one.cost_usd, one.spent_usd = one.cost_usd + cost / PICO, one.spent_usd + spent / PICO
    for row in others:
        judged, killed, killed_pico = judged + row[6], killed + row[7], killed_pico + row[8]
    totals = collection.store.ledger.totals()
    expected, most, largest = _lacking(collection, state.reason, models, worst_case_usd)
    return Summary(
        models=models,
        questions=len(collection.questions),
        limit_usd=totals.limit_usd,
        spent_usd=totals.settled_usd,
        judged_usd=judged / PICO,
        killed=killed,
        killed_usd=killed_pico / PICO,
        missing_usd=expected,
        most_missing_usd=most,
        # It is a limit: half as much again costs nothing where it is not needed. The worst case of the last cell must fit, too.
        enough_usd=totals.settled_usd + min(most, 1.5 * expected + largest),
        left_out=dict(left_out),
        details=details,
        notes=(
            *([_ungraded(lacking)] if lacking else []),
            *grader.summary(collection.grades(grader)),
            *notes,
        ),
    )


def _ungraded(rows: list[tuple[str, int, str]]) -> str:
    """How many answers a grader that asks has given no grade."""
    count, example = sum(count for _, count, _ in rows), shortened(rows[0][2], 160, quoted=False)
    return f"{counted(count, 'answer')} without a grade: their quality is missing; such as: {example}"


def _lacking(
    collection: Collection,
    reasons: np.ndarray,
    models: Mapping[str, ModelSummary],
    worst_case_usd: Callable[[int, int], float],
) -> tuple[float, float, float]:
    """Of cells that lacked money: what they are expected to cost, their worst cases together, and the largest of these.

    Expected is what the model's answers have cost on average, tries without an answer among them; the worst case where it has
    answered nothing.
    """
    expected, most = [], []
    for row, column in np.argwhere(reasons == "budget").tolist():
        one = models[collection.models[column]]
        most.append(worst_case_usd(row, column))
        expected.append(min(one.spent_usd / one.answered, most[-1]) if one.answered else most[-1])
    return math.fsum(expected), math.fsum(most), max(most, default=0.0)
