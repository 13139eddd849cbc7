"""How good the best set can be: simple bounds, closer ones from the linear relaxation, and the best set itself."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from solvers.subset.branching import Branching, swapped
from solvers.subset.relaxation import MOST_CELLS, Cuts, relaxed_bound, relaxed_levels, stepped_levels
from solvers.subset.residual import Residual

CLOSE_ENOUGH = 5e-3
"""A bound that is closer to the value than this share of it is not worth a linear program."""
MOST_BRANCHES = 10_000
"""Branches that are searched for a bound, two seconds or so."""
ROUNDING = 1e-12


def best_set(pool: Residual, chosen: list[int], queries: int, max_seconds: float) -> tuple[list[int], float]:
    """The best set found, beginning with one of columns `chosen`, and a bound on the S of all."""
    if not len(pool.models):
        return pool.certain, _mean(pool, 0.0, queries)
    deadline = time.perf_counter() + max_seconds
    start = swapped(pool, _open(pool, chosen), pool.room)
    if pool.gains.size <= MOST_CELLS:
        levels = relaxed_levels(pool, pool.room, start, Cuts(pool), max_seconds / 2)
    else:
        levels = stepped_levels(pool, pool.room, start)
    search = Branching(pool, pool.room, levels, math.inf, deadline)
    search.search(start)
    most = min(search.bound, relaxed_bound(pool, levels, pool.room))
    return [*pool.certain, *pool.models[search.best].tolist()], _mean(pool, max(most, search.value), queries)


@dataclass(frozen=True, eq=False)
class Bounding:
    """Bounds on S, computed once somebody reads them: of every set within the limits, and of those of every size."""

    simple: float
    """From the gains of single models, or from the search for the best set."""
    simple_by_size: list[float]
    """For at most 1, 2, ... models where a size was given."""
    values: list[float]
    """S of the first 1, 2, ... chosen models; none is above its bound."""
    required: int
    """How many models are required."""
    pool: Residual | None
    """None where the pool is too large for a closer look."""
    queries: int

    @cached_property
    def bound(self) -> float:
        value = self.values[-1] if self.values else 0.0
        room = self.pool.room if self.pool else 0.0
        return max(self._closer([self.simple], [value], [room])[0], value)

    @cached_property
    def by_size(self) -> list[float]:
        sizes = range(1, len(self.simple_by_size) + 1)
        values = [self.values[min(size, len(self.values)) - 1] if self.values else 0.0 for size in sizes]
        found = self._closer(
            [min(one, self.bound) for one in self.simple_by_size], values, [size - self.required for size in sizes]
        )
        # A larger set is worth no less than a smaller one.
        falling = np.minimum.accumulate(found[::-1])[::-1]
        return [float(max(one, value)) for one, value in zip(falling, values, strict=True)]

    @cached_property
    def _cuts(self) -> Cuts:
        assert self.pool is not None
        return Cuts(self.pool)

    def _closer(self, bounds: list[float], values: list[float], rooms: list[float]) -> list[float]:
        """Bounds for sets of these rooms, of which `values` are reached."""
        pool = self.pool
        for place, room in enumerate(rooms):
            if pool is None or not len(pool.models) or room <= 0 or bounds[place] <= values[place] * (1 + CLOSE_ENOUGH):
                continue
            start = self._start(pool, room)
            levels = relaxed_levels(pool, room, start, self._cuts)
            most = [_mean(pool, relaxed_bound(pool, levels, max(other, 0.0)), self.queries) for other in rooms]
            bounds = [min(before, now) for before, now in zip(bounds, most, strict=True)]
            if bounds[place] > values[place] * (1 + CLOSE_ENOUGH):
                search = Branching(pool, room, levels, MOST_BRANCHES)
                search.search(start)
                bounds[place] = min(bounds[place], _mean(pool, search.bound, self.queries))
        return bounds

    def _start(self, pool: Residual, room: float) -> list[int]:
        """A good set within the room: the best single models, exchanged for better ones."""
        order = np.argsort(-pool.gains.sum(axis=1), kind="stable")
        fitting = order[np.cumsum(pool.cost[order]) <= room]
        return swapped(pool, fitting.tolist(), room)


def _open(pool: Residual, columns: list[int]) -> list[int]:
    """Positions of these columns among the pool's open models."""
    position = {column: place for place, column in enumerate(pool.models.tolist())}
    return [position[column] for column in columns if column in position]


def _mean(pool: Residual, added: float, queries: int) -> float:
    """S, rounded outward, of what is added to what is certain."""
    return (pool.covered + added) * (1 + ROUNDING) / queries
