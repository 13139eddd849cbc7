"""Input that is no problem: rejected by field and value, in messages that stay short."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from solvers import Problem, ProblemError, at_price, build_universe, frontier, greedy_ratio, lagrangian, solve
from tests.solvers.constrained import crowded

VALUE, COST = np.array([[0.2, 0.9], [0.4, 0.5]]), np.array([1.0, 2.0])
MASKED = np.ma.masked_array(VALUE, mask=[[True, False], [False, False]])


def message(call, *arguments: object, **options: object) -> str:
    with pytest.raises(ProblemError) as caught:
        call(*arguments, **options)
    assert len(str(caught.value)) < 500
    return str(caught.value)


@pytest.mark.parametrize("wrong", ["10", b"10", True, 1j, [1.0, 2.0], "x" * 100_000, list(range(100_000))])
def test_a_limit_that_is_no_number_is_rejected_by_name(wrong: object):
    assert "budget_usd=" in message(Problem, VALUE, COST, wrong)
    assert "minimum_value=" in message(Problem, VALUE, COST, minimum_value=wrong)
    assert "price=" in message(at_price, VALUE, COST, wrong)
    assert "alpha=" in message(greedy_ratio, Problem(VALUE, COST, 4.0), wrong)
    assert "budget_usd=" in message(frontier(Problem(VALUE, COST)).assignment, wrong)
    assert "budget_usd=" in message(build_universe, VALUE, budget_usd=wrong, cost_usd=COST)
    assert "max_seconds=" in message(build_universe, VALUE, 1, max_seconds=wrong)


@pytest.mark.parametrize("field", ["value", "cost_usd", "available"])
def test_a_mask_that_numpy_would_drop_is_reported(field: str):
    fields: dict = {"value": VALUE, "cost_usd": np.ones((2, 2)), "available": np.ones((2, 2), bool)}
    fields[field] = np.ma.masked_array(fields[field], mask=MASKED.mask)
    assert f"{field} is a masked array with 1 masked cells" in message(Problem, **fields)


def test_masked_qualities_costs_and_capacities_are_reported_too():
    assert "quality is a masked array with 1 masked cells" in message(build_universe, MASKED, 1)
    masked = np.ma.masked_array([1, 2], mask=[False, True])
    assert "cost_usd is a masked array" in message(build_universe, VALUE, budget_usd=3.0, cost_usd=masked)
    assert "capacity is a masked array" in message(Problem, VALUE, COST, capacity=masked)


def test_a_masked_array_without_masked_cells_is_an_array():
    whole = np.ma.masked_array(VALUE)
    assert lagrangian(Problem(whole, COST, 4.0)).choice.tolist() == lagrangian(Problem(VALUE, COST, 4.0)).choice.tolist()


def test_ragged_lists_and_switches_of_another_type_are_named():
    for wrong, expected in (
        ({"capacity": [1, [2]]}, "capacity is no array"),
        ({"available": [[True], [True, False]]}, "available is no array"),
        ({"allow_unanswered": 2}, "allow_unanswered=2 must be True or False"),
    ):
        assert expected in message(Problem, VALUE, COST, **wrong)
    assert "value is no array" in message(Problem, [[1.0], [1.0, 2.0]], COST)
    assert "reserve='no' must be True or False" in message(greedy_ratio, Problem(VALUE, COST, 4.0), reserve="no")


def test_several_wrong_fields_are_reported_together():
    found = message(Problem, [["a", "b"]], [None, 2.0], "much")
    assert all(part in found for part in ("value must be numbers", "cost_usd must be numbers", "budget_usd='much'"))


@pytest.mark.parametrize("size", ["3", 2.5, True, 0, math.nan, [1] * 10_000])
def test_a_size_is_a_whole_number(size: object):
    assert "size=" in message(build_universe, VALUE, size)


@pytest.mark.parametrize("columns", [5, "ab", [0.5], [[0]], range(10_000)])
def test_models_to_require_or_ban_are_columns(columns: object):
    assert "required=" in message(build_universe, VALUE, 1, required=columns)
    assert "banned=" in message(build_universe, VALUE, 1, banned=columns)


def test_a_model_that_is_required_twice_is_paid_for_once():
    found = build_universe(VALUE, budget_usd=1.0, cost_usd=COST, required=[0, 0])
    assert (found.models, found.cost_usd) == ([0], 1.0)


def test_long_names_and_lists_are_cut():
    assert "solver=" in message(solve, Problem(VALUE, COST, 4.0), "magic" * 10_000)
    assert "method=" in message(build_universe, VALUE, 1, "magic" * 10_000)
    assert "1000 in all" in message(Problem, VALUE, COST, capacity=[-1] * 1000)
    with pytest.raises(ProblemError) as caught:
        Problem([["x" * 100_000, 1.0]], COST)
    assert len(str(caught.value)) < 500


class InAFile:
    """A table that is read in slices and is no array, as datasets in files are."""

    def __init__(self, array: np.ndarray):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.longest = 0

    def __getitem__(self, rows: slice) -> np.ndarray:
        self.longest = max(self.longest, len(self.array[rows]))
        return self.array[rows]


def test_a_table_that_is_no_array_is_read_in_slices():
    problem = crowded(10, queries=200_000)
    value, cost = InAFile(np.asarray(problem.value)), InAFile(np.asarray(problem.cost_usd))
    kept = lagrangian(replace(problem, capacity=None))
    found = lagrangian(Problem(value, cost, problem.budget_usd))
    assert (found.value, found.cost_usd) == (kept.value, kept.cost_usd)
    assert max(value.longest, cost.longest) <= 2**16
