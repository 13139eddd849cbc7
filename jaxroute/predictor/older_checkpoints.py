"""Checkpoints of formats 1 and 2, read and no longer written: the head and whole encoders in orbax's format.

DIR/config.json    models, levels, prices, encoder and its hash, features, training configuration, held-out loss
DIR/head/          the head's parameters
DIR/length.npz     where it was learnt: how many tokens answers have
DIR/cost.npz       where it was learnt: how many dollars answers cost
DIR/adapter/       where adapters were trained: PEFT's format
DIR/encoder/       where the whole encoder was trained: its weights
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxroute.data.prices import Price
from jaxroute.encoders import EncoderConfig
from jaxroute.encoders.features import FeatureConfig
from jaxroute.encoders.weights.huggingface import abstract_network
from jaxroute.encoders.weights.peft import load_adapters
from jaxroute.encoders.weights.trained import Trained, TrainedAdapters, TrainedWeights
from jaxroute.errors import CheckpointError, EncoderError
from jaxroute.predictor.checkpoint import known_encoder, misshapen_encoder, misshapen_models
from jaxroute.predictor.cost_head import CostHead
from jaxroute.predictor.heads import Head
from jaxroute.predictor.predictor import Predictor
from jaxroute.predictor.pricing import Pricing, misshapen_pricing
from jaxroute.storage.bundles import misfits, read_description

READABLE = (1, 2)
"""Format 1 has no heads of costs; all else is the same."""
COST_HEADS = {"length_head": "length.npz", "cost_head": "cost.npz"}
FIELDS = {
    "format": int,
    "models": list,
    "levels": int,
    "encoder": dict,
    "features": dict,
    "pricing": dict,
    "head_sha256": str,
    "about": dict,
}


def load_older_predictor(folder: Path, *, encoder: str | None = None) -> Predictor:
    """Read such a checkpoint; raises `CheckpointError` listing everything that is missing, unknown or misshapen."""
    config = _read_config(folder)
    try:
        features = FeatureConfig(**config["features"])
        prices = config["pricing"]["prices"]
        pricing = Pricing(
            models=config["models"],
            mean_cost_usd=config["pricing"]["mean_cost_usd"],
            prices=None if prices is None else {model: Price(**entry) for model, entry in prices.items()},
            output_tokens=config["pricing"]["output_tokens"],
            input_ratio=config["pricing"].get("input_ratio"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"checkpoint={str(folder)!r}: config.json does not fit this version: {error!r}") from error
    found = known_encoder(folder, config["encoder"], encoder)
    width = found.config.hidden_size * len(features.stated)
    pricing = replace(pricing, **_read_cost_heads(folder, config["pricing"].get("heads", {}), width, len(pricing.models)))
    head = Head(width, len(pricing.models), config["levels"])
    nnx.update(head, _read(folder / "head", nnx.to_pure_dict(nnx.state(head))))
    if _hash(head, features, config) != config["head_sha256"]:
        raise CheckpointError(
            f"checkpoint={str(folder)!r}: head/, features, models or levels are not as saved; copy it again or train again"
        )
    if (described := config["encoder"].get("trained")) is not None:
        trained = _read_trained(folder, described["kind"], found.config.up_to(max(features.stated)))
        if trained.digest != described["sha256"]:
            raise CheckpointError(
                f"checkpoint={str(folder)!r}: the trained encoder is not as saved; copy it again or train again"
            )
        found = replace(found, trained=trained)
    return Predictor(found, features, head, config["models"], config["levels"], pricing, about=config["about"])


def _read_trained(folder: Path, kind: str, shallow: EncoderConfig) -> Trained:
    """The trained part of an encoder, of the layers that the features need."""
    if kind == "lora":
        try:
            return TrainedAdapters(*load_adapters(folder / "adapter", shallow))
        except EncoderError as error:
            raise CheckpointError(f"checkpoint={str(folder)!r}: {error}") from error
    wanted = nnx.to_pure_dict(nnx.state(abstract_network(shallow)))
    return TrainedWeights(jax.tree.map(np.asarray, _read(folder / "encoder", wanted)))


def _read_cost_heads(folder: Path, digests: dict[str, str], features: int, models: int) -> dict[str, CostHead]:
    heads = {}
    for name, digest in digests.items():
        file = COST_HEADS[name]
        try:
            heads[name] = CostHead.load(folder / file, features=features, models=models)
        except Exception as error:  # a damaged archive can raise anything
            raise CheckpointError(
                f"checkpoint={str(folder)!r}: {file} is damaged; copy it again or train again ({error})"
            ) from error
        if heads[name].digest != digest:
            raise CheckpointError(f"checkpoint={str(folder)!r}: {file} is not as saved; copy it again or train again")
    return heads


def _read(folder: Path, wanted: dict) -> dict:
    """Arrays in orbax's format, in the shapes of `wanted`. Raises `CheckpointError` where it is anything else."""
    # Orbax takes a second to import, which no newer checkpoint needs.
    import orbax.checkpoint

    try:
        with orbax.checkpoint.StandardCheckpointer() as checkpointer:
            _check_shapes(checkpointer.metadata(folder.resolve()).item_metadata.tree, wanted)
            return checkpointer.restore(folder.resolve(), _like(wanted))
    except Exception as error:
        reason = str(error).split("\n")[0][:200]
        raise CheckpointError(
            f"checkpoint={str(folder.parent)!r}: {folder.name}/ is damaged; copy it again or train again ({reason})"
        ) from error


def _read_config(folder: Path) -> dict[str, Any]:
    """config.json, with every field of the right kind and length."""
    config = read_description(folder, "config.json")
    if config.get("format", 1) not in READABLE:
        raise CheckpointError(
            f"checkpoint={str(folder)!r}: its format is {config['format']}, config.json has {' or '.join(map(str, READABLE))}"
        )
    problems = misfits(config, FIELDS)
    if not problems:
        problems = misshapen_models(config["models"]) + misshapen_encoder(config["encoder"])
        problems += misshapen_pricing(config["pricing"], config["models"])
    if not (folder / "head").is_dir():
        problems.append("the folder head/ is missing")
    if problems:
        raise CheckpointError(f"checkpoint={str(folder)!r}: " + "; ".join(problems))
    return config


def _hash(head: Head, features: FeatureConfig, config: Mapping[str, Any]) -> str:
    """SHA-256 over the head's numbers and what they are for."""
    meaning = [asdict(features), config["models"], config["levels"]]
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(head))):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def _check_shapes(stored: dict, wanted: dict) -> None:
    """Raise `ValueError` before orbax reads: a restore that fails half-way leaves reads behind that nobody awaits."""
    shapes, expected = (
        {jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (stored, wanted)
    )
    if shapes != expected:
        raise ValueError(f"its shapes are {shapes}, config.json says {expected}")


def _like(tree: dict) -> dict:
    """Shapes and dtypes, on the device that will run the head, whatever device wrote it."""
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
