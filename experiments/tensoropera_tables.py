"""What do TensorOpera's routers gain in quality, cost and speed at once, and whom do they send the queries to?

    uv run python -m experiments.tensoropera_tables

Table 1 and Figure 6 of TensorOpera's router (Stripelis et al. 2024, arXiv:2408.12320) on the simulated pool, whose outcomes
carry token counts and latencies (no public ones at hand do): a simulation, it says nothing about real models. As in the paper
every query goes to the model with the best estimate, whatever it costs; random is the mean of ten trials; optimal is the best
that a choice by the outcomes themselves reaches, measure by measure. The table has no answers and no likelihoods, so BERTSim
and NLL are left out. The last rows do what the paper leaves out: the predictor's estimates within a budget.

5 minutes on 2 cores, of which BERT takes 2. Seen on 500 queries: the best single model is right on 83.8 percent for 2.20
dollars. Of the paper's routers 1NN loses 34 points; MLP and BERT (81.2 and 82.6) tie with that model at half of its cost and
are faster (60 and 59 tokens per second, not 42); 40 neighbours have 85.0. Nobody leads in quality (all ties, optimal is
94.4), but with a quarter of the money that it would spend the predictor has 85.0, for 0.48 dollars, at 79 tokens per second.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from experiments.reporting import check_names, named
from jaxroute import JaxrouteError, RoutingTable, load_source
from jaxroute.evaluation import (
    Account,
    account,
    accounts_of_models,
    bootstrap_weights,
    mean_difference,
    model_shares,
    outcome,
    paired_interval,
    throughput,
)
from jaxroute.evaluation.plots import COLOURS, save_figure
from jaxroute.routers import random_model
from jaxroute.routers.base import find_router
from jaxroute.storage.files import write_json
from solvers import Problem, lagrangian

ROUTERS = ("knn:neighbours=1", "tensoropera_mlp", "tensoropera_bert", "knn", "predictor")
COLUMNS = {
    "quality": ("right, %", 100.0, "{:.1f}"),
    "bert_similarity": ("BERTSim", 1.0, "{:.3f}"),
    "negative_log_likelihood": ("NLL", 1.0, "{:.3f}"),
    "total_cost_usd": ("total, USD", 1.0, "{:.3f}"),
    "throughput": ("tokens/s", 1.0, "{:.1f}"),
}
"""Caption, scale and format of every measure; those that the table cannot give are not printed."""


@dataclass(frozen=True)
class Config:
    """The simulated pool, the routers, the output."""

    output: Path = Path("runs/tensoropera_tables")
    """Folder for result.json and the figure."""
    router: tuple[str, ...] = ROUTERS
    """As in `jaxroute evaluate`."""
    budgets: tuple[float, ...] = (0.25, 0.5)
    """For the last router once more within a budget: shares of what its unlimited choice is expected to cost."""
    queries: int = 2000
    """Simulated; three quarters to learn from."""
    trials: int = 10
    """Of the random router."""
    resamples: int = 1000
    """Bootstrap resamples of the test queries."""
    seed: int = 42
    """Of the simulation, the split, the trials and the bootstrap."""

    def __post_init__(self) -> None:
        check_names("router", self.router)


def main(config: Config) -> dict[str, float | str]:
    """Run it; returns what is also written to result.json."""
    kinds = [find_router(spec) for spec in config.router]
    print(f"results go to {config.output}/")
    train, test = load_source("simulated", queries=config.queries, seed=config.seed).split(0.75, seed=config.seed)
    print(f"{train.name}: {len(train):,} queries to learn from, {len(test):,} to answer")
    expected, choices = train.mean_cost_usd(), {}
    estimates = np.zeros(test.quality.shape)
    for kind in tqdm(kinds, desc="routers", unit=" routers"):
        estimates = kind.fit(train).estimate(test.queries).quality
        choices[kind.spec] = likeliest(estimates, expected)
    for share in config.budgets:
        budget = share * float(expected[likeliest(estimates, expected)].sum())
        choices[f"{kinds[-1].spec}, {share:.0%} of that money"] = lagrangian(Problem(estimates, expected, budget)).choice
    trials = random_model.choices(test, random_model.Config(config.trials, config.seed))
    optimal = optimal_choices(test)
    result = print_table(test, trials, choices, optimal, config)
    shown = {"random": trials[0], **choices, "optimal quality": optimal["quality"]}
    _figure(config.output / "figure_6.png", test, shown)
    write_json(config.output / "result.json", result)
    print(f"\nwritten to {config.output}/: result.json, figure_6.png")
    return result


def likeliest(
    estimates: Float[np.ndarray, "queries models"], expected_cost_usd: Float[np.ndarray, " models"]
) -> Int[np.ndarray, " queries"]:
    """The model with the best estimate; of equal ones the cheapest."""
    best = estimates == estimates.max(axis=1, keepdims=True)
    return np.where(best, expected_cost_usd, np.inf).argmin(axis=1)


def optimal_choices(table: RoutingTable) -> dict[str, Int[np.ndarray, " queries"]]:
    """By the outcomes themselves, the best model for every measure; of equally good answers the cheapest."""
    speed, likelihood = throughput(table), table.log_likelihood
    found = {"quality": best_and_cheapest(table), "total_cost_usd": np.nanargmin(table.cost_usd, axis=1)}
    if speed is not None:
        found["throughput"] = np.nanargmax(speed, axis=1)
    if likelihood is not None:
        found["negative_log_likelihood"] = np.nanargmax(likelihood, axis=1)
    return found


def best_and_cheapest(table: RoutingTable) -> Int[np.ndarray, " queries"]:
    """The best answer; of equally good ones the cheapest."""
    best = table.quality == np.nanmax(table.quality, axis=1, keepdims=True)
    return np.where(best, table.cost_usd, np.inf).argmin(axis=1)


def print_table(
    test: RoutingTable,
    trials: Int[np.ndarray, "trials queries"],
    choices: Mapping[str, Int[np.ndarray, " queries"]],
    optimal: Mapping[str, Int[np.ndarray, " queries"]],
    config: Config,
) -> dict[str, float | str]:
    """The paper's Table 1: models, random with its spread, routers, optimal; quality over the best single model's beside it."""
    models, weights = accounts_of_models(test), bootstrap_weights(len(test), resamples=config.resamples, seed=config.seed)
    measures = [name for name in COLUMNS if name in next(iter(models.values())).columns()]
    best = test.quality[:, np.argmax(test.quality.mean(axis=0))]
    print(
        f"\n{'':<42}" + "".join(f"{COLUMNS[name][0]:>16}" for name in measures) + "  quality over the best single model, points"
    )
    for name, one in models.items():
        print(f"{name:<42}" + "".join(f"{_told(measure, one):>16}" for measure in measures))
    result: dict[str, float | str] = {}
    spread = [account(test, trial).columns() for trial in trials]
    means = {name: float(np.mean([one[name] for one in spread])) for name in measures}
    deviation = {name: float(np.std([one[name] for one in spread], ddof=1)) for name in measures}
    cells = "".join(f"{_number(name, means[name]) + ' ± ' + _number(name, deviation[name]):>16}" for name in measures)
    print(f"{f'random, {len(trials)} trials':<42}{cells}")
    result |= {f"random {name}": value for name, value in means.items()}
    result |= {f"random {name} spread": value for name, value in deviation.items()}
    for name, choice in choices.items():
        one = account(test, choice)
        over = paired_interval(mean_difference(outcome(test, choice).quality, best), weights)
        print(
            f"{name:<42}"
            + "".join(f"{_told(measure, one):>16}" for measure in measures)
            + f"  {over}{', tie' if over.tie else ''}"
        )
        result |= {f"{name} {measure}": value for measure, value in one.columns().items()}
        result |= named(f"{name} quality_over_best_single", over)
    reached = {name: account(test, optimal[name]) for name in measures}
    print(f"{'optimal, each measure by itself':<42}" + "".join(f"{_told(name, one):>16}" for name, one in reached.items()))
    return result | {f"optimal {name}": one.columns()[name] for name, one in reached.items()}


def _told(measure: str, one: Account) -> str:
    return _number(measure, one.columns()[measure])


def _number(measure: str, value: float) -> str:
    _, scale, form = COLUMNS[measure]
    return form.format(scale * value)


def _figure(path: Path, test: RoutingTable, choices: Mapping[str, Int[np.ndarray, " queries"]]) -> None:
    """Figure 6: how many queries every router sends to every model."""
    from matplotlib import pyplot

    shares = model_shares(np.stack(list(choices.values())), test.models) * len(test)
    cost = test.mean_cost_usd()
    figure, axes = pyplot.subplots(figsize=(10, 1.8 + 0.42 * len(choices)), layout="constrained")
    left = np.zeros(len(choices))
    for place, column in enumerate(np.argsort(cost)):
        # Seven colours that everyone can tell apart; beyond them the same again, hatched.
        hatch = "///" if place >= len(COLOURS) else None
        colour = COLOURS[place % len(COLOURS)]
        label = test.models[column]
        axes.barh(range(len(choices)), shares[:, column], left=left, color=colour, hatch=hatch, edgecolor="white", label=label)
        left += shares[:, column]
    axes.set_yticks(range(len(choices)), list(choices))
    axes.invert_yaxis()
    axes.set_xlabel(f"test queries (of {len(test):,}) by the model that answers; models from cheap to expensive")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(ncols=5, fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.16))
    save_figure(figure, path)


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
