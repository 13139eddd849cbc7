"""Checkpoints: everything that routing needs, save the encoder, which is named and known by its content hash.

DIR/config.json    models, levels, prices, encoder and its hash, features, training configuration, held-out loss
DIR/head/          the head's parameters, written by orbax
DIR/length.npz     where it was learnt: how many tokens answers have
DIR/cost.npz       where it was learnt: how many dollars answers cost
DIR/adapter/       where adapters were trained: PEFT's format
DIR/encoder/       where the whole encoder was trained: its weights, written by orbax
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint
from flax import nnx

from jaxroute.data.prices import Price, price_entries
from jaxroute.encoders import EncoderConfig, load_encoder
from jaxroute.encoders.features import FeatureConfig
from jaxroute.encoders.weights.huggingface import abstract_network
from jaxroute.encoders.weights.peft import load_adapters, save_adapters
from jaxroute.encoders.weights.trained import Trained, TrainedAdapters, TrainedWeights
from jaxroute.errors import CheckpointError, EncoderError
from jaxroute.predictor.costs import CostHead
from jaxroute.predictor.heads import Head
from jaxroute.predictor.predictor import Predictor
from jaxroute.predictor.pricing import Pricing
from jaxroute.storage.files import check_folder, replacing_folder

FORMAT = 2
READABLE = (1, FORMAT)
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
ENCODER_FIELDS = ("name", "sha256", "dtype", "trained")
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Checkpoint:
    """A trained predictor and what its models cost; `about` says where it comes from."""

    predictor: Predictor
    pricing: Pricing
    about: dict


def save_checkpoint(folder: Path | str, checkpoint: Checkpoint) -> None:
    """Write the whole checkpoint, or nothing; an earlier checkpoint at `folder` is replaced, anything else is refused."""
    check_folder("checkpoint", Path(folder), ours=is_checkpoint)
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
            "trained": _described(predictor.encoder.trained),
        },
        "features": asdict(predictor.features),
        "pricing": {
            "mean_cost_usd": pricing.mean_cost_usd,
            "prices": None if pricing.prices is None else price_entries(pricing.prices),
            "output_tokens": pricing.output_tokens,
            "input_ratio": pricing.input_ratio,
            "heads": {name: head.digest for name in COST_HEADS if (head := getattr(pricing, name)) is not None},
        },
        "head_sha256": _hash(predictor),
        "about": checkpoint.about,
    }
    with replacing_folder(folder) as partial:
        (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        _write(partial / "head", nnx.to_pure_dict(nnx.state(predictor.head)))
        for name in config["pricing"]["heads"]:
            getattr(pricing, name).save(partial / COST_HEADS[name])
        trained = predictor.encoder.trained
        if isinstance(trained, TrainedAdapters):
            base = predictor.encoder
            save_adapters(partial / "adapter", trained.arrays, trained.lora, base=base.name, network=base.config)
        elif trained is not None:
            _write(partial / "encoder", dict(trained.arrays))


def is_checkpoint(folder: Path) -> bool:
    """Whether `folder` holds a checkpoint and nothing else, so that a new one may take its place."""
    names = {path.name for path in folder.iterdir()}
    return {"config.json", "head"} <= names <= {"config.json", "head", "adapter", "encoder", *COST_HEADS.values()}


def load_checkpoint(folder: Path | str, *, encoder: str | None = None) -> Checkpoint:
    """Read a checkpoint and find its encoder, by the name it was trained with or at the path `encoder`.

    Raises `CheckpointError` listing everything that is missing, unknown or misshapen, and where the encoder is not there
    or is not the one that the predictor was trained with.
    """
    folder = Path(folder)
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
        name, sha256, dtype, described = (config["encoder"].get(key) for key in ENCODER_FIELDS)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"checkpoint={str(folder)!r}: config.json does not fit this version: {error!r}") from error
    found = load_encoder(encoder or name, dtype=dtype)
    if found.identity != sha256:
        raise CheckpointError(
            f"checkpoint={str(folder)!r} was trained with encoder {name!r} of content hash {sha256[:16]}..., but "
            f"{encoder or name!r} has {found.identity[:16]}...: name the right one with encoder=..."
        )
    width = found.config.hidden_size * len(features.stated)
    learned = _read_cost_heads(folder, config["pricing"].get("heads", {}), width, len(pricing.models))
    pricing = replace(pricing, **learned)
    head = Head(width, len(pricing.models), config["levels"])
    nnx.update(head, _read(folder / "head", nnx.to_pure_dict(nnx.state(head))))
    if described is not None:
        trained = _read_trained(folder, described["kind"], found.config.up_to(max(features.stated)))
        if trained.digest != described["sha256"]:
            raise CheckpointError(
                f"checkpoint={str(folder)!r}: the trained encoder is not as saved; copy it again or train again"
            )
        found = replace(found, trained=trained)
    predictor = Predictor(encoder=found, features=features, head=head, models=config["models"], levels=config["levels"])
    if _hash(predictor) != config["head_sha256"]:
        raise CheckpointError(
            f"checkpoint={str(folder)!r}: head/, features, models or levels are not as saved; copy it again or train again"
        )
    return Checkpoint(predictor=predictor, pricing=pricing, about=config["about"])


def _described(trained: Trained | None) -> dict[str, str] | None:
    if trained is None:
        return None
    return {"kind": "lora" if isinstance(trained, TrainedAdapters) else "full", "sha256": trained.digest}


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


def _write(folder: Path, tree: dict) -> None:
    """By this process alone, also where there are others."""
    alone = orbax.checkpoint.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}, barrier_sync_key_prefix=folder.name
    )
    with orbax.checkpoint.StandardCheckpointer(multiprocessing_options=alone) as checkpointer:
        checkpointer.save(folder.resolve(), tree)


def _read(folder: Path, wanted: dict) -> dict:
    """What `_write` wrote, in the shapes of `wanted`. Raises `CheckpointError` where it is anything else."""
    try:
        with orbax.checkpoint.StandardCheckpointer() as checkpointer:
            _check_shapes(checkpointer.metadata(folder.resolve()).item_metadata.tree, wanted)
            return checkpointer.restore(folder.resolve(), _like(wanted))
    except Exception as error:
        told = str(error).split("\n")[0][:200]
        raise CheckpointError(
            f"checkpoint={str(folder.parent)!r}: {folder.name}/ is damaged; copy it again or train again ({told})"
        ) from error


def _read_config(folder: Path) -> dict:
    """config.json, with every field of the right kind and length."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"checkpoint={str(folder)!r} is not a checkpoint: {path} cannot be read ({error})") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"checkpoint={str(folder)!r} is not a checkpoint: {path} holds no object")
    problems = [f"{name} is missing" for name in sorted(set(FIELDS) - set(config))]
    problems += [f"{name} is unknown" for name in sorted(set(config) - set(FIELDS))]
    problems += [
        f"{name}={config[name]!r} is not a {kind.__name__}"
        for name, kind in FIELDS.items()
        if name in config and (not isinstance(config[name], kind) or isinstance(config[name], bool))
    ]
    if not problems:
        problems = _misshapen(config)
    if not (folder / "head").is_dir():
        problems.append("the folder head/ is missing")
    if problems:
        raise CheckpointError(f"checkpoint={str(folder)!r}: " + "; ".join(problems))
    return config


def _misshapen(config: dict) -> list[str]:
    models, problems = config["models"], []
    if config["format"] not in READABLE:
        return [f"its format is {config['format']}, this version reads {' and '.join(map(str, READABLE))}"]
    if not models or not all(isinstance(model, str) for model in models) or len(set(models)) != len(models):
        problems.append(f"models={models} must be distinct names")
    if config["levels"] < 2:
        problems.append(f"levels={config['levels']} must be at least 2")
    for name in ("mean_cost_usd", "output_tokens", "input_ratio"):
        numbers = config["pricing"].get(name)
        if numbers is None and name != "mean_cost_usd":
            continue
        if not isinstance(numbers, list) or len(numbers) != len(models):
            problems.append(f"pricing.{name} must be a list with a number for each of the {len(models)} models")
        elif not all(isinstance(number, int | float) and 0 <= number < math.inf for number in numbers):
            problems.append(f"pricing.{name}={numbers} must be numbers, finite and >= 0")
    heads = config["pricing"].get("heads", {})
    if not isinstance(heads, dict) or not set(heads) <= set(COST_HEADS):
        problems.append(f"pricing.heads={heads} must hold a hash for some of {', '.join(COST_HEADS)}")
    encoder = config["encoder"]
    trained = encoder.get("trained")
    texts = [encoder.get(name) for name in ENCODER_FIELDS[:3]] + (list(trained.values()) if isinstance(trained, dict) else [])
    if not set(encoder) <= set(ENCODER_FIELDS) or not all(isinstance(value, str) for value in texts):
        problems.append(f"encoder={encoder} must hold the texts name, sha256 and dtype, and trained")
    elif trained is not None and (
        not isinstance(trained, dict) or set(trained) != {"kind", "sha256"} or trained["kind"] not in ("lora", "full")
    ):
        problems.append(f"encoder.trained={trained} must be null, or kind (lora or full) and sha256")
    elif encoder["dtype"] not in DTYPES:
        problems.append(f"encoder.dtype={encoder['dtype']!r} must be one of {', '.join(DTYPES)}")
    return problems


def _hash(predictor: Predictor) -> str:
    """SHA-256 over the head's numbers and what they are for, so that damaged or exchanged files do not route."""
    meaning = [asdict(predictor.features), predictor.models, predictor.levels]
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(predictor.head))):
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
