"""The set of models worth serving: lazy equals greedy, exact is best, and the bounds hold."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import ProblemError, build_universe

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


def covered(quality: np.ndarray, models: list[int]) -> float:
    """S(U): the mean over the queries of the best quality in the set; never run counts as 0."""
    return float(np.nan_to_num(quality)[:, models].max(axis=1, initial=0.0).mean())


def best_covered(quality: np.ndarray, size: int) -> float:
    models = range(quality.shape[1])
    return max(covered(quality, list(chosen)) for chosen in itertools.combinations(models, min(size, len(models))))


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
def test_a_quality_that_is_negative_or_infinite_is_refused(cell: float):
    with pytest.raises(ProblemError, match="quality must be >= 0 and finite"):
        build_universe(np.array([[0.5, cell]]), 1)


@pytest.mark.parametrize("shape", [(0, 2), (2, 0)])
def test_an_empty_pool_or_batch_is_refused(shape: tuple[int, int]):
    with pytest.raises(ProblemError, match="at least one of each"):
        build_universe(np.zeros(shape), 1)
