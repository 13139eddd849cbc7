"""The Lagrangian dual: one multiplier for the limit, a toll for every full model, and the bound that they prove.

Relaxing the limit with a multiplier >= 0 gives an upper bound for every multiplier (Fisher 1981, "The Lagrangian relaxation
method for solving integer programming problems", section 2):

    L(multiplier) = multiplier * limit + max over x of sum_j (value[j, x_j] - multiplier * cost[j, x_j])

L is convex and piecewise linear; its least value is the linear relaxation's. The search keeps the best choices on either side
of the limit and goes to where their two lines cross, which ends at the exact breakpoint. Without capacities the maximum is
every query's own, and a large problem is first narrowed to a few queries (`narrowing.py`); with them it is a flow
(`capacity`), and the tolls prove it.
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
from solvers.choices import Answers, Choices, Part
from solvers.grid import largest_sum
from solvers.mixing import mixed
from solvers.narrowing import SAMPLE, narrow, sample
from solvers.sums import exact_sum

MOST_STEPS = 200
SMALL = 1_000
"""A problem of so few queries is read whole in every step."""
LARGE = 4 * SAMPLE
"""A problem of more queries is first looked at in a sample."""
GUESS_WIDTH = 1.02
"""The sample's multiplier is off by about a hundredth; this factor leads to the other side of the limit."""
NEAR_WIDTH, MOST_WIDTH = 1.003, 1e3
"""From a multiplier that is near this factor leads to the other side, or its powers; and the largest that is tried."""
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
    answers: Answers
    near: Part | None = None
    """The queries that were still undecided when most were decided: those that are closest to changing their choice."""

    @property
    def choice(self) -> Int[np.ndarray, " queries"]:
        return self.answers.choice

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
        if math.isinf(self.multiplier):
            return math.inf
        return self.multiplier * limit + (self.value - self.multiplier * self.cost) if self.multiplier else self.value


@dataclass
class _Search:
    """The two sides, and the part of the problem that they leave undecided."""

    problem: Choices
    over: _Side
    within: _Side
    parts: list[Part]
    """Every one is a part of the one before it."""
    bracket: tuple[float, float]
    """The multipliers of the two sides when the first part was made: it holds the bound of all multipliers between."""

    @property
    def rest(self) -> Choices:
        return self.parts[-1] if self.parts else self.problem

    def forget_decided(self) -> None:
        """Go on with the queries on which the two sides differ, where these are few."""
        undecided = np.flatnonzero(self.over.choice != self.within.choice)
        if self.problem.places is not None or 2 * len(undecided) > len(self.rest) or len(self.rest) <= SMALL:
            return
        if not self.parts:
            self.bracket = self.over.multiplier, self.within.multiplier
        self.parts.append(self.rest.part(undecided, self.within.choice))
        self.over, self.within = (replace(side, choice=side.choice[undecided]) for side in (self.over, self.within))

    def ended(self, lowest: _Side) -> Dual:
        """The bound at the lowest multiplier, and the choices within the limit, tied ones spread."""
        if self.problem.places is None:
            answers = mixed(self.rest, self.within.choice, self.over.choice)
        else:
            answers = self.problem.answers(blend(self.problem, self.within.choice, self.over.choice))
        choice = answers.choice
        for part in reversed(self.parts):
            choice = part.whole(choice)
        near = self.parts[0] if self.parts else None
        known = self.bracket[0] <= lowest.multiplier <= self.bracket[1]
        bound = dual_bound(near if near is not None and known else self.problem, lowest.multiplier, lowest.tolls)
        return Dual(lowest.multiplier, lowest.tolls, bound, Answers(choice, answers.parts), near)


def search(problem: Choices, cheapest: Int[np.ndarray, " queries"], *, deadline: float = math.inf) -> Dual:
    """Minimise L over multipliers >= 0; `cheapest` are the choices of least cost, which are within the limit.

    Beyond the `deadline`, by `time.perf_counter`, the best multiplier so far is taken.

    Without capacities a query whose best choice is the same at two multipliers has that choice at every multiplier between
    them (`narrowing.py`). So the search forgets all but the queries on which the two sides differ, and only its first steps
    read the whole problem. The part of these queries proves the bound too: a choice that rounding made look best at both ends
    is off by no more between them than the linear mean of the two roundings, which `dual_bound` allows for.
    """
    problem = _tightened(problem)
    near = _guess(problem, cheapest) if len(problem) > LARGE else None
    if near is not None and near.tolls is not None:
        found = _around(problem, near.multiplier, near.tolls)
    else:
        found = _narrowed(problem, cheapest, near.multiplier) if near is not None and near.multiplier else None
    narrowed = found is not None
    found = found or _unknown(problem, cheapest)
    if isinstance(found, Dual):
        return found
    return _crossed(problem, found, deadline, 0.0 if narrowed or near is None else near.multiplier)


def _crossed(problem: Choices, found: _Search, deadline: float = math.inf, guess: float = 0.0) -> Dual:
    """From the two sides to where their lines cross for the last time."""
    lowest = min(found.over, found.within, key=lambda side: side.height(problem.limit))
    for step in range(MOST_STEPS):
        over, within = found.over, found.within
        if over.cost <= within.cost or time.perf_counter() > deadline:
            break
        multiplier, crossing = _next(step, over, within, guess)
        if not over.multiplier < multiplier < within.multiplier:
            break
        near = within.tolls if within.multiplier - multiplier < multiplier - over.multiplier else over.tolls
        side = _side(found.rest, multiplier, near)
        if side.height(problem.limit) < lowest.height(problem.limit):
            lowest = side
        old = within if problem.fits(side.cost) else over
        if old is within:
            found.within = side
        else:
            found.over = side
        if crossing and (side.value, side.cost) == (old.value, old.cost):
            # Nothing lies below the crossing of the two lines.
            break
        found.forget_decided()
    return found.ended(lowest)


def _unknown(problem: Choices, cheapest: Int[np.ndarray, " queries"]) -> _Search | Dual:
    """The search from the multipliers 0 and infinity; its end where the limit is met at no price."""
    over = _side(problem, 0.0)
    if problem.fits(over.cost):
        return _free(problem, over)
    return _Search(problem, over, _Side(math.inf, None, cheapest, *problem.totals(cheapest)), [], (0.0, math.inf))


def _free(problem: Choices, side: _Side) -> Dual:
    """Where the limit is met at no price."""
    # Without tolls the bound at no price is the value itself.
    bound = side.value if side.tolls is None else dual_bound(problem, 0.0, side.tolls)
    return Dual(0.0, side.tolls, bound, problem.answers(side.choice))


def _narrowed(problem: Choices, cheapest: Int[np.ndarray, " queries"], guess: float) -> _Search | Dual:
    """The search from a bracket around the guess."""
    found = narrow(problem, cheapest, guess)
    low = _Side(found.low, None, found.at_low, *found.totals_low)
    if problem.fits(low.cost):
        # Only at no price: the bound is then the value itself.
        return Dual(0.0, None, low.value, problem.answers(low.choice))
    high = _Side(found.high, None, found.at_high, *found.totals_high)
    part = found.undecided
    if part is None:
        return _Search(problem, low, high, [], (0.0, math.inf))
    low, high = (replace(side, choice=side.choice[part.rows]) for side in (low, high))
    return _Search(problem, low, high, [part], (found.low, found.high))


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


def search_near(problem: Choices, multiplier: float, tolls: Float[np.ndarray, " choices"]) -> Dual | None:
    """The same as `search` with capacities, from a multiplier and tolls that are near.

    None where no multiplier about as large meets the limit, or not all queries find places.
    """
    problem = _tightened(problem)
    found = _around(problem, multiplier, tolls)
    return _crossed(problem, found) if isinstance(found, _Search) else found


def _around(problem: Choices, multiplier: float, tolls: Float[np.ndarray, " choices"]) -> _Search | Dual | None:
    """The search from two multipliers on either side of the limit, as near as may be; None where there are none."""
    side = _placed_side(problem, multiplier, tolls)
    if side is not None and not multiplier and problem.fits(side.cost):
        return _free(problem, side)
    factor = NEAR_WIDTH
    while side is not None and multiplier and factor < MOST_WIDTH:
        fits = problem.fits(side.cost)
        other = _placed_side(problem, side.multiplier / factor if fits else side.multiplier * factor, side.tolls)
        if other is not None and problem.fits(other.cost) != fits:
            over, within = (other, side) if fits else (side, other)
            return _Search(problem, over, within, [], (0.0, math.inf))
        side, factor = other, factor**4
    return None


def _placed_side(problem: Choices, multiplier: float, tolls: Float[np.ndarray, " choices"] | None) -> _Side | None:
    """The best choices at a multiplier within the capacities; None where not all queries find places."""
    shared = share(problem, multiplier, tolls)
    if shared.left_over.size:
        return None
    return _Side(multiplier, shared.tolls, shared.choice, *problem.totals(shared.choice))


def _side(problem: Choices, multiplier: float, tolls: Float[np.ndarray, " choices"] | None = None) -> _Side:
    """The best choices at a multiplier; of tolls that are near, if given."""
    if problem.places is None:
        best = problem.best_at(multiplier)
        return _Side(multiplier, None, best.choice, *best.totals)
    shared = share(problem, multiplier, tolls)
    return _Side(multiplier, shared.tolls, shared.choice, *problem.totals(shared.choice))


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


def _guess(problem: Choices, cheapest: Int[np.ndarray, " queries"]) -> Dual | None:
    """The best multiplier of an even sample of a large problem, and its tolls; None if the sample has no places for all."""
    part = sample(problem, cheapest)
    least = part.choice[part.rows]
    if part.places is not None:
        shared = share(part, math.inf)
        if shared.left_over.size:
            return None
        least = shared.choice
    limit = max(part.limit, part.totals(least)[1])
    return search(replace(part, limit=limit), least)


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
