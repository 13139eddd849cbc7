"""The best set of models, by branch and bound on the levels of the linear relaxation.

A branch has chosen some models, which reach b[j] on every query. With the levels u of the relaxation (`relaxation.py`), raised
to b where that is higher, no models of the branch add more than

    sum_j max(u[j], b[j]) + max { sum_i x[i] sum_j max(g[i, j] - max(u[j], b[j]), 0) }

A few steps of the subgradient method (Fisher 1981, "The Lagrangian relaxation method for solving integer programming problems",
section 3) bring a branch's own levels closer. The models are tried in the order of what they add per cost above the levels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from solvers.problem import BUDGET_TOLERANCE
from solvers.subset.limits import per_cost
from solvers.subset.relaxation import added_above
from solvers.subset.residual import Residual

STEPS = 8
CLOSE = 1e-10
"""A branch that promises less than this above the best set, relative to it, is left out."""


@dataclass(eq=False)
class Branching:
    """The search: the best set so far, what bounds all others, and how much longer it may take."""

    pool: Residual
    room: float
    levels: Float[np.ndarray, " rows"]
    most_branches: float
    deadline: float = math.inf
    """As `time.perf_counter` counts."""
    best: list[int] = field(default_factory=list[int])
    """Positions among the pool's open models."""
    value: float = 0.0
    bound: float = math.inf
    """What no set adds more than, once the search has ended or was stopped."""

    def search(self, start: list[int]) -> None:
        """Find the best set, beginning with one that is known."""
        self.best, self.value = start, self.pool.value(start)
        branches = 0
        stack = [self._children(self._root())]
        while stack:
            child = next(stack[-1], None)
            if child is None:
                stack.pop()
                continue
            if len(stack) == 1:
                # The children of the root come by falling bound, so that this one's is that of all that is left.
                self.bound = child.bound
            branches += 1
            if branches > self.most_branches or time.perf_counter() > self.deadline:
                self.bound = max(self.bound, self.value * (1 + CLOSE))
                return
            stack.append(self._children(child))
        self.bound = self.value * (1 + CLOSE)

    def _root(self) -> _Branch:
        nothing = np.zeros(len(self.levels))
        return _Branch([], nothing, self.levels, np.arange(len(self.pool.models)), self.room, math.inf)

    def _enough(self) -> float:
        """What a branch has to promise more than, to be searched: a better set is better by a step where there are steps."""
        least = self.value * (1 + CLOSE)
        return max(least, self.value + self.pool.step * (1 - 1e-6) if self.pool.step else least)

    def _children(self, parent: _Branch) -> Iterator[_Branch]:
        """The branches that choose one more model, those that promise most first; each without the models before it."""
        chosen, reached, room = parent.chosen, parent.reached, parent.room
        others = parent.others[self.pool.cost[parent.others] <= room * (1 + 2 * BUDGET_TOLERANCE)]
        if not others.size:
            return
        self._try_singles(chosen, reached, others)
        cost = self.pool.cost[others]
        if np.partition(cost, min(1, len(cost) - 1))[: min(2, len(cost))].sum() > room * (1 + 2 * BUDGET_TOLERANCE):
            # No second model fits beside the first.
            return
        order, above, levels = self._promises(parent, others)
        base = float(levels.sum())
        others, cost, above = others[order], cost[order], above[order]
        costs, sums = np.append(0.0, np.cumsum(cost)), np.append(0.0, np.cumsum(above))
        # With a model that promises too little together with the best of the others, there is no better set.
        with_it = base + above + np.interp((room - cost) * (1 + 2 * BUDGET_TOLERANCE), costs, sums)
        open_models = with_it * (1 + 1e-12) > self._enough()
        others, cost, above = others[open_models], cost[open_models], above[open_models]
        costs, sums = np.append(0.0, np.cumsum(cost)), np.append(0.0, np.cumsum(above))
        most = base + np.interp(costs[:-1] + room * (1 + 2 * BUDGET_TOLERANCE), costs, sums) - sums[:-1]
        for place in range(len(others)):
            bound = float(most[place]) * (1 + 1e-12)
            if bound <= self._enough():
                return
            model = int(others[place])
            left = room - float(cost[place])
            yield _Branch(
                [*chosen, model], np.maximum(reached, self.pool.gains[model]), levels, others[place + 1 :], left, bound
            )

    def _try_singles(self, chosen: list[int], reached: Float[np.ndarray, " rows"], others: Int[np.ndarray, " others"]) -> None:
        """Whether one more model makes the best set."""
        values = np.maximum(self.pool.gains[others], reached).sum(axis=1)
        for place in np.argsort(-values, kind="stable").tolist():
            tried = [*chosen, int(others[place])]
            if values[place] <= self.value * (1 + 1e-12):
                return
            if self._fits(tried):
                self.best, self.value = tried, float(values[place])
                return

    def _fits(self, chosen: list[int]) -> bool:
        return math.fsum(self.pool.cost[chosen]) <= self.room * (1 + BUDGET_TOLERANCE)

    def _promises(
        self, branch: _Branch, others: Int[np.ndarray, " others"]
    ) -> tuple[Int[np.ndarray, " others"], Float[np.ndarray, " others"], Float[np.ndarray, " rows"]]:
        """The order of the others by what they add per cost above the levels of this branch, what they add, and the levels."""
        gains, cost = self.pool.gains[others], self.pool.cost[others]
        levels = np.maximum(branch.reached, branch.levels)
        above = added_above(gains, levels)
        order, lowest = per_cost(above, cost), math.inf
        found = order, above, levels
        for _ in range(STEPS):
            costs = cost[order]
            shares = np.clip((branch.room - (np.cumsum(costs) - costs)) / costs, 0.0, 1.0)
            bound = float(levels.sum()) + float(above[order] @ shares)
            if bound >= lowest:
                break
            lowest, found = bound, (order, above, levels)
            some = shares > 0
            slope = 1.0 - shares[some] @ (gains[order[some]] > levels)
            slope[(levels <= branch.reached) & (slope > 0)] = 0.0
            length = float(slope @ slope)
            if bound <= self._enough() or not length:
                break
            levels = np.maximum(levels - (bound - self.value) / length * slope, branch.reached)
            above = added_above(gains, levels)
            order = per_cost(above, cost)
        return found


@dataclass(frozen=True, eq=False)
class _Branch:
    """Some chosen models, and what may be added to them."""

    chosen: list[int]
    reached: Float[np.ndarray, " rows"]
    """What they add on every row."""
    levels: Float[np.ndarray, " rows"]
    """Those of the branch that this one is a child of."""
    others: Int[np.ndarray, " others"]
    """The models that may be added."""
    room: float
    bound: float
    """What no set of the branch adds more than."""


def swapped(pool: Residual, chosen: list[int], room: float) -> list[int]:
    """The set after exchanging one model for a better one until no exchange is better."""
    chosen = list(chosen)
    value, place = pool.value(chosen), 0
    since = 0
    while chosen and since < len(chosen):
        others = chosen[:place] + chosen[place + 1 :]
        rest = pool.gains[others].max(axis=0, initial=0.0)
        left = room - math.fsum(pool.cost[others])
        values = np.where(pool.cost <= left, np.maximum(pool.gains, rest).sum(axis=1), -np.inf)
        best = int(values.argmax())
        since += 1
        if values[best] > value * (1 + 1e-12):
            chosen[place], value, since = best, float(values[best]), 0
        place = (place + 1) % len(chosen)
    return chosen
