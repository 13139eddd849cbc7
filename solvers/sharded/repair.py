"""The last of the budget: the steps nearest to the price, as a small problem whose sums are those of all shards."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from solvers.choices import Answers, Choices
from solvers.dual import Dual
from solvers.filling import filled
from solvers.sharded.walking import Steps
from solvers.sums import exact_parts

MOST_EXCHANGES = 32


class Window(Choices):
    """A few queries with some of their choices, all others settled."""

    def __init__(
        self,
        cells: tuple[Float[np.ndarray, "queries choices"], Float[np.ndarray, "queries choices"]],
        settled: tuple[list[float], list[float]],
        limit: float,
        places: Int[np.ndarray, " choices"] | None = None,
    ):
        self.cells, self.settled_sums, self.limit, self.places = cells, settled, limit, places
        usable = np.isfinite(cells[0])
        self.magnitude, self.cost_magnitude = (float(np.abs(np.where(usable, one, 0.0)).sum()) for one in cells)
        self.steps = 0

    def __len__(self) -> int:
        return len(self.cells[0])

    @property
    def width(self) -> int:
        return self.cells[0].shape[1]

    @property
    def settled(self) -> tuple[list[float], list[float]]:
        return self.settled_sums

    def read(self, rows: slice) -> tuple[Float[np.ndarray, "rows choices"], Float[np.ndarray, "rows choices"]]:
        return self.cells[0][rows], self.cells[1][rows]


def fill(
    window: Window, choice: Int[np.ndarray, " queries"], multiplier: float, bound: float
) -> tuple[Int[np.ndarray, " queries"], tuple[list[float], list[float]]]:
    """The window's choices after the upgrades that lose least at the multiplier, and the sums of all queries with them."""
    answers = window.answers(choice)
    answers = filled(window, answers, Dual(multiplier, None, bound, answers))
    for _ in range(MOST_EXCHANGES):
        exchanged = _exchanged(window, answers)
        if exchanged is None:
            break
        answers = exchanged
    return answers.choice, answers.parts


def _exchanged(window: Window, answers: Answers) -> Answers | None:
    """The answers after the best exchange: one query's choice lowered by a step, another's raised, so that the limit holds and
    value is added; None if none is found. For every query that is lowered, that which is raised costs most of those that fit.
    """
    value, cost = window.cells
    row, choice = np.arange(len(window)), answers.choice
    lower = np.flatnonzero(choice > 0)
    upper = np.flatnonzero((choice + 1 < window.width) & np.isfinite(value[row, np.minimum(choice + 1, window.width - 1)]))
    if not lower.size or not upper.size:
        return None
    (lost, freed), (gained, extra) = (
        [cells[rows, choice[rows] + up] - cells[rows, choice[rows] + up - 1] for cells in (value, cost)]
        for rows, up in ((lower, 0), (upper, 1))
    )
    order = np.argsort(extra, kind="stable")
    left = window.limit - answers.totals[1]
    place = np.searchsorted(extra[order], freed + left, side="right") - 1
    raised = order[np.maximum(place, 0)]
    gain = np.where((place >= 0) & (upper[raised] != lower), gained[raised] - lost, -np.inf)
    best = int(gain.argmax())
    if not gain[best] > 0:
        return None
    changed = choice.copy()
    changed[lower[best]] -= 1
    changed[upper[raised[best]]] += 1
    found = window.answers(changed)
    return found if window.fits(found.totals[1]) and found.totals[0] > answers.totals[0] else None


def window_of_steps(
    steps: Steps, taken: int, sums: tuple[list[float], list[float]], limit: float
) -> tuple[Window, Int[np.ndarray, " queries"], Int[np.ndarray, " queries"], Int[np.ndarray, "queries choices"]]:
    """The queries of these steps, ordered by key, of which the first `taken` are taken.

    `sums` are those of all queries without any of the steps. Returns the window, the choice of every query in it, the queries'
    numbers, and which choice of the whole problem every choice is.
    """
    query, row, count = np.unique(steps.query, return_inverse=True, return_counts=True)
    by_row = np.argsort(row, kind="stable")
    # Of a query's steps, the how manyth each is.
    place = np.empty(len(steps), np.int64)
    place[by_row] = np.arange(len(steps)) - np.repeat(np.cumsum(count) - count, count)
    shape = len(query), int(count.max(initial=0)) + 1
    value, cost, meaning = np.full(shape, -np.inf), np.zeros(shape), np.full(shape, -1)
    first = place == 0
    for column, which, own in ((0, 0, first), (1, 1, slice(None))):
        at = (row[own], place[own] + column)
        value[at], cost[at] = steps.value[which, own], steps.cost[which, own]
        meaning[at] = (steps.start, steps.end)[which][own]
    choice = np.bincount(row[:taken], minlength=len(query))
    settled = [exact_parts(np.array([*known, *(-cells[:, 0])])) for known, cells in zip(sums, (value, cost))]
    return Window((value, cost), (settled[0], settled[1]), limit), choice, query, meaning
