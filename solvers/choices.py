"""The standard form of every program: per query some choices, each with a value and a cost.

    maximise  sum_j value[j, x_j]    subject to   sum_j cost[j, x_j] <= limit,    #{j : x_j = i} <= places[i]

A Problem is as its user gave it, in any memory; it is read in chunks that stay in a processor's cache and never copied whole.
A Part is some of its queries, the others already answered. Sums over a Part are sums over the whole problem, to the last
digit, so that a solver can forget queries that are decided.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from solvers.sums import RunningSum, exact_parts, exact_sum

CHUNK_CELLS = 2**17
"""Choices per chunk: a megabyte in float64."""


@dataclass(frozen=True, eq=False)
class Answers:
    """One choice per query of a problem, with its sums."""

    choice: Int[np.ndarray, " queries"]
    parts: tuple[list[float], list[float]]
    """A few numbers whose exact sum is the value, and a few for the cost; those of settled queries included."""

    @cached_property
    def totals(self) -> tuple[float, float]:
        """Value and cost, summed exactly and rounded once."""
        value, cost = self.parts
        return math.fsum(value), math.fsum(cost)


class Choices(ABC):
    """Queries with their choices: the models (value -inf where not available), then, if allowed, no answer at all."""

    limit: float
    """The largest sum of costs, tolerance included."""
    places: Int[np.ndarray, " choices"] | None
    """How many queries may take each choice; None without capacities."""
    magnitude: float
    """The sum over all queries of the problem of the largest absolute value: rounding is measured against it."""
    cost_magnitude: float
    """The sum over all queries of the problem of the largest absolute cost."""
    steps: int
    """Steps per unit where all values are whole numbers of steps; 0 where they are on no grid."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def width(self) -> int:
        """Choices per query."""

    @abstractmethod
    def read(self, rows: slice) -> tuple[Float[np.ndarray, "rows choices"], Float[np.ndarray, "#rows choices"]]:
        """Value and cost of every choice in float64; one row of costs where they are the same for all queries."""

    @property
    def settled(self) -> tuple[list[float], list[float]]:
        """Value and cost of the queries that are already answered, as numbers whose sum is exact."""
        return [], []

    def slices(self) -> Iterator[slice]:
        """The queries, a chunk at a time."""
        step = max(1, CHUNK_CELLS // self.width)
        for start in range(0, len(self), step):
            yield slice(start, min(start + step, len(self)))

    def chunks(self) -> Iterator[tuple[slice, Float[np.ndarray, "rows choices"], Float[np.ndarray, "#rows choices"]]]:
        """The queries of every chunk, with value and cost of their choices as `read` gives them."""
        for rows in self.slices():
            yield rows, *self.read(rows)

    @cached_property
    def choices(self) -> tuple[Float[np.ndarray, "queries choices"], Float[np.ndarray, "queries choices"]]:
        """Value and cost of all choices at once; for a Part, or a problem that is small."""
        value, cost = self.read(slice(0, len(self)))
        return value, np.broadcast_to(cost, value.shape)

    def picked(
        self, choice: Int[np.ndarray, " queries"]
    ) -> tuple[Float[np.ndarray, " queries"], Float[np.ndarray, " queries"]]:
        """Value and cost of one choice per query."""
        values, costs = np.empty(len(self)), np.empty(len(self))
        for rows, value, cost in self.chunks():
            column = choice[rows]
            values[rows] = value[np.arange(len(value)), column]
            costs[rows] = picked_of(cost, column)
        return values, costs

    def answers(self, choice: Int[np.ndarray, " queries"]) -> Answers:
        """An assignment with its sums."""
        (value, cost), (settled_value, settled_cost) = self.picked(choice), self.settled
        return Answers(choice, ([*settled_value, *exact_parts(value)], [*settled_cost, *exact_parts(cost)]))

    def totals(self, choice: Int[np.ndarray, " queries"]) -> tuple[float, float]:
        """Value and cost of an assignment, summed exactly; `choice` holds columns of `choices`."""
        (value, cost), (settled_value, settled_cost) = self.picked(choice), self.settled
        return exact_sum(settled_value, value), exact_sum(settled_cost, cost)

    def fits(self, cost: float) -> bool:
        """Whether a sum of costs is within the limit."""
        return bool(cost <= self.limit)

    def spare(self, choice: Int[np.ndarray, " queries"]) -> Int[np.ndarray, " choices"]:
        """How many more queries could take each choice."""
        if self.places is None:
            return np.full(self.width, len(self))
        return self.places - np.bincount(choice, minlength=self.width)

    def best_at(self, multiplier: float) -> Answers:
        """Per query the choice with the largest value - multiplier * cost, the cheaper among equals, then the lower column.

        It considers one query at a time, and therefore no capacities.
        """
        choice = np.empty(len(self), np.int32)
        values, costs = RunningSum(), RunningSum()
        for rows, value, cost in self.chunks():
            choice[rows] = best = best_of(value - multiplier * cost, -cost)
            values.add(value[np.arange(len(best)), best])
            costs.add(picked_of(cost, best))
        settled_value, settled_cost = self.settled
        return Answers(choice, ([*settled_value, *values.parts()], [*settled_cost, *costs.parts()]))

    def part(self, rows: Int[np.ndarray, " rows"], choice: Int[np.ndarray, " queries"]) -> Part:
        """The queries at the positions `rows` (rising), every other one answered by `choice`."""
        value, cost = np.empty((len(rows), self.width)), np.empty((len(rows), self.width))
        for place, values, costs in self.chunks():
            first, last = np.searchsorted(rows, (place.start, place.stop))
            if first < last:
                value[first:last] = values[rows[first:last] - place.start]
                cost[first:last] = costs if len(costs) == 1 else costs[rows[first:last] - place.start]
        others = np.ones(len(self), bool)
        others[rows] = False
        (values, costs), (settled_value, settled_cost) = self.picked(choice), self.settled
        sums = (
            [*settled_value, *exact_parts(values[others])],
            [*settled_cost, *exact_parts(costs[others])],
        )
        left = None if self.places is None else self.places - np.bincount(choice[others], minlength=self.width)
        return Part(self, rows, choice, (value, cost), sums, self.limit, left)


@dataclass(frozen=True, eq=False)
class Part(Choices):
    """Some queries of a problem or of a larger part; `choice` answers the others."""

    parent: Choices
    rows: Int[np.ndarray, " rows"]
    """Positions of the queries in the parent, rising."""
    choice: Int[np.ndarray, " queries"]
    """One choice for every query of the parent."""
    cells: tuple[Float[np.ndarray, "rows choices"], Float[np.ndarray, "rows choices"]]
    """Value and cost."""
    settled_sums: tuple[list[float], list[float]]
    limit: float
    places: Int[np.ndarray, " choices"] | None

    def __post_init__(self) -> None:
        for name in ("magnitude", "cost_magnitude", "steps"):
            object.__setattr__(self, name, getattr(self.parent, name))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def width(self) -> int:
        return self.parent.width

    @property
    def settled(self) -> tuple[list[float], list[float]]:
        return self.settled_sums

    def read(self, rows: slice) -> tuple[Float[np.ndarray, "rows choices"], Float[np.ndarray, "rows choices"]]:
        value, cost = self.cells
        return value[rows], cost[rows]

    def only(self, open_choices: Bool[np.ndarray, "rows choices"]) -> Part:
        """The same queries with fewer choices."""
        value, cost = self.cells
        cells = np.where(open_choices, value, -np.inf), np.where(open_choices, cost, 0.0)
        return replace(self, cells=cells)

    def whole(self, choice: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " queries"]:
        """The parent's assignment with these answers."""
        answered = self.choice.copy()
        answered[self.rows] = choice
        return answered


def picked_of(
    cells: Float[np.ndarray, "#queries choices"], choice: Int[np.ndarray, " queries"]
) -> Float[np.ndarray, " queries"]:
    """Per query the cell of its choice; one row of cells is that of every query."""
    return cells[0, choice] if len(cells) == 1 else cells[np.arange(len(cells)), choice]


def best_of(
    first: Float[np.ndarray, "queries choices"], then: Float[np.ndarray, "#queries choices"]
) -> Int[np.ndarray, " queries"]:
    """Per query the choice with the largest `first`; among equals the largest `then`, then the lower index."""
    best = first.argmax(axis=1)
    equal = first == first[np.arange(len(first)), best][:, None]
    # Ties are rare, and one count over all queries is much cheaper than one per query.
    if np.count_nonzero(equal) > len(first):
        tied = np.flatnonzero(equal.sum(axis=1) > 1)
        second = np.broadcast_to(then, first.shape)[tied]
        best[tied] = np.where(equal[tied], second, -np.inf).argmax(axis=1)
    return best
