"""A new model came out: how much of what routing gains with all its outcomes do a few graded answers of it give?

    JAXROUTE_DATA=... uv run python -m experiments.new_model

Leaves each model of the nine-model MMLU pool out in turn, trains on the others, adds it by `jaxroute.predictor.extending` from
a random draw of its outcomes on training questions, and judges all nine on the test questions. Training with these few outcomes
of the model gives the same, bit for bit; `--one-fit` adds one fit for all models, as if its outcomes were not few.

About 10 minutes of one core. Seen, 12 draws, as percent of the gain with all outcomes (+2.15 points; standard error over the
draws in brackets): GPT-4 with 25, 50, 100, 200, 300 probes 44 (4), 58 (5), 76 (4), 84 (3), 85 (3), the level alone 33 to 35;
Mixtral 78 (7), 86 (4), 92 (5), 96 (4), 94 (3), the level alone 77 (8), 91 (6), 99 (1), 98 (2), 100 (2): here the correction
brings nothing, in the training rows that were not asked it did (experiments/LOG.md). Models of 7B and 8B with 50 probes 94 on
average, from 78 (6; Llama-3-8B) to 101. By how many logits models are better that cost e times as much: RouterBench's ARC 0.27
(error 0.18) and MBPP 0.24 (0.07), ParetoBandit 0.22 (0.09), together 0.23 (0.05).

With `--one-fit`, 3 draws and 50, 100, 200, 300 outcomes (--models --counts --small-counts), as much of it: GPT-4 57, 85, 86, 90
and in one fit 18, 53, 64, 69; Mixtral 79, 82, 94, 88 and 73, 66, 87, 89; Llama-3-8B 86, 90, 93, 93 and 78, 87, 80, 98.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float
from tqdm.auto import tqdm

from experiments.real_data import GPT4, MIXTRAL, data_folder, load_mmlu_pool, routerbench_parts
from jaxroute import JaxrouteError, RoutingTable, TrainConfig, load_source
from jaxroute.contest.rows import Contest, make_contest
from jaxroute.encoders import Encoder, load_encoder
from jaxroute.encoders.features import FeatureConfig, Features, prompt_features
from jaxroute.errors import FewOutcomes, TableError
from jaxroute.evaluation import aiq, cost_quality_curve, log_loss
from jaxroute.evaluation.plots import COLOURS, save_figure
from jaxroute.predictor.domain_effects import domain_numbers
from jaxroute.predictor.extending import extend
from jaxroute.predictor.fitting import train_head
from jaxroute.predictor.predictor import Predictor, head_estimates
from jaxroute.predictor.pricing import table_pricing
from jaxroute.storage.files import write_json

POINTS = 101
"""Of a curve."""
WAYS = ("recipe", "level only")
SMALL = "7b"
Shares = dict[str, dict[str, list[tuple[int, float, float]]]]
"""By model and way: probes, percent of the full gain, its standard error."""


@dataclass(frozen=True)
class Config:
    """Which numbers of probes, how many draws, the output."""

    output: Path = Path("runs/new_model")
    """Folder for result.json and the figure."""
    counts: tuple[int, ...] = (25, 50, 100, 200, 300)
    """Probes of GPT-4 and of Mixtral."""
    small_counts: tuple[int, ...] = (50,)
    """Probes of each model of 7B or 8B."""
    models: tuple[str, ...] = ()
    """Leave only these models out; default: each in turn."""
    draws: int = 12
    """Random draws of the probes."""
    one_fit: bool = False
    """Also train all models together with the few outcomes, in one fit, as a row that leans on nothing is: minutes more.
    `jaxroute train` with few outcomes of a model is the recipe, bit for bit."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The training without the new model."""

    def __post_init__(self) -> None:
        if self.draws < 1 or min([*self.counts, *self.small_counts], default=1) < 1:
            raise TableError(f"draws={self.draws}, counts={self.counts}, small_counts={self.small_counts} must be at least 1")


@dataclass(frozen=True, eq=False)
class Trial:
    """The pool with its features, and what it is judged by."""

    contest: Contest
    train: RoutingTable
    test: RoutingTable
    features: dict[str, np.ndarray]
    """By prompt."""
    encoder: Encoder
    config: Config

    def read(self, encoder: Encoder, prompts: Sequence[str], config: FeatureConfig) -> Features:
        """Features that are at hand, as a `Reader`."""
        return Features(np.stack([self.features[prompt] for prompt in prompts]), np.zeros(len(prompts), bool))

    def fitted(self, table: RoutingTable, *, leaning: bool = True) -> Predictor:
        """The ordinary training; without `leaning`, one fit for all models."""
        values = self.read(self.encoder, table.prompts, FeatureConfig()).values
        head, report = train_head(values, table, self.config.train, leaning=leaning)
        return Predictor(
            encoder=self.encoder,
            features=FeatureConfig().of(self.encoder),
            head=head,
            models=table.models,
            levels=self.config.train.levels,
            pricing=table_pricing(table, None),
            domains=report.domains,
            pool=report.pool_questions(table),
            read=self.read,
        )

    def judged(self, predictor: Predictor) -> Float[np.ndarray, " 2"]:
        """Points over the zero router, of the curve and of its hull."""
        domain = domain_numbers(self.test.domains, predictor.domains)
        values = self.read(self.encoder, self.test.prompts, predictor.features).values
        estimates = head_estimates(predictor.head, values, domain=domain)
        estimates = estimates[:, [predictor.models.index(model) for model in self.test.models]]
        contest = self.contest
        curve = cost_quality_curve(self.test, estimates, points=POINTS, expected_cost_usd=contest.expected_cost_usd)
        areas, tops = (
            [measure(*one.means()) for one in pair]
            for measure, pair in (
                (contest.areas, (curve, contest.zero_router)),
                (lambda cost, quality: aiq(cost, quality, *contest.costs), (curve, contest.single_models)),
            )
        )
        return 100 * np.array([areas[0] - areas[1], tops[0] - tops[1]], float)

    def held_out_loss(self, predictor: Predictor, model: str, rows: np.ndarray) -> float:
        """Log-loss of the new model's estimates on the training questions that it was not asked: what choices are made by."""
        rest = np.setdiff1d(np.arange(len(self.train)), rows)
        domain = domain_numbers([self.train.domains[row] for row in rest], predictor.domains)
        values = self.read(self.encoder, [self.train.prompts[row] for row in rest], predictor.features).values
        column = predictor.models.index(model)
        estimates = head_estimates(predictor.head, values, domain=domain)[:, [column]]
        return log_loss(self.train.select(rest, models=[model]).quality, estimates)


def main(config: Config) -> dict[str, float | str]:
    """Run it; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    trial = make_trial(config)
    full = trial.judged(trial.fitted(trial.train))
    print(f"all outcomes of all nine: {full[0]:+.2f} points over the zero router, hull {full[1]:+.2f}; {config.draws} draws")
    print(f"{'left out':<46} {'probes':>6} {'way':<12} {'gain':>6} {'share':>6} {'error':>6} {'hull':>6} {'share':>6} log-loss")
    result: dict[str, float | str] = {"full_gain": full[0], "full_hull_gain": full[1], "draws": config.draws}
    result |= cost_slopes()
    small: dict[tuple[int, str], list[float]] = {}
    shares: Shares = {}
    for model in config.models or trial.train.models:
        name = {GPT4: "gpt4", MIXTRAL: "mixtral"}.get(model, SMALL)
        rest = trial.fitted(trial.train.select(models=[one for one in trial.train.models if one != model]))
        for count in config.counts if name != SMALL else config.small_counts:
            for way, (gain, error, hull, loss) in added(trial, rest, model, count).items():
                share, key = 100 * gain / full[0], f"{name}_{count}" + ("" if way == WAYS[0] else f"_{way.replace(' ', '_')}")
                shares.setdefault(model, {}).setdefault(way, []).append((count, share, abs(100 * error / full[0])))
                print(
                    f"{model:<46} {count:>6} {way:<12} {gain:>+6.2f} {share:>6.1f} {100 * error / full[0]:>6.1f} {hull:>+6.2f} "
                    f"{100 * hull / full[1]:>6.1f} {loss:.4f}",
                    flush=True,
                )
                if name == SMALL:
                    small.setdefault((count, key), []).append(share)
                else:
                    result |= {f"share_{key}": share, f"share_error_{key}": 100 * error / full[0]}
    for (_, key), each in small.items():
        result |= {f"share_{key}": float(np.mean(each)), f"least_share_{key}": float(np.min(each))}
    for name, value in result.items():
        print(f"{name:<40} {value:.2f}")
    write_json(config.output / "result.json", result)
    shares_figure(config.output / "shares.png", shares)
    print(f"\nwritten to {config.output}/: result.json, shares.png")
    return result


def cost_slopes() -> dict[str, float | str]:
    """By how many logits a model is better that costs e times as much: least squares over the models, in pools that are not
    the one that this experiment judges on; with the standard errors, and the mean weighted by these."""
    pools = {name: routerbench_parts(name)[0] for name in ("arc_challenge", "mbpp")}
    pools["paretobandit"] = load_source("paretobandit", data_folder() / "paretobandit" / "val_k4.jsonl")
    found: dict[str, float | str] = {}
    slopes, weights = [], []
    for name, table in pools.items():
        quality, log_cost = np.nanmean(table.quality, axis=0), np.log(table.mean_cost_usd())
        level, away = np.log(quality / (1 - quality)), log_cost - log_cost.mean()
        slope = away @ level / (away @ away)
        rest = level - level.mean() - slope * away
        error = np.sqrt(rest @ rest / (len(away) - 2) / (away @ away))
        found |= {f"cost_slope_{name}": float(slope), f"cost_slope_error_{name}": float(error)}
        slopes, weights = [*slopes, slope], [*weights, error**-2]
    return found | {
        "cost_slope": float(np.average(slopes, weights=weights)),
        "cost_slope_error": float(np.sum(weights) ** -0.5),
    }


def make_trial(config: Config) -> Trial:
    """The MMLU pool, encoded."""
    pool = load_mmlu_pool()
    encoder = load_encoder(config.train.encoder)
    prompts = pool.train.prompts + pool.test.prompts
    values = prompt_features(encoder, prompts, FeatureConfig().of(encoder)).values
    contest = make_contest(pool.train, pool.test, resamples=20)
    return Trial(contest, pool.train, pool.test, dict(zip(prompts, values, strict=True)), encoder, config)


def added(trial: Trial, rest: Predictor, model: str, count: int) -> dict[str, tuple[float, float, float, float]]:
    """By way: mean gain over the draws, its standard error, the hull's, and the held-out log-loss."""
    found: dict[str, list[np.ndarray]] = {}
    for draw in tqdm(range(trial.config.draws), desc=f"{model}, {count} probes", leave=False, delay=2):
        rows = np.sort(np.random.default_rng(draw).permutation(len(trial.train))[:count])
        probes = trial.train.select(rows, models=[model])
        ways = {way: extend(rest, probes, correction=way == WAYS[0])[0] for way in WAYS}
        if trial.config.one_fit:
            asked = trial.train.quality.copy()
            asked[np.setdiff1d(np.arange(len(asked)), rows), trial.train.models.index(model)] = np.nan
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FewOutcomes)
                ways["one fit"] = trial.fitted(replace(trial.train, quality=asked), leaning=False)
        for way, predictor in ways.items():
            one = np.append(trial.judged(predictor), trial.held_out_loss(predictor, model, rows))
            found.setdefault(way, []).append(one)
    return {
        way: (
            float(np.mean(each, axis=0)[0]),
            float(np.std([one[0] for one in each], ddof=1) / np.sqrt(len(each))) if len(each) > 1 else 0.0,
            float(np.mean(each, axis=0)[1]),
            float(np.mean(each, axis=0)[2]),
        )
        for way, each in found.items()
    }


def shares_figure(path: Path, shares: Shares) -> None:
    """The share of the full gain over the number of probes, by way, with its standard error: a panel for each model that was
    given several numbers of probes, and one for all others together."""
    from matplotlib import pyplot

    lines = {model: ways for model, ways in shares.items() if len(ways[WAYS[0]]) > 1}
    single = {model: ways for model, ways in shares.items() if model not in lines}
    panels = len(lines) + bool(single)
    figure, all_axes = pyplot.subplots(1, panels, figsize=(3.6 * panels, 3.4), layout="constrained", squeeze=False)
    lowest = min(
        (share - error for ways in lines.values() for points in ways.values() for _, share, error in points), default=0
    )
    for axes, (model, ways) in zip(all_axes[0], lines.items(), strict=False):
        for colour, (way, points) in zip(COLOURS, ways.items(), strict=False):
            count, share, error = np.array(points).T
            axes.errorbar(count, share, yerr=error, color=colour, marker="o", markersize=3, capsize=2, linewidth=1.2, label=way)
        axes.axhline(100, color="#888888", linewidth=1)
        axes.set_title(model.split("/")[-1], fontsize=9)
        axes.set_ylim(lowest - 5, 108)
        axes.set_xlabel("probes", fontsize=9)
    if lines:
        all_axes[0, 0].set_ylabel("percent of the gain with all outcomes", fontsize=9)
        all_axes[0, 0].legend(fontsize=8, frameon=False, loc="best")
    if single:
        axes = all_axes[0, -1]
        names = list(single)[::-1]
        # Where the correction is off the ways are the same: the recipe alone is drawn.
        count, share, error = np.array([single[model][WAYS[0]][0] for model in names]).T
        axes.errorbar(share, range(len(names)), xerr=error, color=COLOURS[0], marker="o", markersize=4, capsize=2, linestyle="")
        axes.axvline(100, color="#888888", linewidth=1)
        axes.set_yticks(range(len(names)), [model.split("/")[-1] for model in names], fontsize=8)
        axes.set_title(f"{WAYS[0]}, {', '.join(str(int(one)) for one in np.unique(count))} probes", fontsize=9)
        axes.set_xlabel("percent of the gain with all outcomes", fontsize=9)
    for axes in all_axes[0]:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
