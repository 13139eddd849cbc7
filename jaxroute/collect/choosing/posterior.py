"""What is known of every model's quality on every query, and how surely: a logistic regression with a normal posterior.

    logit_jm = x_j (w + c_m) + b_m + u_j
    w ~ N(0, s_w^2 I / D),   c_m ~ N(0, s_c^2 I / D),   b_m ~ N(b, 1),   u_j ~ N(0, s_u^2)

x_j are the leading principal directions of a query's D standardised features. u_j is how hard the query is beyond what its
features say: two models' outcomes on one query say less of w than outcomes on two queries, and more of the models' difference.
The posterior is Laplace's approximation (MacKay 1992, "The evidence framework applied to classification networks"): normal
around the most probable parameters, with the inverse of the Hessian as covariance; the u_j are eliminated by their Schur
complement. The strengths are fixed, so that a fit takes a fraction of a second; the predictor itself is trained elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from jaxroute.predictor.regression import rotation

DIRECTIONS = 32
SHARED = 0.5
"""s_w: how far the features move all models' logits."""
OWN = 0.45
"""s_c: how far they move one model's logit beside the others'."""
HARD = 1.0
"""s_u."""
STEPS, CLOSE = 50, 1e-6
"""Of Newton's method; the largest change of a parameter at which it ends."""


def principal(
    features: Float[np.ndarray, "queries features"], directions: int = DIRECTIONS
) -> Float[np.ndarray, "queries directions"]:
    """The leading principal directions of the standardised features, divided by the square root of the number of features.

    A parameter with the prior N(0, s^2) per direction then moves a logit by about s, however many features there are.
    """
    wide = np.asarray(features, np.float64)
    scale = wide.std(axis=0)
    hidden = (wide - wide.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    basis, _ = rotation(hidden)
    return hidden @ basis[:, ::-1][:, :directions] / np.sqrt(wide.shape[1])


@dataclass(frozen=True)
class Posterior:
    """Normal, over the parameters (w, then c_m and b_m model by model)."""

    places: Float[np.ndarray, "queries inputs"]
    """x_j and a 1."""
    mean: Float[np.ndarray, " parameters"]
    covariance: Float[np.ndarray, "parameters parameters"]
    hard: Float[np.ndarray, " queries"]
    """The most probable u_j."""
    asked_variance: Float[np.ndarray, "queries models"]
    """p (1 - p) of the cells that were asked, 0 elsewhere."""

    @property
    def models(self) -> int:
        return self.asked_variance.shape[1]

    @cached_property
    def chance(self) -> Float[np.ndarray, "queries models"]:
        """Expected quality: the logistic function averaged over u (MacKay 1992, equation 10)."""
        return _logistic(self.logits(self.mean) / np.sqrt(1 + np.pi / 8 * HARD**2))

    def logits(self, parameters: Float[np.ndarray, " parameters"]) -> Float[np.ndarray, "queries models"]:
        """What some parameters say, without u."""
        return _logits(self.places, parameters, self.models)

    @cached_property
    def covariance_of_all(self) -> Float[np.ndarray, "parameters parameters"]:
        """What the covariance would be, had every cell been asked: it does not depend on the outcomes, but by the chances."""
        chance = _logistic(self.logits(self.mean) + self.hard[:, None])
        variance = chance * (1 - chance)
        precision = _prior(self.places.shape[1] - 1, self.models)
        return np.linalg.inv(precision + information(self.places, _between(variance, variance.sum(axis=1) + 1 / HARD**2)))

    @property
    def slope(self) -> Float[np.ndarray, "queries models"]:
        """By how much `chance` moves where its logit does."""
        return self.chance * (1 - self.chance) / np.sqrt(1 + np.pi / 8 * HARD**2)

    @property
    def query_precision(self) -> Float[np.ndarray, " queries"]:
        """Of u_j, the other parameters given."""
        return self.asked_variance.sum(axis=1) + 1 / HARD**2


def fit_posterior(places: Float[np.ndarray, "queries directions"], quality: Float[np.ndarray, "queries models"]) -> Posterior:
    """Newton's method from zero; `quality` lies in [0, 1], NaN where it is not known."""
    inputs = np.column_stack([places, np.ones(len(places))])
    known = ~np.isnan(quality)
    target, models = np.where(known, quality, 0.0), quality.shape[1]
    precision = _prior(places.shape[1], models)
    mean, hard = np.zeros(len(precision)), np.zeros(len(places))
    variance, hessian = np.zeros(quality.shape), precision
    for _ in range(STEPS):
        chance = _logistic(_logits(inputs, mean, models) + hard[:, None])
        variance = np.where(known, chance * (1 - chance), 0.0)
        error = np.where(known, target - chance, 0.0)
        of_hard = variance.sum(axis=1) + 1 / HARD**2
        force = error.sum(axis=1) - hard / HARD**2
        gradient = back(inputs, error) - precision @ mean
        hessian = precision + information(inputs, _between(variance, of_hard))
        step = np.linalg.solve(hessian, gradient - back(inputs, variance * (force / of_hard)[:, None]))
        moved = (force - (variance * _logits(inputs, step, models)).sum(axis=1)) / of_hard
        # A logit that moves by more than 2 leaves the region in which the curvature holds.
        most = max(np.abs(_logits(inputs, step, models) + moved[:, None]).max(), 1e-300)
        share = min(1.0, 2.0 / most)
        mean, hard = mean + share * step, hard + share * moved
        if most < CLOSE:
            break
    return Posterior(inputs, mean, np.linalg.inv(hessian), hard, variance)


def information(
    inputs: Float[np.ndarray, "queries inputs"], weights: Float[np.ndarray, "queries models models"]
) -> Float[np.ndarray, "parameters parameters"]:
    """sum_j Z_j' K_j Z_j, where Z_j leads from the parameters to the logits of query j, and K_j are the weights."""
    width, models = inputs.shape[1], weights.shape[1]
    blocks = np.empty((models, width, models, width))
    for one in range(models):
        for other in range(one + 1):
            block = inputs.T @ (inputs * weights[:, one, other, None])
            blocks[one, :, other], blocks[other, :, one] = block, block.T
    shared = blocks.sum(axis=0)[:-1]
    total = np.empty((width - 1 + models * width,) * 2)
    own = slice(width - 1, None)
    total[: width - 1, : width - 1] = shared.sum(axis=1)[:, :-1]
    total[: width - 1, own] = shared.reshape(width - 1, -1)
    total[own, : width - 1] = total[: width - 1, own].T
    total[own, own] = blocks.reshape(models * width, -1)
    return total


def back(
    inputs: Float[np.ndarray, "queries inputs"], cells: Float[np.ndarray, "queries models"]
) -> Float[np.ndarray, " parameters"]:
    """sum_j Z_j' cells_j."""
    own = cells.T @ inputs
    return np.concatenate([own.sum(axis=0)[:-1], own.ravel()])


def _logits(
    inputs: Float[np.ndarray, "queries inputs"], parameters: Float[np.ndarray, " parameters"], models: int
) -> Float[np.ndarray, "queries models"]:
    width = inputs.shape[1]
    own = parameters[width - 1 :].reshape(models, width)
    return inputs @ own.T + (inputs[:, :-1] @ parameters[: width - 1])[:, None]


def _prior(directions: int, models: int) -> Float[np.ndarray, "parameters parameters"]:
    """The precision; the b_m lean on their mean, which is free but for what keeps the matrix regular."""
    level = np.zeros((models, directions + 1))
    level[:, -1] = 1.0
    own = np.full((models, directions + 1), 1 / OWN**2)
    own[:, -1] = 1.0
    precision = np.diag(np.concatenate([np.full(directions, 1 / SHARED**2), own.ravel()]))
    mean = np.concatenate([np.zeros(directions), level.ravel()]) / np.sqrt(models)
    return precision - 0.99 * np.outer(mean, mean)


def _between(
    variance: Float[np.ndarray, "queries models"], of_hard: Float[np.ndarray, " queries"]
) -> Float[np.ndarray, "queries models models"]:
    """The curvature by the logits of a query, its u eliminated."""
    return variance[:, :, None] * np.eye(variance.shape[1]) - (
        variance[:, :, None] * variance[:, None, :] / of_hard[:, None, None]
    )


def _logistic(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))
