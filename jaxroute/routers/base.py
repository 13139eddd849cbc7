"""Routers by name: a file in this room, or one of your own, becomes estimates or a curve.

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
import math
import pkgutil
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import BadZipFile

import numpy as np
import tyro
from jaxtyping import Float, Int

from jaxroute.data.table import Queries, RoutingTable
from jaxroute.encoders import check_prompts, load_encoder
from jaxroute.errors import CheckpointError, RouterError
from jaxroute.evaluation import Curve
from jaxroute.predictor.predictor import Estimates
from jaxroute.predictor.pricing import Pricing
from jaxroute.storage.files import check_folder, replacing_folder

FORMAT = 1
ROOM = "jaxroute.routers"
FILES = {"router.json", "state.npz"}
FIELDS: dict[str, type] = {
    "format": int,
    "spec": str,
    "config": dict,
    "code_sha256": object,
    "models": list,
    "mean_cost_usd": list,
    "state_sha256": str,
}
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
        return TrainedRouter(self, list(train.models), train.mean_cost_usd().tolist(), state)

    @property
    def described(self) -> dict[str, Any]:
        """Its options, as JSON has them."""
        return json.loads(json.dumps(asdict(self.config), default=str))

    @property
    def own_code(self) -> str | None:
        """SHA-256 of a file of one's own; None for a router of this package."""
        path = Path(str(self.module.__file__))
        return None if self.module.__name__.startswith(f"{ROOM}.") else _hash(path)

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
    mean_cost_usd: list[float]
    """Dollars per query, each model's mean in training: what an answer is expected to cost."""
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
    def pricing(self) -> Pricing:
        """Every answer is expected to cost its model's mean."""
        return Pricing(models=self.models, mean_cost_usd=self.mean_cost_usd)

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
        described = {
            "format": FORMAT,
            "spec": self.kind.spec,
            "config": self.kind.described,
            "code_sha256": self.kind.own_code,
            "models": self.models,
            "mean_cost_usd": self.mean_cost_usd,
        }
        with replacing_folder(folder) as partial:
            np.savez(partial / "state.npz", **dict(self.state))  # pyright: ignore[reportArgumentType]
            described["state_sha256"] = _hash(partial / "state.npz")
            (partial / "router.json").write_text(json.dumps(described, indent=2) + "\n")


@dataclass(frozen=True)
class RouterPredictor:
    """A trained router in the predictor's place, for prompts of which nothing else is known."""

    trained: TrainedRouter

    @property
    def models(self) -> list[str]:
        return self.trained.models

    def estimate(self, prompts: list[str]) -> Estimates:
        """As `Predictor.estimate`; larger is better, in whatever unit the router has."""
        check_prompts(prompts)
        values = self.trained.estimate(Queries(prompts, [""] * len(prompts)))
        return Estimates(values=values, cut=0, features=np.empty((len(prompts), 0)))

    def count_tokens(self, prompts: list[str]) -> Int[np.ndarray, " queries"]:
        """None are counted: answers cost their model's mean."""
        return np.zeros(len(prompts), np.int64)


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
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            config = tyro.cli(module.Config, args=arguments) if arguments else module.Config()
    except SystemExit:
        raise RouterError(f"router={spec!r}: an option's value does not fit; the defaults are {module.Config()}") from None
    return RouterKind(spec, module, config)


def load_router(folder: Path | str) -> TrainedRouter:
    """Read what `TrainedRouter.save` wrote. Raises `CheckpointError` listing everything that is not as it was."""
    folder = Path(folder)
    try:
        described = json.loads((folder / "router.json").read_text(encoding="utf-8"))
        with np.load(folder / "state.npz", allow_pickle=False) as stored:
            state = dict(stored)
        if problems := _misshapen(described) or _changed(folder, described):
            raise ValueError("; ".join(problems))
    except (OSError, ValueError, TypeError, EOFError, BadZipFile) as error:
        raise CheckpointError(
            f"checkpoint={str(folder)!r} is no whole router: {error}; copy it again or train again"
        ) from error
    return TrainedRouter(find_router(described["spec"]), described["models"], described["mean_cost_usd"], state)


def _misshapen(described: Any) -> list[str]:
    if not isinstance(described, dict):
        return ["router.json holds no object"]
    problems = [f"{name} is missing" for name in FIELDS if name not in described]
    problems += [f"{name} is unknown" for name in described if name not in FIELDS]
    problems += [
        f"{name}={described[name]!r} is not a {kind.__name__}"
        for name, kind in FIELDS.items()
        if name in described and kind is not object and not isinstance(described[name], kind)
    ]
    if problems:
        return problems
    models, cost = described["models"], described["mean_cost_usd"]
    if described["format"] != FORMAT:
        problems.append(f"its format is {described['format']}, this version reads {FORMAT}")
    if not models or not all(isinstance(model, str) for model in models) or len(set(models)) != len(models):
        problems.append(f"models={models} must be distinct names")
    if len(cost) != len(models) or not all(isinstance(one, int | float) and 0 <= one < math.inf for one in cost):
        problems.append(f"mean_cost_usd={cost} must be a number, finite and >= 0, for each of the {len(models)} models")
    return problems


def _changed(folder: Path, described: dict[str, Any]) -> list[str]:
    """What is not as it was in training: the state, the router's options, a file of one's own."""
    try:
        kind = find_router(described["spec"])
    except RouterError as error:
        return [str(error)]
    problems = []
    if _hash(folder / "state.npz") != described["state_sha256"]:
        problems.append("state.npz is not as saved")
    saved, now = described["config"], kind.described
    problems += [
        f"{name} was {saved.get(name)!r} and is {now.get(name)!r}"
        for name in sorted(set(saved) | set(now))
        if saved.get(name) != now.get(name)
    ]
    if kind.own_code != described["code_sha256"]:
        problems.append(f"{described['spec'].split(':')[0]} is another file than in training")
    return problems


def router_names() -> dict[str, str]:
    """Name and caption of every router in this room."""
    return {name: (importlib.import_module(f"{ROOM}.{name}").__doc__ or "").split("\n")[0] for name in _known()}


def is_router(folder: Path) -> bool:
    """Whether `folder` holds a trained router and nothing else."""
    return folder.is_dir() and {path.name for path in folder.iterdir()} == FILES


def _module(name: str) -> ModuleType:
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise RouterError(f"router={name!r}: there is no such file")
        described = importlib.util.spec_from_file_location(Path(name).stem, name)
        assert described is not None and described.loader is not None
        module = importlib.util.module_from_spec(described)
        described.loader.exec_module(module)
        return module
    if name not in _known():
        raise RouterError(f"router={name!r} is unknown; known are {', '.join(_known())}, or give a .py file of your own")
    return importlib.import_module(f"{ROOM}.{name}")


def _known() -> list[str]:
    """The modules of this room but for this one."""
    return sorted(
        one.name for one in pkgutil.iter_modules([str(Path(__file__).parent)]) if one.name != "base" and not one.ispkg
    )


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
