"""The shuffled null, and prices fixed before the test was seen."""

from __future__ import annotations

import numpy as np
import pytest

from jaxroute import TableError
from jaxroute.evaluation import (
    Curve,
    aiq,
    cost_quality_curve,
    deployable_curve,
    outcome,
    shuffled_gains,
    single_models,
)
from solvers import Problem, at_price, lagrangian
from tests.evaluation.tables import seeded_table


def test_estimates_shuffled_over_the_queries_gain_little_of_what_the_oracle_gains():
    table = seeded_table()
    zero = aiq(*single_models(table).means(), 0.1, 1.0)
    shuffled = np.random.default_rng(3).permutation(table.quality)
    gains = [
        aiq(*cost_quality_curve(table, estimates, points=21).means(), 0.1, 1.0) - zero
        for estimates in (table.quality, shuffled)
    ]
    assert gains[0] > 0.05
    assert gains[1] < 0.25 * gains[0]


def test_shuffling_choices_is_assigning_shuffled_estimates():
    table = seeded_table()
    estimates = table.quality + np.random.default_rng(11).normal(0, 0.3, table.quality.shape)
    curve = cost_quality_curve(table, estimates, points=15)
    quick = shuffled_gains(table, curve, low=0.1, high=1.0, shuffles=4, seed=5)
    generator = np.random.default_rng(5)
    zero = aiq(*single_models(table).means(), 0.1, 1.0)
    # Row j's choices are judged on row p[j], so row r has the estimates of row argsort(p)[r].
    orders = np.argsort(generator.permuted(np.tile(np.arange(len(table)), (4, 1)), axis=1), axis=1)
    slow = [aiq(*cost_quality_curve(table, estimates[order], points=15).means(), 0.1, 1.0) - zero for order in orders]
    assert quick == pytest.approx(slow, abs=1e-12)


def test_choices_that_say_nothing_gain_next_to_nothing_and_a_cascade_cannot_be_shuffled():
    table = seeded_table(1000)
    curve = cost_quality_curve(table, table.quality, points=21)
    real = aiq(*curve.means(), 0.1, 1.0) - aiq(*single_models(table).means(), 0.1, 1.0)
    null = shuffled_gains(table, curve, low=0.1, high=1.0, shuffles=20)
    assert len(null) == 20 and np.quantile(null, 0.95) < 0.1 * real
    with pytest.raises(TableError, match="which model answers"):
        shuffled_gains(table, Curve(curve.quality, curve.cost_usd), low=0.1, high=1.0)


def test_a_price_fixed_on_held_out_estimates_routes_every_prompt_on_its_own():
    """A prompt's model does not depend on the company it comes in, and the budget is met about, not exactly."""
    train, test = seeded_table(2000, seed=1), seeded_table(2000, seed=2)
    generator = np.random.default_rng(12)
    held_out, estimates = (0.6 * table.quality + generator.normal(0.2, 0.1, table.quality.shape) for table in (train, test))
    cost = np.array([0.1, 0.3, 1.0])
    budgets = np.array([0.15, 0.25, 0.4])
    curve = deployable_curve(test, estimates, held_out, budgets, expected_cost_usd=cost)
    assert curve.means()[0] == pytest.approx(budgets, rel=0.1)
    assert curve.choice is not None and curve.budgets_usd is not None
    price = lagrangian(Problem(held_out, cost, 0.25 * len(train))).multiplier
    assert curve.choice[1].tolist() == at_price(estimates, cost, price).choice.tolist()
    few = deployable_curve(test.select(range(10)), estimates[:10], held_out, budgets, expected_cost_usd=cost)
    assert few.choice is not None and few.choice.tolist() == curve.choice[:, :10].tolist()
    assert few.quality[1].tolist() == outcome(test.select(range(10)), few.choice[1]).quality.tolist()
