"""The state before the first update, and the shapes of every state: trainable arrays, the optimizer's, and fixed ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxroute.encoders.features import check_finite
from jaxroute.encoders.networks.lora import new_adapters
from jaxroute.encoders.weights.huggingface import abstract_network
from jaxroute.encoders.weights.peft import load_adapters
from jaxroute.errors import EncoderError
from jaxroute.predictor.tuning.results import Fit
from jaxroute.predictor.tuning.setting import Setting
from jaxroute.predictor.tuning.steps import Tree, optimizer


def first_tree(setting: Setting, fit: Fit) -> tuple[Tree, str]:
    """The state before the first update, on the mesh, and how the head was found."""
    weights = setting.place(_first_weights(setting))
    fitted = fit(setting.table.select(setting.training), _first_features(setting, weights))
    _, parameters, rest = nnx.split(fitted.head, nnx.Param, ...)
    fixed = nnx.to_pure_dict(rest)
    # The range of training holds for the frozen encoder's features; the trained one's is taken at the end.
    fixed |= {"low": jnp.full_like(fixed["low"], -jnp.inf), "high": jnp.full_like(fixed["high"], jnp.inf)}
    trainable = {"encoder": weights, "head": setting.place(nnx.to_pure_dict(parameters))}
    penalties = jnp.asarray(fitted.penalties, jnp.float32)
    tree = {
        "trainable": trainable,
        "optimizer": _first_optimizer_state(setting, trainable),
        "fixed": setting.place({"head": fixed, "penalty": jnp.asarray(fitted.penalty, jnp.float32), "penalties": penalties}),
    }
    return tree, fitted.report


def abstract_tree(setting: Setting) -> Tree:
    """Shapes and dtypes of the whole state."""
    shallow = setting.shallow
    _, parameters, rest = nnx.split(setting.empty_head(), nnx.Param, ...)
    if setting.tune.mode == "full":
        weights = nnx.to_pure_dict(nnx.state(abstract_network(shallow)))
    else:
        weights = jax.eval_shape(lambda: new_adapters(setting.tune.lora, shallow, jax.random.key(0)))
    trainable = {"encoder": weights, "head": nnx.to_pure_dict(parameters)}
    trainable = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), trainable)
    models = setting.examples.observed.shape[1]
    return {
        "trainable": trainable,
        "optimizer": jax.eval_shape(optimizer(setting.network).init, trainable),
        "fixed": {
            "head": nnx.to_pure_dict(rest),
            "penalty": jax.ShapeDtypeStruct((), jnp.float32),
            "penalties": jax.ShapeDtypeStruct((models,), jnp.float32),
        },
    }


def _first_weights(setting: Setting) -> Tree:
    """Adapters that change nothing, or those of `tune.adapter`; or all of the encoder's weights in float32."""
    tune, shallow = setting.tune, setting.shallow
    if tune.mode == "full":
        placed = replace(setting.encoder, dtype="float32", place=setting.grid.place)
        return nnx.to_pure_dict(nnx.state(placed.network(shallow.layers)))
    if tune.adapter is None:
        return new_adapters(tune.lora, shallow, jax.random.key(setting.seed))
    adapters, lora = load_adapters(tune.adapter, shallow)
    stored, wanted = ((one.rank, one.alpha, one.projections) for one in (lora, tune.lora))
    if stored != wanted:
        raise EncoderError(
            f"tune.adapter={str(tune.adapter)!r} has (rank, alpha, projections) = {stored}; tune.lora says {wanted}"
        )
    return adapters


def _first_features(setting: Setting, weights: Tree) -> np.ndarray | None:
    """Of the training queries, where the encoder is on a mesh; one device has them in the cache, or puts them there."""
    if setting.grid.count == 1:
        return None
    tree = {"trainable": {"encoder": weights}, "fixed": {}}
    found = setting.features(tree, setting.training)
    taps = setting.network.taps
    prompts = [setting.table.prompts[row] for row in setting.training]
    check_finite(setting.encoder, found.reshape(len(found), len(taps), -1), taps, prompts)
    return found


def _first_optimizer_state(setting: Setting, trainable: Tree) -> Any:
    initialise = optimizer(setting.network).init
    abstract = setting.grid.abstract(jax.eval_shape(initialise, trainable))
    return jax.jit(initialise, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, abstract))(trainable)
