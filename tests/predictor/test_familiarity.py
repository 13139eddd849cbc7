"""Prompts like those of training have uniform p-values, others small ones; a checkpoint keeps what is needed for that."""

from __future__ import annotations

import numpy as np
import pytest

from jaxroute.predictor.familiarity import Familiarity, learn_familiarity, restored_familiarity, sampled


def cloud(generator: np.random.Generator, rows: int, *, at: float = 0.0) -> np.ndarray:
    """Points of an elongated cloud in 30 dimensions."""
    return (generator.normal(size=(rows, 30)) * np.geomspace(10, 0.1, 30) + at).astype(np.float32)


@pytest.fixture
def known() -> Familiarity:
    found = learn_familiarity(cloud(np.random.default_rng(0), 800), np.full((800, 2), 0.5))
    assert found is not None
    return found


def test_usual_prompts_are_flagged_as_often_as_said(known: Familiarity):
    p_values = known.p_values(cloud(np.random.default_rng(1), 4_000))
    for level in (0.01, 0.05, 0.3, 0.7):
        # The share's own error, and that of 400 calibration prompts.
        assert abs((p_values <= level).mean() - level) < 4 * np.sqrt(level * (1 - level) * (1 / 4_000 + 1 / 400))


def test_what_is_far_has_the_least_p_value(known: Familiarity):
    far = known.p_values(cloud(np.random.default_rng(2), 50, at=60.0))
    assert (far == known.least_p_value).all() and known.least_p_value == 1 / 401


def test_it_comes_back_from_a_checkpoint(known: Familiarity):
    again = restored_familiarity(known.arrays())
    asked = cloud(np.random.default_rng(3), 20)
    assert again is not None
    np.testing.assert_array_equal(again.p_values(asked), known.p_values(asked))
    assert restored_familiarity({"head/weight": np.zeros(2)}) is None


def test_a_prompt_has_the_same_p_value_alone_and_in_a_batch(known: Familiarity):
    asked = cloud(np.random.default_rng(4), 1_100)
    alone = np.concatenate([known.p_values(asked[row : row + 1]) for row in (0, 5, 1_090)])
    np.testing.assert_allclose(alone, known.p_values(asked)[[0, 5, 1_090]], atol=1.5 / 401)


def test_few_prompts_and_degenerate_features():
    generator = np.random.default_rng(5)
    assert learn_familiarity(cloud(generator, 39), np.zeros((39, 1))) is None
    same = learn_familiarity(np.ones((60, 4), np.float32), np.zeros((60, 1)))
    assert same is not None and same.p_values(np.ones((1, 4), np.float32)) == 1.0
    assert same.p_values(np.full((1, 4), 9.0, np.float32)) <= 1.0
    wide = learn_familiarity(generator.normal(size=(50, 400)).astype(np.float32), np.zeros((50, 1)))
    assert wide is not None and wide.directions.shape[1] <= 24


def test_repeated_prompts_count_once():
    assert sampled(["one"] * 100) == []
    assert len(sampled([str(number) for number in range(500)], 200)) == 200
