"""The row of a new model is that which made the probes; where there are few, what models of its cost are like."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxroute.predictor.heads import Head, level_targets
from jaxroute.predictor.new_models import Probes, fit_row
from jaxroute.predictor.new_rows import COST_SLOPE, Base
from jaxroute.predictor.pool_questions import PoolQuestions
from jaxroute.predictor.softmax import centred_places

SLOPE, ALONE, RESIDUAL = 1.4, 1.0, 5.8
"""As measured on a pool of nine models."""


def fitted(follows: float) -> tuple[float, np.ndarray, np.ndarray]:
    """The slope of a row fitted to a model that follows the pool's residual so much; its estimates and the true chances."""
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
    slope = float(row.slope + row.tilt @ [-1.0, 1.0])
    # What the outcomes follow where the residual is not known, by a fit to very many of them.
    many = 1 / (1 + np.exp(-SLOPE * text[:, None] - follows * 1.7 * generator.normal(size=(count, 400))))
    return slope, 1 / (1 + np.exp(-slope * text - (row.level[1] - row.level[0]))), many.mean(axis=1)


def test_a_model_that_follows_the_pool_less_keeps_more_of_its_logits() -> None:
    """Of one like the pool the right part is kept; one that does not follow it is not taken to be without surprises."""
    (like_pool, estimate, truth), (half, *_), (none, *_) = (fitted(follows) for follows in (1.0, 0.5, 0.0))
    assert np.abs(estimate - truth).mean() < 0.015
    assert like_pool * 1.05 < half < none * 0.97 and none < 0.9 * SLOPE


def test_without_a_probe_a_row_is_what_the_priors_expect() -> None:
    none = np.zeros((0, 2))
    shared = np.array([[-0.5, 0.5], [0.5, -0.5]])
    pool = PoolQuestions(
        np.arange(2, dtype=np.uint64), shared, np.zeros(2), np.array([ALONE, SLOPE, 0.14, RESIDUAL, RESIDUAL / 3])
    )
    probes = Probes(none, none, np.zeros(0), np.zeros((0, 3)), np.zeros((3, 0)))
    row = fit_row(probes, np.array([-0.5, 0.5]), pool)
    assert 0.7 < row.quality < 0.75 and row.low < 0.55 and row.high > 0.85
    assert not row.correction.any()


def priced(cost_usd: list[float], heights: list[float]) -> Base:
    """Models of these levels and mean costs."""
    head = Head(2, len(heights), 2)
    level = np.outer(heights, [-0.5, 0.5]).astype(np.float32)
    nnx.update(head, {"correction_bias": jnp.asarray(level)})
    return Base.of(head, range(len(heights)), np.array(cost_usd), None)


def test_a_model_that_costs_more_is_expected_to_be_better() -> None:
    def height(base: Base, cost_usd: float) -> float:
        low, high = base.middle(cost_usd)
        return float(high - low)

    alike = priced([1.0, 1.0, 1.0], [0.3, 0.5, 0.6])
    assert height(alike, 1.0) == pytest.approx(0.5)
    assert height(alike, np.e) == pytest.approx(0.5 + COST_SLOPE)
    assert height(alike, 1 / np.e) == pytest.approx(0.5 - COST_SLOPE)
    # A pool in which cost says nothing corrects what is thought of costs; costs of nothing, or not known, say nothing.
    flat = priced([np.e**power for power in range(-8, 9)], [0.5] * 17)
    assert 0.5 < height(flat, np.e) < 0.5 + 0.1 * COST_SLOPE
    for cost in (0.0, np.nan):
        assert height(alike, cost) == pytest.approx(0.5)
    assert height(priced([0.0, 0.0, np.nan], [0.3, 0.5, 0.6]), 2.0) == pytest.approx(0.5)
    assert alike.alike(2.0).tolist() == [0, 1, 2] and not len(alike.alike(2.1)) and not len(alike.alike(np.nan))
