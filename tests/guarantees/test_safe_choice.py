"""A prompt unlike the training prompts goes to the best single model at the price; the others stay where they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jaxroute import Router, TableError, load_source
from jaxroute.data.estimates import Estimates
from jaxroute.guarantees.safe_choice import unknown_words, with_safe_choice
from jaxroute.routers.base import TrainedRouter, find_router, load


def estimates(p_value: np.ndarray | None = None, means: np.ndarray | None = None) -> Estimates:
    """Three models on two queries, the last of which is unlike training."""
    quality = np.array([[0.9, 0.2, 0.1], [0.9, 0.2, 0.1]])
    cost = np.tile([0.01, 0.02, 0.03], (2, 1))
    return Estimates(["a", "b", "c"], quality, cost, "", np.zeros(2, bool), p_value=p_value, mean_quality=means)


def test_only_the_unknown_prompt_gets_the_means():
    found, count = with_safe_choice(estimates(np.array([0.01, 0.005]), np.array([0.5, 0.6, 0.8])))
    assert count == 1
    np.testing.assert_array_equal(found.quality, [[0.9, 0.2, 0.1], [0.5, 0.6, 0.8]])


@pytest.mark.parametrize("given", [estimates(), estimates(np.array([0.5, 0.001])), estimates(np.full(2, 0.01), np.ones(3))])
def test_nothing_changes_without_reason(given: Estimates):
    assert with_safe_choice(given) == (given, 0)
    assert with_safe_choice(estimates(np.full(2, 1e-9), np.ones(3)), 0.0)[1] == 0


def test_a_model_without_a_mean_counts_as_the_worst():
    found, _ = with_safe_choice(estimates(np.array([1.0, 0.001]), np.array([0.5, 0.4, np.nan])))
    np.testing.assert_array_equal(found.quality, [[0.9, 0.2, 0.1], [0.5, 0.4, 0.0]])


def test_a_selection_keeps_p_values_and_means():
    chosen = estimates(np.array([1.0, 0.001]), np.array([0.5, 0.4, 0.3])).select(["c", "a"])
    assert chosen.mean_quality is not None and chosen.mean_quality.tolist() == [0.3, 0.5]
    assert chosen.p_value is not None and chosen.p_value.tolist() == [1.0, 0.001]


def test_a_share_above_one_is_refused():
    with pytest.raises(TableError, match="unknown_below"):
        with_safe_choice(estimates(), 1.5)


def test_people_read_how_many():
    assert unknown_words(0, 10, 0.01) == ""
    assert unknown_words(3, 12, 0.01).startswith("3 of 12 prompts (25 percent)")


@pytest.mark.slow
def test_routers_with_features_know_strange_prompts(tiny_encoder, fresh_cache, tmp_path):
    table = load_source("simulated", queries=300)
    trained = find_router(f"knn:encoder={tiny_encoder}").fit(table)
    assert isinstance(trained, TrainedRouter) and trained.familiarity is not None
    trained.save(tmp_path / "knn")
    router = Router(load(tmp_path / "knn"))
    strange = "{;}<>{;}<>~~~~\x00\x01" * 20
    usual = table.prompts[:20]
    routed = router.route_in_full([*usual, strange], multiplier=1.0)
    p_value = routed.estimates.p_value
    assert p_value is not None and p_value[-1] < 0.01 < np.median(p_value[:-1])
    means = trained.familiarity.mean_quality
    np.testing.assert_array_equal(routed.estimates.quality[-1], means)
    assert routed.unknown == (p_value < 0.01).sum()
    assert routed.assignment.choice[-1] == np.argmax(means - routed.cost_usd[-1])
    alone = router.route_in_full([strange], multiplier=1.0)
    assert alone.unknown == 1 and alone.assignment.choice[0] == routed.assignment.choice[-1]
    assert router.route_in_full([strange], multiplier=1.0, unknown_below=0.0).unknown == 0
    assert Router(find_router("domain_mean").fit(table)).route_in_full([strange], multiplier=1.0).estimates.p_value is None
    older = Router(replace(trained, familiarity=None))
    assert older.route_in_full([strange], multiplier=1.0).unknown == 0
