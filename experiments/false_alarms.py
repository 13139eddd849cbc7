"""How often is luck called a gain, and how often is a real gain called one?

    uv run python -m experiments.false_alarms

TIME

SEEN
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float
from tqdm.auto import tqdm

from jaxroute import JaxrouteError, RoutingTable, TableError, load_source
from jaxroute.contest.judging import enter
from jaxroute.contest.rows import Contest, make_contest
from jaxroute.data.table import text_key
from jaxroute.evaluation import Gain, Interval, aiq_gain
from jaxroute.evaluation.plots import COLOURS, save_figure
from jaxroute.predictor.pricing import CostModel, table_pricing
from jaxroute.routers.base import find_router
from jaxroute.storage.files import write_json
from solvers import lagrangian

NO_SIGNAL = ("random", "best_single", "prompt_length", "knn")
"""Routers that are judged on tables without signal."""
ALLOWED = 0.08
"""Five percent and what 200 tables leave open: 1.96 times sqrt(0.05 * 0.95 / 200) is 3 points."""
ACCURACY = (0.62, 0.60, 0.57, 0.60, 0.60, 0.65, 0.59, 0.68, 0.81)
PRICE = (0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.6, 20.0)
"""Of the nine-model MMLU pool: seven small models, Mixtral 8x7B, GPT-4; dollars per million tokens."""
POOLS = {9: tuple(range(9)), 5: (0, 1, 5, 7, 8)}
"""Models of the planted pools, by their place in ACCURACY and PRICE."""
DOMAINS = 17
"""As many as MMLU has sub-categories."""
EASE, PROFILE, REST = 1.0, 0.3, 1.5
"""Standard deviations, in logits: a domain's ease for all models, each model's own in a domain, and the ease of the single
question, which no router knows. With them models agree about as often as on MMLU, and the means per domain have the AIQ gain
that the predictor has there, 2.4 points."""


@dataclass(frozen=True)
class Config:
    """How many tables of which sizes."""

    output: Path = Path("runs/false_alarms")
    """Folder for result.json and the figure."""
    tables: int = 200
    """Tables without signal of every size."""
    models: tuple[int, ...] = (2, 3, 5)
    """Models in them."""
    rows: tuple[int, ...] = (100, 300, 1000)
    """Test rows, and as many training rows."""
    routers: tuple[str, ...] = NO_SIGNAL
    """What is judged on them."""
    planted: int = 100
    """Tables with a planted signal, of nine and of five models each."""
    planted_rows: int = 1000
    """Their test rows; twice as many training rows, as the MMLU pool has half as many."""
    resamples: int = 500
    """Bootstrap resamples of the test rows."""
    shuffles: int = 999
    """Of the choices across queries."""
    budgets: int = 101
    """Points of a curve."""
    seed: int = 0
    """Decides the tables."""

    def __post_init__(self) -> None:
        problems = [
            f"{name}={getattr(self, name)} must be at least 1" for name in ("tables", "planted") if getattr(self, name) < 1
        ]
        problems += [
            f"{name}={getattr(self, name)} must name at least one, all above 1"
            for name in ("models", "rows")
            if not getattr(self, name) or min(getattr(self, name)) < 2
        ]
        if problems:
            raise TableError("; ".join(problems))


@dataclass(frozen=True)
class Seen:
    """One router on one table."""

    gain: Gain
    hull: Interval
    """RouterBench's AIQ over the single models' hull."""


def main(config: Config) -> dict[str, float | str]:
    """Run it; returns what is also written to result.json."""
    prompts = _prompts(2 * max(config.rows))
    result: dict[str, float | str] = {}
    found: dict[tuple[str, int, int], list[Seen]] = {}
    sizes = [(models, rows) for models in config.models for rows in config.rows]
    for models, rows in tqdm(sizes, desc="sizes", unit=" sizes"):
        for contest in tqdm(
            _without_signal(config, prompts, models, rows), total=config.tables, desc=f"{models} models, {rows} rows"
        ):
            for router in config.routers:
                found.setdefault((router, models, rows), []).append(_judged(contest, router, config))
    shares = {key: _share(every, "gain") for key, every in found.items()}
    print(f"{'share of tables without signal, percent':<42} {'gain':>6} {'loss':>6} {'hull':>6}  mean gain, points")
    for (router, models, rows), every in found.items():
        name = f"{router}_{models}_{rows}"
        by_hull = float(np.mean([one.hull.low > 0 for one in every]))
        numbers = {"share": shares[router, models, rows], "loss": _share(every, "loss"), "hull": by_hull}
        mean = float(np.mean([one.gain.value for one in every]))
        result |= {f"{key}_{name}": value for key, value in numbers.items()} | {f"mean_{name}": mean}
        cells = " ".join(f"{100 * value:>6.1f}" for value in numbers.values())
        print(f"{f'{router}, {models} models, {rows} rows':<42} {cells}  {100 * mean:+.2f}")
    result["share_largest"] = max(shares.values())
    result |= _power(config)
    _figure(
        config.output / "false_alarms.png", config, shares, {key: float(result["hull_{}_{}_{}".format(*key)]) for key in shares}
    )
    write_json(config.output / "result.json", result)
    print(
        f"\nlargest share of false gains {100 * result['share_largest']:.1f} percent, power {100 * result['power']:.1f} percent"
    )
    print(f"written to {config.output}/: result.json, false_alarms.png")
    return result


def _power(config: Config) -> dict[str, float | str]:
    """How often the means per domain, which know something, are called a gain; the least over the pools is the power."""
    result: dict[str, float | str] = {}
    shares = []
    for models, columns in POOLS.items():
        contests = _with_signal(config, models, columns)
        every = [
            _judged(one, "domain_mean", config)
            for one in tqdm(contests, total=config.planted, desc=f"planted, {models} models")
        ]
        shares.append(_share(every, "gain"))
        mean, hull = (float(np.mean([getattr(one, name).value for one in every])) for name in ("gain", "hull"))
        print(
            f"planted signal, {models} models, {config.planted_rows} rows: {100 * shares[-1]:.1f} percent are gains; "
            f"gain {100 * mean:+.2f} points, hull AIQ {100 * hull:+.2f}"
        )
        result |= {f"power_{models}": shares[-1], f"planted_gain_{models}": mean, f"planted_hull_aiq_gain_{models}": hull}
    return result | {"power": min(shares)}


def _judged(contest: Contest, router: str, config: Config) -> Seen:
    """What `jaxroute evaluate` does with a router, but for the measures that have no verdict."""
    # An answer is expected to cost its model's mean, which is all that these tables say of costs.
    means = CostModel(table_pricing(contest.train, None))
    quality = find_router(router).fit(contest.train, costs=means).estimate(contest.test.queries).quality
    curve = enter(contest, router, "", quality, lagrangian, budgets=config.budgets).curve
    low, high = contest.costs
    hull = aiq_gain(curve, contest.single_models, contest.weights, low=low, high=high)
    return Seen(contest.gain(curve, config.shuffles), hull)


def _without_signal(config: Config, prompts: list[str], models: int, rows: int) -> Iterator[Contest]:
    """Models with a quality and a price each, and outcomes and lengths of answers that have nothing to do with the prompt.

    Half of the tables have one cost per model; in the others the length of the answer decides.
    """
    for table in range(config.tables):
        generator = np.random.default_rng([config.seed, models, rows, table])
        price = 1e-4 * 100 ** (np.arange(models) / (models - 1))
        length = generator.lognormal(0, 0.6, (2 * rows, models)) if table % 2 else np.ones((2 * rows, models))
        chance = generator.uniform(0.4, 0.8, models)
        yield _contest(
            [prompts[row] for row in generator.permutation(len(prompts))[: 2 * rows]],
            (generator.uniform(size=(2 * rows, models)) < chance).astype(float),
            price * length,
            rows,
            config,
            seed=table,
        )


def _with_signal(config: Config, models: int, columns: tuple[int, ...]) -> Iterator[Contest]:
    """Models of the MMLU pool's accuracy and price on questions of domains that are easy or hard, and suit some models more."""
    accuracy, price = np.array(ACCURACY)[list(columns)], np.array(PRICE)[list(columns)]
    rows = 3 * config.planted_rows
    # The same signal in every table: what varies is luck.
    ease, profile = np.random.default_rng(0).normal(size=(2, DOMAINS, len(PRICE)))
    shift = EASE * ease[:, :1] + PROFILE * profile[:, list(columns)]
    for table in range(config.planted):
        generator = np.random.default_rng([config.seed, 1, models, table])
        domain = generator.integers(0, DOMAINS, rows)
        # Wide spreads pull shares towards a half: 1 / sqrt(1 + variance / 2.9) of the logit is left (MacKay 1992).
        wider = np.sqrt(1 + (EASE**2 + PROFILE**2 + REST**2) / 2.9)
        rest = REST * generator.normal(size=(rows, 1))
        chance = 1 / (1 + np.exp(-(wider * np.log(accuracy / (1 - accuracy)) + shift[domain] + rest)))
        yield _contest(
            [f"question {row}" for row in range(rows)],
            (generator.uniform(size=(rows, models)) < chance).astype(float),
            np.tile(price, (rows, 1)),
            config.planted_rows,
            config,
            seed=table,
            domains=[f"domain {one}" for one in domain],
        )


def _contest(
    prompts: list[str],
    quality: Float[np.ndarray, "queries models"],
    cost_usd: Float[np.ndarray, "queries models"],
    test_rows: int,
    config: Config,
    *,
    seed: int,
    domains: list[str] | None = None,
) -> Contest:
    models = [f"model {column}" for column in range(quality.shape[1])]
    table = RoutingTable(prompts, models, quality, cost_usd, domains=domains or [])
    first = np.arange(len(table)) < test_rows
    return make_contest(table.select(~first), table.select(first), resamples=config.resamples, seed=seed)


def _prompts(count: int) -> list[str]:
    """Distinct questions out of the simulation's templates, short and long ones, which say nothing of the outcomes."""
    every = load_source("simulated", queries=2 * count, seed=1).prompts
    distinct = list({text_key(prompt): prompt for prompt in every}.values())
    return distinct[:count]


def _share(every: list[Seen], verdict: str) -> float:
    return float(np.mean([one.gain.verdict == verdict for one in every]))


def _figure(
    path: Path, config: Config, shares: dict[tuple[str, int, int], float], by_hull: dict[tuple[str, int, int], float]
) -> None:
    """One panel per number of models: false gains by test rows, by the verdict and, dotted, by the hull's interval alone."""
    from matplotlib import pyplot

    figure, every = pyplot.subplots(
        1, len(config.models), figsize=(3.6 * len(config.models), 4), layout="constrained", sharey=True, squeeze=False
    )
    for axes, models in zip(every.flat, config.models, strict=True):
        axes.axhline(100 * ALLOWED, color="#888888", linewidth=1)
        for place, router in enumerate(config.routers):
            for found, style, label in ((shares, "-", router), (by_hull, ":", None)):
                line = [100 * found[router, models, rows] for rows in config.rows]
                axes.plot(config.rows, line, style, marker="o", markersize=4, color=COLOURS[place], label=label)
        axes.set(xscale="log", title=f"{models} models", xlabel="test rows", ylim=(0, 100))
        axes.set_xticks(config.rows, [f"{rows:,}" for rows in config.rows])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    every.flat[0].set_ylabel("tables without signal called a gain, percent")
    figure.legend(*every.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle("By the verdict (lines) and by the hull's interval alone (dotted); grey: 8 percent", fontsize=10)
    save_figure(figure, path)


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
