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

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, UInt64

from jaxroute.data.estimates import Estimates, Estimator, as_queries, renamed
from jaxroute.data.prices import PriceList
from jaxroute.data.shrinkage import warn_of_few
from jaxroute.data.table import Queries, RoutingTable
from jaxroute.encoders import check_prompts, load_encoder
from jaxroute.encoders.embedding import embed
from jaxroute.encoders.features import Reader, prompt_features
from jaxroute.errors import CheckpointError, RouterError, TableError, listed, shortened
from jaxroute.evaluation import Curve
from jaxroute.predictor.checkpoint import DESCRIPTION, load_predictor
from jaxroute.predictor.familiarity import MOST_REFERENCE, Familiarity, learn_familiarity, sampled
from jaxroute.predictor.pricing import CostModel
from jaxroute.predictor.training import learn_costs
from jaxroute.routers.saved_routers import is_older_router, read_router, write_router
from jaxroute.storage.bundles import read_description
from jaxroute.storage.specs import Shelf, caption

ROUTERS = Shelf("jaxroute.routers", "router", RouterError, others=("base", "saved_routers"))
PREDICTOR = "predictor"
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
    module = ROUTERS.module(spec)
    if not is_dataclass(getattr(module, "Config", None)) or not any(
        all(hasattr(module, name) for name in names) for names in (("curve",), ("estimator",), ("fit", "estimate"))
    ):
        raise RouterError(f"router={spec!r}: {module.__name__} must hold a dataclass Config, and fit and estimate, or curve")
    config = ROUTERS.config(spec, module)
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
    return TrainedRouter(kind, saved.models, saved.state, saved.costs, saved.about, saved.seen, familiarity=saved.familiarity)


def router_names() -> dict[str, str]:
    """Name and caption of every router in this room."""
    return ROUTERS.captions()


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
        state = ROUTERS.own_words(self.spec, self.module, "fit", lambda: dict(self.module.fit(train, self.config)))
        # A router that shrinks rarely run models to the pool keeps by how much, see `shrinkage.leaning`.
        reliability = None if self.own_code else state.get("reliability")
        warn_of_few(train.models, train.quality, reliability)
        if (identity := self.encoder_identity()) is not None:
            state[ENCODER] = np.array(identity)
        about = {"trained_on": train.name, "queries": len(train)}
        costs = costs or learn_costs(train, prices, encoder=getattr(self.config, "encoder", None))
        trained = TrainedRouter(self, list(train.models), state, costs, about, np.unique(train.prompt_numbers))
        return replace(trained, familiarity=self._familiarity(trained, train))

    def curve(self, train: RoutingTable, test: RoutingTable) -> Curve:
        """What a router with hindsight achieves on `test`."""
        return self.module.curve(train, test, self.config)

    @property
    def hindsight(self) -> bool:
        """Whether it needs the outcomes of the queries that it answers."""
        return hasattr(self.module, "curve")

    @property
    def caption(self) -> str:
        return caption(self.module) or self.spec

    @property
    def described(self) -> dict[str, Any]:
        """Its options, as JSON has them."""
        return json.loads(json.dumps(asdict(self.config), default=str))

    @property
    def own_code(self) -> str | None:
        """SHA-256 of a file of one's own; None for a router of this package."""
        return ROUTERS.own_code(self.module)

    def encoder_identity(self) -> str | None:
        """The content hash of the encoder that it reads prompts with; None where it has none."""
        return load_encoder(self.config.encoder).identity if hasattr(self.config, "encoder") else None

    def note(self, state: Mapping[str, np.ndarray]) -> str:
        """What a reader of its numbers must know; empty where there is nothing."""
        return self.module.note(state, self.config) if hasattr(self.module, "note") else ""

    def _familiarity(self, trained: TrainedRouter, train: RoutingTable) -> Familiarity | None:
        """Of the sentence embeddings by its encoder; None for a router that has none."""
        prompts = sampled(train.prompts, MOST_REFERENCE) if hasattr(self.config, "encoder") else []
        if not prompts:
            return None
        return learn_familiarity(embed(prompts, self.config.encoder), trained.quality(as_queries(prompts)))


@dataclass(frozen=True, repr=False)
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
    familiarity: Familiarity | None = None
    """What is kept of the training prompts to know a prompt that is unlike them; None for a router that reads no features."""

    def __repr__(self) -> str:
        """Without its numbers, of which there are thousands."""
        return f"TrainedRouter({self.name!r}, models=[{listed(self.models)}], trained_on={self.about.get('trained_on')!r})"

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
        estimates = Estimates(self.models, quality, cost, assumption, np.zeros(len(queries), bool))
        if self.familiarity is None:
            return estimates
        return self.familiarity.said_of(estimates, embed(queries.prompts, self.kind.config.encoder))

    def quality(self, queries: Queries) -> Float[np.ndarray, "queries models"]:
        """The quality of `estimate` alone; larger is better."""
        if self.kind.encoder_identity() != (str(self.state[ENCODER]) if ENCODER in self.state else None):
            raise RouterError(
                f"router={self.kind.spec!r} was trained with another encoder than encoder={self.kind.config.encoder!r} is now"
            )
        values = ROUTERS.own_words(
            self.kind.spec,
            self.kind.module,
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
            Path(folder),
            spec,
            kind.described,
            kind.own_code,
            self.models,
            self.state,
            self.costs,
            self.about,
            self.seen,
            self.familiarity,
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
