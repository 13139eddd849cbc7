"""The predictor's heads: K-level softmax over features and model embeddings.

Routoo (arXiv:2401.13979), section 3.2, predicts level k of model m on query j from the query's hidden state h_j and a
learned embedding e_m:

    difference:    logits_jm = W (h_j - e_m) + b                              (as published)
    interaction:   logits_jm = W (h_j - e_m) + b + C_m h_j + d_m + D_m,domain(j)       (ours)

The difference head is linear, so with K = 2 the order of the models is the same for every query; the corrections C_m
let a model be better at some queries than its peers, and the effects D at some domains, where the domain is known.
`fitting.py` finds all of them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

AnyArray = Array | np.ndarray
"""On the device or on the host."""


class Head(nnx.Module):
    """Features `(queries, features)` in, logits `(queries, models, levels)` out."""

    def __init__(self, features: int, models: int, levels: int, domains: int = 0):
        self.mean = nnx.Variable(jnp.zeros(features))
        self.scale = nnx.Variable(jnp.ones(features))
        self.low = nnx.Variable(jnp.full(features, -jnp.inf))
        self.high = nnx.Variable(jnp.full(features, jnp.inf))
        self.weight = nnx.Param(jnp.zeros((features, levels)))
        self.model_embedding = nnx.Param(jnp.zeros((models, features)))
        self.bias = nnx.Param(jnp.zeros(levels))
        self.correction = nnx.Param(jnp.zeros((models, features, levels)))
        self.correction_bias = nnx.Param(jnp.zeros((models, levels)))
        if domains:
            self.domain_effect = nnx.Param(jnp.zeros((domains, models, levels)))

    def __call__(
        self, features: Float[AnyArray, "queries features"], domain: Int[AnyArray, " queries"] | None = None
    ) -> Float[Array, "queries models levels"]:
        """`domain` says to which effects a query belongs; -1, or None for all queries, is an unknown domain, without any."""
        # Beyond the range seen in training a linear head says anything; a one-word prompt is such a case.
        hidden = (jnp.clip(features, self.low[...], self.high[...]) - self.mean[...]) / self.scale[...]
        # By default accelerators multiply float32 with fewer bits, and estimates would depend on the machine.
        with jax.default_matmul_precision("highest"):
            difference = jnp.asarray(hidden) @ self.weight[...]
            # One product per model: of a product over all, sums round differently with another number of models, and a model
            # that is added must not move the others.
            models = jax.lax.map(lambda one: one @ self.weight[...], self.model_embedding[...])
            own = jax.lax.map(lambda one: jnp.asarray(hidden) @ one, self.correction[...])
            corrections = jnp.moveaxis(own, 0, 1) + self.correction_bias[...]
        logits = difference[:, None, :] - models + self.bias[...] + corrections
        if domain is not None and hasattr(self, "domain_effect"):
            logits = logits + jnp.where(domain[:, None, None] >= 0, self.domain_effect[...][domain], 0.0)
        return logits


def level_targets(quality: Float[np.ndarray, "queries models"], levels: int) -> Float[np.ndarray, "queries models levels"]:
    """Each quality spread over its two neighbouring levels, so that the expected level is the quality; NaN becomes 0.

    Level k means quality k / (K - 1), as in Routoo's section 3.2; a quality on the grid gives a one-hot target.
    """
    place = np.nan_to_num(quality) * (levels - 1)
    return np.maximum(0.0, 1.0 - np.abs(place[..., None] - np.arange(levels))).astype(np.float32)


def expected_level(logits: Float[AnyArray, "queries models levels"]) -> Float[Array, "queries models"]:
    """sum_k softmax(logits)_k * k / (K - 1): the estimate of quality."""
    levels = logits.shape[-1]
    return jax.nn.softmax(logits, axis=-1) @ (jnp.arange(levels) / (levels - 1))


def argmax_level(logits: Float[AnyArray, "queries models levels"]) -> Float[Array, "queries models"]:
    """argmax_k / (K - 1): the published selector's input, 0 or 1 where K = 2."""
    return jnp.argmax(logits, axis=-1) / (logits.shape[-1] - 1)


def cross_entropy(
    logits: Float[AnyArray, "... levels"], target: Float[AnyArray, "... levels"], observed: Float[AnyArray, "..."]
) -> Float[Array, "..."]:
    """- sum_k target_k log softmax(logits)_k in nats, per cell; 0 where not observed."""
    return -jnp.sum(target * jax.nn.log_softmax(logits, axis=-1), axis=-1) * observed
