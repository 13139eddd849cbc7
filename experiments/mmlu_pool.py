"""How much does routing gain on the nine-model MMLU pool, the setting of Routoo's Table 1?

    JAXROUTE_DATA=... uv run python -m experiments.mmlu_pool

About 10 minutes on 2 cores, most of which encode the questions, once. Seen on 4,182 test questions: log-loss 0.5764; over the
zero router +2.2 points (1.6 to 2.8, p 0.001, a gain; hull AIQ +2.3), the paper's features and head +1.0; at half of GPT-4's
cost 77.0 percent, +2.8 (2.1 to 3.7); APGR of Mixtral / GPT-4 0.682; without GPT-4 -0.1 (-0.6 to 0.4, a tie). The exact solver
proved every budget in at most 0.04 seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float

from experiments.real_data import GPT4, MIXTRAL, load_mmlu_pool
from experiments.reporting import named
from jaxroute import JaxrouteError, RoutingTable, TrainConfig
from jaxroute.contest.judging import enter, judge
from jaxroute.contest.results import Evaluation, printed
from jaxroute.contest.rows import Contest, make_contest
from jaxroute.data.prices import ROUTOO_TABLE_1
from jaxroute.encoders import load_encoder
from jaxroute.encoders.features import FeatureConfig, prompt_features_of_all
from jaxroute.evaluation import (
    BUDGETS,
    SHUFFLES,
    Curve,
    Outcome,
    apgr,
    apgr_measure,
    bootstrap_weights,
    deployable_curve,
    hull_quality,
    log_loss,
    macro_mean,
    outcome,
    paired_interval,
    single_models,
)
from jaxroute.evaluation.areas import heights
from jaxroute.evaluation.outcomes import assign
from jaxroute.evaluation.plots import cost_quality_figure
from jaxroute.evaluation.verdicts import gain_of
from jaxroute.predictor.checkpoint import is_estimator
from jaxroute.predictor.domain_effects import domain_numbers
from jaxroute.predictor.fitting import TrainingReport, train_head
from jaxroute.predictor.heads import Head
from jaxroute.predictor.predictor import Predictor, head_estimates
from jaxroute.predictor.pricing import table_pricing
from jaxroute.routers.base import find_router
from jaxroute.storage.files import check_folder, write_json
from solvers import PROVED, Assignment, Problem, exact, greedy_ratio, lagrangian

UNIT = "dollars per million tokens"
SHOWN = ("router", "difference head", "prompt length", "random", "oracle")
"""In the figures."""


@dataclass(frozen=True)
class Config:
    """Train on RouterDC's training part, assign its test part, compare with the zero router."""

    output: Path = Path("runs/mmlu_pool")
    """Folder for result.json, the figures and the checkpoint."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The router's own training."""
    paper: TrainConfig = field(
        default_factory=lambda: TrainConfig(features=FeatureConfig(layers=(30,), pooling="last"), head="difference")
    )
    """The paper's recipe: last token of the last layer, difference head."""
    resamples: int = 1000
    """Bootstrap resamples of the test questions."""
    shuffles: int = SHUFFLES
    """Of the choices across questions, for the p-values."""
    seed: int = 0
    """Of bootstrap, shuffles and the random router."""


@dataclass(frozen=True)
class Trained:
    """A head with its estimates of the test questions."""

    head: Head
    report: TrainingReport
    estimates: Float[np.ndarray, "queries models"]
    """Expected level."""
    argmax: Float[np.ndarray, "queries models"]
    """Likeliest level, 0 or 1."""


def main(config: Config) -> dict[str, float | str]:
    """Run it; returns what is also written to result.json."""
    check_folder("output/checkpoint", config.output / "checkpoint", ours=is_estimator)
    print(f"results go to {config.output}/")
    pool = load_mmlu_pool()
    print("\n".join(pool.notes))
    print(f"\n{pool.test}\n")
    weights = bootstrap_weights(len(pool.test), resamples=config.resamples, seed=config.seed)
    recipes = {
        "router": config.train,
        "difference head": replace(config.train, head="difference"),
        "paper": config.paper,
    }
    trained = train_all(pool.train, pool.test, recipes)
    router = trained["router"]
    for name, one in trained.items():
        print(f"{name}\n  " + str(one.report).replace("\n", "\n  "))
        print(f"  log-loss on the test part {log_loss(pool.test.quality, one.estimates):.4f}\n")
    result: dict[str, float | str] = {
        "train_questions": len(pool.train),
        "test_questions": len(pool.test),
        "held_out_log_loss": router.report.held_out_loss,
        "log_loss": log_loss(pool.test.quality, router.estimates),
        "log_loss_difference_head": log_loss(pool.test.quality, trained["difference head"].estimates),
        "log_loss_paper": log_loss(pool.test.quality, trained["paper"].estimates),
    }
    _save(config, pool.train, router)
    for name, models in {
        "mixed": pool.test.models,
        "open": [model for model in pool.test.models if model != GPT4],
    }.items():
        columns = [pool.test.models.index(model) for model in models]
        part = {
            key: Trained(one.head, one.report, one.estimates[:, columns], one.argmax[:, columns])
            for key, one in trained.items()
        }
        result |= evaluate_pool(name, pool.train.select(models=models), pool.test.select(models=models), part, config)
    result |= pair(pool.test, router, weights)
    result |= price_chosen_out_of_fold(pool.test, router)
    write_json(config.output / "result.json", result)
    print(f"\nwritten to {config.output}/: result.json, mixed.png, open.png, checkpoint/")
    return result


def train_all(train: RoutingTable, test: RoutingTable, recipes: dict[str, TrainConfig]) -> dict[str, Trained]:
    """Encode both parts once for all recipes, then train each and estimate the test part."""
    encoder = load_encoder(next(iter(recipes.values())).encoder)
    configs = list(dict.fromkeys(recipe.features for recipe in recipes.values()))
    features = prompt_features_of_all(encoder, train.prompts + test.prompts, configs)
    trained = {}
    for name, recipe in recipes.items():
        values = features[configs.index(recipe.features)].values
        head, report = train_head(values[: len(train)], train, recipe)
        unseen, domain = values[len(train) :], domain_numbers(test.domains, report.domains)
        expected, likeliest = (head_estimates(head, unseen, domain=domain, kind=kind) for kind in ("expected", "argmax"))
        trained[name] = Trained(head, report, expected, likeliest)
    return trained


def evaluate_pool(
    name: str, train: RoutingTable, test: RoutingTable, trained: dict[str, Trained], config: Config
) -> dict[str, float | str]:
    """Routoo's Table 1 for one pool: every way of routing in one contest, then the router at single costs."""
    contest = make_contest(train, test, resamples=config.resamples, seed=config.seed)
    print(f"\n{name} pool: {len(test.models)} models, {len(test):,} questions")
    entries = [
        enter(contest, label, "", quality, solver, budgets=BUDGETS)
        for label, quality, solver in _ways(train, test, trained, config)
    ]
    evaluation = Evaluation(contest, [judge(contest, one, shuffles=config.shuffles) for one in entries])
    print(printed(evaluation))
    result: dict[str, float | str] = {}
    for one in evaluation.judged:
        key = "" if one.name == "router" else f"_{_key(one.name)}"
        result |= {f"{name}_aiq{key}": one.hull.aiq} | named(f"{name}_aiq_gain{key}", one.hull.gain)
        result |= named(f"{name}_gain{key}", one.gain) | {f"{name}_verdict{key}": one.gain.verdict}
        if one.gain.p_value is not None:
            result[f"{name}_p_value{key}"] = one.gain.p_value
        if (over := evaluation.against_first(one)) is not None:
            result |= named(f"{name}_gain_over{key}", over)
    router = evaluation.judged[0]
    result[f"{name}_aiq_zero_router"] = router.hull.aiq - router.hull.gain.value
    if router.hull.shuffled is not None:
        result[f"{name}_aiq_gain_shuffled"], result[f"{name}_aiq_gain_shuffled_95"] = router.hull.shuffled
    result |= at_single_costs(name, contest, router.entry.curve, trained["router"].estimates, config)
    cost_quality_figure(
        config.output / f"{name}.png",
        test,
        {one.name: one.entry.curve for one in evaluation.judged if one.name in SHOWN},
        title=f"MMLU, {name} pool: {len(test):,} unseen questions",
        unit=UNIT,
    )
    return result


def at_single_costs(
    name: str, contest: Contest, curve: Curve, estimates: Float[np.ndarray, "queries models"], config: Config
) -> dict[str, float | str]:
    """Every single model, and the router at Table 1's costs: accuracy per question and as the mean of the subjects."""
    test, cost = contest.test, contest.expected_cost_usd
    print(f"\n{'':<46} {'accuracy':>8} {'57-mean':>8} {'usd/M':>7}  over the zero router at that cost, points")
    for column, model in enumerate(test.models):
        quality = test.quality[:, column]
        print(f"{model:<46} {100 * quality.mean():>8.1f} {100 * macro_mean(quality, test.domains):>8.1f} {cost[column]:>7.2f}")
    shuffled, result = contest.shuffled(curve, config.shuffles), {}
    for label, key, budget in budgets(test):
        real = outcome(test, assign(estimates, cost, budget * len(test)))
        gain = gain_of(partial(heights, at=budget), curve, contest.zero_router, contest.weights, shuffled)
        print(
            f"{'router ' + label:<46} {100 * real.mean_quality:>8.1f} {100 * macro_mean(real.quality, test.domains):>8.1f} "
            f"{real.mean_cost_usd:>7.2f}  {gain}"
        )
        result |= named(f"{name}_gain_at_{key}", gain) | {f"{name}_accuracy_at_{key}": real.mean_quality}
        compare_solvers(estimates, cost, budget * len(test))
    return result


def _ways(
    train: RoutingTable, test: RoutingTable, trained: dict[str, Trained], config: Config
) -> list[tuple[str, Float[np.ndarray, "queries models"], Callable[[Problem], Assignment]]]:
    """Name, estimated quality and selector: ours, steps from the paper's recipe, and what reads little or nothing."""

    def simple(spec: str) -> Float[np.ndarray, "queries models"]:
        return find_router(spec).fit(train).estimate(test.queries).quality

    return [
        ("router", trained["router"].estimates, lagrangian),
        ("difference head", trained["difference head"].estimates, lagrangian),
        ("paper's recipe, exact prices", trained["paper"].estimates, lagrangian),
        ("paper's recipe, argmax and greedy", trained["paper"].argmax, partial(greedy_ratio, reserve=False)),
        ("prompt length", simple("prompt_length"), lagrangian),
        ("random", simple(f"random:seed={config.seed}"), lagrangian),
        ("oracle", test.quality, lagrangian),
    ]


def _key(label: str) -> str:
    return label.replace("'s", "").replace(",", "").replace(" ", "_")


def budgets(test: RoutingTable) -> list[tuple[str, str, float]]:
    """Where Routoo's Table 1 looks: label, key, dollars per million tokens."""
    mixtral, gpt4 = ROUTOO_TABLE_1[MIXTRAL].mean, ROUTOO_TABLE_1[GPT4].mean
    places = [("at Mixtral's cost", "mixtral_cost", mixtral)]
    if GPT4 in test.models:
        places += [
            ("at half of GPT-4's cost", "half_cost", gpt4 / 2),
            ("at three quarters of GPT-4's cost", "three_quarters_cost", gpt4 * 3 / 4),
        ]
    return places


def compare_solvers(estimates: np.ndarray, cost: np.ndarray, budget: float) -> None:
    """Greedy, Lagrangian and exact on the same estimates; raises if they contradict each other."""
    problem = Problem(estimates, cost, budget)
    found = [greedy_ratio(problem), lagrangian(problem), exact(problem)]
    for one in found:
        print(
            f"    {one.solver:<42} estimated {100 * one.value / len(estimates):>6.2f}, gap {one.relative_gap:.1e}, "
            f"{one.seconds:.2f} s, {one.status}"
        )
        # The exact solver stops within rounding of the bound.
        best = found[2].value + 2 * PROVED * problem.magnitude
        if not problem.fits(one.cost_usd) or not found[0].value <= best or not found[2].value <= one.bound:
            raise RuntimeError(f"solvers contradict each other: {[str(each) for each in found]}")


def pair(test: RoutingTable, router: Trained, weights: np.ndarray) -> dict[str, float | str]:
    """RouteLLM's measure for Mixtral and GPT-4."""
    weak, strong = test.models.index(MIXTRAL), test.models.index(GPT4)
    score = router.estimates[:, strong] - router.estimates[:, weak]
    interval = paired_interval(apgr_measure(test.quality[:, weak], test.quality[:, strong], score), weights)
    by_length = np.array([len(prompt) for prompt in test.prompts], float)
    length = apgr(test.quality[:, weak], test.quality[:, strong], by_length)
    print(
        f"\nMixtral / GPT-4: APGR {interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f}); "
        f"by prompt length {length:.3f}; random 0.500"
    )
    return named("pair_apgr", interval) | {"pair_apgr_prompt_length": length}


def price_chosen_out_of_fold(test: RoutingTable, router: Trained) -> dict[str, float | str]:
    """What a user gets who fixes the price on held-out training estimates and routes every new prompt on its own."""
    cost = single_models(test).means()[0]
    result: dict[str, float | str] = {}
    print("\nprice fixed on held-out training estimates, then applied to each test question on its own (mixed pool)")
    places = budgets(test)
    curve = deployable_curve(
        test,
        router.estimates,
        router.report.held_out_estimates,
        np.array([budget for _, _, budget in places]),
        expected_cost_usd=cost,
    )
    for (label, key, budget), quality, usd in zip(places, curve.quality, curve.cost_usd, strict=True):
        real = Outcome(quality, usd)
        zero = float(hull_quality(*single_models(test).means(), real.mean_cost_usd))
        print(
            f"{label:<46} {100 * real.mean_quality:>8.1f} at {real.mean_cost_usd:.2f} usd/M (aimed at {budget:.2f}); "
            f"zero router at that cost {100 * zero:.1f}"
        )
        result |= {f"priced_accuracy_at_{key}": real.mean_quality, f"priced_cost_at_{key}": real.mean_cost_usd}
    return result


def _save(config: Config, train: RoutingTable, router: Trained) -> None:
    Predictor(
        encoder=load_encoder(config.train.encoder),
        features=config.train.features.of(load_encoder(config.train.encoder)),
        head=router.head,
        models=train.models,
        levels=config.train.levels,
        domains=router.report.domains,
        pricing=table_pricing(train, ROUTOO_TABLE_1),
        about={"trained_on": train.name, "held_out_log_loss": router.report.held_out_loss},
    ).save(config.output / "checkpoint")


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
