"""What an assignment leaves of the limit, spent on upgrades: changes of one query's choice that add value.

The choices at the dual's multiplier leave a little of the limit. The upgrades that lose least at the multiplier and the tolls
come first, as long as costs and places allow. An upgrade that adds value and costs at most what is left is worth less at the
multiplier by at most

    value[j, x_j] - multiplier * cost[j, x_j] - (value[j, i] - multiplier * cost[j, i])  <  multiplier * left

so that one comparison per choice finds the few that are worth a closer look.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from solvers.choices import Answers, Choices, Part, best_of, picked_of
from solvers.dual import PROVED, Dual, reduced
from solvers.mixing import least_first
from solvers.sums import exact_parts

CANDIDATES = 4_096
"""Queries among which the rest of the limit is spent."""
MOST_LOOKS = 4
"""Times that all queries are searched for upgrades that the rest of the limit still pays for."""


def fill(problem: Choices, choice: Int[np.ndarray, " queries"], dual: Dual) -> Int[np.ndarray, " queries"]:
    """`choice` with upgrades, within the limit and the places."""
    answers = dual.answers if choice is dual.choice else problem.answers(choice)
    return filled(problem, answers, dual).choice


def filled(problem: Choices, answers: Answers, dual: Dual) -> Answers:
    """`answers` with upgrades, within the limit and the places.

    The queries that are closest to changing their choice come first, then those whose upgrades lose least. All queries are
    considered again, a few times, as long as some of those that offered an upgrade were left out.
    """
    near = dual.near
    if near is not None and answers is dual.answers:
        answers = _with(near, answers, _looked(near, near.answers(answers.choice[near.rows]), dual))
    return _looked(problem, answers, dual)


def _looked(problem: Choices, answers: Answers, dual: Dual) -> Answers:
    if not dual.multiplier and answers.totals[0] >= dual.bound:
        # Every query already has its best choice.
        return answers
    for _ in range(MOST_LOOKS):
        offers = _offers(problem, answers, dual)
        if not offers.rows.size:
            break
        part = offers.part(problem, answers)
        answers = _with(part, answers, part.answers(_fill(part, answers.choice[part.rows], dual)))
        # What no longer fits never fits again, but a place can become free.
        if offers.complete and problem.places is None:
            break
    return answers


def _with(part: Part, answers: Answers, inner: Answers) -> Answers:
    """The assignment of the part's parent with these answers of the part."""
    choice = answers.choice.copy()
    choice[part.rows] = inner.choice
    return Answers(choice, inner.parts)


@dataclass
class _Offers:
    """Queries that offer an upgrade which fits, at most CANDIDATES: those that lose least."""

    rows: Int[np.ndarray, " rows"]
    complete: bool
    cells: tuple[Float[np.ndarray, "rows choices"], Float[np.ndarray, "rows choices"]] | None
    """Their values and costs, where they were kept."""

    def part(self, problem: Choices, answers: Answers) -> Part:
        if self.cells is None:
            return problem.part(self.rows, answers.choice)
        value, cost = self.cells
        chosen = answers.choice[self.rows]
        # The sums of all other queries.
        settled = [
            exact_parts(np.append(parts, -picked_of(cells, chosen)))
            for parts, cells in zip(answers.parts, self.cells, strict=True)
        ]
        others = None
        if problem.places is not None:
            others = problem.spare(answers.choice) + np.bincount(chosen, minlength=problem.width)
        return Part(problem, self.rows, answers.choice, (value, cost), (settled[0], settled[1]), problem.limit, others)


@dataclass
class _Kept:
    """Queries with their loss, and with their cells as long as they are few."""

    rows: list[Int[np.ndarray, " _"]] = field(default_factory=list[np.ndarray])
    loss: list[Float[np.ndarray, " _"]] = field(default_factory=list[np.ndarray])
    cells: list[tuple[np.ndarray, np.ndarray]] | None = field(default_factory=list[tuple[np.ndarray, np.ndarray]])
    count: int = 0

    def add(self, rows: np.ndarray, loss: np.ndarray, value: np.ndarray, cost: np.ndarray) -> None:
        self.rows.append(rows)
        self.loss.append(loss)
        self.count += len(rows)
        if self.cells is not None:
            self.cells.append((value, cost))
            self.cells = self.cells if self.count <= 2 * CANDIDATES else None

    def offers(self, width: int) -> _Offers:
        rows, loss = np.concatenate([np.zeros(0, np.intp), *self.rows]), np.concatenate([np.zeros(0), *self.loss])
        complete = len(rows) <= CANDIDATES
        first = np.arange(len(rows)) if complete else np.sort(_least(loss, CANDIDATES))
        cells = None
        if self.cells is not None:
            value, cost = ([np.zeros((0, width)), *(pair[which] for pair in self.cells)] for which in (0, 1))
            cells = np.concatenate(value)[first], np.concatenate(cost)[first]
        return _Offers(rows[first], complete, cells)


def _least(numbers: Float[np.ndarray, " numbers"], count: int) -> Int[np.ndarray, " count"]:
    """Positions of the `count` least numbers; which of those that are equal to the last one is drawn."""
    last = np.partition(numbers, count - 1)[count - 1]
    near = np.flatnonzero(numbers <= last)
    return near[least_first(numbers[near])[:count]]


def _offers(problem: Choices, answers: Answers, dual: Dual) -> _Offers:
    """The queries, at most CANDIDATES, whose best upgrade that fits loses least."""
    left = problem.limit - answers.totals[1]
    # With room for the rounding of both sides of the comparison.
    mean_size = (problem.magnitude + dual.multiplier * problem.cost_magnitude) / len(problem)
    within = dual.multiplier * left + PROVED * mean_size
    full = problem.spare(answers.choice) <= 0 if problem.places is not None else None
    kept = _Kept()
    for rows, value, cost in problem.chunks():
        worth = reduced(value, cost, dual.multiplier, None)
        chosen = answers.choice[rows]
        own = picked_of(worth, chosen)
        near = worth >= (own - within)[:, None]
        near[np.arange(len(near)), chosen] = False
        row = np.unique(np.flatnonzero(near) // problem.width)
        if not row.size:
            continue
        values, costs = value[row], np.broadcast_to(cost, value.shape)[row]
        gain, extra = values - picked_of(values, chosen[row])[:, None], costs - picked_of(costs, chosen[row])[:, None]
        allowed = (gain > 0) & (extra <= left)
        if full is not None:
            allowed &= ~full
        offering = np.flatnonzero(allowed.any(axis=1))
        if offering.size:
            values, costs = values[offering], costs[offering]
            worth = dual.reduced(values, costs)
            best = np.where(allowed[offering], worth, -np.inf).max(axis=1)
            loss = picked_of(worth, chosen[row[offering]]) - best
            kept.add(rows.start + row[offering], loss, values, costs)
    return kept.offers(problem.width)


def _fill(part: Part, choice: Int[np.ndarray, " queries"], dual: Dual) -> Int[np.ndarray, " queries"]:
    """In rounds: every query offers its best upgrade that fits, and the offers that lose least are taken until one does not.

    Every round takes at least one offer, and every offer adds value.
    """
    values, costs = part.choices
    worths = dual.reduced(values, costs)
    active = np.arange(len(values))
    while True:
        spare = part.spare(choice)
        left = part.limit - part.totals(choice)[1]
        value, cost, worth, chosen = values[active], costs[active], worths[active], choice[active]
        gain = value - picked_of(value, chosen)[:, None]
        extra = cost - picked_of(cost, chosen)[:, None]
        allowed = (gain > 0) & (extra <= left) & (spare > 0)
        offering = np.flatnonzero(allowed.any(axis=1))
        if not offering.size:
            return choice
        upgrade = best_of(np.where(allowed, worth, -np.inf)[offering], gain[offering])
        loss = worth[offering, chosen[offering]] - worth[offering, upgrade]
        order = least_first(loss)
        offering, upgrade = offering[order], upgrade[order]
        count = min(_affordable(extra[offering, upgrade], left), _uncrowded(upgrade, spare))
        upgraded = _take(part, choice, active[offering], upgrade, count)
        if upgraded is None:
            return choice
        choice = upgraded
        if part.places is None:
            # What no longer fits never fits again.
            active = np.sort(active[offering])


def _affordable(extra: Float[np.ndarray, " offers"], left: float) -> int:
    """How many offers, in their order, stay within `left` of the limit all along."""
    return int(np.searchsorted(np.maximum.accumulate(np.cumsum(extra)), left, side="right"))


def _uncrowded(upgrade: Int[np.ndarray, " offers"], spare: Int[np.ndarray, " choices"]) -> int:
    """How many offers, in their order, find a place."""
    order = np.argsort(upgrade, kind="stable")
    ordered = upgrade[order]
    # How many earlier offers name the same choice.
    earlier = np.empty(len(upgrade), np.int64)
    earlier[order] = np.arange(len(upgrade)) - np.searchsorted(ordered, ordered)
    crowded = np.flatnonzero(earlier >= spare[upgrade])
    return int(crowded[0]) if crowded.size else len(upgrade)


def _take(
    part: Part,
    choice: Int[np.ndarray, " queries"],
    offering: Int[np.ndarray, " offers"],
    upgrade: Int[np.ndarray, " offers"],
    count: int,
) -> Int[np.ndarray, " queries"] | None:
    """The assignment after the first `count` offers, or a few fewer, since running sums are rounded; None if none fits."""
    while count:
        tried = choice.copy()
        tried[offering[:count]] = upgrade[:count]
        if part.fits(part.totals(tried)[1]):
            return tried
        count -= 1
    return None
