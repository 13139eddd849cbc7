"""Rarely run models lean on the pool, well-known ones hardly, and the order of the models does not matter."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxroute.data.shrinkage import pool_levels, relative_reliability, shrunk_means, towards_pool, warn_of_few
from jaxroute.errors import FewOutcomes


def outcomes(counts: list[int], *, rates: list[float] | None = None, seed: int = 0) -> np.ndarray:
    """Coin flips; the first `counts[m]` queries were run by model m."""
    generator = np.random.default_rng(seed)
    rates = rates or np.linspace(0.4, 0.8, len(counts)).tolist()
    quality = (generator.random((max(counts), len(counts))) < rates).astype(float)
    quality[np.arange(max(counts))[:, None] >= counts] = np.nan
    return quality


@given(st.booleans(), st.integers(0, 50))
def test_one_outcome_right_or_wrong_is_near_the_pool(right: bool, seed: int) -> None:
    quality = outcomes([500, 500, 500, 1], seed=seed)
    quality[0, 3] = right
    means = shrunk_means(quality)
    assert abs(means[3] - means[:3].mean()) < 0.12
    assert (means[3] > means[:3].mean()) == right


def test_many_outcomes_are_hardly_moved_and_equally_many_not_at_all() -> None:
    quality = outcomes([2000, 1500, 2000])
    own = np.nanmean(quality, axis=0)
    np.testing.assert_allclose(shrunk_means(quality), own, atol=2e-3)
    assert (shrunk_means(quality) != own).any()
    complete = outcomes([30, 30, 30])
    np.testing.assert_allclose(shrunk_means(complete), complete.mean(axis=0), atol=1e-12)


@given(st.permutations(range(4)))
def test_the_order_of_the_models_does_not_matter(order: list[int]) -> None:
    quality = outcomes([300, 20, 3, 1])
    np.testing.assert_allclose(shrunk_means(quality[:, order]), shrunk_means(quality)[order], atol=1e-12)


def test_reliability_grows_with_outcomes_and_with_how_different_models_are() -> None:
    levels = pool_levels(outcomes([1000, 100, 10, 1]))
    assert (np.diff(levels.reliability) < 0).all()
    alike = pool_levels(outcomes([1000] * 4, rates=[0.5] * 4)).spread
    different = pool_levels(outcomes([1000] * 4, rates=[0.1, 0.4, 0.6, 0.9])).spread
    assert alike < different and 0.25 < different < 0.45


def test_one_model_and_outcomes_that_are_all_equal_are_no_trouble() -> None:
    assert shrunk_means(np.array([[1.0]]))[0] == 1.0
    assert np.isfinite(shrunk_means(np.ones((3, 2)))).all()
    assert np.isfinite(relative_reliability(np.array([[1.0, np.nan], [np.nan, 0.0]]))).all()


def test_an_unknown_model_gets_what_the_others_have_for_the_same_query() -> None:
    values = np.array([[0.2, 0.3, 1.0], [0.8, 0.9, 1.0]])
    found = towards_pool(values, np.array([1.0, 1.0, 1e-9]))
    np.testing.assert_allclose(found, [[0.2, 0.3, 0.25], [0.8, 0.9, 0.85]], atol=1e-6)


def test_the_warning_says_on_what_the_estimates_of_rarely_run_models_rest() -> None:
    """Leaning on the others is said of a router only where it does that."""
    quality = outcomes([300, 300, 3, 1])
    levels = pool_levels(quality).reliability
    for reliability, said in [
        (levels, "the estimates of these models lean on those of the others"),
        (np.array([1, 1, 1, 0.5]), r"the estimates of d lean on those of the others, the rest on their own outcomes alone"),
        (np.ones(4), "the estimates of these models rest on their own outcomes alone"),
        (None, "the estimates of these models rest on their own outcomes alone"),
    ]:
        with pytest.warns(FewOutcomes, match=rf"few outcomes: c \(3\), d \(1\); {said}$"):
            warn_of_few(list("abcd"), quality, reliability)


def test_the_warning_is_bounded() -> None:
    with pytest.warns(FewOutcomes) as caught:
        warn_of_few([f"model {number}" for number in range(500)], outcomes([300] + [2] * 499))
    assert len(str(caught[0].message)) < 400
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_few(list("ab"), outcomes([300, 100]))
