"""Soft labels: as defined, blind to what was not run, and a network that learns from words who is good at what."""

from __future__ import annotations

import numpy as np
import pytest

from jaxroute import RoutingTable
from jaxroute.data.table import Queries
from jaxroute.routers.base import find_router
from jaxroute.routers.learning.soft_labels import estimates, query_weights, soft_labels, soft_loss


def test_labels_by_hand() -> None:
    label = soft_labels(np.array([[1.0, 0.0], [np.nan, 0.3], [np.nan, np.nan]]), temperature=10.0)
    share = np.exp(0.1) / (np.exp(0.1) + 1)
    np.testing.assert_allclose(label, [[share, 1 - share], [0, 1], [0, 0]])


def test_queries_of_a_rare_best_model_count_more() -> None:
    quality = np.array([[1.0, 0.0], [1.0, 1.0], [0.2, 0.9], [np.nan, np.nan], [0.5, 0.5]])
    table = RoutingTable(list("abcde"), ["expensive", "cheap"], quality, np.array([2.0, 1.0]))
    weight = query_weights(table)
    # The cheap one is best for b, c and e, the expensive one for a alone.
    np.testing.assert_allclose(weight / weight[0], [1, 1 / 3, 1 / 3, 0, 1 / 3])
    assert weight.mean() == pytest.approx(1)


def test_at_the_least_loss_the_estimates_are_the_qualities_but_for_a_constant() -> None:
    quality = np.array([[0.9, 0.4, 0.1]])
    logits = np.log(soft_labels(quality, 10.0))
    found = estimates(logits, temperature=10.0, mean=0.5)
    np.testing.assert_allclose(found - found.mean(), quality - quality.mean())
    assert found.mean() == pytest.approx(0.5)


def test_models_that_were_not_run_do_not_count() -> None:
    label = soft_labels(np.array([[1.0, 0.0, np.nan]]), 1.0)
    low, high = (float(soft_loss(np.array([[0.3, 0.1, third]]), label, np.ones(1))) for third in (-50.0, 50.0))  # pyright: ignore[reportArgumentType]
    assert low == pytest.approx(high)


def test_the_network_learns_from_words_who_is_good_at_what() -> None:
    generator = np.random.default_rng(0)
    words = ["sum", "plus", "proof", "court", "judge", "law"]
    topic = generator.integers(0, 2, 200)
    prompts = [" ".join(words[3 * one + generator.integers(3)] for _ in range(4)) + f" {row}" for row, one in enumerate(topic)]
    quality = np.column_stack([1.0 - topic, topic])
    table = RoutingTable(prompts, ["math", "law"], quality, np.ones(2))
    found = (
        find_router("tensoropera_mlp")
        .fit(table)
        .estimate(Queries(["plus sum proof", "court law judge", "?"], [""] * 3))
        .quality
    )
    assert found[0, 0] > found[0, 1] + 0.3 and found[1, 1] > found[1, 0] + 0.3
    assert np.isfinite(found).all()
