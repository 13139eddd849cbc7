"""How far does the realised cost of an assignment lie from its budget, with mean costs and with predicted ones?

    JAXROUTE_DATA=... uv run python -m experiments.realised_cost

With `--train.encoder minilm`, as seen here, a minute on 2 cores of an AMD EPYC. Seen, over seven budgets: with mean costs
assignments overrun what was expected by 9.6 percent on MBPP and 9.6 on the simulated pool, with predicted ones by 4.2 and
0.5; on ARC both are within two percent. Quality at the realised cost is the same within the noise on all three.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float
from tqdm.auto import tqdm

from experiments.real_data import routerbench_parts
from jaxroute import JaxrouteError, Predictor, RoutingTable, TrainConfig, load_source, train_costs
from jaxroute.data.sources.simulated import simulated_prices
from jaxroute.encoders import load_encoder
from jaxroute.encoders.features import prompt_features
from jaxroute.evaluation import (
    Curve,
    aiq,
    aiq_gain,
    bootstrap_weights,
    cost_quality_curve,
    outcome,
    overrun,
    paired_interval,
    single_models,
)
from jaxroute.evaluation.plots import save_figure
from jaxroute.predictor.fitting import train_head
from jaxroute.predictor.predictor import head_estimates
from jaxroute.storage.files import replacing, write_json
from solvers import Problem, exact, frontier

SHARES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
"""Budgets, of the way from the cheapest assignment to where more money buys no more estimated quality."""
SIMULATED = "simulated"
BATCH = 100
"""Queries of the batch whose spread is reported."""


@dataclass(frozen=True)
class Config:
    """Costs learnt on training queries, assignments of others within budgets, judged by their true costs."""

    output: Path = Path("runs/realised_cost")
    """Folder for result.json, table.csv and the figure."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Of the predictor of quality and of costs."""
    queries: int = 2000
    """Of the simulated pool; half of them train."""
    points: int = 41
    """Budgets of a whole cost-quality curve."""
    resamples: int = 1000
    """Of the bootstrap over queries."""
    seed: int = 0
    """Of the simulation, its split and the bootstrap."""


@dataclass(frozen=True)
class Batch:
    """Unseen queries: what is estimated of them, and what their answers are expected to cost in each way."""

    name: str
    test: RoutingTable
    estimates: Float[np.ndarray, "queries models"]
    costs: dict[str, Float[np.ndarray, "queries models"]]
    choices: str
    """What each model's costs are predicted from."""


@dataclass(frozen=True)
class Row:
    """One assignment; dollars are means per query."""

    batch: str
    costs: str
    share: float
    budget_usd: float
    expected_usd: float
    realised_usd: float
    off: float
    """realised / expected - 1; what is expected is the budget, but for less than the next exchange."""
    low: float
    high: float
    """Its 95% bootstrap interval over queries."""
    spread: float
    """Standard deviation of the same for a batch of 100 queries, of which `off` is the mean."""
    quality: float


def main(config: Config) -> dict[str, float | str]:
    """Run it; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    rows: list[Row] = []
    result: dict[str, float | str] = {}
    curves: dict[str, dict[str, Curve]] = {}
    for batch in tqdm(batches(config), desc="assigning", unit=" batches", total=3):
        rows += assign(batch, config)
        curves[batch.name] = {
            name: cost_quality_curve(batch.test, batch.estimates, points=config.points, expected_cost_usd=cost)
            for name, cost in batch.costs.items()
        }
        result |= compare(batch, [row for row in rows if row.batch == batch.name], curves[batch.name], config)
    _print(rows, result)
    write_json(config.output / "result.json", result)
    _write_table(config.output / "table.csv", rows)
    _figure(config.output / "realised_cost.png", rows, curves)
    print(f"\nwritten to {config.output}/: result.json, table.csv, realised_cost.png")
    return result


def batches(config: Config) -> Iterator[Batch]:
    """RouterBench's ARC-Challenge and MBPP, with dollars per query and no token counts; the simulated pool, with both."""
    pool = load_source("simulated", queries=config.queries, seed=config.seed)
    parts = {name: routerbench_parts(file) for name, file in (("ARC", "arc_challenge"), ("MBPP", "mbpp"))}
    parts[SIMULATED] = pool.split(0.5, seed=config.seed)
    encoder = load_encoder(config.train.encoder)
    for name, (train, test) in parts.items():
        features = prompt_features(encoder, train.prompts + test.prompts, config.train.features).values
        known, unseen = features[: len(train)], features[len(train) :]
        head, _ = train_head(known, train, config.train)
        predictor = Predictor(
            encoder=encoder, features=config.train.features, head=head, models=train.models, levels=config.train.levels
        )
        pricing, reports = train_costs(train, simulated_prices() if name == SIMULATED else None, predictor, config.train)
        tqdm.write(f"{name}: " + "; ".join(map(str, reports)))
        choices = "; ".join(f"{model}: {words}" for report in reports for model, words in report.choices.items())
        tokens = encoder.count_tokens(test.prompts)
        costs = {
            "mean": pricing.expected_cost_usd(tokens)[0],
            "predicted": pricing.expected_cost_usd(tokens, features=unseen)[0],
            "known": test.cost_usd,
        }
        yield Batch(name, test, head_estimates(head, unseen), costs, choices)


def assign(batch: Batch, config: Config) -> list[Row]:
    """The best assignment at every budget under every kind of costs, and what it really costs."""
    weights = bootstrap_weights(len(batch.test), resamples=config.resamples, seed=config.seed)
    posed = {name: Problem(batch.estimates, cost, float(cost.max(axis=1).sum())) for name, cost in batch.costs.items()}
    least = max(problem.least_cost for problem in posed.values())
    most = min(float(frontier(problem).cost_usd[-1]) for problem in posed.values())
    rows = []
    for share in SHARES:
        budget = least + share * (most - least)
        for name, cost in batch.costs.items():
            assigned = exact(Problem(batch.estimates, cost, budget))
            real = outcome(batch.test, assigned)
            expected = cost[np.arange(len(cost)), assigned.choice]
            interval = paired_interval(overrun(real.cost_usd, expected), weights)
            rows.append(
                Row(
                    batch.name,
                    name,
                    share,
                    budget / len(cost),
                    float(expected.mean()),
                    real.mean_cost_usd,
                    interval.value,
                    interval.low,
                    interval.high,
                    float((real.cost_usd - expected).std(ddof=1) / BATCH**0.5 / expected.mean()),
                    real.mean_quality,
                )
            )
    return rows


def compare(batch: Batch, rows: list[Row], curves: dict[str, Curve], config: Config) -> dict[str, float | str]:
    """How far off over all budgets, and whether quality at the same realised cost is another."""
    weights = bootstrap_weights(len(batch.test), resamples=config.resamples, seed=config.seed)
    alone, _ = single_models(batch.test).means()
    result: dict[str, float | str] = {f"{batch.name}_choices": batch.choices}
    errors = {name: ((batch.test.cost_usd - cost) ** 2).sum(axis=0) for name, cost in batch.costs.items()}
    result[f"{batch.name}_explained"] = float(np.median(1 - errors["predicted"] / errors["mean"]))
    for name in batch.costs:
        mine = [row for row in rows if row.costs == name]
        result[f"{batch.name}_{name}_off_mean"] = float(np.mean([row.off for row in mine]))
        result[f"{batch.name}_{name}_off_worst"] = max((row.off for row in mine), key=abs)
        result[f"{batch.name}_{name}_spread_of_{BATCH}"] = float(np.mean([row.spread for row in mine]))
        result[f"{batch.name}_{name}_aiq"] = aiq(*curves[name].means(), alone.min(), alone.max())
    for name in ("predicted", "known"):
        interval = aiq_gain(curves[name], curves["mean"], weights, low=alone.min(), high=alone.max())
        result |= {f"{batch.name}_{name}_aiq_gain{end}": getattr(interval, value) for end, value in ENDS.items()}
    return result


ENDS = {"": "value", "_low": "low", "_high": "high"}


def _print(rows: list[Row], result: dict[str, float | str]) -> None:
    print(f"\n{'realised over expected cost':<28}{'share':>6}{'usd/1000':>10}", end="")
    print(f"{'mean costs':>26}{'quality':>9}{'predicted costs':>26}{'quality':>9}{'known: quality':>16}")
    for place in dict.fromkeys((row.batch, row.share) for row in rows):
        found = {row.costs: row for row in rows if (row.batch, row.share) == place}
        line = f"{place[0]:<28}{place[1]:>6g}{1000 * found['mean'].budget_usd:>10.4g}"
        for name in ("mean", "predicted"):
            row = found[name]
            line += f"{row.off:>+9.1%} ({row.low:+6.1%} to {row.high:+6.1%}){row.quality:>9.3f}"
        print(line + f"{found['known'].quality:>16.3f}")
    print()
    for name, value in result.items():
        print(f"{name:<40} {value if isinstance(value, str) else f'{value:+.4f}'}")


def _write_table(path: Path, rows: list[Row]) -> None:
    import pandas as pd

    with replacing(path) as partial:
        pd.DataFrame([vars(row) for row in rows]).to_csv(partial, index=False)


def _figure(path: Path, rows: list[Row], curves: dict[str, dict[str, Curve]]) -> None:
    from matplotlib import pyplot

    colours = {"mean": "#d95f02", "predicted": "#1b6ca8", "known": "#888888"}
    figure, panels = pyplot.subplots(2, len(curves), figsize=(13, 8), layout="constrained")
    for (name, by_costs), (above, below) in zip(curves.items(), panels.T, strict=True):
        for costs in ("mean", "predicted"):
            mine = [row for row in rows if row.batch == name and row.costs == costs]
            shares = [row.share for row in mine]
            above.plot(shares, [100 * row.off for row in mine], marker="o", color=colours[costs], label=f"{costs} costs")
            bounds = [100 * row.low for row in mine], [100 * row.high for row in mine]
            above.fill_between(shares, *bounds, color=colours[costs], alpha=0.15)
        above.axhline(0, color="#888888", linewidth=1)
        above.set_title(name)
        above.set_xlabel("budget, share of the way to saturation")
        for costs, curve in by_costs.items():
            cost, quality = curve.means()
            below.plot(1000 * cost, quality, marker=".", color=colours[costs], label=f"{costs} costs")
        below.set_xscale("log")
        below.set_xlabel("realised dollars per 1,000 queries")
        for axes in (above, below):
            axes.grid(alpha=0.3)
            axes.legend()
    panels[0, 0].set_ylabel("realised over expected cost, percent")
    panels[1, 0].set_ylabel("true mean quality")
    figure.suptitle("What assignments really cost, on unseen queries (bands: 95% bootstrap intervals)")
    save_figure(figure, path)


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
