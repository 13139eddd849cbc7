"""How the best set is searched for: bits, levels that bound every set, and branch and bound."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import linprog

from solvers import build_universe
from solvers.subset import bounding
from solvers.subset.bits import packed_by_model
from solvers.subset.branching import Branching
from solvers.subset.limits import Limits
from solvers.subset.relaxation import Cuts, relaxed_bound, relaxed_levels, stepped_levels
from solvers.subset.residual import residual_of
from tests.solvers.oracles import best_covered


@pytest.mark.parametrize(("queries", "models"), [(1, 1), (7, 8), (8, 7), (130, 30), (1100, 9)])
@pytest.mark.parametrize("dtype", [bool, np.float64])
def test_bits_packed_along_rows_are_those_packed_across_the_table(queries: int, models: int, dtype: type):
    right = np.random.default_rng(queries).uniform(size=(queries, models)) < 0.4
    across = np.packbits(right.T, axis=1)
    packed = packed_by_model(right.astype(dtype)).view(np.uint8)
    assert np.array_equal(packed[:, : across.shape[1]], across)
    assert packed.shape == (models, -(-queries // 64) * 8) and not packed[:, across.shape[1] :].any()


def graded_pool(seed: int, queries: int = 120, models: int = 16) -> np.ndarray:
    """Models of uneven ability with strong and weak sides: the best one by itself is not in every good set."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1, models) - generator.normal(0, 1, (queries, 1)) + generator.normal(0, 2, (queries, models))
    return np.round(1 / (1 + np.exp(2 - 2 * logits)), 6)


@pytest.mark.parametrize("seed", range(4))
def test_every_levels_bound_every_set_and_relaxed_ones_are_the_linear_program(seed: int):
    """Against the same program with one variable for every query and model, by HiGHS."""
    quality = graded_pool(seed, queries=30, models=8)
    pool = residual_of(quality, Limits(np.ones(8), 3.0, [], [], cost_matters=False))
    best = best_covered(quality, 3) * 30
    generator = np.random.default_rng(seed)
    for _ in range(5):
        assert relaxed_bound(pool, generator.uniform(0, 1, pool.gains.shape[1]), 3.0) >= best - 1e-9
    levels = relaxed_levels(pool, 3.0, [0, 1, 2], Cuts(pool))
    count = pool.gains.size
    ones = sparse.eye_array(pool.gains.shape[1])
    each = sparse.hstack([sparse.csr_array((ones.shape[0], 8)), sparse.hstack([ones] * 8)])
    served = sparse.hstack([-sparse.kron(sparse.eye_array(8), np.ones((ones.shape[0], 1))), sparse.eye_array(count)])
    size = sparse.csr_array(np.append(np.ones(8), np.zeros(count))[None])
    found = linprog(
        -np.append(np.zeros(8), pool.gains.ravel()),
        A_ub=sparse.vstack([each, served, size]),
        b_ub=np.concatenate([np.ones(ones.shape[0]), np.zeros(count), [3.0]]),
        bounds=(0, 1),
    )
    assert relaxed_bound(pool, levels, 3.0) == pytest.approx(-found.fun, rel=1e-6)
    assert relaxed_bound(pool, stepped_levels(pool, 3.0, [0, 1, 2]), 3.0) >= -found.fun - 1e-6


@pytest.mark.parametrize("seed", range(6))
def test_bounds_by_size_are_above_the_best_sets_and_close(seed: int):
    quality = graded_pool(seed)
    found = build_universe(quality, 4)
    for size in (1, 2, 3, 4):
        best = best_covered(quality, size)
        assert best * (1 - 1e-12) <= found.bound_by_size[size - 1] <= best * 1.01
    assert found.bound_by_size[-1] <= found.bound <= found.bound_by_size[-1] * 1.01
    assert found.bound_by_size == sorted(found.bound_by_size)


@pytest.mark.parametrize("relaxed", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_branch_and_bound_finds_the_best_set_from_any_levels(seed: int, relaxed: bool, monkeypatch: pytest.MonkeyPatch):
    quality = graded_pool(seed)
    if seed % 2:
        quality = np.round(quality)
    if not relaxed:
        monkeypatch.setattr(bounding, "MOST_CELLS", 0)
    found, best = build_universe(quality, 4, "exact"), best_covered(quality, 4)
    assert found.value == pytest.approx(best, abs=1e-12)
    assert best * (1 - 1e-12) <= found.bound <= best * (1 + 1e-9)


def test_a_search_that_is_stopped_still_bounds_everything():
    quality = graded_pool(0)
    pool = residual_of(quality, Limits(np.ones(16), 4.0, [], [], cost_matters=False))
    best = best_covered(quality, 4) * len(quality)
    levels = np.zeros(pool.gains.shape[1])
    for most in (0, 1, 5, 50):
        search = Branching(pool, 4.0, levels, most)
        search.search([0, 1, 2, 3])
        assert search.value - 1e-9 <= best <= search.bound + 1e-9


def test_bounds_of_a_large_pool_are_those_of_single_gains():
    """It is not relaxed, and nothing of the table is kept for later."""
    quality = np.random.default_rng(0).uniform(size=(10_000, 30)) < 0.3
    found = build_universe(quality, 3)
    quality[:] = False
    assert found.value <= found.bound <= 1.0 and len(found.bound_by_size) == 3


def test_queries_that_are_the_same_are_counted_together():
    quality = np.repeat(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.5]]), [5, 3, 2], axis=0)
    pool = residual_of(quality, Limits(np.ones(3), 2.0, [2], [], cost_matters=False))
    assert (pool.certain, pool.covered, pool.room, pool.step) == ([2], 1.0, 1.0, 1.0)
    assert sorted(pool.gains.sum(axis=1).tolist()) == [3.0, 5.0] and pool.gains.shape == (2, 2)
