"""Exact on Pisinger's five classes of knapsacks: against a dynamic programme over whole dollars, and on sizes that are hard."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.instances import batch
from benchmarks.knapsacks import KINDS, knapsack
from solvers import Assignment, Problem, exact, lagrangian
from tests.solvers.oracles import best_in_whole_dollars, least_for_whole_value

CAREFUL = settings(deadline=None, derandomize=True, max_examples=60)
HARD_SIZES = [(17, 20), (60, 3), (273, 11), (686, 6), (1000, 10)]


@pytest.fixture
def without_integer_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is proved is proved without CP-SAT."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("CP-SAT was called")

    monkeypatch.setattr("solvers._exact.solve_integers", fail)


def check_proved(found: Assignment, best: float) -> None:
    assert (found.value, found.status) == (best, "optimal")
    assert best <= found.bound <= best * (1 + 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("largest", [1_000, 10_000])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_every_class_is_proved_and_the_dynamic_programme_agrees(kind: str, largest: int, share: float):
    value, cost, budget = knapsack(kind, 20, 4, largest, share=share)
    check_proved(exact(Problem(value, cost, budget)), best_in_whole_dollars(value, cost, budget))


@CAREFUL
@given(
    st.sampled_from(KINDS),
    st.tuples(st.integers(1, 30), st.integers(1, 6)),
    st.sampled_from([5, 50, 300]),
    st.floats(0.0, 1.0),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_so_are_small_ones_of_any_shape_with_masks_and_in_cents(
    kind: str, size: tuple[int, int], largest: int, share: float, masks: bool, seed: int
):
    value, cost, _ = knapsack(kind, *size, largest, seed=seed)
    generator = np.random.default_rng(seed)
    usable = (generator.uniform(size=size) < 0.6) if masks else np.ones(size, bool)
    usable[np.arange(size[0]), generator.integers(size[1], size=size[0])] = True
    least, most = np.where(usable, cost, np.inf).min(axis=1).sum(), np.where(usable, cost, 0).max(axis=1).sum()
    budget = least + np.floor(share * (most - least))
    best = best_in_whole_dollars(value, cost, budget, usable)
    check_proved(exact(Problem(value, cost, budget, available=usable)), best)
    check_proved(exact(Problem(value, cost * 0.01, budget * 0.01, available=usable)), best)
    minimum = np.floor(best * share)
    cheapest = exact(Problem(value, cost, minimum_value=minimum, available=usable))
    assert cheapest.status == "optimal"
    assert cheapest.cost_usd == least_for_whole_value(value, cost, minimum, usable)


@pytest.mark.parametrize("largest", [1_000, 10_000])
@pytest.mark.parametrize("size", HARD_SIZES, ids=str)
def test_strongly_correlated_ones_of_hard_sizes_are_proved(size: tuple[int, int], largest: int, without_integer_programs: None):
    problem = Problem(*knapsack("strongly_correlated", *size, largest))
    found = exact(problem)
    assert found.status == "optimal"
    # Ten dollars of value beside its cost for every item: what is left is a question of whole tens.
    assert found.value == np.floor(found.bound) >= lagrangian(problem).value


@pytest.mark.parametrize("share", [0.5, 0.99, 0.9999])
@pytest.mark.parametrize("masks", [False, True], ids=["", "masks"])
def test_sums_that_only_few_subsets_reach_are_found_or_excluded(share: float, masks: bool, without_integer_programs: None):
    for seed in range(3):
        value, cost, _ = knapsack("subset_sum", 1_000, 10, 10_000, seed=seed)
        usable = np.ones(cost.shape, bool)
        if masks:
            usable = np.random.default_rng(seed).uniform(size=cost.shape) < 0.3
            usable[:, 0] = True
        least, most = np.where(usable, cost, np.inf).min(axis=1).sum(), np.where(usable, cost, 0).max(axis=1).sum()
        budget = least + np.floor(share * (most - least))
        found = exact(Problem(value, cost, budget, available=usable))
        assert found.status == "optimal"
        assert found.value <= budget


def test_one_dollar_below_the_most_expensive_assignment_the_second_best_is_proved(without_integer_programs: None):
    """Nothing costs as much as the budget: what is worth most is all at their most expensive but the one that saves least."""
    value, cost, _ = knapsack("subset_sum", 500, 6, 10_000)
    ordered = np.sort(cost, axis=1)
    budget = ordered[:, -1].sum() - 1
    steps = (ordered[:, -1] - ordered[:, -2])[ordered[:, -1] > ordered[:, -2]]
    assert steps.min() > 1
    check_proved(exact(Problem(value, cost, budget)), budget + 1 - steps.min())


@pytest.mark.parametrize("multiple", [1, 7])
def test_costs_with_a_common_divisor_leave_nothing_to_search(multiple: int, without_integer_programs: None):
    """Every cost is even, the budget is odd."""
    value, cost, budget = knapsack("subset_sum", 300, 8, 1_000)
    problem = Problem(multiple * value, 2.0 * multiple * cost, multiple * (2 * np.floor(budget) + 1))
    check_proved(exact(problem), multiple * budget)


def test_the_classes_are_what_they_say():
    for kind in KINDS:
        value, cost, budget = knapsack(kind, 200, 5, 100, seed=3)
        assert value.shape == cost.shape == (200, 5)
        assert (value == np.rint(value)).all() and (cost == np.rint(cost)).all()
        assert min(value.min(), cost.min()) >= 1
        assert cost.min(axis=1).sum() < budget < cost.max(axis=1).sum()
        assert (np.diff(cost, axis=1) >= 0).all() == (kind in ("strongly_correlated", "zig_zag"))
        assert (value == cost).all() == (kind == "subset_sum")
        assert (abs(value - cost) <= 10).all() == (kind in ("subset_sum", "weakly_correlated"))
        if kind == "strongly_correlated":
            assert (value - cost == 10 * np.arange(1, 6)).all()
    with pytest.raises(ValueError, match="kind='easy' must be one of uncorrelated"):
        knapsack("easy", 1, 1)


def test_with_two_models_the_best_is_a_sort_and_the_lagrangian_proves_it():
    value, cost, budget = batch(20_000, 2)
    gains = np.sort(value[:, 1] - value[:, 0])[::-1]
    extra = cost[1] - cost[0]
    count = int((budget - len(value) * cost[0]) / extra)
    best = math.fsum(value[:, 0]) + math.fsum(gains[:count])
    for found in (lagrangian(Problem(value, cost, budget)), exact(Problem(value, cost, budget))):
        assert found.status == "optimal"
        assert found.value == pytest.approx(best, rel=1e-13)


def test_one_cost_per_model_is_proved_on_many_queries(without_integer_programs: None):
    """Few different costs, of which many sets of swaps cost the same."""
    for models in (4, 11, 56):
        assert exact(Problem(*batch(30_000, models))).status == "optimal"


def test_costs_of_very_different_size_do_not_blur_the_proof():
    """Four cents for whichever answer the first query gets, and billionths for the second one's."""
    found = exact(Problem([[0.7, 0.5], [0.9, 0.6]], [[0.04, 0.04], [4e-9, 1e-8]], 0.04 + 5e-9))
    assert (found.value, found.status) == (1.6, "optimal")
    found = exact(Problem([[0.5, 0.7], [0.6, 0.9]], [[0.04, 0.04], [4e-9, 1e-8]], 0.04 + 5e-9))
    assert (found.value, found.status) == (0.7 + 0.6, "optimal")
