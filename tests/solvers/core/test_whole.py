"""The core in whole numbers: no assignment within the limit is left out, and none is worth more than it is there."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import Problem
from solvers.core.whole import whole_core
from solvers.dual import search

CAREFUL = settings(deadline=None, derandomize=True, max_examples=150)


@CAREFUL
@given(
    st.integers(0, 10**6),
    st.sampled_from(["any", "cents", "tiny", "thirds"]),
    st.sampled_from(["any", "levels"]),
    st.booleans(),
)
def test_every_assignment_within_the_limit_is_one_of_the_program_and_worth_no_more(
    seed: int, costs: str, values: str, masks: bool
):
    generator = np.random.default_rng(seed)
    shape = int(generator.integers(1, 5)), int(generator.integers(1, 4))
    value, cost = generator.uniform(size=shape), generator.uniform(size=shape)
    if values == "levels":
        value = np.rint(value * 7) / 7
    cost = {"any": cost, "cents": np.rint(cost * 100) * 0.01, "tiny": cost**20 + 0.04, "thirds": np.rint(cost * 9) / 3}[costs]
    usable = generator.uniform(size=shape) < (0.7 if masks else 1.1)
    usable[:, 0] = True
    columns = np.where(usable, generator.uniform(size=shape), -1).argmax(axis=1)
    budget = float(cost[np.arange(shape[0]), columns].sum())
    least = Problem(value, cost, available=usable).least_cost
    problem = Problem(value, cost, max(budget, least), available=usable)
    core = whole_core(problem, search(problem, problem.cheapest), problem.cheapest)
    rows = np.arange(shape[0])
    open_cells = np.where(usable, core.gain, 0.0)
    assert (open_cells == np.rint(open_cells)).all() and (core.extra == np.rint(core.extra)).all()
    assert (core.gain[rows, core.base] == 0).all() and (core.extra[rows, core.base] == 0).all()
    assert (open_cells - core.multiplier * core.extra).max(axis=1).sum() <= core.rounding
    for choice in itertools.product(range(shape[1]), repeat=shape[0]):
        if not usable[rows, choice].all() or not problem.fits(problem.totals(np.array(choice))[1]):
            continue
        assert core.extra[rows, choice].sum() <= core.room
        worth = sum(map(Fraction, value[rows, choice].tolist()))
        assert worth <= core.value_of(core.gain_of(np.array(choice)))


def test_gains_are_rounded_up_and_extra_costs_down():
    """To the last digit: every gain and cost that is counted in units stands for at least the gain and at most the cost."""
    generator = np.random.default_rng(1)
    value, cost = generator.uniform(size=(200, 3)), generator.uniform(size=(200, 3))
    problem = Problem(value, cost, 80.0)
    dual = search(problem, problem.cheapest)
    core = whole_core(problem, dual, problem.cheapest)
    rows = np.arange(200)
    cost_unit = core.multiplier * core.unit / dual.multiplier
    for row, column in itertools.product(rows.tolist(), range(3)):
        gain = Fraction(value[row, column]) - Fraction(value[row, core.base[row]])
        extra = Fraction(cost[row, column]) - Fraction(cost[row, core.base[row]])
        assert gain <= Fraction(core.gain[row, column]) * Fraction(core.unit) <= gain + 3 * Fraction(core.unit)
        assert extra >= Fraction(core.extra[row, column]) * Fraction(cost_unit) >= extra - 3 * Fraction(cost_unit)
