"""Routers by name: found, trained, saved, and read again as estimators; the predictor is one of them.

A router is one module with a frozen dataclass `Config` of its options and

    fit(train, config)                -> dict of arrays by name, all that it learnt
    estimate(state, queries, config)  -> (queries, models), larger is better

and, if a reader of its numbers must know something, `note(state, config) -> str`. Every model of a table that trains a router
was run at least once. Two kinds differ: one that needs the outcomes of the queries that it answers has `curve(train, test,
config)` instead and can only be evaluated; one that is an estimator by itself has `estimator(train, config, prices)`.

What answers cost is learnt beside, in one way for all: means, dollars or lengths by prompt, or tokens at a price.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import pkgutil
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tyro
from jaxtyping import Float, UInt64

from jaxroute.data.estimates import Estimates, Estimator, as_queries, renamed
from jaxroute.data.prices import PriceList
from jaxroute.data.shrinkage import warn_of_few
from jaxroute.data.table import Queries, RoutingTable
from jaxroute.encoders import check_prompts, load_encoder
from jaxroute.encoders.features import Reader, prompt_features
from jaxroute.errors import CheckpointError, JaxrouteError, RouterError, TableError, listed, shortened
from jaxroute.evaluation import Curve
from jaxroute.predictor.checkpoint import DESCRIPTION, load_predictor
from jaxroute.predictor.pricing import CostModel
from jaxroute.predictor.training import learn_costs
from jaxroute.routers.saved_routers import is_older_router, read_router, write_router
from jaxroute.storage.bundles import read_description
from jaxroute.storage.digests import file_digest

ROOM = "jaxroute.routers"
PREDICTOR = "predictor"
NO_ROUTERS = ("base", "saved_routers")
"""Modules of this room that are none."""
ENCODER = "encoder_sha256"
SHARES = ("epsilon", "accept")
POSITIVE = (
    "neighbours",
    "trials",
    "points",
    "epochs",
    "steps",
    "iterations",
    "hidden",
    "words",
    "width",
    "batch_size",
    "temperature",
    "learning_rate",
    "gamma",
    "max_tokens",
)
NOT_NEGATIVE = ("seed", "strength", "tiers", "ridge", "noise", "weight_decay", "judge_usd", "clear")
"""Options of routers by what their values must be."""


def find_router(spec: str) -> RouterKind:
    """The router that a name, or a file, and options say. Raises `RouterError` naming what is known."""
    name, *given = spec.split(":")
    module = _module(name)
    if not is_dataclass(getattr(module, "Config", None)) or not any(
        all(hasattr(module, name) for name in names) for names in (("curve",), ("estimator",), ("fit", "estimate"))
    ):
        raise RouterError(f"router={spec!r}: {module.__name__} must hold a dataclass Config, and fit and estimate, or curve")
    known = [one.name for one in fields(module.Config)]
    arguments = []
    for part in given:
        option, equals, value = part.partition("=")
        if not equals or option not in known:
            raise RouterError(f"router={spec!r}: {part!r} is none of its options, which are {', '.join(known) or 'none'}")
        if value.casefold() in ("true", "false"):
            arguments.append(f"--{option}" if value.casefold() == "true" else f"--no-{option}")
        else:
            arguments += [f"--{option}", *value.split(",")]
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            config = tyro.cli(module.Config, args=arguments) if arguments else module.Config()
    except SystemExit as error:
        # What a conversion or a `__post_init__` of the options says, where it was that.
        said = [text for text in getattr(error.__context__, "args", ())[:1] if isinstance(text, str)]
        why = f": {shortened(said[0], 300, quoted=False)}" if said else ""
        raise RouterError(
            f"router={shortened(spec)}: an option's value does not fit ({listed(given)}){why}; options are joined by colons, "
            f"as in NAME:option=value:other=value, and the defaults are {shortened(str(module.Config()), 300, quoted=False)}"
        ) from None
    if problems := _out_of_range(config):
        raise RouterError(f"router={shortened(spec)}: {'; '.join(problems)}")
    return RouterKind(spec, module, config)


def load(folder: Path | str, *, encoder: str | None = None) -> Estimator:
    """Read whatever `Estimator.save`, or `jaxroute train`, wrote: a predictor or any other router.

    `encoder` names the place of the encoder where it has moved. Raises `CheckpointError` listing everything that is missing,
    unknown or not as it was.
    """
    folder = Path(folder)
    if is_older_router(folder) or (
        (folder / DESCRIPTION).is_file() and read_description(folder, DESCRIPTION).get("router") != PREDICTOR
    ):
        return load_router(folder, encoder=encoder)
    return load_predictor(folder, encoder=encoder)


def load_router(folder: Path | str, *, encoder: str | None = None) -> TrainedRouter:
    """Read what `TrainedRouter.save` wrote; raises `CheckpointError` as `load` does."""
    folder = Path(folder)
    saved = read_router(folder, encoder=encoder)
    try:
        kind = find_router(saved.spec)
    except RouterError as error:
        raise CheckpointError(f"checkpoint={str(folder)!r}: {error}") from error
    now = kind.described
    problems = [
        f"{name} was {saved.config.get(name)!r} and is {now.get(name)!r}"
        for name in sorted(set(saved.config) | set(now))
        if saved.config.get(name) != now.get(name)
    ]
    if kind.own_code != saved.code_sha256:
        problems.append(f"{saved.spec.split(':')[0]} is another file than in training")
    if problems:
        raise CheckpointError(f"checkpoint={str(folder)!r} is not as in training: {'; '.join(problems)}; train again")
    return TrainedRouter(kind, saved.models, saved.state, saved.costs, saved.about, saved.seen)


def router_names() -> dict[str, str]:
    """Name and caption of every router in this room."""
    return {name: (importlib.import_module(f"{ROOM}.{name}").__doc__ or "").split("\n")[0] for name in _known()}


@dataclass(frozen=True)
class RouterKind:
    """A router with its options, not trained yet."""

    spec: str
    """As it was asked for, such as `knn:neighbours=5`; its name in tables and figures."""
    module: ModuleType
    """Where it is defined."""
    config: Any
    """Its options, the module's `Config`."""

    def fit(self, train: RoutingTable, *, prices: PriceList | None = None, costs: CostModel | None = None) -> Estimator:
        """Learn from a table of outcomes, and what answers cost: at `prices`, or from the table's dollars.

        `costs` are taken as they are, where they were learnt from the same table before. Raises `RouterError` for a router with
        hindsight and for a model that was never run.
        """
        if self.hindsight:
            raise RouterError(
                f"router={self.spec!r} needs the outcomes of the queries that it answers: it can only be evaluated"
            )
        check_run(train)
        if hasattr(self.module, "estimator"):
            return self.module.estimator(train, self.config, prices)
        warn_of_few(train.models, train.quality)
        state = self._own_words("fit", lambda: dict(self.module.fit(train, self.config)))
        if (identity := self.encoder_identity()) is not None:
            state[ENCODER] = np.array(identity)
        about = {"trained_on": train.name, "queries": len(train)}
        costs = costs or learn_costs(train, prices, encoder=getattr(self.config, "encoder", None))
        return TrainedRouter(self, list(train.models), state, costs, about, np.unique(train.prompt_numbers))

    def curve(self, train: RoutingTable, test: RoutingTable) -> Curve:
        """What a router with hindsight achieves on `test`."""
        return self.module.curve(train, test, self.config)

    def _own_words(self, name: str, call: Callable[[], Any]) -> Any:
        """What a file of one's own does wrong is reported with its place in that file."""
        if self.own_code is None:
            return call()
        try:
            return call()
        except JaxrouteError:
            raise
        except Exception as error:
            raise RouterError(f"router={shortened(self.spec)}: {name} failed{_where(error, self.module)}") from error

    @property
    def hindsight(self) -> bool:
        """Whether it needs the outcomes of the queries that it answers."""
        return hasattr(self.module, "curve")

    @property
    def caption(self) -> str:
        return (self.module.__doc__ or self.spec).split("\n")[0]

    @property
    def described(self) -> dict[str, Any]:
        """Its options, as JSON has them."""
        return json.loads(json.dumps(asdict(self.config), default=str))

    @property
    def own_code(self) -> str | None:
        """SHA-256 of a file of one's own; None for a router of this package."""
        if self.module.__name__.startswith(f"{ROOM}."):
            return None
        return file_digest(Path(str(self.module.__file__)))

    def encoder_identity(self) -> str | None:
        """The content hash of the encoder that it reads prompts with; None where it has none."""
        return load_encoder(self.config.encoder).identity if hasattr(self.config, "encoder") else None

    def note(self, state: Mapping[str, np.ndarray]) -> str:
        """What a reader of its numbers must know; empty where there is nothing."""
        return self.module.note(state, self.config) if hasattr(self.module, "note") else ""


@dataclass(frozen=True)
class TrainedRouter:
    """A router that has learnt, an `Estimator`: `state` is all of it, `costs` what answers are expected to cost."""

    kind: RouterKind
    """Which router it is, with its options."""
    models: list[str]
    """In the order of the estimates' columns."""
    state: Mapping[str, np.ndarray]
    """What its `fit` returned."""
    costs: CostModel | None = None
    """What answers are expected to cost; None after `transferred`."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """On what it was trained, for people."""
    seen: UInt64[np.ndarray, " prompts"] | None = None
    """`RoutingTable.prompt_numbers` of the training prompts, so that none of them is judged on."""
    read: Reader = prompt_features

    @property
    def name(self) -> str:
        return self.kind.spec

    @property
    def note(self) -> str:
        """What a reader of its numbers must know; empty where there is nothing."""
        return self.kind.note(self.state)

    @property
    def knows_costs(self) -> bool:
        return self.costs is not None and not self.costs.needs_features

    def estimate(self, queries: Queries) -> Estimates:
        """How well every model would do on every query, in whatever unit the router has, and expected dollars."""
        queries = as_queries(queries)
        check_prompts(queries.prompts)
        quality = self.quality(queries)
        cost, assumption = self.expected_cost_usd(queries)
        return Estimates(self.models, quality, cost, assumption, np.zeros(len(queries), bool))

    def quality(self, queries: Queries) -> Float[np.ndarray, "queries models"]:
        """The quality of `estimate` alone; larger is better."""
        if self.kind.encoder_identity() != (str(self.state[ENCODER]) if ENCODER in self.state else None):
            raise RouterError(
                f"router={self.kind.spec!r} was trained with another encoder than encoder={self.kind.config.encoder!r} is now"
            )
        values = self.kind._own_words(
            "estimate",
            lambda: np.asarray(self.kind.module.estimate(self.state, queries, self.kind.config), np.float64),
        )
        wanted = (len(queries), len(self.models))
        if values.shape != wanted or not np.isfinite(values).all():
            raise RouterError(
                f"router={self.kind.spec!r} gave estimates of shape {values.shape}, {np.sum(~np.isfinite(values))} of them not "
                f"finite; (queries, models) is {wanted}"
            )
        return values

    def expected_cost_usd(self, queries: Queries) -> tuple[Float[np.ndarray, "queries models"], str]:
        """Dollars of every model's answer to every query, and the assumption behind them."""
        prompts = as_queries(queries).prompts
        check_prompts(prompts)
        if self.costs is None:
            return np.full((len(prompts), len(self.models)), np.nan), "nothing is known of costs"
        return self.costs.expected_cost_usd(prompts, read=self.read)

    def priced(self, prices: PriceList | None = None, *, output_tokens: float | None = None) -> TrainedRouter:
        """The same router at other prices, or with another expected number of output tokens of every answer."""
        if self.costs is None:
            raise TableError(f"router={self.name!r} was transferred and knows no costs: train it on outcomes of these models")
        return replace(self, costs=self.costs.priced(prices, output_tokens=output_tokens))

    def reading(self, read: Reader) -> TrainedRouter:
        """The same router, which reads prompts in another way for what answers cost."""
        return replace(self, read=read)

    def transferred(self, models: list[str]) -> TrainedRouter:
        """The same router for other models in the places of its own, whose costs are not known."""
        return replace(self, models=renamed(models, self.models), costs=None)

    def save(self, folder: Path | str) -> None:
        """Write it atomically; an earlier estimator at `folder` is replaced, anything else is rejected."""
        kind = self.kind
        name, *options = kind.spec.split(":")
        spec = kind.spec if kind.own_code is None else ":".join([str(Path(name).resolve()), *options])
        write_router(
            Path(folder), spec, kind.described, kind.own_code, self.models, self.state, self.costs, self.about, self.seen
        )


def check_run(train: RoutingTable) -> None:
    """Raises `RouterError` naming the models that were never run."""
    if never := train.never_run:
        raise RouterError(f"{train.name}: {listed(never)} was never run; drop the model or add its outcomes")


def _out_of_range(config: Any) -> list[str]:
    """Numbers that no router can use; by their names, which mean the same in all of them."""
    problems = []
    for one in fields(config):
        value = getattr(config, one.name)
        numbers = [number for number in (value if isinstance(value, tuple) else (value,)) if isinstance(number, int | float)]
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            problems.append(f"{one.name}={value} must be finite")
        elif one.name in SHARES and not all(0 <= number <= 1 for number in numbers):
            problems.append(f"{one.name}={value} must lie in [0, 1]")
        elif one.name in POSITIVE and not all(number > 0 for number in numbers):
            problems.append(f"{one.name}={value} must be above 0")
        elif one.name in NOT_NEGATIVE and not all(number >= 0 for number in numbers):
            problems.append(f"{one.name}={value} must be at least 0")
    return problems


def _module(name: str) -> ModuleType:
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise RouterError(f"router={name!r}: there is no such file")
        # Its own prefix, so that a file called random.py hides no other module.
        described = importlib.util.spec_from_file_location(f"own_router_{Path(name).stem}", name)
        assert described is not None and described.loader is not None
        module = importlib.util.module_from_spec(described)
        # A dataclass whose annotations are texts looks its module up by name.
        sys.modules[described.name] = module
        try:
            described.loader.exec_module(module)
        except Exception as error:
            raise RouterError(f"router={shortened(name)} cannot be imported{_where(error, module)}") from error
        return module
    if name not in _known():
        raise RouterError(f"router={name!r} is unknown; known are {', '.join(_known())}, or give a .py file of your own")
    return importlib.import_module(f"{ROOM}.{name}")


def _where(error: Exception, module: ModuleType) -> str:
    """The error in words, with the last line of the module's file that led to it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == module.__file__]
    line = lines[-1] if lines else getattr(error, "lineno", None)
    place = f" in line {line}" if line else ""
    return f"{place}: {type(error).__name__}: {shortened(str(error), 300, quoted=False)}"


def _known() -> list[str]:
    found = pkgutil.iter_modules([str(Path(__file__).parent)])
    return sorted(one.name for one in found if one.name not in NO_ROUTERS and not one.ispkg)
