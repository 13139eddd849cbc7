"""A trained router on disk: `estimator.json` and `arrays.npz`, as a predictor has them; and the format before that."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from jaxroute.encoders.features import FeatureConfig
from jaxroute.errors import CheckpointError
from jaxroute.predictor.checkpoint import (
    DESCRIPTION,
    FORMAT,
    SEEN,
    described_encoder,
    is_estimator,
    known_encoder,
    misshapen_encoder,
    misshapen_models,
)
from jaxroute.predictor.familiarity import Familiarity, restored_familiarity
from jaxroute.predictor.pricing import (
    CostModel,
    Pricing,
    described_pricing,
    misshapen_pricing,
    pricing_arrays,
    restored_pricing,
)
from jaxroute.storage.bundles import misfits, read_bundle, read_description, write_bundle
from jaxroute.storage.digests import file_digest
from jaxroute.storage.files import check_folder

FIELDS: dict[str, type] = {
    "format": int,
    "router": str,
    "config": dict,
    "code_sha256": object,
    "models": list,
    "costs": object,
    "about": dict,
}
COST_FIELDS: dict[str, type] = {"pricing": dict, "encoder": object, "features": object}
OLDER = "router.json"
OLDER_FIELDS: dict[str, type] = {
    "format": int,
    "spec": str,
    "config": dict,
    "code_sha256": object,
    "models": list,
    "mean_cost_usd": list,
    "state_sha256": str,
}


@dataclass(frozen=True)
class SavedRouter:
    """What a folder holds; whether its options and its code are as they were is for the reader to check."""

    spec: str
    config: dict[str, Any]
    code_sha256: str | None
    models: list[str]
    state: dict[str, np.ndarray]
    costs: CostModel | None
    about: dict[str, Any]
    seen: np.ndarray | None = None
    familiarity: Familiarity | None = None


def write_router(
    folder: Path,
    spec: str,
    config: Mapping[str, Any],
    code_sha256: str | None,
    models: list[str],
    state: Mapping[str, np.ndarray],
    costs: CostModel | None,
    about: Mapping[str, Any],
    seen: np.ndarray | None,
    familiarity: Familiarity | None = None,
) -> None:
    """Write it atomically; an earlier estimator at `folder` is replaced, anything else is rejected with `OutputError`."""
    check_folder("router", folder, ours=is_estimator)
    description = {
        "format": FORMAT,
        "router": spec,
        "config": dict(config),
        "code_sha256": code_sha256,
        "models": models,
        "costs": None if costs is None else _described_costs(costs),
        "about": dict(about),
    }
    arrays = {f"state/{name}": np.asarray(value) for name, value in state.items()}
    arrays |= {} if seen is None else {SEEN: seen}
    arrays |= {} if familiarity is None else familiarity.arrays()
    write_bundle(folder, DESCRIPTION, description, arrays | (pricing_arrays(costs.pricing) if costs else {}))


def read_router(folder: Path, *, encoder: str | None = None) -> SavedRouter:
    """What `write_router`, or the version before it, wrote; raises `CheckpointError` listing everything that is wrong."""
    if is_older_router(folder):
        if encoder is not None:
            raise CheckpointError(f"encoder={encoder!r}: the checkpoint {str(folder)!r} has no encoder that could have moved")
        return _read_older(folder)
    described, arrays = read_bundle(folder, DESCRIPTION, _misshapen)
    prefix = "state/"
    state = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    models, costs = described["models"], described["costs"]
    if encoder is not None and (costs is None or costs["encoder"] is None):
        raise CheckpointError(f"encoder={encoder!r}: the checkpoint {str(folder)!r} has no encoder that could have moved")
    return SavedRouter(
        spec=described["router"],
        config=described["config"],
        code_sha256=described["code_sha256"],
        models=models,
        state=state,
        costs=None if costs is None else _restored_costs(folder, models, costs, arrays, encoder),
        about=described["about"],
        seen=arrays.get(SEEN),
        familiarity=restored_familiarity(arrays),
    )


def is_older_router(folder: Path) -> bool:
    """Whether a folder holds a router in the format of earlier versions."""
    return (folder / OLDER).is_file()


def _described_costs(costs: CostModel) -> dict[str, Any]:
    return {
        "pricing": described_pricing(costs.pricing),
        "encoder": None if costs.encoder is None else described_encoder(costs.encoder),
        "features": None if costs.features is None else asdict(costs.features),
    }


def _restored_costs(
    folder: Path, models: list[str], described: Mapping[str, Any], arrays: Mapping[str, np.ndarray], elsewhere: str | None
) -> CostModel:
    features = described["features"]
    return CostModel(
        pricing=restored_pricing(models, described["pricing"], arrays),
        encoder=None if described["encoder"] is None else known_encoder(folder, described["encoder"], elsewhere),
        features=None if features is None else FeatureConfig(**features),
    )


def _misshapen(described: dict[str, Any]) -> list[str]:
    if described.get("format", FORMAT) != FORMAT:
        return [f"its format is {described['format']}, this version reads {FORMAT}"]
    if problems := misfits(described, FIELDS):
        return problems
    problems = misshapen_models(described["models"])
    if (costs := described["costs"]) is not None:
        if not isinstance(costs, dict):
            return [*problems, f"costs={costs!r} must be an object"]
        if unfit := misfits(costs, COST_FIELDS, what="costs."):
            return problems + unfit
        problems += misshapen_pricing(costs["pricing"], described["models"])
        problems += misshapen_encoder(costs["encoder"]) if costs["encoder"] is not None else []
    return problems


def _read_older(folder: Path) -> SavedRouter:
    """router.json and state.npz: every answer was expected to cost its model's mean."""
    described = read_description(folder, OLDER)
    if problems := misfits(described, OLDER_FIELDS) or _misshapen_older(described):
        raise CheckpointError(f"checkpoint={str(folder)!r}: {'; '.join(problems)}")
    try:
        if file_digest(folder / "state.npz") != described["state_sha256"]:
            raise ValueError("it is not as saved")
        with np.load(folder / "state.npz", allow_pickle=False) as stored:
            state = dict(stored)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise CheckpointError(
            f"checkpoint={str(folder)!r}: state.npz is damaged; copy it again or train again ({error})"
        ) from error
    models = described["models"]
    costs = CostModel(Pricing(models=models, mean_cost_usd=described["mean_cost_usd"]))
    config = json.loads(json.dumps(described["config"]))
    return SavedRouter(described["spec"], config, described["code_sha256"], models, state, costs, {})


def _misshapen_older(described: dict[str, Any]) -> list[str]:
    problems, cost = misshapen_models(described["models"]), described["mean_cost_usd"]
    if described["format"] != 1:
        problems.append(f"its format is {described['format']}, {OLDER} has 1")
    numbers = all(isinstance(one, int | float) and 0 <= one < math.inf for one in cost)
    if len(cost) != len(described["models"]) or not numbers:
        problems.append(f"mean_cost_usd must be a number, finite and >= 0, for each of the {len(described['models'])} models")
    return problems
