"""One update: gradients summed over micro-batches, then AdamW. Pure functions of arrays; what is frozen is never touched.

    loss = sum over observed cells of cross-entropy(target, softmax(logits)) / number of observed cells
           + penalty / 2 ||W||^2 + sum_m penalty_m / (2 M) ||C_m||^2

the head's part as in heads.py, with the penalties that its fit to the frozen encoder chose.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, UInt32

from jaxroute.encoders.networks.lora import scaled
from jaxroute.predictor.heads import AnyArray, cross_entropy
from jaxroute.predictor.tuning.batches import MicroBatch
from jaxroute.predictor.tuning.config import TuneConfig
from jaxroute.predictor.tuning.mesh import Devices

Tree = dict[str, Any]


@dataclass(frozen=True)
class Network:
    """Everything about the computation that is not an array."""

    encoder: nnx.GraphDef
    head: nnx.GraphDef
    taps: tuple[tuple[int, str], ...]
    tune: TuneConfig
    updates: int
    """In the whole run; the learning rates depend on it."""
    grid: Devices


@partial(jax.jit, static_argnames="network")
def no_sums(network: Network, trainable: Tree) -> Tree:
    """Nothing summed yet: gradient, loss in nats, and observed cells."""
    sums = {"gradient": jax.tree.map(jnp.zeros_like, trainable), "loss": jnp.zeros(()), "cells": jnp.zeros(())}
    return network.grid.keep(sums)


@partial(jax.jit, static_argnames="network", donate_argnames="sums")
def accumulate(
    network: Network, trainable: Tree, frozen: Tree, sums: Tree, batch: MicroBatch, draw: UInt32[Array, " numbers"]
) -> Tree:
    """`sums` and the gradient of one micro-batch; `draw` (seed, update, part) decides the dropout."""

    def loss(trainable: Tree) -> Array:
        hidden = encode_batch(network, trainable, frozen, batch.tokens, batch.lengths, draw=draw)
        smoothing = network.tune.label_smoothing
        target = (1 - smoothing) * batch.target + smoothing / batch.target.shape[-1]
        return jnp.sum(cross_entropy(head_logits(network, trainable, frozen, hidden), target, batch.observed))

    value, gradient = jax.value_and_grad(loss)(trainable)
    more = {"gradient": gradient, "loss": value, "cells": jnp.sum(batch.observed)}
    return network.grid.keep(jax.tree.map(jnp.add, sums, more))


@partial(jax.jit, static_argnames="network", donate_argnames=("trainable", "state"))
def update(
    network: Network, trainable: Tree, frozen: Tree, state: optax.OptState, sums: Tree
) -> tuple[Tree, optax.OptState, dict[str, Array]]:
    """One step of AdamW on the mean gradient; also returns the loss before it and the gradient's norm before clipping."""
    cells = jnp.maximum(sums["cells"], 1.0)
    gradient = jax.tree.map(lambda leaf: leaf / cells, sums["gradient"])
    gradient["head"] = jax.tree.map(jnp.add, gradient["head"], jax.grad(partial(ridge, frozen))(trainable["head"]))
    kept = jnp.isfinite(frozen["penalties"])
    # A model whose fit chose no correction keeps none.
    gradient["head"]["correction"] *= kept[:, None, None]
    gradient["head"]["correction_bias"] *= kept[:, None]
    norm = optax.tree.norm(gradient)
    change, state = optimizer(network).update(gradient, state, trainable)
    trainable = network.grid.keep(optax.apply_updates(trainable, change))
    return trainable, network.grid.keep(state), {"loss": sums["loss"] / cells, "gradient_norm": norm}


@partial(jax.jit, static_argnames="network")
def features(
    network: Network, trainable: Tree, frozen: Tree, tokens: Int[Array, "rows length"], lengths: Int[Array, " rows"]
) -> Float[Array, "rows features"]:
    """What the head reads, without dropout."""
    hidden = encode_batch(network, trainable, frozen, tokens, lengths)
    return jax.lax.with_sharding_constraint(hidden, network.grid.replicated)


def encode_batch(
    network: Network,
    trainable: Tree,
    frozen: Tree,
    tokens: Int[AnyArray, "rows length"],
    lengths: Int[AnyArray, " rows"],
    *,
    draw: UInt32[Array, " numbers"] | None = None,
) -> Float[Array, "rows features"]:
    """Pooled states of the encoder as it is, side by side; with `draw` the adapters' inputs are dropped at random."""
    tune, adapters, dropout = network.tune, None, None
    weights = frozen["encoder"]
    if tune.mode == "full":
        weights = jax.tree.map(lambda leaf: leaf.astype(tune.dtype), trainable["encoder"])
    else:
        adapters = scaled(trainable["encoder"], tune.lora)
        if draw is not None and tune.lora.dropout:
            key = jax.random.key(0)
            for number in draw:
                key = jax.random.fold_in(key, number)
            dropout = (tune.lora.dropout, key)
    encoder = nnx.merge(network.encoder, weights)
    pooled = encoder(tokens, lengths, taps=network.taps, adapters=adapters, dropout=dropout, remat=tune.remat)
    return pooled.reshape(len(tokens), -1)


def head_logits(
    network: Network, trainable: Tree, frozen: Tree, hidden: Float[Array, "rows features"]
) -> Float[Array, "rows models levels"]:
    return nnx.merge(network.head, trainable["head"] | frozen["head"])(hidden)


def ridge(frozen: Tree, head: Tree) -> Float[Array, ""]:
    """The penalties of the head's fit; infinite ones belong to corrections that stay 0."""
    penalties = jnp.where(jnp.isfinite(frozen["penalties"]), frozen["penalties"], 0.0)
    corrections = jnp.sum(head["correction"] ** 2, axis=(1, 2))
    return 0.5 * frozen["penalty"] * jnp.sum(head["weight"] ** 2) + 0.5 * jnp.mean(penalties * corrections)


def optimizer(network: Network) -> optax.GradientTransformation:
    """AdamW with a rate for the encoder and one for the head, warm-up and cosine, one clip for both."""
    tune = network.tune

    def rate(largest: float) -> optax.Schedule:
        warmup = round(tune.warmup * network.updates)
        return optax.warmup_cosine_decay_schedule(0.0, largest, warmup, max(network.updates, warmup + 1))

    def matrices(tree: Tree) -> Tree:
        # Norms and biases are stacked over the layers, and no matrices for that.
        vectors = ("norm", "bias")
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf.ndim > 1 and not any(word in str(path[-1]) for word in vectors), tree
        )

    return optax.chain(
        optax.clip_by_global_norm(tune.clip),
        optax.partition(
            {
                "encoder": optax.adamw(rate(tune.encoder_learning_rate), weight_decay=tune.weight_decay, mask=matrices),
                "head": optax.adam(rate(tune.head_learning_rate)),
            },
            lambda tree: {name: jax.tree.map(lambda _, name=name: name, part) for name, part in tree.items()},
        ),
    )
