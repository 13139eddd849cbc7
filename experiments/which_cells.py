"""Which cells, a question put to a model, are worth asking, if every answer costs money?

    JAXROUTE_DATA=... uv run python -m experiments.which_cells

Replays tables of which every cell is known: a way of choosing (`ways_to_choose.py`) sees the outcomes of the cells that it has
asked for, and nothing else. The predictor is trained on them and judged on the untouched test rows, over ten seeds: the mean
height of its curve over the zero router's, the verdicts' estimate, and the hull's AIQ gain beside it. Intervals are of both,
which test questions were drawn and which seeds.

More than 20 minutes of one core for everything, without encoding: name some `--pools` and `--ways` for less, as was done for
what follows. Seen on the MMLU pool (full table +2.0 points, 1.4 to 2.7; hull AIQ +2.1, 1.6 to 2.8): by worth per dollar 20
percent of the dollars give +1.9 (1.4 to 2.5), a tie with the full table, and 40 percent +2.0; random cells give +0.8, +1.8
and, at 60 percent, +1.8, random questions +1.1, +1.5 and +1.8. Where cells count alike no way is clearly better than random
cells: by worth +1.3 at 20 and +1.8 at 40 percent, where the hull's gain lies within the full table's interval.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Bool, Float
from tqdm.auto import tqdm

from experiments.real_data import data_folder, load_mmlu_pool
from experiments.reporting import check_names, named
from experiments.ways_to_choose import Replay, Way, planned, ways
from jaxroute import JaxrouteError, RoutingTable, TrainConfig, load_source
from jaxroute.collect.choosing.posterior import principal
from jaxroute.contest.rows import Contest, make_contest
from jaxroute.encoders import load_encoder
from jaxroute.encoders.features import FeatureConfig, prompt_features
from jaxroute.errors import FewOutcomes, TableError
from jaxroute.evaluation import Interval, aiq, aiqs, cost_quality_curve, interval_of
from jaxroute.evaluation.plots import COLOURS, save_figure
from jaxroute.predictor.domain_effects import domain_numbers
from jaxroute.predictor.fitting import train_head
from jaxroute.predictor.predictor import head_estimates
from jaxroute.storage.files import write_json

POOLS = {"mmlu": "smollm2", "paretobandit": "minilm"}
"""Each with the encoder of its own experiment, whose features are in the cache then."""
AXES = ("cells", "dollars")
WAYS = ways()
POINTS = 101
"""Of a curve."""


@dataclass(frozen=True)
class Config:
    """Which pools and ways, how many seeds, the output."""

    output: Path = Path("runs/which_cells")
    """Folder for result.json and the figure."""
    pools: tuple[str, ...] = tuple(POOLS)
    """`mmlu`, `paretobandit`, or both."""
    ways: tuple[str, ...] = tuple(WAYS)
    """Ways to choose: all of these, or some."""
    shares: tuple[float, ...] = (0.1, 0.2, 0.4, 0.6)
    """Of all cells, or of all dollars, at which the ways are judged."""
    seeds: int = 10
    """How often each way is tried."""
    train: TrainConfig = field(default_factory=lambda: TrainConfig(penalties=(3.0, 1.0, 0.3), corrections=(0.3, 0.7), folds=3))
    """The predictor's training, with fewer strengths to try than `jaxroute train` has, and 3 folds of its 5: a third of the
    time."""
    rows: int | None = None
    """Only so many training and test rows, for a quick look; default: all."""
    held_out: bool = False
    """Judge on a third of the training rows in place of the test rows, another one for every seed: by this the plan's defaults
    were chosen."""
    resamples: int = 500
    """Bootstrap resamples of the test questions and of the seeds."""

    def __post_init__(self) -> None:
        check_names("pools", self.pools)
        check_names("ways", self.ways)
        problems = [
            f"{field}={', '.join(sorted(unknown))}: known are {'; '.join(known)}"
            for field, known in (("pools", POOLS), ("ways", WAYS))
            if (unknown := set(getattr(self, field)) - set(known))
        ]
        if not self.shares or not all(0 < share < 1 for share in self.shares):
            problems.append(f"shares={self.shares} must be at least one share between 0 and 1")
        if self.seeds < 1:
            problems.append(f"seeds={self.seeds} must be at least 1")
        if self.rows is not None and self.rows < 100:
            problems.append(f"rows={self.rows} must be at least 100")
        if problems:
            raise TableError("; ".join(problems))


@dataclass(frozen=True, eq=False)
class Judged:
    """One training on the cells that were asked: gains in the test rows and in every resample of them."""

    gain: Float[np.ndarray, " resamples_and_1"]
    """Over the zero router; the first is of the rows as they are."""
    hull: Float[np.ndarray, " resamples_and_1"]
    """AIQ over the single models' hull."""
    cells: float
    """Share of all cells that was asked."""
    dollars: float
    """Share of all dollars that this costs."""


@dataclass(frozen=True)
class Summary:
    """A way at a share, over all seeds."""

    gain: Interval
    hull: Interval
    less: Interval
    """The gain less the full table's, paired."""
    seeds_apart: float
    """Standard deviation of the gain over the seeds."""
    cells: float
    dollars: float


@dataclass(frozen=True, eq=False)
class Trial:
    """A pool with its training and its judged rows, of one seed."""

    contest: Contest
    features: Float[np.ndarray, "queries features"]
    """Of the training rows, then of the judged ones."""
    config: Config

    @property
    def train(self) -> RoutingTable:
        return self.contest.train

    def replay(self, seed: int) -> Replay:
        return Replay(self.train, principal(self.features[: len(self.train)]), seed)

    def taken(self, axis: str) -> Float[np.ndarray, " models"]:
        """What a cell of each model is of all cells, or of all dollars."""
        each = np.ones(len(self.train.models)) if axis == "cells" else self.train.mean_cost_usd()
        return each / (each.sum() * len(self.train))

    def judged(self, asked: Bool[np.ndarray, "queries models"]) -> Judged:
        """Train on these cells alone. The zero router and the expected costs are those of the full table for all ways."""
        table, test = self.train, self.contest.test
        rows = np.flatnonzero(asked.any(axis=1))
        seen = replace(table, quality=np.where(asked, table.quality, np.nan)).select(rows)
        head, report = train_head(self.features[: len(table)][rows], seen, self.config.train)
        domains = domain_numbers(test.domains, report.domains)
        estimates = head_estimates(head, self.features[len(table) :], domain=domains, kind="expected")
        curve = cost_quality_curve(test, estimates, points=POINTS, expected_cost_usd=self.contest.expected_cost_usd)
        low, high = self.contest.costs
        gains, hulls = [], []
        for weights in (None, self.contest.weights):
            areas = [self.contest.areas(*one.means(weights)) for one in (curve, self.contest.zero_router)]
            gains.append(np.atleast_1d(areas[0] - areas[1]))
            tops = [
                aiq(*one.means(), low, high) if weights is None else aiqs(*one.means(weights), low, high)
                for one in (curve, self.contest.single_models)
            ]
            hulls.append(np.atleast_1d(tops[0] - tops[1]))
        counts = asked.sum(axis=0)
        return Judged(np.concatenate(gains), np.concatenate(hulls), *(float(counts @ self.taken(axis)) for axis in AXES))


def main(config: Config) -> dict[str, float | str]:
    """Run it; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    result: dict[str, float | str] = {"seeds": config.seeds}
    found: dict[str, dict[tuple[str, str], list[Summary]]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewOutcomes)
        for pool in config.pools:
            found[pool], numbers = compared(pool, config)
            result |= numbers
    figure(config.output / "which_cells.png", found)
    write_json(config.output / "result.json", result)
    print(f"\nwritten to {config.output}/: result.json, which_cells.png")
    return result


def compared(pool: str, config: Config) -> tuple[dict[tuple[str, str], list[Summary]], dict[str, float | str]]:
    """All ways on one pool: by way and axis, a summary at each share and of the full table; and the numbers for result.json."""
    trials = make_trials(pool, config)
    full = [one.judged(np.ones(one.train.quality.shape, bool)) for one in (trials if config.held_out else trials[:1])]
    full = full if config.held_out else full * config.seeds
    whole = summary(full, full)
    print(f"\n{pool}: {len(trials[0].train):,} questions, {len(trials[0].train.models)} models")
    print(
        f"{'':<44} {'share of':>11} {'cells':>6} {'dollars':>8}  {'gain':<22} {'seeds':>6} {'less the full table':<24} hull AIQ"
    )
    print(_row("full table", "", whole))
    numbers = named(f"{pool} gain_at_100_percent", whole.gain) | named(f"{pool} aiq_gain_at_100_percent", whole.hull)
    found = {}
    for name in tqdm(config.ways, desc=pool, unit=" ways"):
        way = WAYS[name]
        rows = [at_shares(trial, way, seed, config) for seed, trial in enumerate(trials)]
        summaries = [summary(column, full) for column in zip(*rows, strict=True)]
        for axis in AXES if way.axis is None else (way.axis,):
            found[name, axis] = [*summaries, whole]
            for share, one in zip(config.shares, summaries, strict=True):
                print(_row(name, f"{share:.0%} {axis}", one))
                place = f"at_{100 * share:g}_percent_of_{axis}"
                numbers |= named(f"{pool} {name} gain_{place}", one.gain) | named(f"{pool} {name} aiq_gain_{place}", one.hull)
                numbers |= named(f"{pool} {name} less_than_full_{place}", one.less)
            numbers[f"{pool} {name} least_share_of_{axis}"] = least_share(config.shares, summaries, whole)
    return found, numbers | its_own_end(pool, trials, full)


def its_own_end(pool: str, trials: Sequence[Trial], full: Sequence[Judged]) -> dict[str, float | str]:
    """Where the plan ends by itself, per dollar."""
    each = []
    for seed, trial in enumerate(trials):
        asked = np.zeros(trial.train.quality.shape, bool)
        for cell in planned(trial.replay(seed), "dollars", stop=True):
            asked[cell] = True
        each.append(trial.judged(asked))
    one = summary(each, full)
    print(_row("by worth, per dollar, to its own end", "", one))
    return (
        {f"{pool} own_end_cells": one.cells, f"{pool} own_end_dollars": one.dollars}
        | named(f"{pool} own_end_gain", one.gain)
        | named(f"{pool} own_end_less_than_full", one.less)
    )


def make_trials(pool: str, config: Config) -> list[Trial]:
    """One per seed; all the same where the test rows judge."""
    train, test = load_pool(pool)
    if config.rows is not None:
        train, test = (one.select(np.random.default_rng(0).permutation(len(one))[: config.rows]) for one in (train, test))
    encoder = POOLS[pool] if config.train.encoder == TrainConfig().encoder else config.train.encoder
    features = prompt_features(load_encoder(encoder), train.prompts + test.prompts, FeatureConfig()).values
    if not config.held_out:
        return [_trial(train, test, features, config)] * config.seeds
    trials = []
    for seed in range(config.seeds):
        order = np.random.default_rng(100 + seed).permutation(len(train))
        kept, judged = np.sort(order[: 2 * len(train) // 3]), np.sort(order[2 * len(train) // 3 :])
        trials.append(_trial(train.select(kept), train.select(judged), features[np.concatenate([kept, judged])], config))
    return trials


def load_pool(pool: str) -> tuple[RoutingTable, RoutingTable]:
    """Training and test rows on which every model was run."""
    if pool == "mmlu":
        both = load_mmlu_pool()
        return both.train, both.test
    parts = (load_source("paretobandit", data_folder() / "paretobandit" / f"{name}.jsonl") for name in ("val_k4", "test_k4"))
    train, test = (part.complete()[0] for part in parts)
    return train, test


def at_shares(trial: Trial, way: Way, seed: int, config: Config) -> list[Judged]:
    """The way's cells up to every share, in one pass; its axis, or cells where it treats all models alike."""
    taken = trial.taken(way.axis or "cells")
    asked, used = np.zeros(trial.train.quality.shape, bool), 0.0
    found, cells = [], way.cells(trial.replay(seed))
    for share in sorted(config.shares):
        for row, column in cells:
            asked[row, column] = True
            used += taken[column]
            if used >= share - 1e-9:
                break
        found.append(trial.judged(asked))
    return found


def summary(each: Sequence[Judged], full: Sequence[Judged]) -> Summary:
    """Means over the seeds; in every resample of the questions the seeds are drawn anew as well."""
    generator = np.random.default_rng(0)

    def interval(values: Float[np.ndarray, "seeds resamples_and_1"]) -> Interval:
        drawn = generator.integers(len(values), size=(len(values), values.shape[1] - 1))
        return interval_of(float(values[:, 0].mean()), np.take_along_axis(values[:, 1:], drawn, axis=0).mean(axis=0))

    gain, hull = (np.stack([getattr(one, name) for one in each]) for name in ("gain", "hull"))
    return Summary(
        gain=interval(gain),
        hull=interval(hull),
        less=interval(gain - np.stack([one.gain for one in full])),
        seeds_apart=float(gain[:, 0].std(ddof=1)) if len(each) > 1 else 0.0,
        cells=float(np.mean([one.cells for one in each])),
        dollars=float(np.mean([one.dollars for one in each])),
    )


def least_share(shares: Sequence[float], summaries: Sequence[Summary], whole: Summary) -> float:
    """The least of the judged shares from which on the hull's AIQ gain lies within the full table's interval; 1 where none."""
    within = [one.hull.value >= whole.hull.low for one in summaries]
    least = 1.0
    for share, inside in sorted(zip(shares, within, strict=True), reverse=True):
        if not inside:
            break
        least = share
    return least


def figure(path: Path, found: Mapping[str, Mapping[tuple[str, str], Sequence[Summary]]]) -> None:
    """A row per pool: the gain over the share of cells, and over the share of dollars."""
    from matplotlib import pyplot

    names = list(dict.fromkeys(name for pool in found.values() for name, _ in pool))
    shown, grid = pyplot.subplots(len(found), 2, figsize=(12, 1 + 3.6 * len(found)), squeeze=False, layout="constrained")
    for (pool, curves), row in zip(found.items(), grid, strict=True):
        for axis, axes in zip(AXES, row, strict=True):
            for name, each in ((name, one) for (name, of), one in curves.items() if of == axis):
                at = [getattr(one, axis) for one in each]
                number = names.index(name)
                axes.plot(
                    at,
                    [100 * one.gain.value for one in each],
                    color=COLOURS[number % len(COLOURS)],
                    linestyle="-" if number < len(COLOURS) else "--",
                    marker="o",
                    markersize=3,
                    label=name,
                )
            whole = next(iter(curves.values()))[-1].gain
            axes.axhspan(100 * whole.low, 100 * whole.high, color="#888888", alpha=0.15, label="full table, 95 percent")
            axes.set_title(pool, fontsize=9)
            axes.set_xlabel(f"share of all {axis}", fontsize=9)
            axes.set_ylabel("gain over the zero router, points", fontsize=9)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(fontsize=7, frameon=False)
    save_figure(shown, path)


def _trial(train: RoutingTable, test: RoutingTable, features: np.ndarray, config: Config) -> Trial:
    contest = make_contest(train, test, resamples=config.resamples)
    if (len(contest.train), len(contest.test)) != (len(train), len(test)):
        raise TableError(f"{train.name}: rows were dropped, features would not fit the others: {'; '.join(contest.notes)}")
    return Trial(contest, features, config)


def _row(name: str, share: str, one: Summary) -> str:
    return (
        f"{name:<44} {share:>11} {one.cells:>6.0%} {one.dollars:>8.0%}  {one.gain!s:<22} {100 * one.seeds_apart:>6.2f} "
        f"{one.less!s:<24} {one.hull}"
    )


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
