"""Queries come one after the other, within one budget: how much of what hindsight would gain does a moving multiplier get?

    JAXROUTE_DATA=... uv run python -m experiments.pacing

Five minutes on 2 cores of an AMD EPYC beside other jobs, with cached features. Seen, as a share of what hindsight gains over
the zero router, at budgets of 25, 50 and 75 percent of GPT-4's cost: 1,000 queries in random order 99.0, 99.3 and 98.8
percent, 4,000 queries 99.8, 99.8 and 99.6; mirror descent 95 to 99.5, a fixed multiplier 89 to 98. When the law questions
come last 85 to 93, easy questions first 73 to 85 (correcting at once 60 to 70; a fixed multiplier, which happens to suit both,
83 to 98), GPT-4's price doubling half-way 95 to 99.8 (fixed 58 to 98). With 50 queries in flight whose worst case is four
times their expected cost 72 to 86 of 1,000 queries and 90 to 97 of 4,000. No stream exceeded its budget.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from experiments.real_data import GPT4, load_mmlu_pool
from jaxroute import JaxrouteError, TrainConfig
from jaxroute.data.prices import ROUTOO_TABLE_1, flat_cost_usd
from jaxroute.encoders import load_encoder
from jaxroute.encoders.features import prompt_features
from jaxroute.evaluation import hull_quality
from jaxroute.evaluation.plots import COLOURS, save_figure
from jaxroute.predictor.domain_effects import domain_numbers
from jaxroute.predictor.fitting import train_head
from jaxroute.predictor.predictor import head_estimates
from jaxroute.storage.files import replacing, write_json
from solvers import Pacer, Problem, lagrangian

SHARES = (0.25, 0.5, 0.75)
"""Budgets, of what it would cost to ask GPT-4 everything."""
ORDERS = ("random", "law last", "easy first", "price doubles")
LAW = "law"


@dataclass(frozen=True)
class Config:
    """Streams of MMLU questions in four orders, answered within a budget by five ways to set the multiplier."""

    output: Path = Path("runs/pacing")
    """Folder for result.json, table.csv and the figure."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Of the predictor whose estimates are routed by."""
    lengths: tuple[int, ...] = (1000, 4000)
    """Queries of a stream."""
    draws: int = 10
    """Streams of each kind."""
    in_flight: int = 50
    """Queries that are asked before the first of them has ended, in the last table."""
    cap: float = 4.0
    """Worst case of an answer in that table, as a multiple of its expected cost; what it really costs is drawn below that."""
    seed: int = 0
    """Of the streams."""


@dataclass(frozen=True)
class Numbers:
    """Estimates of past queries and of those to come, and what models cost."""

    past: Float[np.ndarray, "past models"]
    future: Float[np.ndarray, "queries models"]
    domains: list[str]
    cost_usd: Float[np.ndarray, " models"]
    expensive: int
    """The column of GPT-4."""


@dataclass(frozen=True)
class Streamed:
    """Queries in their order, with the costs that hold when each comes."""

    value: Float[np.ndarray, "queries models"]
    cost_usd: Float[np.ndarray, "queries models"]
    changes: dict[int, Float[np.ndarray, " models"]]
    """Prices that change, by the query before which they do."""

    def hindsight(self, budget: float) -> float:
        """A bound on the value of any assignment of the whole stream."""
        return lagrangian(Problem(self.value, self.cost_usd, budget)).bound

    def zero_router(self, budget: float) -> float:
        """The value of the best mix of models that does not look at the queries."""
        means = self.cost_usd.mean(axis=0), self.value.mean(axis=0)
        return float(hull_quality(*means, budget / len(self.value))) * len(self.value)


class Held(Pacer):
    """The same hard limit with a multiplier that stays where it was."""

    def _look(self) -> None:
        if not hasattr(self, "_multiplier"):
            super()._look()


class MirrorDescent(Held):
    """Dual mirror descent (Balseiro, Lu & Mirrokni 2023, "The best of many worlds: dual mirror descent for online allocation
    problems"), with Euclidean steps: multiplier += step (cost - b), in units of the first multiplier and of the even rate b."""

    step, even = 0.0, 1.0

    def begin(self, expected_usd: float, worst_case_usd: float | None = None) -> None:
        super().begin(expected_usd, worst_case_usd)
        self._first = getattr(self, "_first", self._multiplier)
        self._multiplier = max(0.0, self._multiplier + self._first * self.step * (expected_usd / self.even - 1))


def ways(numbers: Numbers, budget: float, queries: int, cap: float) -> dict[str, Callable[[], Pacer]]:
    """Name -> a new pace for one stream."""
    sample = Problem(numbers.past, numbers.cost_usd)
    reserve = cap * float(numbers.cost_usd.min())

    def descent(step: float) -> Pacer:
        pace = MirrorDescent(sample, budget, queries, reserve_usd=reserve)
        pace.step, pace.even = step / queries**0.5, budget / queries
        return pace

    return {
        "re-solved": lambda: Pacer(sample, budget, queries, reserve_usd=reserve),
        "re-solved, correction 1": lambda: Pacer(sample, budget, queries, correction=1.0, reserve_usd=reserve),
        "mirror descent, 0.1": lambda: descent(0.1),
        "mirror descent, 1": lambda: descent(1.0),
        "fixed": lambda: Held(sample, budget, queries, reserve_usd=reserve),
    }


def main(config: Config) -> dict[str, float]:
    """Run it; returns what is also written to result.json."""
    config.output.mkdir(parents=True, exist_ok=True)
    print(f"results go to {config.output}/")
    numbers = estimated(config.train)
    print(f"{len(numbers.past):,} past questions, {len(numbers.future):,} to come, {len(numbers.cost_usd)} models")
    result: dict[str, float] = {}
    rows = []
    kinds = [(order, queries, 1) for order in ORDERS for queries in config.lengths]
    kinds += [("random", queries, config.in_flight) for queries in config.lengths]
    for order, queries, at_once in tqdm(kinds, desc="kinds of streams"):
        found = shares(numbers, config, order, queries, at_once)
        for way, values in found.items():
            rows.append((order, queries, at_once, way, values))
            for share, value in zip(SHARES, values, strict=True):
                result[_key(order, queries, at_once, way, share)] = value
    print(table(rows))
    with replacing(config.output / "table.csv") as partial:
        partial.write_text(_csv(rows))
    paths_figure(config.output / "paths.png", numbers, config)
    write_json(config.output / "result.json", result)
    print(f"\nwritten to {config.output}/: result.json, table.csv, paths.png")
    return result


def estimated(train: TrainConfig) -> Numbers:
    """Held-out estimates of the training questions, and estimates of the test questions."""
    pool = load_mmlu_pool()
    encoder = load_encoder(train.encoder)
    features = prompt_features(encoder, pool.train.prompts + pool.test.prompts, train.features.of(encoder)).values
    head, report = train_head(features[: len(pool.train)], pool.train, train)
    domain = domain_numbers(pool.test.domains, report.domains)
    return Numbers(
        past=np.asarray(report.held_out_estimates, np.float64),
        future=np.asarray(head_estimates(head, features[len(pool.train) :], domain=domain), np.float64),
        domains=list(pool.test.domains),
        cost_usd=flat_cost_usd(ROUTOO_TABLE_1, pool.test.models),
        expensive=pool.test.models.index(GPT4),
    )


def stream(numbers: Numbers, order: str, queries: int, generator: np.random.Generator) -> Streamed:
    """Questions drawn at random, then put into an order; more than there are only with repeats."""
    drawn = generator.choice(len(numbers.future), queries, replace=queries > len(numbers.future))
    if order == "law last":
        drawn = drawn[np.argsort([LAW in numbers.domains[row] for row in drawn], kind="stable")]
    if order == "easy first":
        drawn = drawn[np.argsort(-numbers.future[drawn].mean(axis=1), kind="stable")]
    cost = np.tile(numbers.cost_usd, (queries, 1))
    changes = {}
    if order == "price doubles":
        half = queries // 2
        cost[half:, numbers.expensive] *= 2
        changes[half] = cost[half].copy()
    return Streamed(numbers.future[drawn], cost, changes)


def shares(numbers: Numbers, config: Config, order: str, queries: int, at_once: int) -> dict[str, list[float]]:
    """Per way and budget: its gain over the zero router, of hindsight's, mean over streams."""
    generator = np.random.default_rng([config.seed, ORDERS.index(order), queries, at_once])
    cap = config.cap if at_once > 1 else 1.0
    streams = [stream(numbers, order, queries, generator) for _ in range(config.draws)]
    found: dict[str, list[float]] = {}
    for share in SHARES:
        budget = share * queries * float(numbers.cost_usd[numbers.expensive])
        for way, start in ways(numbers, budget, queries, cap).items():
            gained = []
            for one in streams:
                choices, _ = answer(start(), one, numbers, at_once, cap, generator)
                value = one.value[np.arange(queries), choices][choices >= 0].sum()
                least = one.zero_router(budget)
                gained.append((value - least) / (one.hindsight(budget) - least))
            found.setdefault(way, []).append(float(np.mean(gained)))
    return found


def answer(
    pace: Pacer, one: Streamed, numbers: Numbers, at_once: int, cap: float, generator: np.random.Generator
) -> tuple[Int[np.ndarray, " queries"], Float[np.ndarray, " queries"]]:
    """The choice for every query, and what was spent when it began. Raises where the budget was exceeded."""
    choices, spent, waiting, paid = np.full(len(one.value), -1), np.zeros(len(one.value)), list[tuple[float, float]](), 0.0
    # With mean 1, up to the cap.
    actual = np.minimum(generator.exponential(1.0, len(one.value)), cap) / (1 - np.exp(-cap)) if cap > 1 else None
    for row, (value, cost) in enumerate(zip(one.value, one.cost_usd, strict=True)):
        if row in one.changes:
            pace.sample(Problem(numbers.past, one.changes[row]))
        spent[row] = paid
        choice = pace.choose(value, cost, cap * cost)
        choices[row] = choice
        if choice < 0:
            pace.skip()
        else:
            pace.begin(cost[choice], cap * cost[choice])
            waiting.append((cost[choice], cost[choice] * min(cap, 1.0 if actual is None else actual[row])))
        if len(waiting) >= at_once or row == len(one.value) - 1:
            for expected, real in waiting if row == len(one.value) - 1 else [waiting.pop(0)]:
                pace.end(expected, cap * expected, paid_usd=real)
                paid += real
    if paid > pace.budget_usd * (1 + 1e-9):
        raise RuntimeError(f"{paid} dollars were spent within a budget of {pace.budget_usd}")
    return choices, spent


def paths_figure(path: Path, numbers: Numbers, config: Config) -> None:
    """What has been spent, over the course of one stream per order, at half of GPT-4's cost."""
    from matplotlib import pyplot

    queries = max(config.lengths)
    figure, axes = pyplot.subplots(1, len(ORDERS), figsize=(3.2 * len(ORDERS), 3.2), layout="constrained", sharey=True)
    budget = 0.5 * queries * float(numbers.cost_usd[numbers.expensive])
    for order, axis in zip(ORDERS, axes, strict=True):
        one = stream(numbers, order, queries, np.random.default_rng([config.seed, 99]))
        for colour, (way, start) in zip(COLOURS, ways(numbers, budget, queries, 1.0).items(), strict=False):
            _, spent = answer(start(), one, numbers, 1, 1.0, np.random.default_rng(0))
            axis.plot(np.arange(queries), 100 * spent / budget, color=colour, linewidth=1.3, label=way)
        best = lagrangian(Problem(one.value, one.cost_usd, budget)).choice
        hindsight = np.cumsum(one.cost_usd[np.arange(queries), best])
        axis.plot(np.arange(queries), 100 * hindsight / budget, color="#444444", linestyle="--", linewidth=1, label="hindsight")
        axis.set_title(order, fontsize=10)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("spent, percent of the budget")
    figure.supxlabel("queries", fontsize=9)
    axes[0].legend(fontsize=7, frameon=False)
    save_figure(figure, path)


def table(rows: list[tuple[str, int, int, str, list[float]]]) -> str:
    """One line per kind of stream and way."""
    budgets = "".join(f"{f'{100 * share:.0f} %':>8}" for share in SHARES)
    lines = [f"\nshare of hindsight's gain over the zero router, percent; budgets of GPT-4's cost\n{'':<58}{budgets}"]
    for order, queries, at_once, way, values in rows:
        label = f"{order}, {queries:,}" + (f", {at_once} in flight" if at_once > 1 else "")
        lines.append(f"{label:<30}{way:<28}" + "".join(f"{100 * value:>8.1f}" for value in values))
    return "\n".join(lines)


def _csv(rows: list[tuple[str, int, int, str, list[float]]]) -> str:
    head = "order,queries,in_flight,way," + ",".join(f"share_at_{100 * share:.0f}" for share in SHARES)
    return "\n".join([head, *_csv_lines(rows)]) + "\n"


def _csv_lines(rows: list[tuple[str, int, int, str, list[float]]]) -> Iterator[str]:
    for order, queries, at_once, way, values in rows:
        yield f'{order},{queries},{at_once},"{way}",' + ",".join(f"{value:.6f}" for value in values)


def _key(order: str, queries: int, at_once: int, way: str, share: float) -> str:
    words = f"{order} {queries} {f'{at_once} in flight ' if at_once > 1 else ''}{way} at {100 * share:.0f}"
    return words.replace(",", "").replace(".", "").replace("-", "_").replace(" ", "_")


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
