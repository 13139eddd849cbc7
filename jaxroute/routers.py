"""Routers by name: a file in `baselines/`, or one of your own, becomes estimates or a curve.

A router's file holds a frozen dataclass `Config`, its options with their defaults, and either

    fit(train: RoutingTable, config: Config) -> dict[str, np.ndarray]                         what it learns
    estimate(state: Mapping[str, np.ndarray], queries: Queries, config: Config) -> np.ndarray    (queries, models)

or, where it needs the outcomes of the very queries that it answers, as an oracle or a cascade does,

    curve(train: RoutingTable, test: RoutingTable, config: Config) -> Curve

and, if a reader of its numbers must know something, `note(state, config) -> str`. Every model of a table that trains a
router was run on some query; cells that were not run are NaN. Where `Config` has an `encoder`, it must be the same in
training and later.

`knn` names jaxroute/baselines/knn.py, `knn:neighbours=5` sets an option, `path/to/mine.py` names a file of your own.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import pkgutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tyro
from jaxtyping import Float

from jaxroute import baselines
from jaxroute.encoders import load_encoder
from jaxroute.errors import CheckpointError, RouterError
from jaxroute.evaluation import Curve
from jaxroute.files import check_folder, replacing_folder
from jaxroute.table import Queries, RoutingTable

FORMAT = 1
FILES = {"router.json", "state.npz"}
ENCODER = "encoder_sha256"


@dataclass(frozen=True)
class RouterKind:
    """A router with its options, not trained yet."""

    spec: str
    """As it was asked for, such as `knn:neighbours=5`; its name in tables and figures."""
    module: ModuleType
    config: Any

    @property
    def hindsight(self) -> bool:
        """Whether it needs the outcomes of the queries that it answers."""
        return hasattr(self.module, "curve")

    @property
    def caption(self) -> str:
        return (self.module.__doc__ or self.spec).split("\n")[0]

    def fit(self, train: RoutingTable) -> TrainedRouter:
        """Learn from a table of outcomes."""
        if self.hindsight:
            raise RouterError(
                f"router={self.spec!r} needs the outcomes of the queries that it answers: it can only be evaluated"
            )
        never = [model for model, cells in zip(train.models, train.quality.T) if np.isnan(cells).all()]
        if never:
            raise RouterError(f"{train.name}: {', '.join(never)} was never run; drop the model or add its outcomes")
        state = dict(self.module.fit(train, self.config))
        if (identity := self.encoder_identity()) is not None:
            state[ENCODER] = np.array(identity)
        return TrainedRouter(self, list(train.models), state)

    def encoder_identity(self) -> str | None:
        """The content hash of the encoder that it reads prompts with; None where it has none."""
        return load_encoder(self.config.encoder).identity if hasattr(self.config, "encoder") else None

    def curve(self, train: RoutingTable, test: RoutingTable) -> Curve:
        """What a router with hindsight achieves on `test`."""
        return self.module.curve(train, test, self.config)


@dataclass(frozen=True)
class TrainedRouter:
    """A router that has learnt; `state` is all of it."""

    kind: RouterKind
    models: list[str]
    state: Mapping[str, np.ndarray]

    def estimate(self, queries: Queries) -> Float[np.ndarray, "queries models"]:
        """How well every model would do on every query; larger is better."""
        if self.kind.encoder_identity() != (str(self.state[ENCODER]) if ENCODER in self.state else None):
            raise RouterError(
                f"router={self.kind.spec!r} was trained with another encoder than encoder={self.kind.config.encoder!r} is now"
            )
        values = np.asarray(self.kind.module.estimate(self.state, queries, self.kind.config), np.float64)
        wanted = (len(queries), len(self.models))
        if values.shape != wanted or not np.isfinite(values).all():
            raise RouterError(
                f"router={self.kind.spec!r} gave estimates of shape {values.shape}, {np.sum(~np.isfinite(values))} of them not "
                f"finite; (queries, models) is {wanted}"
            )
        return values

    @property
    def note(self) -> str:
        """What a reader of its numbers must know; empty where there is nothing."""
        return self.kind.module.note(self.state, self.kind.config) if hasattr(self.kind.module, "note") else ""

    def transferred(self, models: list[str]) -> TrainedRouter:
        """The same router for other models in the places of its own, not trained again (RouteLLM, arXiv:2406.18665, section 5).

        The weak model goes where the weak one was, the strong one where the strong one was.
        """
        if len(models) != len(self.models) or len(set(models)) != len(models):
            raise RouterError(f"models={models} must be {len(self.models)} models, one for each of {', '.join(self.models)}")
        return replace(self, models=list(models))

    def save(self, folder: Path | str) -> None:
        """Write the whole of it, or nothing; an earlier one at `folder` is replaced, anything else is refused."""
        check_folder("router", Path(folder), ours=is_router)
        described = {"format": FORMAT, "spec": self.kind.spec, "config": asdict(self.kind.config), "models": self.models}
        with replacing_folder(folder) as partial:
            np.savez(partial / "state.npz", **dict(self.state))  # pyright: ignore[reportArgumentType]
            described["state_sha256"] = hashlib.sha256((partial / "state.npz").read_bytes()).hexdigest()
            (partial / "router.json").write_text(json.dumps(described, indent=2, default=str) + "\n")


def find_router(spec: str) -> RouterKind:
    """The router that a name, or a file, and options say. Raises `RouterError` naming what is known."""
    name, *given = spec.split(":")
    module = _module(name)
    if not is_dataclass(getattr(module, "Config", None)) or not (
        hasattr(module, "curve") or (hasattr(module, "fit") and hasattr(module, "estimate"))
    ):
        raise RouterError(f"router={spec!r}: {module.__name__} must hold a dataclass Config, and fit and estimate, or curve")
    known = [one.name for one in fields(module.Config)]
    arguments = []
    for part in given:
        option, equals, value = part.partition("=")
        if not equals or option not in known:
            raise RouterError(f"router={spec!r}: {part!r} is none of its options, which are {', '.join(known) or 'none'}")
        arguments += [f"--{option}", *value.split(",")]
    try:
        config = tyro.cli(module.Config, args=arguments, console_outputs=False) if arguments else module.Config()
    except SystemExit:
        raise RouterError(f"router={spec!r}: an option's value does not fit; {module.Config.__doc__} {known}") from None
    return RouterKind(spec, module, config)


def load_router(folder: Path | str) -> TrainedRouter:
    """Read what `TrainedRouter.save` wrote. Raises `CheckpointError` where it is anything else."""
    folder = Path(folder)
    try:
        described = json.loads((folder / "router.json").read_text(encoding="utf-8"))
        if set(described) != {"format", "spec", "config", "models", "state_sha256"} or described["format"] != FORMAT:
            raise ValueError(f"router.json has the keys {sorted(described)}")
        if hashlib.sha256((folder / "state.npz").read_bytes()).hexdigest() != described["state_sha256"]:
            raise ValueError("state.npz is not as saved")
        with np.load(folder / "state.npz", allow_pickle=False) as stored:
            state = dict(stored)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"checkpoint={str(folder)!r} is no whole router: {error}; copy it again or train again"
        ) from error
    return TrainedRouter(find_router(described["spec"]), described["models"], state)


def router_names() -> dict[str, str]:
    """Name and caption of every router in `baselines/`."""
    names = sorted(one.name for one in pkgutil.iter_modules(baselines.__path__))
    return {name: (importlib.import_module(f"{baselines.__name__}.{name}").__doc__ or "").split("\n")[0] for name in names}


def is_router(folder: Path) -> bool:
    """Whether `folder` holds a router and nothing else."""
    return {path.name for path in folder.iterdir()} == FILES


def _module(name: str) -> ModuleType:
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise RouterError(f"router={name!r}: there is no such file")
        described = importlib.util.spec_from_file_location(Path(name).stem, name)
        assert described is not None and described.loader is not None
        module = importlib.util.module_from_spec(described)
        described.loader.exec_module(module)
        return module
    known = [one.name for one in pkgutil.iter_modules(baselines.__path__)]
    if name not in known:
        raise RouterError(f"router={name!r} is unknown; known are {', '.join(known)}, or give a .py file of your own")
    return importlib.import_module(f"{baselines.__name__}.{name}")
