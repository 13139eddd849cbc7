"""Numbers that do not flatter: the shuffled null beside a hull, and prices fixed before the test was seen."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from jaxroute.data.table import RoutingTable
from jaxroute.evaluation.hulls import aiq, aiqs
from jaxroute.evaluation.outcomes import Curve, curve_of, single_models
from jaxroute.evaluation.verdicts import SHUFFLES, shuffled_means
from solvers import Frontier, Problem, at_price, frontier


def shuffled_gains(
    table: RoutingTable,
    curve: Curve,
    *,
    low: float,
    high: float,
    shuffles: int = SHUFFLES,
    seed: int = 0,
    convention: str = "paper",
) -> Float[np.ndarray, " shuffles"]:
    """Hull AIQ over that of the single models, of a curve whose choices belong to other queries: what a hull makes of noise.

    Every query gets the model that was chosen for another one, the same other one at every budget. Where a model's expected
    cost is the same for all queries that is what assigning shuffled estimates gives, without solving anything again: the
    problem's rows are only in another order (of queries with equal estimates others may be upgraded).
    """
    shuffled = shuffled_means(table, curve, shuffles=shuffles, seed=seed)
    base = aiq(*single_models(table).means(), low, high, convention=convention)
    return aiqs(*shuffled, low, high, convention=convention) - base


def deployable_curve(
    table: RoutingTable,
    estimates: Float[np.ndarray, "queries models"],
    held_out: Float[np.ndarray, "training models"],
    budgets_usd: Float[np.ndarray, " points"],
    *,
    expected_cost_usd: Float[np.ndarray, "..."],
    held_out_cost_usd: Float[np.ndarray, "..."] | None = None,
) -> Curve:
    """What a user gets who fixes the price of money beforehand and then routes every prompt on its own, as it comes.

    For every budget, in dollars per query, the multiplier is one that meets it on `held_out`: estimates of training queries
    by fits that did not see them, and their expected cost. The test's own costs and qualities play no part in the choice,
    so mean cost may miss the budget: report both. A budget below the cheapest assignment of `held_out` counts as that.
    """
    known = expected_cost_usd if held_out_cost_usd is None else held_out_cost_usd
    every = frontier(Problem(held_out, np.broadcast_to(known, held_out.shape)))
    budgets = np.maximum(np.asarray(budgets_usd, float) * len(held_out), every.problem.least_cost)
    prices = [_price(every, budget) for budget in budgets]
    return curve_of(table, [at_price(estimates, expected_cost_usd, price) for price in prices], np.asarray(budgets_usd, float))


def _price(every: Frontier, budget_usd: float) -> float:
    """Half-way between the last step that the budget pays and the next one; above all steps where it pays none."""
    place = int(np.searchsorted(every.cost_usd, budget_usd * (1 + 1e-12), side="right")) - 1
    after = every.multiplier[place]
    before = every.multiplier[place - 1] if place > 0 else 3 * after
    return float(before + after) / 2
