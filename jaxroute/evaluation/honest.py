"""Numbers that do not flatter: the shuffled null beside a hull, and prices fixed before the test was seen."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from tqdm.auto import tqdm

from jaxroute.data.table import RoutingTable
from jaxroute.errors import TableError
from jaxroute.evaluation.hulls import aiq
from jaxroute.evaluation.outcomes import Curve, curve_of, outcome, single_models
from solvers import Problem, at_price, lagrangian


def shuffled_gains(
    table: RoutingTable,
    curve: Curve,
    *,
    low: float,
    high: float,
    shuffles: int = 100,
    seed: int = 0,
    convention: str = "paper",
) -> Float[np.ndarray, " shuffles"]:
    """AIQ over the zero router of a curve whose choices belong to other queries: what a hull alone makes of noise.

    Every query gets the model that was chosen for another one, the same other one at every budget. Where a model's expected
    cost is the same for all queries that is what assigning shuffled estimates gives, without solving anything again: the
    problem's rows are only in another order (of queries with equal estimates others may be upgraded). Report the mean and the
    95th percentile beside the gain.
    """
    if curve.choice is None or curve.choice.shape[1] != len(table):
        raise TableError(
            f"the curve does not say which model answers each of the table's {len(table)} queries: nothing to shuffle"
        )
    generator = np.random.default_rng(seed)
    zero = aiq(*single_models(table).means(), low, high, convention=convention)
    gains = []
    for _ in tqdm(range(shuffles), desc="shuffled null", unit=" shuffles", delay=2):
        choice = curve.choice[:, generator.permutation(len(table))]
        found = [outcome(table, row) for row in choice]
        cost, quality = np.array([(one.mean_cost_usd, one.mean_quality) for one in found]).T
        gains.append(aiq(cost, quality, low, high, convention=convention) - zero)
    return np.array(gains)


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

    For every budget, in dollars per query, the multiplier is the one that meets it on `held_out`: estimates of training queries
    by fits that did not see them, and their expected cost. The test's own costs and qualities play no part in the choice,
    so mean cost may miss the budget: report both.
    """
    known = expected_cost_usd if held_out_cost_usd is None else held_out_cost_usd
    known = np.broadcast_to(known, held_out.shape)
    prices = [lagrangian(Problem(held_out, known, float(budget) * len(held_out))).multiplier for budget in budgets_usd]
    return curve_of(table, [at_price(estimates, expected_cost_usd, price) for price in prices], np.asarray(budgets_usd, float))
