"""How far is Routoo's greedy selector from the best assignment on the same estimates?

    JAXROUTE_DATA=... uv run python -m experiments.greedy_vs_exact

With `--train.encoder minilm`, as seen here, 2 minutes on 2 cores of an AMD EPYC; with SmolLM2 10 minutes or more to encode
the prompts once (RouterBench's hold few-shot examples). Seen, as a share of the proved optimum on the same estimates, at the
worst of nine budgets: with alpha = 1 greedy stays cheap whatever the budget and reaches 82 percent (MMLU), 72 (ARC) and 50
(MBPP); with alpha = 0.01 it leaves up to 98 percent of the queries unanswered and reaches 3, 4 and 8 percent; made to answer
everything, its alpha tuned for each budget, 97, 97 and 93 percent. On true right-or-wrong outcomes alpha has no effect, and
at tight budgets the order of the queries moves the value by up to 63 percent.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float
from tqdm.auto import tqdm

from experiments.real_data import load_mmlu_pool, routerbench_parts
from jaxroute import JaxrouteError, TrainConfig
from jaxroute.encoders import load_encoder
from jaxroute.encoders.features import prompt_features
from jaxroute.evaluation.plots import save_figure
from jaxroute.predictor.fitting import train_head
from jaxroute.predictor.predictor import head_estimates
from jaxroute.storage.files import replacing, write_json
from solvers import Problem, exact, frontier, greedy_ratio

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
"""Of the way from the cheapest assignment to the far end of a range."""
TUNED = tuple(float(alpha) for alpha in np.geomspace(1e-3, 10, 17))
"""Alphas to tune over; the best for each budget is taken, on the estimates, as a user can."""


@dataclass(frozen=True)
class Config:
    """Greedy at the paper's alphas and tuned, in several orders of the queries, against the proved optimum."""

    output: Path = Path("runs/greedy_vs_exact")
    """Folder for result.json, table.csv and the figure."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Of the predictor whose estimates are assigned."""
    alphas: tuple[float, ...] = (1.0, 0.1, 0.01)
    """The paper's."""
    orders: int = 5
    """Orders of the queries; the first is the file's."""
    seed: int = 0
    """Of the other orders."""


@dataclass(frozen=True)
class Batch:
    """A batch to assign: what it is, on which numbers, and what really happens."""

    name: str
    value: Float[np.ndarray, "queries models"]
    cost: np.ndarray
    quality: Float[np.ndarray, "queries models"]


@dataclass(frozen=True)
class Row:
    """One way of assigning at one budget; medians over the orders."""

    batch: str
    reach: str
    """Where the range of budgets ends: `most expensive` assignment, or `saturation`, where more money adds nothing."""
    share: float
    method: str
    of_optimum: float
    """Estimated value, as a share of the proved optimum that answers everything."""
    lowest: float
    highest: float
    """The same over the orders."""
    unanswered: float
    """Share of the queries."""
    quality: float
    """True mean quality; unanswered counts 0."""
    seconds: float


def main(config: Config) -> dict[str, float | str]:
    """Run it; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    rows: list[Row] = []
    for batch in tqdm(list(batches(config)), desc="comparing", unit=" batches"):
        rows += compare(batch, config)
    result = summary(rows)
    write_json(config.output / "result.json", result)
    _write_table(config.output / "table.csv", rows)
    _figure(config.output / "greedy_vs_exact.png", rows)
    print(f"\nwritten to {config.output}/: result.json, table.csv, greedy_vs_exact.png")
    return result


def batches(config: Config) -> Iterator[Batch]:
    """The test parts of three real pools, with what is predicted and with what is true."""
    pool = load_mmlu_pool()
    parts = {"MMLU": (pool.train, pool.test)}
    parts |= {name: routerbench_parts(file) for name, file in (("ARC", "arc_challenge"), ("MBPP", "mbpp"))}
    encoder = load_encoder(config.train.encoder)
    for name, (train, test) in parts.items():
        features = prompt_features(encoder, train.prompts + test.prompts, config.train.features).values
        head, _ = train_head(features[: len(train)], train, config.train)
        cost = train.mean_cost_usd()
        yield Batch(f"{name}, predicted", head_estimates(head, features[len(train) :]), cost, test.quality)
        yield Batch(f"{name}, true", test.quality, test.cost_usd if name != "MMLU" else cost, test.quality)


def compare(batch: Batch, config: Config) -> list[Row]:
    """Every method at every budget of both ranges."""
    generator = np.random.default_rng(config.seed)
    count = len(batch.value)
    orders = [np.arange(count), *(generator.permutation(count) for _ in range(config.orders - 1))]
    cost = np.broadcast_to(batch.cost, batch.value.shape)
    posed = Problem(batch.value, cost, float(cost.max(axis=1).sum()))
    ends = {"most expensive": posed.budget_usd, "saturation": float(frontier(posed).cost_usd[-1])}
    rows = []
    for reach, end in ends.items():
        for share in SHARES:
            budget = posed.least_cost + share * (end - posed.least_cost)
            best = exact(replace(posed, budget_usd=budget))
            place = (batch.name, reach, share)
            rows.append(Row(*place, "exact", **_measured([best], [orders[0]], best.value, batch)))
            methods = {f"greedy, alpha {alpha:g}": {"alpha": alpha, "reserve": False} for alpha in config.alphas}
            methods |= {f"greedy answering all, alpha {alpha:g}": {"alpha": alpha} for alpha in config.alphas}
            shuffled = [Problem(batch.value[order], cost[order], budget) for order in orders]
            tuned = max(TUNED, key=lambda alpha: greedy_ratio(shuffled[0], alpha=alpha).value)
            methods["greedy answering all, tuned"] = {"alpha": tuned}
            for name, options in methods.items():
                found = [greedy_ratio(problem, **options) for problem in shuffled]
                rows.append(Row(*place, name, **_measured(found, orders, best.value, batch)))
    return rows


def _measured(found, orders: list[np.ndarray], optimum: float, batch: Batch) -> dict[str, float]:
    shares = [one.value / optimum if optimum else 1.0 for one in found]
    qualities = []
    for one, order in zip(found, orders):
        answered = one.choice >= 0
        picked = batch.quality[order, np.maximum(one.choice, 0)]
        qualities.append(float(np.where(answered, picked, 0.0).mean()))
    return {
        "of_optimum": float(np.median(shares)),
        "lowest": min(shares),
        "highest": max(shares),
        "unanswered": float(np.median([one.unanswered for one in found])) / len(batch.value),
        "quality": float(np.median(qualities)),
        "seconds": float(np.median([one.seconds for one in found])),
    }


def summary(rows: list[Row]) -> dict[str, float | str]:
    """Printed per batch and method: the least share of the optimum over the budgets, and where; the same in numbers."""
    result: dict[str, float | str] = {}
    print(f"\n{'':<18} {'':<34} {'least share of the optimum':>27} {'at':>5} {'unanswered there':>17} {'spread by order':>16}")
    for batch in dict.fromkeys(row.batch for row in rows):
        for method in dict.fromkeys(row.method for row in rows):
            mine = [row for row in rows if row.batch == batch and row.method == method and row.reach == "most expensive"]
            worst = min(mine, key=lambda row: row.of_optimum)
            spread = max(row.highest - row.lowest for row in mine)
            print(
                f"{batch:<18} {method:<34} {worst.of_optimum:>27.1%} {worst.share:>5.0%} "
                f"{worst.unanswered:>17.1%} {spread:>16.2%}"
            )
            key = f"{batch}_{method}".lower().replace(", ", "_").replace(" ", "_")
            result |= {f"{key}_least_share": worst.of_optimum, f"{key}_spread_by_order": spread}
    return result


def _write_table(path: Path, rows: list[Row]) -> None:
    import pandas as pd

    with replacing(path) as partial:
        pd.DataFrame([vars(row) for row in rows]).to_csv(partial, index=False)


def _figure(path: Path, rows: list[Row]) -> None:
    from matplotlib import pyplot

    names = list(dict.fromkeys(row.batch for row in rows))
    methods = [method for method in dict.fromkeys(row.method for row in rows) if method != "exact"]
    styles = {method: ("--" if "all" not in method else "-") for method in methods}
    figure, grid = pyplot.subplots(2, (len(names) + 1) // 2, figsize=(13, 7), sharex=True, sharey=True, layout="constrained")
    # Batches alternate between predicted and true: one row of panels each.
    for axes, name in zip(grid.T.ravel(), names):
        for method in methods:
            mine = [row for row in rows if row.batch == name and row.method == method and row.reach == "most expensive"]
            shares = [row.share for row in mine]
            (line,) = axes.plot(shares, [row.of_optimum for row in mine], styles[method], marker=".", label=method)
            axes.fill_between(
                shares, [row.lowest for row in mine], [row.highest for row in mine], color=line.get_color(), alpha=0.15
            )
        axes.axhline(1.0, color="#888888", linewidth=1)
        axes.set_xscale("log")
        axes.set_title(f"{name} quality")
        axes.grid(alpha=0.3)
    for axes in grid[-1]:
        axes.set_xlabel("budget, share of the way from the cheapest\nto the most expensive assignment")
    for axes in grid[:, 0]:
        axes.set_ylabel("value, share of the best\nassignment that answers all")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(
        "Routoo's greedy selector against the proved optimum (dashed: may leave queries unanswered; bands: query orders)"
    )
    save_figure(figure, path)


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
