"""Regressions side by side: each ends at its own optimum, whatever it began with and whatever ran beside it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from jaxroute.predictor.heads import level_targets
from jaxroute.predictor.regression import Linear, Penalties, contrasts, fit_linear, rotation

NONE = np.full(3, np.inf)


def outcomes(queries: int = 400, *, seed: int = 0, levels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Uncorrelated features and the targets of three models."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(queries, 8)) * np.linspace(0.3, 2, 8)
    chance = 1 / (1 + np.exp(-1.5 * features[:, :1] - np.array([-0.8, 0.0, 0.4])))
    features -= features.mean(axis=0)
    quality = generator.binomial(levels - 1, chance) / (levels - 1)
    return features @ rotation(features)[0], level_targets(quality, levels)


def loss(fit: Linear, features: np.ndarray, target: np.ndarray, observed: np.ndarray, penalties: Penalties) -> float:
    """As the module's caption has it."""
    logits = fit.logits(features)
    likelihood = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    own = np.where(np.isfinite(penalties.own), penalties.own, 0.0)
    ridge = penalties.shared * (fit.weight**2).sum() + (own * (fit.own**2).sum(axis=(1, 2))).sum()
    level = (penalties.level or 0.0) * ((fit.intercept - fit.intercept.mean(axis=0)) ** 2).sum()
    return -((target * likelihood).sum(axis=-1) * observed).sum() / observed.sum() + (ridge + level) / 2


@settings(max_examples=8, deadline=None)
@given(st.sampled_from([3.0, 0.3, 0.03, 0.003]), st.integers(0, 3))
def test_a_single_fit_agrees_with_scikit_learn(penalty: float, seed: int) -> None:
    features, target = outcomes(seed=seed)
    answer = target[:, 0, 1]
    # Two symmetric logits of weight +-w hold 2 * (penalty / 2) * (w / 2)^2 * 2 of penalty against C's 1 / 2 w^2.
    reference = LogisticRegression(C=2 / (penalty * len(answer)), tol=1e-10, max_iter=10_000).fit(features, answer)
    found = fit_linear(
        features, target[:, :1], np.ones((1, len(answer), 1)), Penalties(penalty, NONE[:1]), rotation(features)[1]
    )
    difference = found.logits(features)[0, :, 0] @ np.array([-1.0, 1.0])
    np.testing.assert_allclose(difference, reference.decision_function(features), atol=1e-4)


@pytest.mark.parametrize("levels", [2, 4])
def test_no_direction_lowers_the_loss(levels: int) -> None:
    features, target = outcomes(levels=levels)
    observed = np.random.default_rng(0).integers(0, 2, (1, 400, 3)).astype(float)
    penalties = Penalties(0.1, np.array([0.3, np.inf, 0.05]), 0.02)
    found = Linear(*(part[0] for part in fit_linear(features, target, observed, penalties, rotation(features)[1])))
    least = loss(found, features, target, observed[0], penalties)
    generator = np.random.default_rng(1)
    for _ in range(20):
        moved = Linear(*(part + 1e-4 * generator.normal(size=part.shape) * (part != 0) for part in found))
        assert loss(moved, features, target, observed[0], penalties) > least
    assert not found.own[1].any() and found.own[0].any()


def test_fits_side_by_side_equal_fits_alone_and_begin_anywhere() -> None:
    features, target = outcomes()
    curvature = rotation(features)[1]
    observed = np.random.default_rng(0).integers(0, 2, (3, 400, 3)).astype(float)
    penalties = Penalties(0.1, np.array([1.0, 0.1, np.inf]), 0.001)
    together = fit_linear(features, target, observed, penalties, curvature)
    far = Linear(together.weight + 3, together.own + np.isfinite(penalties.own)[:, None, None], together.intercept - 2)
    again = fit_linear(features, target, observed, penalties, curvature, start=far)
    for one in range(3):
        alone = fit_linear(features, target, observed[one : one + 1], penalties, curvature)
        np.testing.assert_allclose(alone.logits(features)[0], together.logits(features)[one], atol=1e-8)
    np.testing.assert_allclose(again.logits(features), together.logits(features), atol=1e-8)


def test_a_strong_penalty_on_levels_makes_them_alike_and_none_leaves_them_out() -> None:
    features, target = outcomes()
    arguments = features, target, np.ones((1, 400, 3)), rotation(features)[1]

    def levels(level: float | None) -> np.ndarray:
        found = fit_linear(*arguments[:3], Penalties(1.0, NONE, level), arguments[3])
        return found.intercept[0] @ np.array([-1.0, 1.0])

    free, tied = levels(0.0), levels(1e3)
    assert np.ptp(free) > 0.5 and np.ptp(tied) < 1e-3
    assert free.min() < tied.mean() < free.max()
    assert not levels(None).any()


def test_what_is_given_as_offset_is_not_fitted_again() -> None:
    features, target = outcomes()
    curvature, observed = rotation(features)[1], np.ones((1, 400, 3))
    found = fit_linear(features, target, observed, Penalties(1e-9, NONE), curvature)
    rest = fit_linear(features, target, observed, Penalties(1e-9, NONE), curvature, offset=found.logits(features))
    np.testing.assert_allclose(rest.logits(features), 0, atol=1e-6)


def test_linear_adds_intercepts_per_model() -> None:
    linear = Linear(np.ones((2, 3)), np.zeros((2, 2, 3)), np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]))
    np.testing.assert_allclose(linear.logits(np.array([[1.0, 2.0]]))[0], [[3.0, 4.0, 5.0], [6.0, 7.0, 8.0]])


@given(st.integers(2, 9))
def test_contrasts_are_orthonormal_and_sum_to_zero(levels: int) -> None:
    basis = contrasts(levels)
    np.testing.assert_allclose(basis.T @ basis, np.eye(levels - 1), atol=1e-12)
    np.testing.assert_allclose(basis.sum(axis=0), 0, atol=1e-12)
