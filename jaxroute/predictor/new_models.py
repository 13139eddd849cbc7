"""A new model from a few graded answers, its probes: a row of a trained head, while the rest of the head stays as it is.

    logits_j = a s_j + z_j d + b + C h_j                                 of any prompt, as the head then holds it
    logits_j = t_j (a_s s_j + a_u u_j v + z_j d' + b' + C' h_j)          of a probe, as it is fitted

s_j is what all models' logits have in common, u_j how much better than estimated the pool did on the same question
(`pool_questions`), v the levels' places, z_j the scalar of s_j and of every other model's own correction, h_j the standardised
features. Since u_j says how hard a question is beyond its text, level and correction are less noisy with it. It is known of
training questions; of other prompts it is 0 on average, and averaging over it makes logits smaller by a factor

    t = (1 + c^2 a_u^2 var u)^(-1/2)

(Zeger, Liang & Albert 1988, "Models for longitudinal data", Biometrics 44, section 3). On the pool's models t is measured,
which gives c^2 var u; a new model that follows the pool less, as a much better one does, has a smaller a_u and keeps more of
its logits. But what it finds hard instead is not known either: half of the pool's variance is taken to be every model's own
(log-loss is least there with 25 to 300 probes; see experiments/LOG.md). So t_j is 1 where u_j is known and the pool's t where
it is not, a = t a_s, C = t C', and b is such that the mean estimate over all training questions is that of the fit with u.

Priors, in logits: slopes Normal, as those of the pool's models; b Student's t with 3 degrees of freedom around what models of
its cost have (`new_rows.py`), since a new model may be unlike all others; along each other model's correction Normal(0, 1); C
Normal(0, 0.3^2 / features), an absolute scale, whatever the number of probes. Where a model of the pool costs about as much
there is no correction of either kind: among models of equal price the one that is over-estimated is chosen, and a correction
costs more than it brings. The t prior is a Normal one whose width is found by turns (Lange, Little & Taylor 1989, "Robust
statistical modeling using the t distribution", JASA 84); each turn is convex, and solved by Newton's method in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from jaxroute.predictor.pool_questions import PoolQuestions
from jaxroute.predictor.regression import Penalties, fit_linear
from jaxroute.predictor.softmax import centred_places, expected_quality, softmax

LEVEL_SPREAD = 0.5
"""Of a new model's level around what is expected, in logits."""
FREEDOM = 3.0
"""Of the level's t distribution: one that is narrow, or has thin tails, forbids a model that is better than all others."""
CORRECTION_SPREAD = 0.3
"""How far a correction of its own may move a logit."""
OTHERS_SPREAD = 1.0
"""How many times another model's correction, or the reverse of it, may be its own."""
OF_ITS_OWN = 0.5
"""The share of what makes logits smaller that a model has whether or not it finds hard what the pool finds hard."""
NO_POOL = np.array([1.0, 1.0, 0.25, 0.0, 0.0])
"""The slopes where the checkpoint kept nothing of its training questions."""
TURNS = 200
CLOSE = 1e-8


@dataclass(frozen=True, eq=False)
class Probes:
    """A new model's outcomes, and what is known of the questions."""

    target: Float[np.ndarray, "probes levels"]
    shared: Float[np.ndarray, "probes levels"]
    """s: held out of training questions, the head's own of others."""
    residual: Float[np.ndarray, " probes"]
    """u; NaN where nothing is known of it."""
    hidden: Float[np.ndarray, "probes features"]
    """Standardised features."""
    others: Float[np.ndarray, "features others"]
    """Other models' corrections, each as a direction among the features."""


@dataclass(frozen=True, eq=False)
class NewRow:
    """What the head needs to know of a new model."""

    slope: float
    """a."""
    tilt: Float[np.ndarray, " levels"]
    """d of the scalar of s."""
    level: Float[np.ndarray, " levels"]
    correction: Float[np.ndarray, "features levels"]
    quality: float
    """Expected over the training questions, or over the probes where these are not known."""
    low: float
    high: float
    """An interval of 95 percent for it."""


def fit_row(
    probes: Probes, middle: Float[np.ndarray, " levels"], pool: PoolQuestions | None, *, corrected: bool = True
) -> NewRow:
    """The row that the probes and the priors give; `middle` is where its level is expected, `corrected` allows a correction.

    Without any probe it is what the priors expect.
    """
    levels, count = probes.target.shape[1], len(probes.target)
    alone, slope, slope_spread, residual_slope, residual_spread = NO_POOL if pool is None else pool.slopes
    shrunk = alone / slope
    known = ~np.isnan(probes.residual)
    factor, residual = np.where(known, 1.0, shrunk), np.where(known, probes.residual, 0.0)
    places = centred_places(levels)
    scalar = scalar_of(probes.shared)
    offset = factor[:, None] * (slope * probes.shared + residual_slope * residual[:, None] * places + middle / shrunk)
    free = [factor * scalar * slope_spread, factor * residual * residual_spread]
    own, widths = np.zeros((count, 0)), np.zeros(0)
    if corrected:
        widths = np.r_[
            np.full(probes.others.shape[1], OTHERS_SPREAD),
            np.full(probes.hidden.shape[1], CORRECTION_SPREAD / np.sqrt(probes.hidden.shape[1])),
        ]
        own = factor[:, None] * np.hstack([probes.hidden @ probes.others, probes.hidden]) * widths / shrunk
    width = widest = LEVEL_SPREAD / shrunk
    weight, moved, fitted = np.zeros((3 + own.shape[1], levels)), np.zeros(levels), offset
    for _ in range(TURNS if count else 0):
        # Every column is scaled so that its weight is Normal(0, 1), which a rotation leaves as it is.
        columns = np.column_stack([factor * width, *free, own])
        left, size, right = np.linalg.svd(columns, full_matrices=False)
        ridge = Penalties(2 / count, np.array([np.inf]), None)
        seen = np.ones((1, count, 1))
        found = fit_linear(left * size, probes.target[:, None], seen, ridge, size**2 / count, offset=offset[None, :, None])
        weight = right.T @ found.weight[0]
        fitted = offset + columns @ weight
        moved = weight[0] * width
        # |difference of two logits|^2 is twice that of centred logits.
        far = 2 * (moved**2).sum() / widest**2
        before, width = width, widest * np.sqrt((FREEDOM + far) / (FREEDOM + levels - 1))
        if abs(width - before) < CLOSE:
            break
    tilt, level = weight[1] * slope_spread, middle / shrunk + moved
    correction = np.zeros((probes.hidden.shape[1], levels))
    if corrected:
        count_others = probes.others.shape[1]
        scaled = weight[3:] * (widths / shrunk)[:, None]
        correction = probes.others @ scaled[:count_others] + scaled[count_others:]
    easier = residual_slope * places + weight[2] * residual_spread
    shared, given = (probes.shared, residual) if pool is None else (pool.shared, pool.residual)
    logits = slope * shared + scalar_of(shared)[:, None] * tilt + level
    error = _level_error(probes, factor, fitted, width)
    follows = float(easier @ places / (places @ places))
    kept = _attenuation(shrunk, follows / residual_slope) if residual_slope > 0 else shrunk
    with_residual = logits + given[:, None] * easier
    goal, low, high = (expected_quality(with_residual + move * places).mean() for move in (0.0, -1.96 * error, 1.96 * error))
    return NewRow(
        slope=float(kept * slope),
        tilt=kept * tilt,
        level=kept * level + _move_to(goal, kept * logits) * places,
        correction=kept * correction,
        quality=float(goal),
        low=float(low),
        high=float(high),
    )


def _attenuation(measured: float, ratio: float) -> float:
    """t of a model whose a_u is `ratio` times that of the models of which t was measured."""
    variance = OF_ITS_OWN + (1 - OF_ITS_OWN) * ratio**2
    return float(1 / np.sqrt(1 + (1 / measured**2 - 1) * variance))


def scalar_of(shared: Float[np.ndarray, "queries levels"]) -> Float[np.ndarray, " queries"]:
    """Logits as one number, their least-squares slope on the levels' places; with K = 2 the difference."""
    places = centred_places(shared.shape[1])
    return shared @ places / (places @ places)


def _level_error(probes: Probes, factor: np.ndarray, logits: np.ndarray, width: float) -> float:
    """Standard deviation of the level along the places, by the curvature at the optimum (Laplace's approximation)."""
    places = centred_places(logits.shape[1])
    chance = softmax(logits)
    variance = chance @ places**2 - (chance @ places) ** 2
    return float(1 / np.sqrt((factor**2 * variance * probes.target.sum(axis=1)).sum() + 1 / width**2))


def _move_to(goal: float, logits: Float[np.ndarray, "queries levels"]) -> float:
    """How far along the places all logits have to move for their mean quality to be `goal`; by bisection."""
    places = centred_places(logits.shape[1])
    low, high = -60.0, 60.0
    for _ in range(100):
        middle = (low + high) / 2
        if expected_quality(logits + middle * places).mean() < goal:
            low = middle
        else:
            high = middle
    return (low + high) / 2
