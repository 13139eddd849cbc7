"""Does a promise hold as often as it says, and what does it cost?

    JAXROUTE_DATA=... uv run python -m experiments.promises

About 12 minutes on 2 cores beside other jobs. 500 draws of calibration rows per promise, against GPT-4, which costs 20
dollars per million tokens on the MMLU pool; the cheapest price that really keeps two points costs 12.92. Two points at 90
percent confidence on 300 / 500 / 1,000 / 2,000 rows cost 15.89, 15.35, 14.53 and 14.03 by the exact test, and 16.90, 15.89,
15.01 and 14.41 by betting, which graded outcomes need. Of these promises 4.0, 4.0, 3.4 and 3.0 percent are broken (by betting
2.2, 3.0, 2.8, 1.6), where the calibration rows are drawn from the pool with replacement and judged by its means: that is what
the theorem is about. The rest of a split is a sample with luck of its own: it falls below the promise in 8.2, 6.8, 8.8 and
13.4 percent. At 1,000 rows, one point costs 16.22 and four 11.72 (4.4 and 5.2 percent broken), at 95 percent confidence two
points 15.02 (1.2). Of all MMLU promises at most 3.0 percent are broken where 5 may be, and 6.4 where 10 may be.

ParetoBandit, graded, against Gemini 2.5 Pro at 15.05 dollars per 1,000 queries: two points at 90 percent confidence cost
5.01, 0.97 and 0.44 on 300, 500 and 896 rows (0.2, 1.8 and 3.8 percent broken). RouterBench's ARC, against GPT-4 at 5.00, on
218 rows: two points cost 4.20 and four 1.96 (2.8 and 8.0 percent). MBPP's 64 rows promise two points in 18.6 percent of all
draws (6.2).
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

from experiments.real_data import GPT4, data_folder, load_mmlu_pool, routerbench_parts
from jaxroute import JaxrouteError, RoutingTable, TableError, TrainConfig, load_source
from jaxroute.data.prices import ROUTOO_TABLE_1
from jaxroute.encoders import load_encoder
from jaxroute.encoders.features import prompt_features_of_all
from jaxroute.evaluation.plots import COLOURS, save_figure
from jaxroute.guarantees.claims import Outcomes, QualityClaim, chosen
from jaxroute.guarantees.sequence import Policies, last_shown, policies
from jaxroute.predictor.domain_effects import domain_numbers
from jaxroute.predictor.fitting import train_head
from jaxroute.predictor.predictor import head_estimates
from jaxroute.predictor.training import train_estimator
from jaxroute.storage.files import replacing, write_json

BOUNDS = ("exact", "betting")
POOLS = ("mmlu", "paretobandit", "arc", "mbpp")
ROUTERBENCH = {"arc": "arc_challenge", "mbpp": "mbpp"}


@dataclass(frozen=True)
class Config:
    """Which promises, on how many calibration rows, how often."""

    output: Path = Path("runs/promises")
    """Folder for result.json, table.csv and the figure."""
    splits: int = 500
    """Draws of calibration rows per promise."""
    within: tuple[float, ...] = (0.01, 0.02, 0.04)
    """Quality below the reference's that is promised at most."""
    error: tuple[float, ...] = (0.05, 0.1)
    """Probability that a promise is wrong."""
    rows: tuple[int, ...] = (300, 500, 1000, 2000)
    """Calibration rows; fewer where a pool has not as many."""
    pools: tuple[str, ...] = POOLS
    """mmlu, paretobandit, and RouterBench's arc and mbpp."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Of the router on the MMLU pool."""
    train_others: TrainConfig = field(default_factory=lambda: TrainConfig(encoder="minilm"))
    """Of the routers on the other pools."""
    seed: int = 0
    """Of the draws."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} must name at least one" for name in ("within", "error", "rows", "pools") if not getattr(self, name)
        ]
        if self.splits < 1:
            problems.append(f"splits={self.splits} must be at least 1")
        if unknown := [name for name in self.pools if name not in POOLS]:
            problems.append(f"pools={' '.join(unknown)} must be of {', '.join(POOLS)}")
        if not all(0 < one < 1 for one in (*self.within, *self.error)):
            problems.append("within and error must lie between 0 and 1")
        if problems:
            raise TableError("; ".join(problems))


@dataclass(frozen=True, eq=False)
class Pool:
    """Rows that a router has not seen, what it estimates of them, and the model that it is compared with."""

    name: str
    table: RoutingTable
    quality: Float[np.ndarray, "rows models"]
    """Estimated."""
    expected_usd: Float[np.ndarray, "rows models"]
    reference: int

    @property
    def scale(self) -> float:
        """Dollars are per million tokens on MMLU, else per 1,000 queries."""
        return 1.0 if self.name == "mmlu" else 1000.0


@dataclass(frozen=True)
class Promised:
    """Many promises of one kind."""

    cost: float
    """Mean cost of the promised price over all rows, calibrated on a part of them; the reference's where none is found."""
    broken: float
    """Share that the means of all rows break, calibrated on rows drawn with replacement: the setting of the theorem."""
    broken_on_others: float
    """Share that the rest of the pool's rows break, which is a sample with luck of its own: the theorem is not about it."""
    none: float
    """Share of draws on which nothing could be promised."""


def main(config: Config) -> dict[str, float]:
    """Run it; returns what is also written to result.json."""
    config.output.mkdir(parents=True, exist_ok=True)
    print(f"results go to {config.output}/")
    result: dict[str, float] = {}
    lines = ["pool,bound,within,error,rows,cost,broken,broken_on_others,none"]
    for pool in _pools(config):
        prefix = "" if pool.name == "mmlu" else f"{pool.name}_"
        for bound, within, error, rows, found in _promises(pool, config):
            values = (found.cost, found.broken, found.broken_on_others, found.none)
            lines.append(f"{pool.name},{bound},{within:g},{error:g},{rows}," + ",".join(f"{value:.6g}" for value in values))
            key = f"eps{100 * within:g}_delta{100 * error:g}"
            way = "" if bound == _best_bound(pool) else f"{bound}_"
            result |= {
                f"{prefix}{way}cost_{key}_{rows}": found.cost,
                f"{prefix}{way}violations_{key}_{rows}": found.broken,
                f"{prefix}{way}violations_on_others_{key}_{rows}": found.broken_on_others,
                f"{prefix}{way}none_{key}_{rows}": found.none,
            }
            if rows == _usual_rows(pool, config):
                result[f"{prefix}{way}violations_{key}"] = found.broken
    with replacing(config.output / "table.csv") as partial:
        partial.write_text("\n".join(lines) + "\n")
    _figure(config, result)
    write_json(config.output / "result.json", result)
    print(f"\nwritten to {config.output}/: result.json, table.csv, promises.png")
    return result


def _promises(pool: Pool, config: Config) -> Iterator[tuple[str, float, float, int, Promised]]:
    """Every bound, promise and number of rows on one pool."""
    ways, table = policies(pool.quality, pool.expected_usd), pool.table
    outcomes = Outcomes(table.quality, table.quality[:, [pool.reference]], table.cost_usd)
    binary = outcomes.binary
    routed = np.stack([chosen(table.quality, choice) for choice in ways.choices])
    cost = np.array([chosen(table.cost_usd, choice).mean() for choice in ways.choices]) * pool.scale
    difference = routed - table.quality[:, pool.reference]
    reference = float(table.cost_usd[:, pool.reference].mean()) * pool.scale
    print(
        f"\n{pool.name}: {len(table):,} rows, {len(ways)} prices, reference {table.models[pool.reference]}, which costs "
        f"{reference:.4g}; outcomes {'0 or 1' if binary else 'graded'}"
    )
    print(f"{'':<32} {'best cost':>9} {'cost':>8} {'broken':>8} {'on others':>10} {'none':>6}  (percent)")
    for within in config.within:
        means = difference.mean(axis=1)
        best = last_shown(range(len(ways)), lambda one, m=means, w=within: bool(m[one] >= -w))
        for error in config.error:
            for rows in sorted({min(rows, len(table) // 2) for rows in config.rows}):
                for bound in BOUNDS if binary else BOUNDS[1:]:
                    claim = QualityClaim(within, None, bound == "exact")
                    found = _many(ways, outcomes, difference, cost, reference, claim, error, rows, config)
                    label = f"{bound}, {100 * within:g} points, {100 * error:g} %, {rows:,}"
                    print(
                        f"{label:<32} {reference if best is None else cost[best]:>9.4g} {found.cost:>8.4g} "
                        f"{100 * found.broken:>8.1f} {100 * found.broken_on_others:>10.1f} {100 * found.none:>6.1f}",
                        flush=True,
                    )
                    yield bound, within, error, rows, found


def _many(
    ways: Policies,
    outcomes: Outcomes,
    difference: Float[np.ndarray, "policies rows"],
    cost: Float[np.ndarray, " policies"],
    reference: float,
    claim: QualityClaim,
    error: float,
    rows: int,
    config: Config,
) -> Promised:
    """The promises of as many draws of calibration rows: with replacement, and in a second pass as a split."""
    assert claim.within is not None
    total, every = np.zeros(4), difference.mean(axis=1)
    for split in tqdm(range(config.splits), desc=f"{rows} rows", leave=False, delay=5):
        generator = np.random.default_rng([config.seed, split])
        order = generator.permutation(difference.shape[1])
        drawn, others = generator.integers(len(order), size=rows), order[rows:]
        found = _promised(ways, outcomes, drawn, claim, error)
        split_found = _promised(ways, outcomes, order[:rows], claim, error)
        total[0] += reference if split_found is None else cost[split_found]
        total[1] += found is not None and every[found] < -claim.within
        total[2] += split_found is not None and difference[split_found, others].mean() < -claim.within
        total[3] += found is None
    return Promised(*(total / config.splits))


def _promised(
    ways: Policies, outcomes: Outcomes, drawn: Int[np.ndarray, " rows"], claim: QualityClaim, error: float
) -> int | None:
    part = outcomes.select(drawn)
    return last_shown(range(len(ways)), lambda one: claim.shown(part, ways.choices[one][drawn], error))


def _pools(config: Config) -> Iterator[Pool]:
    makers: dict[str, Callable[[], Pool]] = {
        "mmlu": lambda: _mmlu(config.train),
        "paretobandit": lambda: _of_parts("paretobandit", *_paretobandit(), config.train_others),
        **{
            name: lambda part=part, name=name: _of_parts(name, *routerbench_parts(part), config.train_others)
            for name, part in ROUTERBENCH.items()
        },
    }
    for name in config.pools:
        yield makers[name]()


def _mmlu(config: TrainConfig) -> Pool:
    pool = load_mmlu_pool()
    encoder = load_encoder(config.encoder)
    (features,) = prompt_features_of_all(encoder, pool.train.prompts + pool.test.prompts, [config.features.of(encoder)])
    head, report = train_head(features.values[: len(pool.train)], pool.train, config)
    domain = domain_numbers(pool.test.domains, report.domains)
    quality = head_estimates(head, features.values[len(pool.train) :], domain=domain)
    usd = np.array([ROUTOO_TABLE_1[model].mean for model in pool.test.models])
    expected = np.broadcast_to(usd, quality.shape).copy()
    return Pool("mmlu", pool.test, np.asarray(quality, np.float64), expected, pool.test.models.index(GPT4))


def _of_parts(name: str, train: RoutingTable, test: RoutingTable, config: TrainConfig) -> Pool:
    """Learnt from one part; compared with the model that was best in it."""
    predictor, _ = train_estimator(train, config)
    estimates = predictor.estimate(test.queries).select(test.models)
    return Pool(name, test, estimates.quality, estimates.cost_usd, int(np.nanmean(train.quality, axis=0).argmax()))


def _paretobandit() -> tuple[RoutingTable, RoutingTable]:
    folder = data_folder() / "paretobandit"
    return load_source("paretobandit", folder / "val_k4.jsonl"), load_source("paretobandit", folder / "test_k4.jsonl")


def _best_bound(pool: Pool) -> str:
    return BOUNDS[0] if np.isin(pool.table.quality, (0.0, 1.0)).all() else BOUNDS[1]


def _usual_rows(pool: Pool, config: Config) -> int:
    """1,000 calibration rows, or the number nearest to it."""
    return min({min(rows, len(pool.table) // 2) for rows in config.rows}, key=lambda rows: abs(rows - 1000))


def _figure(config: Config, result: dict[str, float]) -> None:
    """Cost by calibration rows on MMLU, a line per promise, where MMLU was asked for."""
    from matplotlib import pyplot

    if "mmlu" not in config.pools:
        return
    figure, axes = pyplot.subplots(figsize=(6.5, 3.8), layout="constrained")
    for colour, within in zip(COLOURS, config.within, strict=False):
        for way, style in (("", "-"), ("betting_", "--")):
            rows = sorted(set(config.rows))
            keys = [f"{way}cost_eps{100 * within:g}_delta{100 * max(config.error):g}_{one}" for one in rows]
            shown = [(one, result[key]) for one, key in zip(rows, keys) if key in result]
            label = f"{100 * within:g} {'point' if within == 0.01 else 'points'}{', betting' if way else ''}"
            axes.plot(*zip(*shown), style, marker="o", color=colour, linewidth=1.3, label=label)
    axes.set_xscale("log")
    axes.set_xticks(config.rows, [f"{one:,}" for one in config.rows])
    axes.minorticks_off()
    axes.set_xlabel("calibration rows")
    axes.set_ylabel("dollars per million tokens")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    title = f"promised with {100 * (1 - max(config.error)):g} percent confidence: within"
    figure.legend(fontsize=7, frameon=False, title=title, title_fontsize=7, loc="outside lower center", ncols=3)
    save_figure(figure, config.output / "promises.png")


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
