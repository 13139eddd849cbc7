"""The linear relaxation of coverage, and levels that prove its value as a bound.

Serving a share x[i] of every model, with what it adds to a query as a gain g[i, j]:

    maximise  sum_j max { sum_i g[i, j] z[i, j] : z[i, j] <= x[i], sum_i z[i, j] <= 1 }   subject to  sum_i cost[i] x[i] <= room

For any level u[j] >= 0 of every query, a set adds at most u[j] and what its models add above that level. This gives the
Lagrangian bound (Cornuejols, Fisher & Nemhauser 1977, "Location of bank accounts to optimize float", section 3)

    L(u) = sum_j u[j] + max { sum_i rho[i] x[i] },      rho[i] = sum_j max(g[i, j] - u[j], 0)

Its least value is that of the relaxation. For given shares the best level of a query is the gain of the model at which its
shares, taken from the largest gain on, add up to one; these levels are the cuts of Benders' method (Fischetti, Ljubic & Sinnl
2017, "Redesigning Benders decomposition for large-scale facility location", section 3), which HiGHS solves. The bound itself is
computed from the levels, so that it does not depend on what HiGHS returns.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from solvers.subset.limits import most_gain, per_cost
from solvers.subset.residual import Residual

MOST_CELLS = 250_000
"""Larger pools are not relaxed: with so many gains HiGHS takes seconds."""
MOST_ROUNDS = 20
MOST_STEPS = 60
VIOLATED = 1e-7
"""Cuts are added where they are violated by more than this share of the mean gain of a query."""


def added_above(gains: Float[np.ndarray, "models rows"], levels: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " models"]:
    """rho: what every model adds above the levels."""
    above = gains - levels
    np.maximum(above, 0.0, out=above)
    return above @ np.ones(len(levels))


def relaxed_bound(pool: Residual, levels: Float[np.ndarray, " rows"], room: float) -> float:
    """L at these levels: no models within the room add more, except for rounding."""
    return float(levels.sum()) + most_gain(added_above(pool.gains, levels), pool.cost, room)


def stepped_levels(pool: Residual, room: float, start: list[int]) -> Float[np.ndarray, " rows"]:
    """Levels for pools that are too large for HiGHS, by the subgradient method from what the models `start` reach."""
    best = levels = pool.gains[start].max(axis=0, initial=0.0)
    value, lowest, length = float(levels.sum()), np.inf, 1.0
    for _ in range(MOST_STEPS):
        above = added_above(pool.gains, levels)
        order = per_cost(above, pool.cost)
        cost = pool.cost[order]
        shares = np.clip((room - (np.cumsum(cost) - cost)) / cost, 0.0, 1.0)
        bound = float(levels.sum() + above[order] @ shares)
        if bound < lowest:
            best, lowest = levels, bound
        else:
            length, levels = length / 2, best
            continue
        slope = 1.0 - shares[shares > 0] @ (pool.gains[order[shares > 0]] > levels)
        square = float(slope @ slope)
        if not square or bound <= value:
            break
        levels = np.maximum(levels - length * (bound - value) / square * slope, 0.0)
    return best


def relaxed_levels(
    pool: Residual, room: float, start: list[int], cuts: Cuts, seconds: float = 60.0
) -> Float[np.ndarray, " rows"]:
    """Levels at which L is about as low as it gets; `start` are models that are good together, `cuts` are added to."""
    shares = np.zeros(len(pool.models))
    shares[start] = 1.0
    cuts.add(shares, None)
    levels = cuts.levels(shares)
    for _ in range(MOST_ROUNDS):
        found = cuts.solve(room, seconds)
        if found is None:
            break
        shares, reached, levels = found
        if not cuts.add(shares, reached):
            break
    return levels


class Cuts:
    """What the queries add at most, as linear functions of the shares; they hold for any room."""

    def __init__(self, pool: Residual):
        self.pool = pool
        self.scale = float(pool.gains.max(initial=0.0)) or 1.0
        self.gains: Float[np.ndarray, "rows models"] = np.ascontiguousarray(pool.gains.T) / self.scale
        self.order = np.argsort(-self.gains, axis=1, kind="stable")
        self.sorted: Float[np.ndarray, "rows models"] = np.take_along_axis(self.gains, self.order, axis=1)
        self.rows: list[Int[np.ndarray, " cuts"]] = []
        self.heights: list[Float[np.ndarray, " cuts"]] = []
        self.slopes: list[Any] = []

    def levels(self, shares: Float[np.ndarray, " models"]) -> Float[np.ndarray, " rows"]:
        """The best levels for these shares, in units of the largest gain; 0 where they add up to less than one."""
        together = np.cumsum(shares[self.order], axis=1)
        critical = (together >= 1 - 1e-9).argmax(axis=1)
        short = together[:, -1] < 1 - 1e-9
        return np.where(short, 0.0, self.sorted[np.arange(len(critical)), critical])

    def add(self, shares: Float[np.ndarray, " models"], reached: Float[np.ndarray, " rows"] | None) -> int:
        """Add the cuts at these shares that what is `reached` violates, or all of them; returns how many."""
        sparse, _ = _scipy()
        levels = self.levels(shares)
        slopes = np.maximum(self.gains - levels[:, None], 0.0)
        most = levels + slopes @ shares
        rows = np.arange(len(levels))
        if reached is not None:
            rows = np.flatnonzero(reached > most + VIOLATED * max(float(most.mean()), VIOLATED))
        if rows.size:
            ones = sparse.csr_array((np.ones(len(rows)), (np.arange(len(rows)), rows)), shape=(len(rows), len(levels)))
            self.slopes.append(sparse.hstack([sparse.csr_array(-slopes[rows]), ones]))
            self.rows.append(rows)
            self.heights.append(levels[rows])
        return len(rows)

    def solve(
        self, room: float, seconds: float
    ) -> tuple[Float[np.ndarray, " models"], Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]] | None:
        """The best shares under these cuts, what the queries reach, and their levels in gain; None if HiGHS fails.

        The multipliers of a query's cuts add up to one, and their mean level is at least as good as the cuts together, since
        rho is convex in the levels.
        """
        sparse, optimize = _scipy()
        queries, models = len(self.gains), len(self.pool.models)
        budget = sparse.csr_array(np.append(self.pool.cost, np.zeros(queries))[None])
        most = np.concatenate([*self.heights, [room]])
        objective = np.append(np.zeros(models), -np.ones(queries))
        bounds = np.column_stack([np.zeros(models + queries), np.append(np.ones(models), np.full(queries, np.inf))])
        found: Any = optimize.linprog(
            objective,
            A_ub=sparse.vstack([*self.slopes, budget], format="csr"),
            b_ub=most,
            bounds=bounds,
            method="highs",
            options={"time_limit": max(seconds, 1e-3)},
        )
        if found.status != 0:
            return None
        weights: np.ndarray = -found.ineqlin.marginals[:-1]
        rows = np.concatenate(self.rows)
        total = np.bincount(rows, weights, queries)
        means = np.bincount(rows, weights * np.concatenate(self.heights), queries)
        levels: np.ndarray = np.divide(means, total, out=np.zeros(queries), where=total > 0)
        return found.x[:models], found.x[models:], np.maximum(levels, 0.0) * self.scale


def _scipy() -> tuple[Any, Any]:
    """scipy.sparse and scipy.optimize, which have no types; imported when a relaxation is solved."""
    return import_module("scipy.sparse"), import_module("scipy.optimize")
