"""Checkpoints of a predictor: everything that routing needs, save the encoder, which is named and known by its content hash.

DIR/estimator.json   models, levels, prices, encoder and its hash, features, where it comes from
DIR/arrays.npz       the head's parameters; lengths or costs of answers where learnt; a fully trained encoder's weights;
                     numbers of the training prompts, and what was expected on a sample of them
DIR/adapter/         where adapters were trained: PEFT's format

`jaxroute.load(DIR)` reads this and what any other router saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxroute.encoders import Encoder, load_encoder
from jaxroute.encoders.features import FeatureConfig
from jaxroute.encoders.weights.peft import load_adapters, save_adapters
from jaxroute.encoders.weights.trained import Trained, TrainedAdapters, TrainedWeights
from jaxroute.errors import CheckpointError, EncoderError
from jaxroute.predictor.familiarity import restored_familiarity
from jaxroute.predictor.heads import Head
from jaxroute.predictor.pool_questions import PoolQuestions
from jaxroute.predictor.predictor import KINDS, Predictor
from jaxroute.predictor.pricing import (
    Pricing,
    described_pricing,
    misshapen_pricing,
    pricing_arrays,
    restored_pricing,
)
from jaxroute.predictor.training_sample import restored_sample
from jaxroute.storage.bundles import ARRAYS, misfits, read_bundle, write_bundle
from jaxroute.storage.files import check_folder

FORMAT = 3
DESCRIPTION = "estimator.json"
PROMISE = "promise.json"
"""What `jaxroute guarantee` has written beside it."""
FIELDS: dict[str, type] = {
    "format": int,
    "router": str,
    "models": list,
    "levels": int,
    "kind": str,
    "encoder": dict,
    "features": dict,
    "pricing": object,
    "about": dict,
    "domains": list,
}
ROUTER = "predictor"
SEEN = "seen"
"""The array of the training prompts' numbers."""
POOL = "pool"
"""Before the names of the arrays of `PoolQuestions`."""
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Checkpoint:
    """A predictor, what its models cost, and where it comes from, side by side; a predictor itself holds all three."""

    predictor: Predictor
    pricing: Pricing
    about: Mapping[str, Any]


def save_checkpoint(folder: Path | str, checkpoint: Checkpoint) -> None:
    """Write the checkpoint atomically; an earlier one at `folder` is replaced, anything else is rejected."""
    if checkpoint.pricing.models != checkpoint.predictor.models:
        raise CheckpointError(
            f"the prices are for {checkpoint.pricing.models}, the predictor for {checkpoint.predictor.models}"
        )
    save_predictor(replace(checkpoint.predictor, pricing=checkpoint.pricing, about=checkpoint.about), Path(folder))


def load_checkpoint(folder: Path | str, *, encoder: str | None = None) -> Checkpoint:
    """Read a predictor's checkpoint and find its encoder, by the name it was trained with or at the path `encoder`.

    Raises `CheckpointError` listing everything that is missing, unknown or misshapen, and where the encoder is not there
    or is not the one that the predictor was trained with.
    """
    predictor = load_predictor(Path(folder), encoder=encoder)
    if predictor.pricing is None:
        raise CheckpointError(f"checkpoint={str(folder)!r} holds no prices: read it with `jaxroute.load`")
    return Checkpoint(predictor, predictor.pricing, predictor.about)


def save_predictor(predictor: Predictor, folder: Path) -> None:
    """Write a predictor with its pricing; `Predictor.save` calls this."""
    check_folder("checkpoint", folder, ours=is_estimator)
    description = {
        "format": FORMAT,
        "router": ROUTER,
        "models": predictor.models,
        "levels": predictor.levels,
        "kind": predictor.kind,
        "encoder": described_encoder(predictor.encoder),
        "features": asdict(predictor.features),
        "pricing": None if predictor.pricing is None else described_pricing(predictor.pricing),
        "about": dict(predictor.about),
        "domains": predictor.domains,
    }
    arrays = _named("head", nnx.to_pure_dict(nnx.state(predictor.head)))
    if predictor.pricing is not None:
        arrays |= pricing_arrays(predictor.pricing)
    if predictor.seen is not None:
        arrays[SEEN] = predictor.seen
    if predictor.pool is not None:
        arrays |= predictor.pool.arrays(POOL)
    if predictor.familiarity is not None:
        arrays |= predictor.familiarity.arrays()
    if predictor.sample is not None:
        arrays |= predictor.sample.arrays()
    trained = predictor.encoder.trained
    if isinstance(trained, TrainedWeights):
        arrays |= _named("encoder", dict(trained.arrays))

    def adapters(partial: Path) -> None:
        base = predictor.encoder
        if isinstance(trained, TrainedAdapters):
            save_adapters(partial / "adapter", trained.arrays, trained.lora, base=base.name, network=base.config)

    write_bundle(folder, DESCRIPTION, description, arrays, beside=adapters)


def load_predictor(folder: Path, *, encoder: str | None = None) -> Predictor:
    """Read what `save_predictor`, or a version before it, wrote; raises `CheckpointError` as `load_checkpoint` does."""
    if (folder / "config.json").is_file() and not (folder / DESCRIPTION).exists():
        from jaxroute.predictor.older_checkpoints import load_older_predictor

        return load_older_predictor(folder, encoder=encoder)
    described, arrays = read_bundle(folder, DESCRIPTION, _misshapen)
    features = FeatureConfig(**described["features"])
    found = known_encoder(folder, described["encoder"], encoder)
    width = found.config.hidden_size * len(features.stated)
    domains = described.get("domains", [])
    head = Head(width, len(described["models"]), described["levels"], len(domains))
    wanted = nnx.to_pure_dict(nnx.state(head))
    stored = _nested("head", arrays)
    if jax.tree.map(jnp.shape, stored) != jax.tree.map(jnp.shape, wanted):
        raise CheckpointError(f"checkpoint={str(folder)!r}: {ARRAYS} does not fit the models, levels, features and domains")
    nnx.update(head, jax.tree.map(jnp.asarray, stored))
    if (trained := described["encoder"]["trained"]) is not None:
        found = replace(found, trained=_trained(folder, trained, arrays, found.config.up_to(max(features.stated))))
    pricing = described["pricing"]
    return Predictor(
        encoder=found,
        features=features,
        head=head,
        models=described["models"],
        levels=described["levels"],
        pricing=None if pricing is None else restored_pricing(described["models"], pricing, arrays),
        kind=described["kind"],
        about=described["about"],
        domains=domains,
        seen=arrays.get(SEEN),
        pool=PoolQuestions.restored(arrays, POOL),
        familiarity=restored_familiarity(arrays),
        sample=restored_sample(arrays),
    )


def is_estimator(folder: Path) -> bool:
    """Whether `folder` holds an estimator, of any version, and nothing else, so that a new one may take its place."""
    # A promise is about the estimator beside it, and goes with it.
    names = {path.name for path in folder.iterdir()} - {PROMISE}
    return any(
        needed <= names <= needed | others
        for needed, others in (
            ({DESCRIPTION, ARRAYS}, {"adapter"}),
            ({"config.json", "head"}, {"adapter", "encoder", "length.npz", "cost.npz"}),
            ({"router.json", "state.npz"}, set()),
        )
    )


def description_of(folder: Path) -> Path:
    """The file that describes the estimator in `folder`, of any version. Raises `CheckpointError` where there is none."""
    for name in (DESCRIPTION, "config.json", "router.json"):
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"checkpoint={str(folder)!r} is not a checkpoint: it holds no {DESCRIPTION}")


def described_encoder(encoder: Encoder) -> dict[str, Any]:
    """An encoder by its name, content hash and dtype, and by what training made of it."""
    trained = encoder.trained
    kind = "lora" if isinstance(trained, TrainedAdapters) else "full"
    return {
        "name": encoder.name,
        "sha256": encoder.identity,
        "dtype": encoder.dtype,
        "trained": None if trained is None else {"kind": kind, "sha256": trained.digest},
    }


def known_encoder(folder: Path, described: Mapping[str, Any], elsewhere: str | None) -> Encoder:
    """The encoder that a checkpoint names, or the same one at another place; raises `CheckpointError` where it differs."""
    name, sha256 = described["name"], described["sha256"]
    try:
        found = load_encoder(elsewhere or name, dtype=described["dtype"])
    except EncoderError as error:
        raise CheckpointError(
            f"checkpoint={str(folder)!r} was trained with encoder {name!r}: {error}; if it lies elsewhere now, name its place "
            "with encoder=..."
        ) from error
    if found.identity != sha256:
        raise CheckpointError(
            f"checkpoint={str(folder)!r} was trained with encoder {name!r} of content hash {sha256[:16]}..., but "
            f"{elsewhere or name!r} has {found.identity[:16]}...: name the right one with encoder=..."
        )
    return found


def misshapen_encoder(encoder: Any) -> list[str]:
    """Everything that is wrong with an encoder's description."""
    if not isinstance(encoder, dict):
        return [f"encoder={encoder!r} must be an object"]
    trained = encoder.get("trained")
    texts = [encoder.get(name) for name in ("name", "sha256", "dtype")]
    texts += list(trained.values()) if isinstance(trained, dict) else []
    if not set(encoder) <= {"name", "sha256", "dtype", "trained"} or not all(isinstance(value, str) for value in texts):
        return [f"encoder={encoder} must hold the texts name, sha256 and dtype, and trained"]
    if trained is not None and (
        not isinstance(trained, dict) or set(trained) != {"kind", "sha256"} or trained["kind"] not in ("lora", "full")
    ):
        return [f"encoder.trained={trained} must be null, or kind (lora or full) and sha256"]
    if encoder["dtype"] not in DTYPES:
        return [f"encoder.dtype={encoder['dtype']!r} must be one of {', '.join(DTYPES)}"]
    return []


def misshapen_models(models: list[Any]) -> list[str]:
    """Whether a list of models is one of distinct names."""
    if models and all(isinstance(model, str) for model in models) and len(set(models)) == len(models):
        return []
    return [f"models={str(models)[:80]} must be distinct names"]


def _misshapen(described: dict[str, Any]) -> list[str]:
    if described.get("format", FORMAT) != FORMAT:
        return [f"its format is {described['format']}, this version reads 1, 2 and {FORMAT}"]
    # The first predictors of this format knew no domains.
    if problems := misfits({"domains": [], **described}, FIELDS):
        return problems
    problems = misshapen_models(described["models"])
    if not all(isinstance(name, str) for name in described.get("domains", [])):
        problems.append(f"domains={str(described['domains'])[:80]} must be names")
    if described["levels"] < 2:
        problems.append(f"levels={described['levels']} must be at least 2")
    if described["kind"] not in KINDS:
        problems.append(f"kind={described['kind']!r} must be one of {', '.join(KINDS)}")
    problems += misshapen_encoder(described["encoder"])
    if described["pricing"] is not None:
        problems += misshapen_pricing(described["pricing"], described["models"])
    try:
        FeatureConfig(**described["features"])
    except (TypeError, EncoderError) as error:
        problems.append(f"features={described['features']}: {error}")
    return problems


def _trained(folder: Path, described: Mapping[str, str], arrays: Mapping[str, np.ndarray], shallow: Any) -> Trained:
    """The trained part of an encoder, of the layers that the features need."""
    try:
        if described["kind"] == "lora":
            trained = TrainedAdapters(*load_adapters(folder / "adapter", shallow))
        else:
            trained = TrainedWeights(_nested("encoder", arrays))
    except EncoderError as error:
        raise CheckpointError(f"checkpoint={str(folder)!r}: {error}") from error
    if trained.digest != described["sha256"]:
        raise CheckpointError(f"checkpoint={str(folder)!r}: the trained encoder is not as saved; copy it again or train again")
    return trained


def _named(prefix: str, tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A tree's arrays under one name each; a whole number among its keys keeps its kind by a leading #."""
    flat = flatten_dict(dict(tree))
    return {
        "/".join([prefix, *(f"#{key}" if isinstance(key, int) else str(key) for key in path)]): np.asarray(leaf)
        for path, leaf in flat.items()
    }


def _nested(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The tree that `_named` took apart."""
    parts = {tuple(name.split("/")[1:]): array for name, array in arrays.items() if name.split("/")[0] == prefix}
    return unflatten_dict(
        {tuple(int(key[1:]) if key.startswith("#") else key for key in path): array for path, array in parts.items()}
    )
