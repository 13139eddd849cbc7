"""Checkpoints: everything that routing needs, save the encoder, which is named and known by its content hash.

DIR/config.json    models, levels, prices, encoder and its hash, features, training configuration, held-out loss
DIR/head/          the head's parameters, written by orbax
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint
from flax import nnx

from jaxroute.encoders import load_encoder
from jaxroute.errors import CheckpointError, JaxrouteError
from jaxroute.features import FeatureConfig
from jaxroute.files import replacing_folder
from jaxroute.heads import Head
from jaxroute.predictor import Predictor
from jaxroute.prices import Price, Pricing, price_entries

FORMAT = 1
KEYS = {"format", "models", "levels", "encoder", "features", "pricing", "about"}


@dataclass(frozen=True)
class Checkpoint:
    """A trained predictor and what its models cost; `about` says where it comes from."""

    predictor: Predictor
    pricing: Pricing
    about: dict


def save_checkpoint(folder: Path | str, checkpoint: Checkpoint) -> None:
    """Write the whole checkpoint, or nothing; what stood at `folder` is replaced."""
    predictor, pricing = checkpoint.predictor, checkpoint.pricing
    if pricing.models != predictor.models:
        raise CheckpointError(f"the prices are for {pricing.models}, the predictor for {predictor.models}")
    config = {
        "format": FORMAT,
        "models": predictor.models,
        "levels": predictor.levels,
        "encoder": {
            "name": predictor.encoder.name,
            "sha256": predictor.encoder.identity,
            "dtype": predictor.encoder.dtype,
        },
        "features": asdict(predictor.features),
        "pricing": {
            "mean_cost_usd": pricing.mean_cost_usd,
            "prices": None if pricing.prices is None else price_entries(pricing.prices),
            "output_tokens": pricing.output_tokens,
        },
        "about": checkpoint.about,
    }
    with replacing_folder(folder) as partial:
        (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        with orbax.checkpoint.StandardCheckpointer() as checkpointer:
            state = nnx.to_pure_dict(nnx.state(predictor.head))
            checkpointer.save((partial / "head").resolve(), state)


def load_checkpoint(folder: Path | str, *, encoder: str | None = None) -> Checkpoint:
    """Read a checkpoint and find its encoder, by the name it was trained with or at the path `encoder`.

    Raises `CheckpointError` listing everything that is missing, unknown or misshapen, and where the encoder is not there
    or is not the one that the predictor was trained with.
    """
    folder = Path(folder)
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"checkpoint={str(folder)!r} is not a checkpoint: {path} cannot be read ({error})") from error
    problems = [f"{name} is missing" for name in sorted(KEYS - set(config))]
    problems += [f"{name} is unknown" for name in sorted(set(config) - KEYS)]
    if not problems and config["format"] != FORMAT:
        problems.append(f"its format is {config['format']}, this version reads {FORMAT}")
    if not (folder / "head").is_dir():
        problems.append("the folder head/ is missing")
    if problems:
        raise CheckpointError(f"checkpoint={str(folder)!r}: " + "; ".join(problems))
    try:
        features = FeatureConfig(**config["features"])
        prices = config["pricing"]["prices"]
        pricing = Pricing(
            models=config["models"],
            mean_cost_usd=config["pricing"]["mean_cost_usd"],
            prices=None if prices is None else {model: Price(**entry) for model, entry in prices.items()},
            output_tokens=config["pricing"]["output_tokens"],
        )
        name, sha256, dtype = (config["encoder"][key] for key in ("name", "sha256", "dtype"))
        for field in ("mean_cost_usd", "output_tokens"):
            numbers = getattr(pricing, field)
            if numbers is not None and len(numbers) != len(pricing.models):
                raise CheckpointError(f"{field} has {len(numbers)} entries for {len(pricing.models)} models")
    except (KeyError, TypeError, JaxrouteError) as error:
        raise CheckpointError(f"checkpoint={str(folder)!r}: config.json does not fit this version: {error!r}") from error
    found = load_encoder(encoder or name, dtype=dtype)
    if found.identity != sha256:
        raise CheckpointError(
            f"checkpoint={str(folder)!r} was trained with encoder {name!r} of content hash {sha256[:16]}..., but "
            f"{encoder or name!r} has {found.identity[:16]}...: name the right one with encoder=..."
        )
    head = Head(found.config.hidden_size * len(features.layers), len(pricing.models), config["levels"])
    wanted = nnx.to_pure_dict(nnx.state(head))
    try:
        with orbax.checkpoint.StandardCheckpointer() as checkpointer:
            stored = checkpointer.restore((folder / "head").resolve(), _like(wanted))
    except Exception as error:
        raise CheckpointError(f"checkpoint={str(folder)!r}: head/ does not hold the head of config.json: {error}") from error
    nnx.update(head, nnx.State(stored) if not isinstance(stored, dict) else stored)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(nnx.to_pure_dict(nnx.state(head)))):
        raise CheckpointError(f"checkpoint={str(folder)!r}: head/ holds numbers that are not finite")
    predictor = Predictor(encoder=found, features=features, head=head, models=config["models"], levels=config["levels"])
    return Checkpoint(predictor=predictor, pricing=pricing, about=config["about"])


def _like(tree: dict) -> dict:
    """Shapes and dtypes, on the device that will run the head, whatever device wrote it."""
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
