"""What asking a cell is worth: how much it lowers the expected loss of quality along the cost-quality curve.

At a price t a query gets the model of the largest p_jm - t c_m. Where the difference d between the best model and another one
is known with variance s^2, choosing by its mean loses s phi(d / s) - d Phi(-d / s) in expectation (Raiffa & Schlaifer 1961,
"Applied statistical decision theory", section 5.4), and a little less variance lowers that by phi(d / s) / (2 s) times as much.
Summed over queries, rivals and prices, the loss is a weighted sum of variances, tr(G S) with S the posterior's covariance, and
a cell with the direction z and the variance v of its outcome lowers it by (as in Cohn, Ghahramani & Jordan 1996, "Active
learning with statistical models")

    z' S G S z / (1 / v + z' S z)

The prices are those at which the mean cost takes evenly spaced values. What an error of the estimates has in common with
another price does no harm at a given budget, which finds its price, and is projected out of G.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtr

from jaxroute.collect.choosing.posterior import Posterior, back, information
from solvers import Problem, frontier

PRICES = 16
MOST_ROWS = 500
"""Queries on which the loss is counted; more change nothing but the time it takes."""


@dataclass(frozen=True)
class Rivals:
    """At every price and query, the best model and how far the others are."""

    best: Int[np.ndarray, "prices rows"]
    behind: Float[np.ndarray, "prices rows models"]
    """d, at least 0; 0 for the best one itself."""
    spread: Float[np.ndarray, "prices rows models"]
    """s; 0 for the best one itself."""

    @property
    def flips(self) -> Float[np.ndarray, "prices rows models"]:
        """The probability that a model is better than the one that seems best; 0 for that one."""
        return np.where(self.spread > 0, ndtr(-self.behind / np.maximum(self.spread, 1e-300)), 0.0)


def prices_at_work(
    chance: Float[np.ndarray, "queries models"], cost_usd: Float[np.ndarray, " models"], prices: int = PRICES
) -> Float[np.ndarray, " prices"]:
    """Quality per dollar at which the mean cost of the assignments takes evenly spaced values between the cheapest and the most
    expensive model's; 0 where no assignment costs as much, since a model that nothing is assigned to may turn out better."""
    every = frontier(Problem(chance, np.broadcast_to(cost_usd, chance.shape)))
    low, high = len(chance) * cost_usd.min(), len(chance) * cost_usd.max()
    if not high > low:
        return np.zeros(1)
    at = np.searchsorted(every.cost_usd, low + (high - low) * (np.arange(prices) + 0.5) / prices)
    slopes = np.append(np.diff(every.value) / np.maximum(np.diff(every.cost_usd), 1e-300), 0.0)
    return slopes[np.clip(at - 1, 0, len(slopes) - 1)]


def rivals(
    posterior: Posterior,
    cost_usd: Float[np.ndarray, " models"],
    prices: Float[np.ndarray, " prices"],
    rows: Int[np.ndarray, " rows"],
) -> Rivals:
    """Of some of the queries, at some prices."""
    chance = posterior.chance[rows]
    covariance = chances_covariance(posterior, rows)
    variance = np.einsum("jmm->jm", covariance)
    best = np.empty((len(prices), len(rows)), int)
    behind, spread = np.empty((2, len(prices), len(rows), chance.shape[1]))
    each = np.arange(len(rows))
    for place, price in enumerate(prices):
        utility = chance - price * cost_usd
        best[place] = utility.argmax(axis=1)
        behind[place] = utility.max(axis=1, keepdims=True) - utility
        of_difference = variance + variance[each, best[place]][:, None] - 2 * covariance[each, best[place]]
        of_difference[each, best[place]] = 0.0
        spread[place] = np.sqrt(np.maximum(of_difference, 0.0))
    return Rivals(best, behind, spread)


def chances_covariance(posterior: Posterior, rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "rows models models"]:
    """Between the models' expected qualities on each query."""
    inputs, models = posterior.places[rows], posterior.models
    directions = np.concatenate([direction(inputs, models, column) for column in range(models)])
    turned = (directions @ np.linalg.cholesky(posterior.covariance)).reshape(models, len(rows), -1)
    slope = posterior.slope[rows]
    return np.einsum("mjp,njp->jmn", turned, turned) * slope[:, :, None] * slope[:, None, :]


def loss_weights(
    posterior: Posterior,
    cost_usd: Float[np.ndarray, " models"],
    prices: Float[np.ndarray, " prices"],
    rows: Int[np.ndarray, " rows"],
) -> Float[np.ndarray, "parameters parameters"]:
    """G."""
    found, inputs, slope = rivals(posterior, cost_usd, prices, rows), posterior.places[rows], posterior.slope[rows]
    models, each = posterior.models, np.arange(len(rows))
    total = np.zeros((len(rows), models, models))
    common = []
    for best, behind, spread in zip(found.best, found.behind, found.spread, strict=True):
        safe = np.maximum(spread, 1e-12)
        weight = np.where(spread > 0, np.exp(-((behind / safe) ** 2) / 2) / (np.sqrt(8 * np.pi) * safe), 0.0)
        weight[each, best] = 0.0
        # K = sum of weight (e_best slope_best - e_m slope_m)(the same)'.
        lead = slope[each, best]
        total[:, range(models), range(models)] += weight * slope**2
        total[each, best, best] += weight.sum(axis=1) * lead**2
        mixed = weight * slope * lead[:, None]
        total[each, best] -= mixed
        total[each, :, best] -= mixed
        saved = weight * (cost_usd[best][:, None] - cost_usd)
        along = -saved * slope
        along[each, best] += saved.sum(axis=1) * lead
        size = (saved * (cost_usd[best][:, None] - cost_usd)).sum()
        if size > 0:
            common.append(back(inputs, along) / np.sqrt(size))
    weights = information(inputs, total)
    for one in common:
        weights -= np.outer(one, one)
    return weights / (len(prices) * len(rows))


def worth(posterior: Posterior, weights: Float[np.ndarray, "parameters parameters"]) -> Float[np.ndarray, "queries models"]:
    """By how much asking each cell, and no other, would lower the expected loss."""
    covariance, models = posterior.covariance, posterior.models
    pull = covariance @ weights @ covariance
    precision, inputs = posterior.query_precision, posterior.places
    chance = posterior.chance
    variance = np.maximum(chance * (1 - chance), 1e-3)
    # What is known of u_j from the query's other outcomes: (sum of v z) / precision is taken off the direction.
    own = posterior.asked_variance / precision[:, None]
    known = np.concatenate([inputs[:, :-1] * own.sum(axis=1)[:, None], *(inputs * one[:, None] for one in own.T)], axis=1)
    found = np.empty(chance.shape)
    for column in range(models):
        z = direction(inputs, models, column) - known
        spread = np.einsum("jp,jp->j", z @ covariance, z) + 1 / precision
        found[:, column] = np.einsum("jp,jp->j", z @ pull, z) / (1 / variance[:, column] + spread)
    return np.maximum(found, 0.0)


def some_rows(queries: int, seed: int) -> Int[np.ndarray, " rows"]:
    """The queries on which the loss is counted."""
    return np.random.default_rng(seed).permutation(queries)[:MOST_ROWS]


def direction(inputs: Float[np.ndarray, "rows inputs"], models: int, column: int) -> Float[np.ndarray, "rows parameters"]:
    """What a model's logit is made of: Z_j's row for it."""
    width = inputs.shape[1]
    made = np.zeros((len(inputs), width - 1 + models * width))
    made[:, : width - 1] = inputs[:, :-1]
    made[:, width - 1 + column * width : width - 1 + (column + 1) * width] = inputs
    return made
