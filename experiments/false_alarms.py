"""How often is luck called a gain, and how often is a real gain called one?

    uv run python -m experiments.false_alarms

About 6 minutes on 2 cores of an AMD EPYC beside other jobs. Of 200 tables without signal for each number of models (2, 3,
5) and of test rows (100, 300, 1,000), random, the best single model, prompt length and nearest neighbours are called a gain
in at most 4 percent, where the interval of random's hull alone lies above 0 in 21 to 46; nearest neighbours, which follow
noise, lose up to 1.6 points. A planted signal of about the MMLU pool's size (1,000 test rows, 100 tables each) is called a gain
in 100 and 99 percent of the tables with nine and five models where prompt length knows it (gain +2.1 points, hull AIQ +2.5),
and in 88 and 92 percent where the domain does (+2.4 and +2.6; hull AIQ +2.6 and +2.9). In all of them p < 0.05: what power is
missing, the interval misses.
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
from jaxroute.encoders.embedding import embed
from jaxroute.evaluation import Gain, Interval, aiq_gain
from jaxroute.evaluation.plots import COLOURS, save_figure
from jaxroute.predictor.pricing import CostModel, table_pricing
from jaxroute.routers import knn
from jaxroute.routers.base import find_router
from jaxroute.storage.files import write_json
from solvers import lagrangian

NO_SIGNAL = ("random", "best_single", "prompt_length", "knn")
"""Routers that are judged on tables without signal."""
BY_HULL = "random"
"""The router whose hull is looked at as well."""
ALLOWED = 0.08
"""Five percent and what 200 tables leave open: 1.96 times sqrt(0.05 * 0.95 / 200) is 3 points."""
ACCURACY = (0.62, 0.60, 0.57, 0.60, 0.60, 0.65, 0.59, 0.68, 0.81)
PRICE = (0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.6, 20.0)
"""Of the nine-model MMLU pool: seven small models, Mixtral 8x7B, GPT-4; dollars per million tokens."""
POOLS = {9: tuple(range(9)), 5: (0, 1, 5, 7, 8)}
"""Models of the planted pools, by their place in ACCURACY and PRICE."""
HARDER = {"prompt_length": 1.05, "domain_mean": 1.2}
"""The routers that know something, and in logits how much harder a question gets for the small models (for Mixtral half as
much, for GPT-4 not at all) with every standard deviation of what they know: the prompt's length, or a number per domain."""
REST = 2.0
"""The standard deviation of what makes a question hard or easy for all models and no router knows. With these numbers models
disagree about as often as on MMLU, and both routers gain about what the predictor gains there, 2.2 points."""
DOMAINS = 57
"""As MMLU has subjects."""


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
    """Tables with each planted signal, of nine and of five models each."""
    planted_rows: int = 1000
    """Their test rows; twice as many training rows, as the MMLU pool has half as many."""
    resamples: int = 400
    """Bootstrap resamples of the test rows."""
    shuffles: int = 999
    """Of the choices across queries."""
    budgets: int = 51
    """Points of a curve."""
    encoder: str = "minilm"
    """Of the sentence embeddings that nearest neighbours are found by."""
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
    hull: Interval | None = None
    """RouterBench's AIQ over the single models' hull, where it is looked at."""


@dataclass(frozen=True)
class Prompts:
    """Distinct questions out of the simulation's templates, short and long ones, which say nothing of any outcome."""

    texts: list[str]
    embeddings: Float[np.ndarray, "prompts features"]
    """Sentence embeddings, made once for all tables."""

    @staticmethod
    def load(count: int, encoder: str) -> Prompts:
        every = load_source("simulated", queries=2 * count, seed=1).prompts
        texts = list({text_key(prompt): prompt for prompt in every}.values())[:count]
        return Prompts(texts, embed(texts, encoder))

    def of(self, texts: list[str]) -> Float[np.ndarray, "prompts features"]:
        place = {text: row for row, text in enumerate(self.texts)}
        return self.embeddings[[place[text] for text in texts]]


def main(config: Config) -> dict[str, float | str]:
    """Run it; returns what is also written to result.json."""
    prompts = Prompts.load(2 * max(config.rows), config.encoder)
    found: dict[tuple[str, int, int], list[Seen]] = {}
    sizes = [(models, rows) for models in config.models for rows in config.rows]
    for models, rows in tqdm(sizes, desc="sizes", unit=" sizes"):
        for contest in _without_signal(config, prompts, models, rows):
            for router in config.routers:
                seen = _judged(contest, router, _estimates(contest, router, prompts), config, hull=router == BY_HULL)
                found.setdefault((router, models, rows), []).append(seen)
    result: dict[str, float | str] = {}
    print(f"{'share of tables without signal, percent':<42} {'gain':>6} {'loss':>6}  mean gain, points")
    for (router, models, rows), every in found.items():
        name = f"{router}_{models}_{rows}"
        share, lost, mean = _share(every, "gain"), _share(every, "loss"), float(np.mean([one.gain.value for one in every]))
        result |= {f"share_{name}": share, f"loss_{name}": lost, f"mean_gain_{name}": mean}
        hulls = [one.hull.low > 0 for one in every if one.hull]
        result |= {f"hull_{name}": float(np.mean(hulls))} if hulls else {}
        by_hull = f", by the hull's interval alone {100 * np.mean(hulls):.0f} percent" if hulls else ""
        line = f"{f'{router}, {models} models, {rows} rows':<42} {100 * share:>6.1f} {100 * lost:>6.1f}  {100 * mean:+.2f}"
        print(line + by_hull)
    result["share_largest"] = max(float(result[f"share_{router}_{models}_{rows}"]) for router, models, rows in found)
    for router in HARDER:
        result |= _power(config, router)
    result["power"] = min(float(result[f"power_prompt_length_{models}"]) for models in POOLS)
    _figure(config.output / "false_alarms.png", config, result)
    write_json(config.output / "result.json", result)
    print(
        f"\nlargest share of false gains {100 * float(result['share_largest']):.1f} percent, "
        f"power {100 * float(result['power']):.1f} percent"
    )
    print(f"written to {config.output}/: result.json, false_alarms.png")
    return result


def _power(config: Config, router: str) -> dict[str, float | str]:
    """How often a router that knows something is called a gain, and how often its p-value alone says so."""
    result: dict[str, float | str] = {}
    for models, columns in POOLS.items():
        contests = _with_signal(config, models, columns, router)
        every = [
            _judged(one, router, _estimates(one, router), config, hull=True)
            for one in tqdm(contests, total=config.planted, desc=f"planted, {models} models")
        ]
        share, found = (
            _share(every, "gain"),
            float(np.mean([one.gain.p_value is not None and one.gain.p_value < 0.05 for one in every])),
        )
        mean, hull = (float(np.mean([getattr(one, name).value for one in every])) for name in ("gain", "hull"))
        print(
            f"planted for {router}, {models} models, {config.planted_rows} rows: {100 * share:.1f} percent are gains, "
            f"{100 * found:.1f} have p < 0.05; gain {100 * mean:+.2f} points, hull AIQ {100 * hull:+.2f}"
        )
        name = f"{router}_{models}"
        result |= {f"power_{name}": share, f"found_{name}": found}
        result |= {f"planted_gain_{name}": mean, f"planted_hull_aiq_gain_{name}": hull}
    return result


def _estimates(contest: Contest, router: str, prompts: Prompts | None = None) -> Float[np.ndarray, "queries models"]:
    """What the router says of the test rows; nearest neighbours take the embeddings that are made already."""
    train, test = contest.train, contest.test
    if router == "knn" and prompts is not None:
        return knn.near(prompts.of(train.prompts), train.quality, prompts.of(test.prompts), knn.Config().neighbours)
    # An answer is expected to cost its model's mean, which is all that these tables say of costs.
    means = CostModel(table_pricing(train, None))
    return find_router(router).fit(train, costs=means).estimate(test.queries).quality


def _judged(contest: Contest, router: str, quality: Float[np.ndarray, "queries models"], config: Config, *, hull: bool) -> Seen:
    """The verdict of `jaxroute evaluate`, without the measures that have none."""
    curve = enter(contest, router, "", quality, lagrangian, budgets=config.budgets).curve
    gain = contest.gain(curve, config.shuffles)
    if not hull:
        return Seen(gain)
    low, high = contest.costs
    return Seen(gain, aiq_gain(curve, contest.single_models, contest.weights, low=low, high=high))


def _without_signal(config: Config, prompts: Prompts, models: int, rows: int) -> Iterator[Contest]:
    """Models with a quality and a price each, and outcomes and lengths of answers that have nothing to do with the prompt.

    Half of the tables have one cost per model; in the others the length of the answer decides.
    """
    for table in range(config.tables):
        generator = np.random.default_rng([config.seed, models, rows, table])
        price = 1e-4 * 100 ** (np.arange(models) / (models - 1))
        length = generator.lognormal(0, 0.6, (2 * rows, models)) if table % 2 else np.ones((2 * rows, models))
        chance = generator.uniform(0.4, 0.8, models)
        yield _contest(
            [prompts.texts[row] for row in generator.permutation(len(prompts.texts))[: 2 * rows]],
            (generator.uniform(size=(2 * rows, models)) < chance).astype(float),
            price * length,
            rows,
            config,
            seed=table,
        )


def _with_signal(config: Config, models: int, columns: tuple[int, ...], router: str) -> Iterator[Contest]:
    """Models of the MMLU pool's accuracy and price on questions that are the harder for cheap models the longer they are, or
    by domain."""
    accuracy, price = np.array(ACCURACY)[list(columns)], np.array(PRICE)[list(columns)]
    harder = HARDER[router] * np.where(price < 0.5, 1.0, np.where(price < 1, 0.5, 0.0))
    # Wide spreads pull shares towards a half: 1 / sqrt(1 + variance / 2.9) of the logit is left (MacKay 1992).
    level = np.log(accuracy / (1 - accuracy)) * np.sqrt(1 + (harder**2 + REST**2) / 2.9)
    rows = 3 * config.planted_rows
    for table in range(config.planted):
        generator = np.random.default_rng([config.seed, 1, models, table])
        known, rest = generator.normal(size=(2, rows, 1))
        domains = None
        if router == "domain_mean":
            domain = generator.integers(DOMAINS, size=rows)
            known, domains = generator.normal(size=(DOMAINS, 1))[domain], [f"domain {one}" for one in domain]
        chance = 1 / (1 + np.exp(-(level - harder * known + REST * rest)))
        lengths = known[:, 0] if router == "prompt_length" else np.zeros(rows)
        yield _contest(
            [f"question {row}{'?' * round(200 + 40 * one)}" for row, one in enumerate(lengths)],
            (generator.uniform(size=(rows, models)) < chance).astype(float),
            np.tile(price, (rows, 1)),
            config.planted_rows,
            config,
            seed=table,
            domains=domains,
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


def _share(every: list[Seen], verdict: str) -> float:
    return float(np.mean([one.gain.verdict == verdict for one in every]))


def _figure(path: Path, config: Config, result: dict[str, float | str]) -> None:
    """One panel per number of models: false gains by test rows; dotted, those of one router by the hull's interval alone."""
    from matplotlib import pyplot

    figure, every = pyplot.subplots(
        1, len(config.models), figsize=(3.6 * len(config.models), 4), layout="constrained", sharey=True, squeeze=False
    )
    for axes, models in zip(every.flat, config.models, strict=True):
        axes.axhline(100 * ALLOWED, color="#888888", linewidth=1)
        for place, router in enumerate(config.routers):
            for kind, style, label in (("share", "-", router), ("hull", ":", f"{router}, by its hull")):
                line = [float(result.get(f"{kind}_{router}_{models}_{rows}", np.nan)) for rows in config.rows]
                if not np.isnan(line).all():
                    values = 100 * np.array(line)
                    axes.plot(config.rows, values, style, marker="o", markersize=4, color=COLOURS[place], label=label)
        axes.set(xscale="log", title=f"{models} models", xlabel="test rows", ylim=(0, 100))
        axes.set_xticks(config.rows, [f"{rows:,}" for rows in config.rows])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    every.flat[0].set_ylabel("tables without signal\ncalled a gain, percent")
    figure.legend(*every.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle("Lines: by the verdict; dotted: by the hull's interval alone; grey: 8 percent", fontsize=10)
    save_figure(figure, path)


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
