"""A contest: the rows that all routers learn from, the rows that all are judged on, and what is the same for all of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from jaxroute.data.prices import FLAT_COST_NOTE, PriceList, load_prices
from jaxroute.data.sources import chosen_table, own_prices
from jaxroute.data.table import RoutingTable, text_key
from jaxroute.errors import TableError, counted, listed
from jaxroute.evaluation import (
    MMLU_SUBCATEGORIES,
    SHUFFLES,
    Curve,
    Gain,
    Interval,
    areas,
    bootstrap_weights,
    curve_difference,
    gain_of,
    heights,
    mmlu_subcategories,
    shuffled_means,
    single_models,
    zero_router,
)
from jaxroute.evaluation.verdicts import Points
from jaxroute.storage.digests import text_digest

TEST_FRACTION = 0.3
GROUPS = 24
"""A figure shows at most so many domains."""
OTHERS = "all other domains"
PER = 1000
"""Costs are given in dollars per this many queries."""


@dataclass(frozen=True)
class ContestConfig:
    """Which outcomes routers learn from, and which they are judged on."""

    table: Path | None = None
    """Your own outcomes: .csv, .jsonl or .parquet in the schema that `jaxroute sources` prints."""
    source: str | None = None
    """Instead of --table: a published format, see `jaxroute sources`."""
    path: Path | None = None
    """Where the source's files lie."""
    option: tuple[str, ...] = ()
    """Options of the source's loader, name=value, such as decontaminate or binary of the published formats, or scale=10, clip
    and repeats=mean of your own table."""
    prices: Path | None = None
    """A price list, as of `jaxroute train`: for dollars that your own table lacks, or in place of a source's own list."""
    test_table: Path | None = None
    """Outcomes to judge on, as --table. Default: a part of the same table."""
    test_path: Path | None = None
    """The same, of --source."""
    models: tuple[str, ...] = ()
    """Only these models of the table; of two, RouteLLM's measures are reported as well. Default: all."""
    test_fraction: float = TEST_FRACTION
    """Of the queries of every domain, where there are no others to judge on."""
    resamples: int = 1000
    """Bootstrap resamples of the test queries."""
    at: float = 0.5
    """Where single numbers are read: as a share of the way from the cheapest model's mean cost to the most expensive one's."""
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
        if (self.test_table or self.test_path) and self.test_fraction != TEST_FRACTION:
            problems.append(f"test_fraction={self.test_fraction} splits one table: leave it out beside a test part")
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
    """Where single numbers are read, as a share of the way from the cheapest to the most expensive single model."""
    seed: int = 0
    prices: PriceList | None = None
    """What answers are expected to cost per token, where routers do not learn dollars as a whole."""

    @cached_property
    def questions(self) -> Int[np.ndarray, " queries"]:
        """The number of each test row's question; rows with the same text are one question."""
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(text_key(prompt), len(numbers)) for prompt in self.test.prompts])

    @cached_property
    def weights(self) -> Float[np.ndarray, "resamples queries"]:
        return bootstrap_weights(len(self.test), resamples=self.resamples, seed=self.seed, questions=self.questions)

    @cached_property
    def expected_cost_usd(self) -> Float[np.ndarray, " models"]:
        """What is known of costs before any model answers: means over the training rows."""
        return self.train.mean_cost_usd()

    @cached_property
    def single_models(self) -> Curve:
        """Every test query to one model; their hull is RouterBench's zero router."""
        return single_models(self.test)

    @cached_property
    def zero_router(self) -> Curve:
        """What reads no prompt, chosen on the training rows: the opponent of every gain."""
        return zero_router(self.train, self.test)

    @cached_property
    def costs(self) -> tuple[float, float]:
        """Mean true cost of the cheapest and of the most expensive single model: the range that areas are a mean over."""
        cost = self.single_models.means()[0]
        low, high = float(cost.min()), float(cost.max())
        # Sums are rounded: what differs by less is the same.
        return (high, high) if high - low <= 1e-9 * high else (low, high)

    @property
    def same_cost(self) -> bool:
        """Whether all models cost the same, so that only quality is left to compare."""
        return self.costs[0] == self.costs[1]

    @property
    def cost_at(self) -> float:
        """Dollars per query at which single numbers are read."""
        low, high = self.costs
        return low + self.at * (high - low)

    def areas(self, cost: Float[np.ndarray, "*times points"], quality: Float[np.ndarray, "*times points"]) -> np.ndarray:
        """Mean height of curves as they are over the range of costs; at equal costs, the height."""
        return areas(cost, quality, *self.costs)

    def heights(self, cost: Float[np.ndarray, "*times points"], quality: Float[np.ndarray, "*times points"]) -> np.ndarray:
        """Their height at `cost_at`."""
        return heights(cost, quality, self.cost_at)

    def shuffled(self, curve: Curve, shuffles: int = SHUFFLES) -> Points | None:
        """`shuffled_means` of a curve; None where its choices are not known."""
        if curve.choice is None:
            return None
        return shuffled_means(self.test, curve, shuffles=shuffles, seed=self.seed, questions=self.questions)

    def gain(self, curve: Curve, shuffles: int = SHUFFLES) -> Gain:
        """Mean height over the zero router's, with interval, p-value and verdict."""
        return gain_of(self.areas, curve, self.zero_router, self.weights, self.shuffled(curve, shuffles))

    def difference(self, curve: Curve, other: Curve) -> Interval:
        """Mean height of one curve less that of another one, paired."""
        return curve_difference(self.areas, curve, other, self.weights)

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
        """What mean costs are multiplied with to be given in `unit`."""
        return 1.0 if self.flat else float(PER)

    @property
    def unit(self) -> str:
        return "dollars per million tokens" if self.flat else f"dollars per {PER:,} queries"

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all rows of both parts."""
        return text_digest(f"{self.train.digest} {self.test.digest}")

    def zero_quality(self, cost_usd: float) -> Float[np.ndarray, " queries"]:
        """The zero router at a mean cost, query by query: the expectation of its draw between two models."""
        cost = self.zero_router.means()[0]
        order = np.argsort(cost, kind="stable")
        # On the left the null router, which answers nothing.
        corners = np.concatenate([np.zeros((1, len(self.test))), self.zero_router.quality[order]])
        place = float(np.interp(cost_usd, np.append(0.0, cost[order]), np.arange(len(corners))))
        left = min(int(place), len(corners) - 2)
        return (left + 1 - place) * corners[left] + (place - left) * corners[left + 1]


def read_contest(config: ContestConfig) -> Contest:
    """Both parts, from files of their own or by a split that keeps the share of every domain."""
    models = config.models or None
    chosen = partial(chosen_table, options=config.option, prices=config.prices)
    whole = chosen(config.table, config.source, config.path).select(models=models)
    if not config.test_table and not config.test_path:
        test, train = whole.split(config.test_fraction, seed=config.seed)
    else:
        other = chosen(config.test_table, None if config.test_table else config.source, config.test_path)
        train, test = whole, other.select(models=models)
    contest = make_contest(train, test, resamples=config.resamples, at=config.at, seed=config.seed)
    if contest.flat:
        # There a query costs a model's mean price, however long it is.
        return contest
    prices = load_prices(config.prices, train.models) if config.prices else own_prices(config.source)
    return replace(contest, prices=prices)


def make_contest(train: RoutingTable, test: RoutingTable, *, resamples: int = 1000, at: float = 0.5, seed: int = 0) -> Contest:
    """Without the test rows on which some model was not run, or whose text is among the training rows as well.

    Raises `TableError` where nothing could be compared.
    """
    if set(test.models) != set(train.models):
        odd = sorted(set(test.models) ^ set(train.models))
        raise TableError(f"the test part must have the models of the training part; {listed(odd)} is in one only")
    known = {text_key(prompt) for prompt in train.prompts}
    if len(known) < 2:
        there = f"{counted(len(known), 'distinct prompt')} in {counted(len(train), 'training row')}"
        raise TableError(f"{train.name}: {there}; at least 2 are needed")
    new = np.array([text_key(prompt) not in known for prompt in test.prompts], bool)
    complete, incomplete = test.select(new, models=train.models).complete()
    _check(train, complete)
    parts = (("trained", train), ("judged", complete))
    notes = [f"{did} on {counted(len(part), 'query')} of {part.name}" for did, part in parts]
    if not new.all():
        notes.append(f"{np.sum(~new):,} test queries dropped whose text is in training too")
    if incomplete:
        notes.append(f"{incomplete:,} test queries dropped on which some model was not run")
    notes += [note for note in dict.fromkeys((train.note, test.note)) if note]
    contest = Contest(train, complete, notes, resamples, at, seed)
    if repeats := len(complete) - len(np.unique(contest.questions)):
        notes.append(f"{repeats:,} test queries repeat a question: the rows of a question are drawn and shuffled together")
    if contest.same_cost:
        notes.append(
            f"every model costs {contest.cost_at:.4g} dollars per query: routers are compared by the quality of the model that "
            "they estimate highest, with the single model that was best in training"
        )
    return contest


def _check(train: RoutingTable, test: RoutingTable) -> None:
    """Raise `TableError` where nothing could be compared."""
    problems = []
    if len(train.models) < 2:
        problems.append(f"it has {counted(len(train.models), 'model')}, at least 2 are needed")
    if len(train) < 2 or len(test) < 2:
        problems.append(
            f"{counted(len(train), 'training row')} and {counted(len(test), 'test row')} that every model was run on are too "
            "few: give more rows, or a test part of their own"
        )
    elif never := train.never_run:
        problems.append(f"{listed(never)} was never run in the training rows; drop the model or add its outcomes")
    if problems:
        raise TableError(f"{train.name}: " + "; ".join(problems))
