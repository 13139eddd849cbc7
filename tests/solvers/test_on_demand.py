"""Bounds that are computed when they are read: the same numbers, once, and never from other data."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import Assignment, Problem, ProblemError, at_price, frontier, greedy_ratio, solve
from solvers.dual import dual_bound, search
from solvers.on_demand import when_read
from tests.solvers.test_assignment_solvers import problems

CAREFUL = settings(deadline=None, derandomize=True, max_examples=60)


@when_read("later")
@dataclass(frozen=True)
class Found:
    """Something with a field that is computed when it is read."""

    now: int
    later: object


def counted() -> tuple[Found, list[int]]:
    calls: list[int] = []

    def compute() -> int:
        calls.append(1)
        return 7

    return Found(1, compute), calls


def test_a_field_is_computed_once_and_only_when_it_is_read():
    found, calls = counted()
    assert (found.now, calls) == (1, [])
    assert (found.later, found.later, calls) == (7, 7, [1])
    assert repr(found) == "Found(now=1, later=7)" and found == Found(1, 7)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_hold_the_number(copied):
    found, calls = counted()
    assert copied(found).later == 7 and calls == [1]


def test_a_number_that_is_known_is_a_plain_field():
    assert Found(1, 2).later == 2
    assert replace(Found(1, 2), later=3) == Found(1, 3)
    with pytest.raises(FrozenInstanceError):
        Found(1, 2).later = 3  # pyright: ignore
    assert [field.name for field in fields(Found)] == ["now", "later"]


def some_problem() -> Problem:
    generator = np.random.default_rng(0)
    return Problem(generator.uniform(size=(200, 4)), np.array([0.1, 0.2, 0.5, 1.0]), 60.0)


def pending(found: Assignment) -> bool:
    return callable(vars(found)["bound"])


@CAREFUL
@given(problems(), st.booleans())
def test_the_bound_of_the_selector_is_that_of_the_dual(problem: Problem, reserve: bool):
    found = greedy_ratio(problem, reserve=reserve)
    assert pending(found)
    judged = problem if reserve else replace(problem, allow_unanswered=True)
    dual = search(judged, judged.cheapest)
    assert found.bound == max(dual.bound, found.value) and found.multiplier == dual.multiplier
    assert not pending(found) and isinstance(found.bound, float)
    assert found.gap == found.bound - found.value


@CAREFUL
@given(problems(), st.sampled_from([0.0, 0.5, 3.0]))
def test_the_bound_at_a_price_is_that_of_the_budget_it_costs(problem: Problem, price: float):
    if problem.available is not None and not problem.available.any(axis=1).all():
        return
    found = at_price(problem.value, problem.cost_usd, price, available=problem.available)
    posed = Problem(problem.value, problem.cost_usd, found.cost_usd, available=problem.available)
    assert found.bound == max(dual_bound(posed, price), found.value)


def test_a_point_of_the_frontier_is_bounded_on_demand():
    problem = some_problem()
    found = frontier(problem).assignment(60.0)
    assert pending(found)
    assert found.bound == dual_bound(problem, found.multiplier)


def test_a_reason_or_other_choices_compute_no_bound():
    found = greedy_ratio(some_problem())
    other = found.changed(choice=found.choice[::-1])
    assert pending(found) and pending(other) and type(other) is Assignment
    assert other.choice.tolist() == found.choice[::-1].tolist()
    assert other.bound == found.bound
    assert asdict(found)["bound"] == found.bound


def test_the_text_of_an_assignment_names_its_gap():
    found = greedy_ratio(some_problem())
    assert f"at most {100 * found.relative_gap:.2g}% below the best" in str(found)
    assert f"bound={found.bound}" in repr(solve(some_problem(), "greedy_ratio"))


@pytest.mark.parametrize("reserve", [True, False])
def test_arrays_that_were_changed_since_prove_nothing(reserve: bool):
    value = np.random.default_rng(0).uniform(size=(50, 3))
    found = greedy_ratio(Problem(value, [0.1, 0.2, 0.4], 8.0), alpha=0.0, reserve=reserve)
    value += 1.0
    with pytest.raises(ProblemError, match="changed before its bound was read"):
        _ = found.bound
