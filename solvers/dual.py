"""The Lagrangian dual: one price for the budget, a toll for every full model, and the bound that they prove.

Relaxing the budget with a price >= 0 gives an upper bound for every price (Fisher 1981, "The Lagrangian relaxation method
for solving integer programming problems", section 2):

    L(price) = price * limit + max over x of sum_j (value[j, x_j] - price * cost[j, x_j])

L is convex and piecewise linear; its least value is the linear relaxation's. The search keeps the best choices found on
either side of the limit and goes to where their two lines cross, which ends at the exact breakpoint. Without capacities the
maximum is every query's own; with them it is a flow (`capacity.py`), and the tolls prove it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from solvers.capacity import blend, share
from solvers.choices import Choices, Part, exact_sum

MOST_STEPS = 200
SMALL = 1_000
"""Queries that are not worth forgetting some of."""
SAMPLE = 20_000
"""Queries of the sample that a large problem's search starts from."""
GUESS_WIDTH = 1.02
"""The sample's price is off by about a hundredth; so far beyond it the other side of the budget is looked for."""
ROUNDING = 4 * np.finfo(np.float64).eps
PROVED = 1e-12
"""A gap, relative to the magnitude of the values, that rounding alone explains."""


@dataclass(frozen=True)
class Dual:
    """The best price found: a proved bound, and the choices within the limits that go with it."""

    price: float
    tolls: Float[np.ndarray, " choices"] | None
    """None where no capacity is given."""
    bound: float
    choice: Int[np.ndarray, " queries"]

    def reduced(
        self, value: Float[np.ndarray, "rows choices"], cost: Float[np.ndarray, "#rows choices"]
    ) -> Float[np.ndarray, "rows choices"]:
        """What choices are worth at the price and the tolls."""
        return reduced(value, cost, self.price, self.tolls)

    def slack(self, choices: Choices) -> Float[np.ndarray, "queries choices"]:
        """How much every choice loses against its query's best; >= 0, infinite where not available."""
        worth = self.reduced(*choices.choices)
        return worth.max(axis=1, keepdims=True) - worth


def reduced(
    value: Float[np.ndarray, "rows choices"],
    cost: Float[np.ndarray, "#rows choices"],
    price: float,
    tolls: Float[np.ndarray, " choices"] | None,
) -> Float[np.ndarray, "rows choices"]:
    worth = value - price * cost
    return worth if tolls is None else worth - tolls


@dataclass(frozen=True)
class _Side:
    """The best choices at a price, on one side of the limit."""

    price: float
    tolls: Float[np.ndarray, " choices"] | None
    choice: Int[np.ndarray, " queries"]
    value: float
    cost: float


def search(problem: Choices, cheapest: Int[np.ndarray, " queries"]) -> Dual:
    """Minimise L over prices >= 0; `cheapest` are the choices of least cost.

    Without capacities a query whose best choice is the same at two prices has that choice at every price between them,
    since its value - price * cost is then the tangent of a convex function at both ends. So the search forgets all but the
    queries on which the two sides differ, and only its first steps read the whole problem.
    """
    dear = _side(problem, 0.0)
    if problem.fits(dear.cost):
        return Dual(0.0, dear.tolls, dual_bound(problem, 0.0, dear.tolls), dear.choice)
    cheap = _Side(math.inf, None, cheapest, *problem.totals(cheapest))
    best_price, best_tolls, best_bound = 0.0, dear.tolls, dear.value
    guess = _guess(problem, cheapest) if len(problem) > 4 * SAMPLE else 0.0
    rest: Choices = problem
    parts: list[Part] = []
    for step in range(MOST_STEPS):
        if dear.cost <= cheap.cost:
            break
        price = (dear.value - cheap.value) / (dear.cost - cheap.cost)
        if guessed := guess > 0 and step < 2:
            price = guess if step == 0 else guess * GUESS_WIDTH if dear.price == guess else guess / GUESS_WIDTH
        # The crossing alone can creep along one side; halving the bracket now and then keeps the count logarithmic.
        if halved := not guessed and step % 4 == 3 and math.isfinite(cheap.price):
            price = (dear.price + cheap.price) / 2
        if not dear.price < price < cheap.price:
            break
        found = _side(rest, price)
        bound = price * problem.limit + (found.value - price * found.cost)
        if bound < best_bound:
            best_price, best_tolls, best_bound = price, found.tolls, bound
        old = cheap if problem.fits(found.cost) else dear
        if old is cheap:
            cheap = found
        else:
            dear = found
        if (found.value, found.cost) == (old.value, old.cost) and not (guessed or halved):
            break
        undecided = np.flatnonzero(dear.choice != cheap.choice)
        if problem.places is None and 2 * len(undecided) <= len(rest) and len(rest) > SMALL:
            rest = rest.part(undecided, cheap.choice)
            parts.append(rest)
            dear, cheap = (replace(side, choice=side.choice[undecided]) for side in (dear, cheap))
    choice = cheap.choice if problem.places is None else blend(problem, cheap.choice, dear.choice)
    for part in reversed(parts):
        choice = part.whole(choice)
    return Dual(best_price, best_tolls, dual_bound(problem, best_price, best_tolls), choice)


def _side(problem: Choices, price: float) -> _Side:
    if problem.places is None:
        choice, tolls = problem.best_at(price), None
    else:
        shared = share(problem, price)
        choice, tolls = shared.choice, shared.tolls
    return _Side(price, tolls, choice, *problem.totals(choice))


def _guess(problem: Choices, cheapest: Int[np.ndarray, " queries"]) -> float:
    """The best price of an even sample of a large problem, with its share of the limit and of all places."""
    drawn = SAMPLE / len(problem)
    part = problem.part(np.linspace(0, len(problem) - 1, SAMPLE).astype(int), cheapest)
    places = None if problem.places is None else np.ceil(problem.places * drawn).astype(np.int64)
    # Other queries have nothing to do with the sample.
    sample = replace(part, settled_sums=([], []), places=places)
    least = sample.choice[part.rows]
    if places is not None:
        shared = share(sample, math.inf)
        if shared.left_over.size:
            return 0.0
        least = shared.choice
    return search(replace(sample, limit=max(problem.limit * drawn, sample.totals(least)[1])), least).price


def dual_bound(problem: Choices, price: float, tolls: Float[np.ndarray, " choices"] | None = None) -> float:
    """L at this price and these tolls, rounded outward: nothing within the limits, tolerance included, is worth more."""
    best = np.empty(len(problem))
    for rows, value, cost in problem.chunks():
        worth = reduced(value, cost, price, tolls)
        best[rows] = worth[np.arange(len(worth)), worth.argmax(axis=1)]
    value, cost = problem.settled
    spent = [price * problem.limit] if price else []
    collected = np.zeros(0) if tolls is None or problem.places is None else tolls * problem.places
    total = exact_sum(best, value, [-price * one for one in cost], spent, collected)
    if not price and not collected.any():
        return total
    # Every term is off by at most one rounding of the product and two of the differences.
    scale = problem.magnitude + 2 * price * problem.dearest + abs(total)
    scale += (abs(spent[0]) if spent else 0.0) + 2 * float(collected.sum())
    if tolls is not None:
        scale += len(problem) * float(tolls.max())
    return total + ROUNDING * scale


def slack_rounding(problem: Choices, price: float, choice: Int[np.ndarray, " queries"]) -> float:
    """What the rounding of slacks, value - price * cost, can add up to over the choices that come near the best ones."""
    spent = float(np.abs(problem.picked(choice)[1]).sum()) + sum(map(abs, problem.settled[1]))
    return PROVED * problem.magnitude + ROUNDING * price * spent
