"""The whole line on a simulated pool: train, estimate unseen prompts, assign them within budgets, compare, save."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from jaxroute.data.estimate_files import write_given
from jaxroute.data.sources.simulated import load_simulated, simulated_prices
from jaxroute.data.table import RoutingTable
from jaxroute.encoders.features import FeatureConfig
from jaxroute.errors import TableError
from jaxroute.evaluation import (
    Curve,
    aiq,
    cost_quality_curve,
    hull_quality,
    log_loss,
    outcome,
    single_models,
)
from jaxroute.evaluation.plots import cost_quality_figure
from jaxroute.predictor.checkpoint import is_estimator
from jaxroute.predictor.config import TrainConfig
from jaxroute.predictor.pricing import CostModel, table_pricing
from jaxroute.predictor.training import train_estimator
from jaxroute.routers.base import find_router
from jaxroute.routing.assignment_files import write_routed
from jaxroute.storage.files import check_folder, write_json
from solvers import Assignment, Problem, exact, greedy_ratio, lagrangian

SOLVERS: dict[str, Callable[[Problem], Assignment]] = {
    "greedy (Routoo's)": lambda problem: greedy_ratio(problem, reserve=False),
    "greedy, answering all": greedy_ratio,
    "Lagrangian": lagrangian,
    "exact": exact,
}
PER = 1000
"""Costs are printed in dollars per this many queries."""


@dataclass(frozen=True)
class DemoConfig:
    """A simulated pool of ten invented models; no real model is called and nothing is downloaded."""

    output: Path = Path("runs/demo")
    """Folder for the figure, the assignment, the numbers and the checkpoint."""
    queries: int = 1200
    """Simulated prompts; three quarters train the predictor, the rest are routed."""
    seed: int = 0
    """Of the simulation and of the split."""
    layer: int = 8
    """Layer of the encoder to read; higher ones take longer."""
    budgets: tuple[float, ...] = (0.05, 0.2, 0.5)
    """Shares of the way from the cheapest to the most expensive assignment."""

    def __post_init__(self) -> None:
        problems = []
        if self.queries < 100:
            problems.append(f"queries={self.queries} must be at least 100")
        if self.seed < 0:
            problems.append(f"seed={self.seed} must be at least 0")
        if not self.budgets or not all(0 <= share <= 1 for share in self.budgets):
            problems.append(f"budgets={self.budgets} must be shares from 0 to 1")
        if problems:
            raise TableError("; ".join(problems))


def main(config: Annotated[DemoConfig, tyro.conf.arg(name="")]) -> dict[str, float | str]:
    """Run it; returns what is also written to result.json."""
    started = time.perf_counter()
    check_folder("output", config.output)
    check_folder("output/checkpoint", config.output / "checkpoint", ours=is_estimator)
    print(f"A simulation: ten invented models on templated questions. Results go to {config.output}/")
    table = load_simulated(queries=config.queries, seed=config.seed)
    train_part, test = table.split(0.75, seed=config.seed)
    print(f"\n{train_part}\n\ntraining on {len(train_part)} prompts, routing {len(test)} unseen ones")

    train_config = TrainConfig(features=FeatureConfig(layers=(config.layer,)), seed=config.seed)
    predictor, reports = train_estimator(train_part, train_config, prices=simulated_prices())
    print("", *reports, sep="\n")
    predictor.save(config.output / "checkpoint")

    estimated = predictor.estimate(test.queries)
    estimates, cost = estimated.quality, estimated.cost_usd
    print(f"log-loss on the unseen prompts: {log_loss(test.quality, estimates):.4f}")
    print(f"expected cost: {estimated.assumption}")

    # All are compared at the predictor's expected costs.
    costs = CostModel(table_pricing(train_part, None))
    baselines = {"prompt length": "prompt_length", "random": f"random:seed={config.seed}"}
    curves = {"router": estimates, "oracle": test.quality} | {
        name: find_router(spec).fit(train_part, costs=costs).estimate(test.queries).quality for name, spec in baselines.items()
    }
    curves = {
        name: cost_quality_curve(test, values, expected_cost_usd=cost, progress=f"curve of {name}")
        for name, values in curves.items()
    }
    result, last = _print_tables(test, estimates, cost, curves, config)
    result |= _areas(test, curves)
    result["log_loss"] = log_loss(test.quality, estimates)
    cost_quality_figure(
        config.output / "cost_quality.png",
        test,
        curves,
        title="Simulated pool: mean quality against mean cost on unseen prompts",
        unit=f"dollars per {PER:,} queries (logarithmic)",
        scale=PER,
        logarithmic=True,
    )
    rows = [{"prompt": prompt} for prompt in test.prompts]
    write_routed(config.output / "assignment.jsonl", rows, last, estimated)
    write_given(config.output / "estimates.csv", estimates, test.models, test.query_ids)
    write_given(config.output / "costs.csv", cost, test.models, test.query_ids)
    result["seconds"] = time.perf_counter() - started
    write_json(config.output / "result.json", result)
    print(
        f"\nwritten to {config.output}/: cost_quality.png, assignment.jsonl (exact, largest budget), estimates.csv, costs.csv, "
        "checkpoint/, result.json"
        f"\n{result['seconds']:.0f} seconds in all. Route your own prompts with: jaxroute route "
        f"--checkpoint {config.output}/checkpoint --prompts FILE --budget-usd DOLLARS"
    )
    return result


def _print_tables(
    test: RoutingTable, estimates: np.ndarray, cost: np.ndarray, curves: dict[str, Curve], config: DemoConfig
) -> tuple[dict[str, float | str], Assignment]:
    """Every solver at every budget beside the baselines; quality and cost are true ones, of unseen prompts.

    What was expected to be spent holds the budget; what is really spent also depends on how long the answers turn out.
    """
    result: dict[str, float | str] = {"data": "simulation"}
    singles = single_models(test).means()
    least, most = cost.min(axis=1).sum(), cost.max(axis=1).sum()
    print(f"\n{'':<34} {'quality':>8} {'usd/' + str(PER):>9} {'expected':>9} {'proved gap':>11} {'seconds':>8}")
    for model, money, quality in zip(test.models, *singles, strict=True):
        print(f"always {model:<27} {quality:>8.3f} {PER * money:>9.3f}")
    assigned: Assignment = lagrangian(Problem(estimates, cost, most))
    for share in config.budgets:
        budget = least + share * (most - least)
        per_query = budget / len(test)
        print(f"budget {PER * per_query:.3f} usd per {PER:,} queries ({share:.0%} of the way to the most expensive)")
        for name, solver in SOLVERS.items():
            assigned = solver(Problem(estimates, cost, budget))
            real = outcome(test, assigned)
            lost = f"  {assigned.unanswered} unanswered" if assigned.unanswered else ""
            proof = f"{assigned.relative_gap:>11.1e}"
            print(
                f"  {name:<32} {real.mean_quality:>8.3f} {PER * real.mean_cost_usd:>9.3f} "
                f"{PER * assigned.cost_usd / len(test):>9.3f} {proof} "
                f"{assigned.seconds:>8.3f}  {assigned.status}{lost}"
            )
            key = f"{name.split()[0].lower().strip(',')}{'_all' if 'all' in name else ''}_{share:g}"
            result[f"quality_{key}"], result[f"relative_gap_{key}"] = real.mean_quality, assigned.relative_gap
            result[f"status_{key}"] = assigned.status
        for name in ("random", "prompt length", "oracle"):
            quality = float(hull_quality(*curves[name].means(), per_query))
            print(f"  {name:<32} {quality:>8.3f} {PER * per_query:>9.3f}")
        print(f"  {'zero router':<32} {float(hull_quality(*singles, per_query)):>8.3f} {PER * per_query:>9.3f}")
    return result, assigned


def _areas(test: RoutingTable, curves: dict[str, Curve]) -> dict[str, float | str]:
    cost, quality = single_models(test).means()
    areas = {"zero router": aiq(cost, quality, cost.min(), cost.max())}
    areas |= {name: aiq(*curve.means(), cost.min(), cost.max()) for name, curve in curves.items()}
    print("\nAIQ (mean quality over the shared range of costs): " + ", ".join(f"{k} {v:.3f}" for k, v in areas.items()))
    return {f"aiq_{name.replace(' ', '_')}": value for name, value in areas.items()}
