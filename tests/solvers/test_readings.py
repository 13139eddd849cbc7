"""How often a problem is read, and that one reading finds all that several did."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import Problem, ProblemError, at_price, lagrangian
from solvers import dual as dual_module
from solvers import narrowing as narrowing_module
from solvers.dual import search
from solvers.narrowing import narrow
from solvers.sums import RunningSum

CAREFUL = settings(deadline=None, derandomize=True, max_examples=200)
QUERIES = 100_000


class Counted:
    """A table outside memory that counts the rows that are read."""

    def __init__(self, cells: np.ndarray):
        self.cells, self.rows = cells, 0
        self.shape, self.dtype = cells.shape, cells.dtype

    def __getitem__(self, rows: slice) -> np.ndarray:
        found = self.cells[rows]
        self.rows += len(found)
        return found


def large(kind: str, models: int = 4) -> tuple[np.ndarray, np.ndarray, float]:
    generator = np.random.default_rng(0)
    value = generator.uniform(size=(QUERIES, models))
    if kind == "right or wrong":
        value = np.round(value)
    if kind == "sorted":
        value = value[np.argsort(value.mean(axis=1))]
    cost = np.array([0.1, 0.2, 0.5, 1.0])[:models]
    if kind == "cost per query":
        cost = cost * generator.uniform(0.5, 1.5, value.shape)
    return value, cost, (0.15 if kind == "right or wrong" else 0.3) * QUERIES


def test_a_problem_is_read_once():
    value, cost, budget = large("cost per query")
    values, costs = Counted(value), Counted(cost)
    Problem(values, costs, budget)
    assert (values.rows, costs.rows) == (QUERIES, QUERIES)


@pytest.mark.parametrize("kind", ["plain", "right or wrong", "sorted", "cost per query"])
def test_the_lagrangian_reads_a_large_problem_a_few_times(kind: str):
    value, cost, budget = large(kind)
    values = Counted(value)
    problem = Problem(values, np.broadcast_to(cost, value.shape), budget)
    values.rows = 0
    found = lagrangian(problem)
    assert found.relative_gap < 1e-6
    assert values.rows <= 6 * QUERIES


@pytest.mark.parametrize("kind", ["plain", "right or wrong", "sorted", "cost per query"])
def test_narrowing_finds_the_multiplier_that_reading_everything_finds(kind: str, monkeypatch: pytest.MonkeyPatch):
    problem = Problem(*large(kind))
    narrowed = search(problem, problem.cheapest)
    monkeypatch.setattr(narrowing_module, "MOST_CELLS", 10)
    unkept = search(problem, problem.cheapest)
    monkeypatch.setattr(dual_module, "LARGE", 10 * QUERIES)
    whole = search(problem, problem.cheapest)
    assert narrowed.near is not None
    for found in (narrowed, unkept):
        assert found.multiplier == pytest.approx(whole.multiplier, rel=1e-3)
        assert found.bound == pytest.approx(whole.bound, rel=1e-12)
        assert problem.totals(found.choice) == found.answers.totals
        assert found.answers.totals[0] == pytest.approx(whole.answers.totals[0], rel=1e-5)


@pytest.mark.parametrize("off", [0.01, 0.9, 1.0, 1.1, 100.0])
def test_a_bracket_is_found_from_a_guess_that_is_off(off: float):
    problem = Problem(*large("plain"))
    found = narrow(problem, problem.cheapest, off * search(problem, problem.cheapest).multiplier)
    assert found.totals_low == problem.totals(found.at_low) and found.totals_high == problem.totals(found.at_high)
    assert not problem.fits(found.totals_low[1]) and problem.fits(found.totals_high[1])
    assert found.undecided is None or np.array_equal(found.undecided.rows, np.flatnonzero(found.at_low != found.at_high))


def test_a_budget_for_everything_needs_no_multiplier():
    value, cost, _ = large("plain")
    for budget in (1.0 * QUERIES, math.fsum(cost[value.argmax(axis=1)])):
        found = lagrangian(Problem(value, cost, budget))
        assert (found.multiplier, found.gap, found.status) == (0.0, 0.0, "optimal")
        assert np.array_equal(found.choice, value.argmax(axis=1))


WRONG = st.sampled_from([math.nan, math.inf, -math.inf, 1e201, -1e201, -1.0])


@CAREFUL
@given(st.data())
def test_one_reading_rejects_exactly_the_cells_that_break_a_rule(data: st.DataObject):
    """Every count of wrong cells is that of a look at one cell after the other, in all forms of a problem."""
    queries, models = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 4))
    value = np.random.default_rng(0).uniform(size=(queries, models))
    cost = np.random.default_rng(1).uniform(size=(queries, models))
    one_cost = data.draw(st.booleans())
    cost = cost[0] if one_cost else cost
    for cells in (value, cost):
        for _ in range(data.draw(st.integers(0, 2))):
            cells[tuple(data.draw(st.integers(0, length - 1)) for length in cells.shape)] = data.draw(WRONG)
    available = None
    if data.draw(st.booleans()):
        flags = data.draw(st.lists(st.booleans(), min_size=queries * models, max_size=queries * models))
        available = np.array(flags).reshape(queries, models)
    unanswered = data.draw(st.booleans())
    usable = np.ones((queries, models), bool) if available is None else available
    every = np.broadcast_to(cost, value.shape)
    wrong_values = int((usable & ~(np.abs(value) <= 1e200)).sum())
    wrong_costs = int((usable & ~((every >= 0) & (every <= 1e200))).sum())
    stranded = int((~usable.any(axis=1)).sum()) if not unanswered else 0
    options: dict = {"available": available, "allow_unanswered": unanswered}
    if data.draw(st.booleans()):
        options["minimum_value"] = -1e6
    if not wrong_values and not wrong_costs and not stranded:
        problem = Problem(value, cost, **options)
        costs = np.where(usable, every, np.inf)
        if unanswered:
            costs = np.append(costs, np.zeros((queries, 1)), axis=1)
        if problem.minimum_value is None:
            assert problem.least_cost == math.fsum(costs.min(axis=1))
        assert (problem.cheapest_value, problem.least_cost) == problem.totals(problem.cheapest)
        return
    with pytest.raises(ProblemError) as caught:
        Problem(value, cost, **options)
    for count in (wrong_values, wrong_costs):
        assert not count or f"({count} such cells)" in str(caught.value)
    assert not stranded or f"({stranded} such queries)" in str(caught.value)


@CAREFUL
@given(st.lists(st.lists(st.floats(-1e200, 1e200)), max_size=5))
def test_a_running_sum_is_exact(arrays: list[list[float]]):
    running = RunningSum()
    for array in arrays:
        running.add(np.array(array, float))
    every = [number for array in arrays for number in array]
    assert running.total() == math.fsum(every) == math.fsum(running.parts())


def test_another_budget_needs_no_second_reading():
    value, cost, budget = large("plain")
    values = Counted(value)
    problem = Problem(values, cost, budget)
    changed = problem.within(budget / 2)
    assert values.rows == QUERIES
    assert (problem.budget_usd, changed.budget_usd) == (budget, budget / 2)
    assert lagrangian(changed).cost_usd <= budget / 2 * (1 + 1e-12)
    same = lagrangian(Problem(value, cost, budget / 2))
    assert lagrangian(changed).choice.tolist() == same.choice.tolist()
    with pytest.raises(ProblemError, match="below the cheapest assignment"):
        problem.within(1.0)
    with pytest.raises(ProblemError, match="budget_usd=nan"):
        problem.within(math.nan)


def test_at_a_price_is_read_twice():
    value, cost, _ = large("plain")
    values = Counted(value)
    found = at_price(values, cost, 0.5)
    assert values.rows == 2 * QUERIES
    assert found.relative_gap <= 1e-12
