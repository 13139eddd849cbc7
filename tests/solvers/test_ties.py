"""Ties at the price in force: every solver spreads them over the queries, whatever the table is sorted by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from solvers import Assignment, Problem, exact, frontier, lagrangian
from solvers.mixing import least_first, shuffled

QUERIES = 4_000
COST = np.array([0.1, 0.3, 1.0])


def by_frontier(problem: Problem) -> Assignment:
    assert problem.budget_usd is not None
    return frontier(problem).assignment(problem.budget_usd)


def right_or_wrong() -> tuple[np.ndarray, np.ndarray]:
    """Two tasks of the same difficulty, the table sorted by task, with the same rows in another order."""
    generator = np.random.default_rng(0)
    half = (generator.uniform(size=(QUERIES // 2, 3)) < [0.4, 0.6, 0.8]).astype(float)
    return np.concatenate([half, generator.permutation(half)]), np.repeat([0, 1], QUERIES // 2)


def check_spread(choice: np.ndarray, task: np.ndarray) -> None:
    """Both tasks get every model about as often: within four standard deviations of a fair draw, and then some."""
    counts = np.array([np.bincount(choice[task == one], minlength=3) for one in (0, 1)])
    assert (np.abs(counts[0] - counts[1]) <= 4 * np.sqrt(counts.sum(axis=0) / 2) + 5).all(), counts


@pytest.mark.parametrize("solver", [lagrangian, exact, by_frontier])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_table_sorted_by_task_gives_no_model_to_one_task(solver: Callable[[Problem], Assignment], share: float):
    value, task = right_or_wrong()
    least, most = Problem(value, COST).least_cost, 0.22 * QUERIES
    problem = Problem(value, COST, least + share * (most - least))
    found = solver(problem)
    # Many queries are tied at the price: they are where the choice is free.
    assert 400 < np.count_nonzero(found.choice == 1) < QUERIES - 400
    check_spread(found.choice, task)
    assert found.relative_gap < 1e-3


@pytest.mark.parametrize("capacity", [[3000, 1200, 300], [1500, 1500, 1500]])
def test_capacities_give_no_model_to_one_task_either(capacity: list[int]):
    value, task = right_or_wrong()
    found = lagrangian(Problem(value, COST, 0.5 * QUERIES, capacity=capacity))
    check_spread(found.choice, task)


@pytest.mark.parametrize("solver", [lagrangian, by_frontier])
def test_the_order_of_the_rows_changes_neither_value_nor_bound(solver: Callable[[Problem], Assignment]):
    value, _ = right_or_wrong()
    rows = np.random.default_rng(1).permutation(QUERIES)
    found, moved = solver(Problem(value, COST, 700.0)), solver(Problem(value[rows], COST, 700.0))
    assert moved.value == found.value
    assert moved.bound == pytest.approx(found.bound, rel=1e-12)
    assert moved.status == found.status


@pytest.mark.parametrize("solver", [lagrangian, exact, by_frontier])
def test_the_same_problem_gets_the_same_assignment(solver: Callable[[Problem], Assignment]):
    value, _ = right_or_wrong()
    first, second = (solver(Problem(value, COST, 700.0)) for _ in range(2))
    assert first.choice.tolist() == second.choice.tolist()


def test_so_many_ties_that_candidates_alone_would_leave_most_of_the_budget():
    """Every query gains the same by the better model, and half of them can have it."""
    queries = 100_000
    found = lagrangian(Problem(np.tile([0.0, 1.0], (queries, 1)), [0.0, 1.0], queries / 2))
    assert (found.value, found.cost_usd, found.status) == (queries / 2, queries / 2, "optimal")
    # First and second half of the table, and even and odd rows, alike.
    for some in (found.choice[: queries // 2], found.choice[::2]):
        assert some.mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("solver", [lagrangian, by_frontier])
def test_a_table_that_was_shuffled_before_is_not_put_back_in_order(solver: Callable[[Problem], Assignment]):
    """With numpy's first seeds: the same draw twice would undo the first one."""
    value, task = right_or_wrong()
    for seed in range(3):
        rows = np.random.default_rng(seed).permutation(QUERIES)
        choice = np.empty(QUERIES, np.int32)
        choice[rows] = solver(Problem(value[rows], COST, 600.0)).choice
        check_spread(choice, task)


def test_equal_numbers_are_drawn_and_others_keep_their_order():
    numbers = np.repeat([3.0, 1.0, 2.0], 50)
    order = least_first(numbers)
    assert numbers[order].tolist() == sorted(numbers.tolist())
    assert order[:50].tolist() != sorted(order[:50].tolist())
    assert sorted(shuffled(10).tolist()) == list(range(10))
