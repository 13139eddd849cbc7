"""Estimates that need no learning."""

from __future__ import annotations

import numpy as np
import pytest

from jaxroute.evaluation import prompt_length_estimates, random_estimates
from tests.evaluation.tables import seeded_table


def test_the_length_of_a_prompt_orders_the_queries_and_keeps_the_models_means():
    table, train = seeded_table(), seeded_table(seed=1)
    estimates = prompt_length_estimates(table, train)
    mean = train.quality.mean(axis=0)
    spread = estimates[:, mean.argmax()]
    assert estimates.shape == table.quality.shape
    assert (np.diff(spread[np.argsort([len(prompt) for prompt in table.prompts], kind="stable")]) > 0).all()
    assert estimates.mean(axis=0) == pytest.approx(mean, abs=1 / len(table))
    assert estimates[:, mean.argmin()] == pytest.approx(mean.min())


def test_random_estimates_are_the_same_numbers_in_another_order_and_follow_their_seed():
    table, train = seeded_table(), seeded_table(seed=1)
    first, again, other = (random_estimates(table, train, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.sort(first, axis=0) == pytest.approx(np.sort(prompt_length_estimates(table, train), axis=0))
