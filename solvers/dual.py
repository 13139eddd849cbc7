"""The Lagrangian dual: one multiplier for the limit, a toll for every full model, and the bound that they prove.

Relaxing the limit with a multiplier >= 0 gives an upper bound for every multiplier (Fisher 1981, "The Lagrangian relaxation
method for solving integer programming problems", section 2):

    L(multiplier) = multiplier * limit + max over x of sum_j (value[j, x_j] - multiplier * cost[j, x_j])

L is convex and piecewise linear; its least value is the linear relaxation's. The search keeps the best choices on either side
of the limit and goes to where their two lines cross, which ends at the exact breakpoint. Without capacities the maximum is
every query's own; with them it is a flow (`capacity`), and the tolls prove it.
"""

from __future__ import annotations

import math
import sys
import time
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from solvers.capacity import blend, share
from solvers.choices import Choices, Part
from solvers.grid import largest_sum
from solvers.sums import exact_sum

MOST_STEPS = 200
SMALL = 1_000
"""A problem of so few queries is read whole in every step."""
SAMPLE = 20_000
"""Queries of the sample that a large problem's search starts from."""
GUESS_WIDTH = 1.02
"""The sample's multiplier is off by about a hundredth; this factor leads to the other side of the limit."""
ROUNDING = 4 * sys.float_info.epsilon
PROVED = 1e-12
"""A gap, relative to the magnitude of the values, that rounding alone explains."""


@dataclass(frozen=True)
class Dual:
    """The best multiplier found: a proved bound, and the choices within the limit that belong to it."""

    multiplier: float
    tolls: Float[np.ndarray, " choices"] | None
    """None without capacities."""
    bound: float
    choice: Int[np.ndarray, " queries"]

    def reduced(
        self, value: Float[np.ndarray, "rows choices"], cost: Float[np.ndarray, "#rows choices"]
    ) -> Float[np.ndarray, "rows choices"]:
        """What choices are worth at the multiplier and the tolls."""
        return reduced(value, cost, self.multiplier, self.tolls)

    def slack(self, choices: Choices) -> Float[np.ndarray, "queries choices"]:
        """How much every choice loses against its query's best; >= 0, infinite where not available."""
        worth = self.reduced(*choices.choices)
        return worth.max(axis=1, keepdims=True) - worth


def reduced(
    value: Float[np.ndarray, "rows choices"],
    cost: Float[np.ndarray, "#rows choices"],
    multiplier: float,
    tolls: Float[np.ndarray, " choices"] | None,
) -> Float[np.ndarray, "rows choices"]:
    """value - multiplier * cost - tolls."""
    worth = value - multiplier * cost
    return worth if tolls is None else worth - tolls


@dataclass(frozen=True)
class _Side:
    """The best choices at a multiplier, on one side of the limit."""

    multiplier: float
    tolls: Float[np.ndarray, " choices"] | None
    choice: Int[np.ndarray, " queries"]
    value: float
    cost: float

    def height(self, limit: float) -> float:
        """L at its own multiplier, rounded."""
        return self.multiplier * limit + (self.value - self.multiplier * self.cost) if self.multiplier else self.value


def search(problem: Choices, cheapest: Int[np.ndarray, " queries"], *, deadline: float = math.inf) -> Dual:
    """Minimise L over multipliers >= 0; `cheapest` are the choices of least cost, which are within the limit.

    Beyond the `deadline`, by `time.perf_counter`, the best multiplier so far is taken.

    Without capacities a query whose best choice is the same at two multipliers has that choice at every multiplier between
    them, since its value - multiplier * cost is then the tangent of a convex function at both ends. So the search forgets all
    but the queries on which the two sides differ, and only its first steps read the whole problem.
    """
    problem = _tightened(problem)
    over = _side(problem, 0.0)
    if problem.fits(over.cost):
        return Dual(0.0, over.tolls, dual_bound(problem, 0.0, over.tolls), over.choice)
    within = _Side(math.inf, None, cheapest, *problem.totals(cheapest))
    lowest = over
    guess = _guess(problem, cheapest) if len(problem) > 4 * SAMPLE else 0.0
    rest: Choices = problem
    parts: list[Part] = []
    for step in range(MOST_STEPS):
        if over.cost <= within.cost or time.perf_counter() > deadline:
            break
        multiplier, crossing = _next(step, over, within, guess)
        if not over.multiplier < multiplier < within.multiplier:
            break
        found = _side(rest, multiplier)
        if found.height(problem.limit) < lowest.height(problem.limit):
            lowest = found
        old = within if problem.fits(found.cost) else over
        if old is within:
            within = found
        else:
            over = found
        if crossing and (found.value, found.cost) == (old.value, old.cost):
            # Nothing lies below the crossing of the two lines.
            break
        undecided = np.flatnonzero(over.choice != within.choice)
        if problem.places is None and 2 * len(undecided) <= len(rest) and len(rest) > SMALL:
            rest = rest.part(undecided, within.choice)
            parts.append(rest)
            over, within = (replace(side, choice=side.choice[undecided]) for side in (over, within))
    choice = within.choice if problem.places is None else blend(problem, within.choice, over.choice)
    for part in reversed(parts):
        choice = part.whole(choice)
    return Dual(lowest.multiplier, lowest.tolls, dual_bound(problem, lowest.multiplier, lowest.tolls), choice)


def _tightened(problem: Choices) -> Choices:
    """The same problem with the limit rounded down to what costs can add up to, where they are the same for all queries.

    The linear relaxation spends the whole limit; what no assignment can spend would only raise the bound.
    """
    _, cost = problem.read(slice(0, 2))
    if len(cost) > 1 or len(problem) < 2:
        return problem
    tightened = copy(problem)
    object.__setattr__(tightened, "limit", largest_sum(cost[0], len(problem), problem.limit))
    return tightened


def _side(problem: Choices, multiplier: float) -> _Side:
    """The best choices at a multiplier."""
    if problem.places is None:
        choice, tolls = problem.best_at(multiplier), None
    else:
        shared = share(problem, multiplier)
        choice, tolls = shared.choice, shared.tolls
    return _Side(multiplier, tolls, choice, *problem.totals(choice))


def _next(step: int, over: _Side, within: _Side, guess: float) -> tuple[float, bool]:
    """The next multiplier, and whether the lines of the two sides cross there.

    A guess comes first, then the other side of it. The crossing alone can creep along one side; halving the bracket now
    and then keeps the number of steps logarithmic.
    """
    if guess and step == 0:
        return guess, False
    if guess and step == 1:
        return guess * GUESS_WIDTH if over.multiplier == guess else guess / GUESS_WIDTH, False
    if step % 4 == 3 and math.isfinite(within.multiplier):
        return (over.multiplier + within.multiplier) / 2, False
    return (over.value - within.value) / (over.cost - within.cost), True


def _guess(problem: Choices, cheapest: Int[np.ndarray, " queries"]) -> float:
    """The best multiplier of an even sample of a large problem, with its share of the limit and of all places; 0 if none."""
    drawn = SAMPLE / len(problem)
    part = problem.part(np.linspace(0, len(problem) - 1, SAMPLE).astype(int), cheapest)
    places = None if problem.places is None else np.ceil(problem.places * drawn).astype(np.int64)
    # Queries outside the sample cost nothing and take no place.
    sample = replace(part, settled_sums=([], []), places=places)
    least = sample.choice[part.rows]
    if places is not None:
        shared = share(sample, math.inf)
        if shared.left_over.size:
            return 0.0
        least = shared.choice
    limit = max(problem.limit * drawn, sample.totals(least)[1])
    return search(replace(sample, limit=limit), least).multiplier


def dual_bound(problem: Choices, multiplier: float, tolls: Float[np.ndarray, " choices"] | None = None) -> float:
    """L at this multiplier and these tolls, rounded outward: nothing within the limit, tolerance included, is worth more."""
    best = np.empty(len(problem))
    for rows, value, cost in problem.chunks():
        worth = reduced(value, cost, multiplier, tolls)
        best[rows] = worth[np.arange(len(worth)), worth.argmax(axis=1)]
    value, cost = problem.settled
    spent = [multiplier * problem.limit] if multiplier else []
    collected = np.zeros(0) if tolls is None or problem.places is None else tolls * problem.places
    total = exact_sum(best, value, [-multiplier * one for one in cost], spent, collected)
    if not multiplier and not collected.any():
        return total
    # Every term is off by at most one rounding of the product and two of the differences.
    scale = problem.magnitude + 2 * multiplier * problem.cost_magnitude + abs(total)
    scale += (abs(spent[0]) if spent else 0.0) + 2 * float(np.abs(collected).sum())
    if tolls is not None:
        scale += len(problem) * float(np.abs(tolls).max())
    return total + ROUNDING * scale


def slack_rounding(problem: Choices, multiplier: float, choice: Int[np.ndarray, " queries"]) -> float:
    """What the rounding of slacks can add up to over choices that come near `choice`.

    A slack is a difference of value - multiplier * cost.
    """
    spent = float(np.abs(problem.picked(choice)[1]).sum()) + sum(map(abs, problem.settled[1]))
    return PROVED * problem.magnitude + ROUNDING * multiplier * spent
