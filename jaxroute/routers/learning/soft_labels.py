"""Soft labels: a classifier over models learns how good all of them are (TensorOpera, arXiv:2408.12320, Appendix D).

    label_j = softmax_m(q_jm / T)
    loss = mean_j w_j * cross-entropy(label_j, softmax(logits_j)),    w_j ~ 1 / |{k: best_k = best_j}|

Models that were not run on a query take no part in its softmax. At the least loss T * log softmax(logits) is the quality
but for a constant per query, so that is the estimate; the likeliest model, the paper's choice, is the one with the highest
estimate.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxroute.data.table import RoutingTable

AnyArray = Array | np.ndarray


def soft_labels(quality: Float[np.ndarray, "queries models"], temperature: float) -> Float[np.ndarray, "queries models"]:
    """softmax(q / T) over the models that were run; 0 for the others."""
    scaled = np.where(np.isnan(quality), -np.inf, quality / temperature)
    weight = np.exp(scaled - np.max(np.nan_to_num(scaled, neginf=0.0), axis=1, keepdims=True))
    return weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)


def query_weights(table: RoutingTable) -> Float[np.ndarray, " queries"]:
    """Inverse to how often the query's best model is best, mean 1; of equally good models the cheaper one is best.

    0 where no model was run.
    """
    cost = table.mean_cost_usd()
    expense = np.argsort(np.argsort(cost, kind="stable"))
    known = ~np.isnan(table.quality).all(axis=1)
    best = np.lexsort((np.broadcast_to(expense, table.quality.shape), -np.nan_to_num(table.quality, nan=-1.0)))[:, 0]
    count = np.bincount(best[known], minlength=len(cost))
    weight = np.where(known, 1 / np.maximum(count[best], 1), 0.0)
    return weight / weight.mean()


def soft_loss(
    logits: Float[AnyArray, "queries models"], label: Float[AnyArray, "queries models"], weight: Float[AnyArray, " queries"]
) -> Float[Array, ""]:
    """The weighted mean cross-entropy; models with label 0 were not run."""
    chance = jax.nn.log_softmax(jnp.where(label > 0, logits, -1e9), axis=1)
    return jnp.mean(weight * -jnp.sum(label * chance, axis=1))


def estimates(
    logits: Float[np.ndarray, "queries models"], *, temperature: float, mean: float
) -> Float[np.ndarray, "queries models"]:
    """T * log softmax(logits), shifted so that a query's mean over the models is `mean`."""
    logits = np.asarray(logits, np.float64)
    return temperature * (logits - logits.mean(axis=1, keepdims=True)) + mean
