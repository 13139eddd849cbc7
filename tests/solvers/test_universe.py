"""The set of models worth serving: lazy equals greedy, exact is best, and the bounds hold."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import ProblemError, build_universe
from tests.solvers.oracles import best_covered, covered

CAREFUL = settings(deadline=None, derandomize=True, max_examples=60)
TENTHS = st.integers(0, 10).map(lambda count: count / 10)
CELLS = [
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([0.0, 1.0, math.nan]),
    TENTHS,
    st.sampled_from([0.3, math.nan]),
    st.floats(0.0, 1.0),
]


@st.composite
def qualities(draw: st.DrawFn) -> np.ndarray:
    queries, models = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    cells = st.lists(draw(st.sampled_from(CELLS)), min_size=queries * models, max_size=queries * models)
    quality = np.array(draw(cells)).reshape(queries, models)
    if draw(st.booleans()):
        quality[:, -1] = quality[:, 0]
    return quality


def seeded_quality(seed: int) -> np.ndarray:
    """Twelve models on thirty queries: at random, with ties, right or wrong, never run, two of them equal."""
    generator = np.random.default_rng(seed)
    quality = generator.uniform(size=(30, 12))
    if seed % 4 == 1:
        quality = np.round(quality, 1)
    if seed % 4 == 2:
        quality = (quality < 0.2).astype(float)
    if seed % 4 == 3:
        quality[generator.uniform(size=quality.shape) < 0.4] = np.nan
        quality[:, 7] = quality[:, 2]
    return quality


@CAREFUL
@given(qualities(), st.integers(1, 6))
def test_lazy_chooses_exactly_what_greedy_chooses(quality: np.ndarray, size: int):
    lazy, greedy = build_universe(quality, size, "lazy"), build_universe(quality, size, "greedy")
    assert lazy.models == greedy.models
    assert lazy.value_by_size == greedy.value_by_size
    assert lazy.evaluations <= greedy.evaluations


@pytest.mark.parametrize("seed", range(12))
def test_lazy_chooses_what_greedy_chooses_on_pools_of_many_models(seed: int):
    generator = np.random.default_rng(seed)
    quality = np.round(generator.uniform(size=(100, 40)) ** 4, 1 + seed % 3)
    lazy, greedy = build_universe(quality, 15, "lazy"), build_universe(quality, 15, "greedy")
    assert (lazy.models, lazy.value_by_size) == (greedy.models, greedy.value_by_size)
    assert lazy.evaluations < greedy.evaluations


@CAREFUL
@given(qualities(), st.integers(1, 6))
def test_greedy_takes_the_largest_gain_and_the_lower_index_among_equals(quality: np.ndarray, size: int):
    """Every choice gains at least as much as any other model would have, and more than any of lower index."""
    chosen = build_universe(quality, size).models
    for position, model in enumerate(chosen):
        before = chosen[:position]
        with_it = covered(quality, [*before, model])
        for other in set(range(quality.shape[1])) - set(before) - {model}:
            instead = covered(quality, [*before, other])
            assert instead <= with_it + 1e-12
            if other < model and np.array_equal(quality[:, other], quality[:, model], equal_nan=True):
                pytest.fail(f"{model} was chosen before its equal {other}")


@CAREFUL
@given(qualities(), st.integers(1, 6))
def test_the_value_of_every_size_is_what_the_set_covers(quality: np.ndarray, size: int):
    found = build_universe(quality, size)
    assert len(found.models) == len(set(found.models)) == len(found.value_by_size) <= min(size, quality.shape[1])
    direct = [covered(quality, found.models[: count + 1]) for count in range(len(found.models))]
    assert found.value_by_size == pytest.approx(direct, rel=1e-12)
    assert found.value_by_size == sorted(found.value_by_size)


@CAREFUL
@given(qualities(), st.integers(1, 6), st.sampled_from(["lazy", "greedy"]))
def test_the_bound_is_above_the_best_set_and_greedy_not_far_below(quality: np.ndarray, size: int, method: str):
    found, best = build_universe(quality, size, method), best_covered(quality, size)
    reached = found.value_by_size[-1] if found.models else 0.0
    assert reached <= best * (1 + 1e-12)
    assert best <= found.bound * (1 + 1e-12)
    assert reached >= (1 - 1 / math.e) * best - 1e-12


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_exact_finds_the_best_of_all_sets(seed: int, size: int):
    quality = seeded_quality(seed)
    found, lazy = build_universe(quality, size, "exact"), build_universe(quality, size)
    best = best_covered(quality, size)
    assert found.value_by_size[-1] == pytest.approx(best, abs=2e-9)
    assert covered(quality, found.models) == pytest.approx(found.value_by_size[-1], rel=1e-12)
    assert found.value_by_size[-1] >= lazy.value_by_size[-1]
    assert found.value_by_size[-1] <= found.bound <= lazy.bound
    assert best * (1 - 1e-12) <= found.bound <= best + 2e-9


def test_exact_is_better_than_greedy_where_greedy_is_led_astray():
    """The model that is right most often is not in the best pair: the other two are right about everything."""
    quality = np.zeros((8, 3))
    quality[2:7, 0] = quality[:4, 1] = quality[4:, 2] = 1.0
    assert build_universe(quality, 2).value_by_size == [5 / 8, 7 / 8]
    best = build_universe(quality, 2, "exact")
    assert sorted(best.models) == [1, 2]
    assert best.value_by_size == [4 / 8, 1.0]
    assert best.bound == pytest.approx(1.0)


def test_out_of_time_exact_is_no_worse_than_greedy_and_its_bound_holds():
    quality = np.random.default_rng(0).uniform(size=(60, 14))
    best = best_covered(quality, 4)
    found, lazy = build_universe(quality, 4, "exact", max_seconds=1e-9), build_universe(quality, 4)
    assert lazy.value_by_size[-1] < best
    assert found.value_by_size[-1] >= lazy.value_by_size[-1]
    assert found.bound >= best * (1 - 1e-12)


@pytest.mark.parametrize("method", ["lazy", "greedy", "exact"])
def test_it_stops_when_no_further_model_adds_anything(method: str):
    """The third model knows nothing that the first two do not, and the fourth nothing at all."""
    quality = np.array([[1.0, 0.0, 0.5, 0.0], [0.8, 0.0, 0.8, 0.0], [0.0, 0.5, 0.5, np.nan]])
    found = build_universe(quality, 4, method)
    assert found.models == ([0, 2] if method == "exact" and 2 in found.models else [0, 1])
    assert found.value_by_size == pytest.approx([1.8 / 3, 2.3 / 3])
    assert found.bound >= 2.3 / 3


@pytest.mark.parametrize("method", ["lazy", "greedy", "exact"])
def test_models_that_can_do_nothing_are_not_chosen(method: str):
    found = build_universe(np.array([[0.0, np.nan], [0.0, 0.0]]), 2, method)
    assert (found.models, found.value_by_size, found.bound) == ([], [], 0.0)


def test_never_run_counts_as_wrong():
    quality = np.array([[np.nan, 0.2], [0.3, 0.2]])
    assert build_universe(quality, 1).models == [1]
    assert build_universe(quality, 1).value_by_size == [0.2]


def test_of_equal_models_the_first_is_chosen_and_only_once():
    assert build_universe(np.full((5, 4), 0.5), 3).models == [0]


def test_more_models_than_there_are_means_all_that_help():
    quality = np.eye(3)
    found = build_universe(quality, 10)
    assert found.models == [0, 1, 2]
    assert found.value_by_size == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(ProblemError) as caught:
        build_universe(np.zeros(3), 0, "magic")
    for part in ("quality has shape (3,)", "size=0 must be at least 1", "method='magic' must be one of lazy, greedy"):
        assert part in str(caught.value)


@pytest.mark.parametrize("cell", [-0.1, math.inf, -math.inf])
def test_a_quality_that_is_negative_or_infinite_is_rejected(cell: float):
    with pytest.raises(ProblemError, match="quality must be >= 0 and finite"):
        build_universe(np.array([[0.5, cell]]), 1)


@pytest.mark.parametrize("shape", [(0, 2), (2, 0)])
def test_an_empty_pool_or_batch_is_rejected(shape: tuple[int, int]):
    with pytest.raises(ProblemError, match="at least one of each"):
        build_universe(np.zeros(shape), 1)


@st.composite
def limited(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, float, list[int], list[int]]:
    """A pool with costs of serving, a budget, required and banned models."""
    quality = draw(qualities())
    models = quality.shape[1]
    prices = st.one_of(TENTHS, st.integers(0, 1000).map(lambda count: count / 997))
    cost = np.array(draw(st.lists(prices, min_size=models, max_size=models)))
    roles = draw(st.lists(st.sampled_from(["open", "open", "open", "required", "banned"]), min_size=models, max_size=models))
    required = [model for model, role in enumerate(roles) if role == "required"]
    banned = [model for model, role in enumerate(roles) if role == "banned"]
    least = math.fsum(cost[required])
    budget = least + draw(st.floats(0.0, 1.0)) * (math.fsum(cost) - least)
    return quality, cost, max(budget, least), required, banned


def sets_within(cost: np.ndarray, budget: float, required: list[int], banned: list[int]) -> list[list[int]]:
    open_models = [model for model in range(len(cost)) if model not in required and model not in banned]
    found = []
    for count in range(len(open_models) + 1):
        for more in itertools.combinations(open_models, count):
            if math.fsum(cost[[*required, *more]]) <= budget * (1 + 1e-12):
                found.append([*required, *more])
    return found


@CAREFUL
@given(limited(), st.sampled_from(["lazy", "greedy", "exact"]))
def test_a_budget_for_serving_is_kept_and_bounded(pool: tuple, method: str):
    quality, cost, budget, required, banned = pool
    found = build_universe(quality, method=method, budget_usd=budget, cost_usd=cost, required=required, banned=banned)
    best = max(covered(quality, models) for models in sets_within(cost, budget, required, banned))
    assert math.fsum(cost[found.models]) == found.cost_usd <= budget * (1 + 1e-12)
    assert set(required) <= set(found.models) and not set(banned) & set(found.models)
    assert found.value == pytest.approx(covered(quality, found.models), rel=1e-12)
    assert found.value <= best * (1 + 1e-12) and best <= found.bound * (1 + 1e-9) + 1e-9
    if method == "exact":
        assert found.value == pytest.approx(best, abs=1e-8)
    if not required:
        assert found.value >= (1 - 1 / math.e) / 2 * best - 1e-12


@CAREFUL
@given(limited())
def test_lazy_chooses_what_greedy_chooses_within_a_budget_too(pool: tuple):
    quality, cost, budget, required, banned = pool
    lazy, greedy = (
        build_universe(quality, method=method, budget_usd=budget, cost_usd=cost, required=required, banned=banned)
        for method in ("lazy", "greedy")
    )
    assert (lazy.models, lazy.value_by_size) == (greedy.models, greedy.value_by_size)


@CAREFUL
@given(limited(), st.integers(0, 3))
def test_required_and_banned_models_hold_for_a_size_as_well(pool: tuple, more: int):
    quality, cost, _, required, banned = pool
    size = max(1, len(required) + more)
    sets = sets_within(np.ones(len(cost)), size, required, banned)
    best = max(covered(quality, models) for models in sets)
    for method in ("lazy", "exact"):
        found = build_universe(quality, size, method, required=required, banned=banned, cost_usd=cost)
        assert len(found.models) <= size and set(required) <= set(found.models) and not set(banned) & set(found.models)
        assert found.value <= best * (1 + 1e-12) and best <= found.bound * (1 + 1e-9) + 1e-9
        assert found.cost_usd == math.fsum(cost[found.models])


def test_one_expensive_model_can_be_better_than_many_cheap_ones():
    """By gain per dollar the cheap model comes first, and then the good one is out of reach."""
    quality = np.array([[0.1, 1.0], [0.0, 1.0]])
    found = build_universe(quality, budget_usd=1.0, cost_usd=np.array([0.01, 1.0]))
    assert (found.models, found.value, found.cost_usd) == ([1], 1.0, 1.0)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, np.float64])
def test_right_or_wrong_is_the_same_in_bits_and_in_numbers(dtype: type):
    """130 queries are two words of bits and a bit of a third."""
    answers = np.random.default_rng(0).uniform(size=(130, 30)) < 0.1
    graded = np.vstack([answers.astype(float), np.full((1, 30), 1e-9)])
    bits, numbers = build_universe(answers.astype(dtype), 12), build_universe(graded, 12)
    assert bits.models == numbers.models
    assert bits.value_by_size == pytest.approx(np.array(numbers.value_by_size) * 131 / 130, abs=1e-9)


def test_what_was_never_run_is_counted():
    assert build_universe(np.array([[np.nan, 0.2], [0.3, np.nan]]), 1).never_run == 2


def test_limits_that_contradict_each_other_are_rejected_together():
    with pytest.raises(ProblemError) as caught:
        build_universe(np.eye(3), 1, budget_usd=1.0, required=[0, 1], banned=[1, 7])
    for part in (
        "size=1 and budget_usd=1.0: give exactly one",
        "budget_usd needs cost_usd",
        "banned=[1, 7] must be columns from 0 to 2",
        "models [1] are required and banned",
        "size=1 is less than the 2 required models",
    ):
        assert part in str(caught.value)
    with pytest.raises(ProblemError, match="of the required models"):
        build_universe(np.eye(3), budget_usd=1.0, cost_usd=np.array([1.0, 2.0, 3.0]), required=[2])


@pytest.mark.parametrize("method", ["lazy", "greedy", "exact"])
@pytest.mark.parametrize("required", [[], [4]])
def test_no_set_of_a_size_is_above_its_bound(method: str, required: list[int]):
    quality = np.random.default_rng(3).uniform(size=(30, 6)) ** 4
    found = build_universe(quality, 4, method, required=required)
    assert len(found.bound_by_size) == 4
    for size, bound in enumerate(found.bound_by_size, start=1):
        sets = [chosen for chosen in itertools.combinations(range(6), size) if set(required) <= set(chosen)]
        assert max(quality[:, list(chosen)].max(axis=1).mean() for chosen in sets) <= bound
        assert bound <= quality.max(axis=1).mean()
    assert build_universe(quality, budget_usd=2.0, cost_usd=np.ones(6)).bound_by_size == []
