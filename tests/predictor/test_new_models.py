"""The row of a new model is that which made the probes, whether or not it finds hard what the pool finds hard."""

from __future__ import annotations

import numpy as np
import pytest

from jaxroute.predictor.heads import level_targets
from jaxroute.predictor.new_models import Probes, fit_row
from jaxroute.predictor.pool_questions import PoolQuestions
from jaxroute.predictor.softmax import centred_places

SLOPE, ALONE, RESIDUAL = 1.4, 1.0, 5.8
"""As measured on a pool of nine models."""


@pytest.mark.parametrize("follows", [0.0, 0.5, 1.0])
def test_a_model_that_follows_the_pool_less_keeps_more_of_its_logits(follows: float) -> None:
    generator, count = np.random.default_rng(3), 3000
    text = generator.normal(size=count)
    # Of such a size that averaging over it makes a logit smaller by ALONE / SLOPE.
    residual = 1.7 / RESIDUAL * generator.normal(size=count)
    chance = 1 / (1 + np.exp(-SLOPE * text - follows * RESIDUAL * residual))
    target = level_targets(generator.binomial(1, chance)[:, None].astype(float), 2)[:, 0].astype(np.float64)
    shared = text[:, None] * centred_places(2)
    pool = PoolQuestions(
        np.arange(count, dtype=np.uint64), shared, residual, np.array([ALONE, SLOPE, 0.14, RESIDUAL, RESIDUAL / 3])
    )
    none = np.zeros((count, 0))
    row = fit_row(Probes(target, shared, residual, none, np.zeros((0, 0))), np.zeros(2), pool, corrected=False)
    slope = row.slope + row.tilt @ [-1.0, 1.0]
    # What the outcomes follow where the residual is not known, by a fit to very many of them.
    many = 1 / (1 + np.exp(-SLOPE * text[:, None] - follows * 1.7 * generator.normal(size=(count, 400))))
    truth = many.mean(axis=1)
    estimate = 1 / (1 + np.exp(-slope * text - (row.level[1] - row.level[0])))
    assert np.abs(estimate - truth).mean() < 0.015
