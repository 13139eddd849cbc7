"""The predictor's heads: K-level softmax over features and model embeddings, fitted by penalised maximum likelihood.

Routoo (arXiv:2401.13979), section 3.2, predicts level k of model m on query j from the query's hidden state h_j and a
learned embedding e_m:

    difference:    logits_jm = W (h_j - e_m) + b                              (as published)
    interaction:   logits_jm = W (h_j - e_m) + b + C_m h_j + d_m              (ours)

The difference head is linear, so with K = 2 the order of the models is the same for every query; the corrections C_m
let a model be better at some queries than its peers. Each has its own ridge penalty, chosen out of fold, and is zero
unless it clearly helps. Both fits are convex:

    minimise  mean over observed cells of cross-entropy(target_jm, softmax(logits_jm))  +  penalty / 2 * ||W||^2
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

AnyArray = Array | np.ndarray
"""On the device or on the host."""


class Head(nnx.Module):
    """Features `(queries, features)` in, logits `(queries, models, levels)` out."""

    def __init__(self, features: int, models: int, levels: int):
        self.mean = nnx.Variable(jnp.zeros(features))
        self.scale = nnx.Variable(jnp.ones(features))
        self.low = nnx.Variable(jnp.full(features, -jnp.inf))
        self.high = nnx.Variable(jnp.full(features, jnp.inf))
        self.weight = nnx.Param(jnp.zeros((features, levels)))
        self.model_embedding = nnx.Param(jnp.zeros((models, features)))
        self.bias = nnx.Param(jnp.zeros(levels))
        self.correction = nnx.Param(jnp.zeros((models, features, levels)))
        self.correction_bias = nnx.Param(jnp.zeros((models, levels)))

    def __call__(self, features: Float[AnyArray, "queries features"]) -> Float[Array, "queries models levels"]:
        # Beyond the range seen in training a linear head says anything; a one-word prompt is such a case.
        hidden = (jnp.clip(features, self.low[...], self.high[...]) - self.mean[...]) / self.scale[...]
        difference = jnp.asarray(hidden) @ self.weight[...]
        models = self.model_embedding[...] @ self.weight[...]
        corrections = jnp.einsum("nd,mdk->nmk", hidden, self.correction[...]) + self.correction_bias[...]
        return difference[:, None, :] - models + self.bias[...] + corrections


class Linear(NamedTuple):
    """logits = features @ weight + intercept; leading axes, where there are any, are independent fits."""

    weight: Float[AnyArray, "*fits features levels"]
    intercept: Float[AnyArray, "*fits models levels"]

    def logits(self, features: Float[AnyArray, "queries features"]) -> Float[Array, "*fits queries models levels"]:
        shared = jnp.einsum("nd,...dk->...nk", features, self.weight)
        return shared[..., :, None, :] + self.intercept[..., None, :, :]


def zero_fit(fits: int, features: int, models: int, levels: int) -> Linear:
    return Linear(jnp.zeros((fits, features, levels)), jnp.zeros((fits, models, levels)))


def level_targets(quality: Float[np.ndarray, "queries models"], levels: int) -> Float[np.ndarray, "queries models levels"]:
    """Each quality spread over its two neighbouring levels, so that the expected level is the quality; NaN becomes 0.

    Level k stands for quality k / (K - 1), as in Routoo's section 3.2; a quality on the grid gives a one-hot target.
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


@partial(jax.jit, static_argnames="steps")
def fit_linear(
    start: Linear,
    features: Float[AnyArray, "queries features"],
    target: Float[AnyArray, "fits queries models levels"],
    observed: Float[AnyArray, "fits queries models"],
    offset: Float[AnyArray, "fits queries models levels"],
    penalty: Float[AnyArray, " fits"],
    curvature: Float[AnyArray, " features"],
    *,
    tolerance: float = 3e-4,
    steps: int = 100,
) -> Linear:
    """Independent ridge-penalised fits side by side: L-BFGS from `start` until every gradient is small.

    `features` must be uncorrelated with mean squares `curvature` (see `rotation`). The weights are then searched on the
    scale 1 / sqrt(curvature / 4 + penalty), on which the loss curves about equally in all directions (the bound of
    Böhning & Lindsay 1988 on the Hessian of the softmax), and a dozen steps do what takes hundreds without it.
    """

    def loss(scaled: Linear, target, observed, offset, penalty):
        weight = scaled.weight * scale_of(penalty)
        cells = cross_entropy(Linear(weight, scaled.intercept).logits(features) + offset, target, observed)
        return jnp.sum(cells) / jnp.maximum(jnp.sum(observed), 1.0) + 0.5 * penalty * jnp.sum(weight**2)

    def scale_of(penalty):
        return jax.lax.rsqrt(curvature / 4 + penalty)[:, None]

    def fit(start, *data):
        scale = scale_of(data[-1])
        start = Linear(start.weight / scale, start.intercept)
        # On this scale the step is nearly right as it is: halving it now and then is enough, and compiles in half the time
        # that optax's default line search takes.
        solver = optax.lbfgs(linesearch=optax.scale_by_backtracking_linesearch(max_backtracking_steps=15, store_grad=True))
        value_and_gradient = optax.value_and_grad_from_state(loss)

        def unfinished(carry):
            _, state, _, fell, gradient_norm = carry
            # Where a step no longer lowers the loss in float32, the line search would only halve its way to nothing.
            return (optax.tree.get(state, "count") < steps) & (gradient_norm > tolerance) & fell

        def step(carry):
            parameters, state, before, *_ = carry
            value, gradient = value_and_gradient(parameters, *data, state=state)
            updates, state = solver.update(
                gradient,
                state,
                parameters,
                value=value,
                grad=gradient,
                value_fn=lambda parameters: loss(parameters, *data),
            )
            return optax.apply_updates(parameters, updates), state, value, value < before, optax.tree.norm(gradient)

        found, *_ = jax.lax.while_loop(unfinished, step, (start, solver.init(start), jnp.inf, True, jnp.inf))
        found = cast(Linear, found)
        return Linear(found.weight * scale, found.intercept)

    return jax.vmap(fit)(start, target, observed, offset, penalty)


def rotation(
    features: Float[np.ndarray, "queries features"],
) -> tuple[Float[np.ndarray, "features features"], Float[np.ndarray, " features"]]:
    """The orthogonal basis in which the features are uncorrelated, and their mean squares in it."""
    wide = features.astype(np.float64)
    curvature, basis = np.linalg.eigh(wide.T @ wide / len(wide))
    return basis.astype(np.float32), np.maximum(curvature, 0.0).astype(np.float32)
