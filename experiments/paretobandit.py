"""Does routing pay on four current models with graded quality and true dollars, and does the budget hold?

    JAXROUTE_DATA=... uv run python -m experiments.paretobandit

Learns from ParetoBandit's 1,766 validation prompts and answers its 1,793 test prompts (nine benchmarks, one domain each) with
Llama-3.1-8B, Mistral Large, Gemini 2.5 Flash and Gemini 2.5 Pro, whose answers cost 0.03, 0.5, 0.9 and 15 dollars per 1,000
queries. Three questions: which router gains over mixing single models (`jaxroute evaluate`'s verdicts), what the first router
has over every single model at that model's own cost, and how far realised cost lies from the budget.

About 3 minutes on 2 cores, with MiniLM. Seen: the predictor gains +0.5 points over mixing single models (0.2 to 0.7, p 0.001, a
gain), as the mean per benchmark does (+0.5) and Bradley-Terry (+0.4); 40 neighbours, prompt length, random and the best single
model tie; the oracle has +4.5. At Gemini 2.5 Flash's cost the router is 0.4 points better (0.0 to 0.8), at Mistral Large's 0.2
(-0.2 to 0.5), at Gemini 2.5 Pro's 0.1 (-0.1 to 0.4) for 11.9 dollars in place of 15.0. Realised cost lies 1.7 to 10.5 percent
above the budget.

The paper (ParetoBandit, arXiv:2604.00136) reports that over seven budgets its mean cost exceeds the target by at most 0.4
percent. That is an online router of three models, which sees what it paid and corrects itself; ours assigns one batch by
expected costs and sees nothing, so its overrun is what costs cannot be predicted.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from experiments.real_data import data_folder
from experiments.reporting import intervals_figure, named
from jaxroute import JaxrouteError, RoutingTable, load_source
from jaxroute.contest.evaluate import EvaluateConfig, chosen_routers, evaluate
from jaxroute.contest.results import numbers, printed
from jaxroute.contest.rows import Contest, make_contest
from jaxroute.data.estimates import Estimates
from jaxroute.errors import TableError
from jaxroute.evaluation import Interval, mean_difference, outcome, paired_interval
from jaxroute.evaluation.outcomes import assign
from jaxroute.storage.files import write_json

ROUTERS = ("predictor:encoder=minilm", "bradley_terry", "knn:neighbours=40")
BUDGETS = 7


@dataclass(frozen=True)
class Config:
    """Which routers; the first is compared with every single model."""

    evaluate: Annotated[EvaluateConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: EvaluateConfig(router=ROUTERS, output=Path("runs/paretobandit"))
    )
    rows: int | None = None
    """Only so many rows of each part, for a quick look; default: all."""
    resamples: int = 1000
    """Bootstrap resamples of the test prompts."""

    def __post_init__(self) -> None:
        if self.rows is not None and self.rows < 20:
            raise TableError(f"rows={self.rows} must be at least 20")


def main(config: Config) -> dict[str, float | str]:
    """Run it; the report, table.csv, a figure and result.json go to the output folder."""
    output = config.evaluate.output
    print(f"results go to {output}/")
    train, test = (_part(name, config.rows) for name in ("val_k4", "test_k4"))
    contest = make_contest(train, test, resamples=config.resamples)
    evaluation = evaluate(contest, config.evaluate)
    print(printed(evaluation))
    result: dict[str, float | str] = {"queries": len(contest.test), "training_queries": len(contest.train)}
    for one in evaluation.judged:
        row = numbers(evaluation, one)
        for name in ("gain", "gain_low", "gain_high", "p_value", "verdict", "log_loss"):
            if (value := row.get(name)) is not None:
                result[f"{one.name} {name}"] = value
    estimates = chosen_routers(config.evaluate)[0].fit(contest.train).estimate(contest.test.queries)
    print(f"\nexpected cost: {estimates.assumption}")
    over = against_single_models(contest, estimates)
    for model, difference in over.items():
        result |= named(f"quality_over {model}", difference)
    result |= realised_costs(contest, estimates)
    intervals_figure(output / "over_single_models.png", over, "quality over the single model at its own cost, in points")
    write_json(output / "result.json", result)
    print(f"written to {output}/: report.html, table.csv, over_single_models.png, result.json")
    return result


def against_single_models(contest: Contest, estimates: Estimates) -> dict[str, Interval]:
    """Quality of the assignment whose budget is what the model costs in training, less the model's own, paired."""
    test = contest.test
    print(f"\n{'':<38} {'quality':>8} {'usd/1,000':>10}   router at that budget: quality, usd/1,000, difference in points")
    found = {}
    for column, (model, cost) in enumerate(zip(test.models, contest.expected_cost_usd, strict=True)):
        real = outcome(test, assign(estimates.quality, estimates.cost_usd, _feasible(estimates, cost * len(test))))
        difference = paired_interval(mean_difference(real.quality, test.quality[:, column]), contest.weights)
        found[model] = difference
        print(
            f"{model:<38} {100 * test.quality[:, column].mean():>8.1f} {1000 * test.cost_usd[:, column].mean():>10.3f}   "
            f"{100 * real.mean_quality:>8.1f} {1000 * real.mean_cost_usd:>10.3f}  {difference}"
        )
    return found


def realised_costs(contest: Contest, estimates: Estimates) -> dict[str, float]:
    """Realised over expected cost at seven budgets, evenly spaced by their logarithm between the single models' costs."""
    test, result = contest.test, {}
    low, high = contest.expected_cost_usd.min(), contest.expected_cost_usd.max()
    print(f"\n{'budget, usd/1,000':>18} {'realised':>10} {'over it':>8} {'quality':>8}")
    for budget in np.geomspace(low, high, BUDGETS + 2)[1:-1]:
        real = outcome(test, assign(estimates.quality, estimates.cost_usd, _feasible(estimates, budget * len(test))))
        over = real.mean_cost_usd / budget - 1
        print(f"{1000 * budget:>18.3f} {1000 * real.mean_cost_usd:>10.3f} {over:>+8.1%} {100 * real.mean_quality:>8.1f}")
        result |= {f"overrun_at_{1000 * budget:.3g}": float(over), f"quality_at_{1000 * budget:.3g}": real.mean_quality}
    return result


def _feasible(estimates: Estimates, budget: float) -> float:
    """The budget, or what the cheapest assignment is expected to cost."""
    return max(budget, float(estimates.cost_usd.min(axis=1).sum()) * (1 + 1e-12))


def _part(name: str, rows: int | None) -> RoutingTable:
    table = load_source("paretobandit", data_folder() / "paretobandit" / f"{name}.jsonl")
    return table if rows is None else table.select(np.random.default_rng(0).permutation(len(table))[:rows])


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
