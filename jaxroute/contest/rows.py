"""A contest: the rows that all routers learn from, the rows that all are judged on, and what is the same for all of them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxroute.data.prices import FLAT_COST_NOTE
from jaxroute.data.sources import chosen_table
from jaxroute.data.table import OPTIONAL, RoutingTable, text_key
from jaxroute.errors import TableError
from jaxroute.evaluation import (
    MMLU_SUBCATEGORIES,
    Curve,
    aiqs,
    bootstrap_weights,
    hull,
    mmlu_subcategories,
    single_models,
)

GROUPS = 24
"""More domains than that are not told apart in a figure."""
OTHERS = "all other domains"
PER = 1000
"""Costs are told in dollars per this many queries."""


@dataclass(frozen=True)
class ContestConfig:
    """Which outcomes routers learn from, and which they are judged on."""

    table: Path | None = None
    """Your own outcomes: .csv, .jsonl or .parquet in the schema that `jaxroute sources` prints."""
    source: str | None = None
    """Instead of --table: a published format, see `jaxroute sources`."""
    path: Path | None = None
    """Where the source's files lie."""
    test_table: Path | None = None
    """Outcomes to judge on, as --table. Default: a part of the same table."""
    test_path: Path | None = None
    """The same, of --source."""
    models: tuple[str, ...] = ()
    """Only these models of the table; of two, RouteLLM's measures are told as well. Default: all."""
    test_fraction: float = 0.3
    """Of the queries of every domain, where there are no others to judge on."""
    resamples: int = 1000
    """Bootstrap resamples of the test queries."""
    at: float = 0.5
    """Where single numbers are read: as a share of the way from the cheapest model's mean cost to the dearest one's."""
    seed: int = 0
    """Decides the split, the bootstrap and the shuffles."""

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.test_fraction < 1:
            problems.append(f"test_fraction={self.test_fraction} must lie between 0 and 1")
        if not 0 <= self.at <= 1:
            problems.append(f"at={self.at} must be a share, from 0 to 1")
        if self.models and (len(set(self.models)) < len(self.models) or len(self.models) < 2):
            problems.append(f"models={' '.join(self.models)} must be at least two, and none twice")
        if self.resamples < 20:
            problems.append(f"resamples={self.resamples} must be at least 20")
        if self.seed < 0:
            problems.append(f"seed={self.seed} must be at least 0")
        if self.test_table and self.test_path:
            problems.append(f"test_table={str(self.test_table)!r} and test_path={str(self.test_path)!r}: give one of them")
        if self.test_path and not self.source:
            problems.append(f"test_path={str(self.test_path)!r} needs a --source; --test-table names a table")
        if problems:
            raise TableError("; ".join(problems))


@dataclass(frozen=True, eq=False)
class Contest:
    """Training and test rows, the draws of the bootstrap, and the range of costs."""

    train: RoutingTable
    test: RoutingTable
    """Only rows on which every model was run."""
    notes: list[str]
    """In words: how many rows there are, and what was left out."""
    resamples: int = 1000
    at: float = 0.5
    """Where single numbers are read, as a share of the way from the cheapest to the dearest single model."""
    seed: int = 0

    @cached_property
    def weights(self) -> Float[np.ndarray, "resamples queries"]:
        return bootstrap_weights(len(self.test), resamples=self.resamples, seed=self.seed)

    @cached_property
    def expected_cost_usd(self) -> Float[np.ndarray, " models"]:
        """What is known of costs before any model answers: means over the training rows."""
        return self.train.mean_cost_usd()

    @cached_property
    def zero_router(self) -> Curve:
        return single_models(self.test)

    @cached_property
    def zero_areas(self) -> Float[np.ndarray, " resamples"]:
        """The zero router's AIQ in every resample."""
        return aiqs(*self.zero_router.means(self.weights), *self.costs)

    @cached_property
    def costs(self) -> tuple[float, float]:
        """Mean true cost of the cheapest and of the dearest single model: the range that AIQ is a mean over."""
        cost = self.zero_router.means()[0]
        return float(cost.min()), float(cost.max())

    @property
    def cost_at(self) -> float:
        """Dollars per query at which single numbers are read."""
        low, high = self.costs
        return low + self.at * (high - low)

    @property
    def has_domains(self) -> bool:
        return len(set(self.test.domains)) > 1

    @cached_property
    def groups(self) -> list[str]:
        """The test rows' domains as figures show them: MMLU's subjects by sub-category, rare ones of many together."""
        domains = self.test.domains
        known = {subject for subjects in MMLU_SUBCATEGORIES.values() for subject in subjects}
        if len(set(domains)) > GROUPS and set(domains) <= known:
            return mmlu_subcategories(domains)
        kept = GROUPS if len(set(domains)) <= GROUPS else GROUPS - 1
        common = {name for name, _ in Counter(domains).most_common(kept)}
        return [(name or "no domain") if name in common else OTHERS for name in domains]

    @property
    def flat(self) -> bool:
        """Whether costs are mean prices, as if every query were one million tokens."""
        return FLAT_COST_NOTE in self.test.note

    @property
    def scale(self) -> float:
        """What mean costs are multiplied with to be told in `unit`."""
        return 1.0 if self.flat else float(PER)

    @property
    def unit(self) -> str:
        return "dollars per million tokens" if self.flat else f"dollars per {PER:,} queries"

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all rows of both parts."""
        return hashlib.sha256(f"{_digest(self.train)} {_digest(self.test)}".encode()).hexdigest()

    def zero_quality(self, cost_usd: float) -> Float[np.ndarray, " queries"]:
        """The zero router at a mean cost, query by query: the expectation of its draw between two models."""
        cost, quality = self.zero_router.means()
        x, y = hull(np.append(cost, 0.0), np.append(quality, 0.0))
        # The null router answers nothing, as model number -1.
        models = [next(iter(np.flatnonzero((cost == x0) & (quality == y0))), -1) for x0, y0 in zip(x, y, strict=True)]
        corners = np.stack([self.test.quality[:, model] if model >= 0 else np.zeros(len(self.test)) for model in models])
        place = float(np.interp(cost_usd, x, np.arange(len(x))))
        left = min(int(place), len(x) - 2)
        return (left + 1 - place) * corners[left] + (place - left) * corners[left + 1]


def read_contest(config: ContestConfig) -> Contest:
    """Both parts, from files of their own or by a split that keeps the share of every domain."""
    models = config.models or None
    whole = chosen_table(config.table, config.source, config.path).select(models=models)
    if not config.test_table and not config.test_path:
        test, train = whole.split(config.test_fraction, seed=config.seed)
    else:
        other = chosen_table(config.test_table, None if config.test_table else config.source, config.test_path)
        train, test = whole, other.select(models=models)
    return make_contest(train, test, resamples=config.resamples, at=config.at, seed=config.seed)


def make_contest(train: RoutingTable, test: RoutingTable, *, resamples: int = 1000, at: float = 0.5, seed: int = 0) -> Contest:
    """Without the test rows on which some model was not run, or whose text stands in the training rows as well.

    Raises `TableError` where nothing could be compared.
    """
    if set(test.models) != set(train.models):
        odd = sorted(set(test.models) ^ set(train.models))
        raise TableError(f"the test part must have the models of the training part; {', '.join(odd)} is in one only")
    known = {text_key(prompt) for prompt in train.prompts}
    new = np.array([text_key(prompt) not in known for prompt in test.prompts], bool)
    complete, incomplete = test.select(new, models=train.models).complete()
    _check(train, complete)
    notes = [f"trained on {len(train):,} queries of {train.name}", f"judged on {len(complete):,} queries of {test.name}"]
    if not new.all():
        notes.append(f"{np.sum(~new):,} test queries dropped whose text stands in training too")
    if incomplete:
        notes.append(f"{incomplete:,} test queries dropped on which some model was not run")
    notes += [note for note in dict.fromkeys((train.note, test.note)) if note]
    return Contest(train, complete, notes, resamples, at, seed)


def _check(train: RoutingTable, test: RoutingTable) -> None:
    """Raise `TableError` where nothing could be compared."""
    problems = []
    if len(train.models) < 2:
        problems.append(f"it has {len(train.models)} model, at least 2 are needed")
    if len(train) < 2 or len(test) < 2:
        problems.append(
            f"{len(train)} training rows and {len(test)} test rows that every model was run on are too few: give more rows, "
            "or a test part of their own"
        )
    elif never := [model for model, cells in zip(train.models, train.quality.T) if np.isnan(cells).all()]:
        problems.append(f"{', '.join(never)} was never run in the training rows; drop the model or add its outcomes")
    else:
        cost = test.mean_cost_usd()
        if cost.min() == cost.max():
            problems.append(f"every model costs {cost[0]:g} dollars per query: there is nothing that money could buy")
    if problems:
        raise TableError(f"{train.name}: " + "; ".join(problems))


def _digest(table: RoutingTable) -> str:
    digest = hashlib.sha256(json.dumps([table.prompts, table.models, table.domains]).encode())
    for name in ("quality", "cost_usd", *OPTIONAL):
        value = getattr(table, name)
        if value is not None:
            content = json.dumps(value.tolist()).encode() if name == "response" else np.ascontiguousarray(value).tobytes()
            digest.update(name.encode() + content)
    return digest.hexdigest()
