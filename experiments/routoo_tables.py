"""What is each step from Routoo's published recipe to ours worth, in the terms of its own tables?

    JAXROUTE_DATA=... uv run python -m experiments.routoo_tables

The nine-model MMLU pool. Routoo (arXiv:2401.13979) reads the last token of the last layer, takes the likeliest level of quality
(argmax) and gives queries to the best quality per cost^alpha until the money is spent. Each row changes one thing and keeps the
rest: probabilities, an answer for every question, exact prices, our features, our corrections. A minute on 2 cores with cached
features, 13 without.

Seen on 4,182 test questions, hull AIQ over the zero router: the recipe to the letter -13.3 points with any alpha, since argmax
leaves nothing to weigh; probabilities -9.7; alpha = 0.01 spends everything on the first questions (-32.8) unless the cheapest
answer is kept for every question to come (-1.5); exact prices +1.3 (1.0 to 1.7); our features add nothing by themselves (tie),
and with our corrections +2.3 (1.7 to 2.9). At half of GPT-4's cost 77.0 percent are right; GPT-4's 80.7 take 81 percent of its
cost, where the paper, with 56 models, says 75. Gains at half of that cost are largest in philosophy (+10.8, 7.7 to 14.0) and
law (+8.7, 5.3 to 12.2), where GPT-4 is far ahead of Mixtral; of 17 sub-categories one loses ("other", -4.5, -8.5 to -0.5).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float

from experiments.mmlu_pool import UNIT, Trained, budgets, train_all
from experiments.real_data import GPT4, MIXTRAL, load_mmlu_pool
from experiments.reporting import intervals_figure, named
from jaxroute import JaxrouteError, TrainConfig
from jaxroute.contest.results import in_words
from jaxroute.contest.rows import Contest, make_contest
from jaxroute.encoders.features import FeatureConfig
from jaxroute.evaluation import (
    Curve,
    aiq_gain,
    cost_quality_curve,
    domain_gains,
    domain_rows,
    least_cost,
    macro_difference,
    macro_mean,
    mmlu_subcategories,
    model_shares,
    outcome,
    paired_interval,
    tier_shares,
)
from jaxroute.evaluation.plots import COLOURS, cost_quality_figure, save_figure
from jaxroute.storage.files import write_json
from solvers import Assignment, Problem, greedy_ratio, lagrangian

ALPHAS = (1.0, 0.1, 0.01)
"""Published (section 4.2)."""


@dataclass(frozen=True)
class Config:
    """The recipe at both ends, and the bootstrap."""

    output: Path = Path("runs/routoo_tables")
    """Folder for result.json and the figures."""
    ours: TrainConfig = field(default_factory=TrainConfig)
    """The last step's training."""
    paper: TrainConfig = field(
        default_factory=lambda: TrainConfig(features=FeatureConfig(layers=(30,), pooling="last"), head="difference")
    )
    """Last token of the last layer, difference head."""
    resamples: int = 1000
    """Bootstrap resamples of the test questions."""
    seed: int = 0
    """Of the bootstrap."""


@dataclass(frozen=True)
class Step:
    """One row: estimates of the test questions, and how budgets are met with them."""

    name: str
    estimates: Float[np.ndarray, "queries models"]
    solver: Callable[[Problem], Assignment]
    against: int
    """How many rows above is the one that it is compared with; 0 = none."""


def main(config: Config) -> dict[str, float | str]:
    """Run it; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    pool = load_mmlu_pool()
    recipes = {"paper": config.paper, "features": replace(config.ours, head="difference"), "ours": config.ours}
    trained = train_all(pool.train, pool.test, recipes)
    mixed = make_contest(pool.train, pool.test, resamples=config.resamples, seed=config.seed)
    open_models = [model for model in pool.test.models if model != GPT4]
    opened = make_contest(
        pool.train.select(models=open_models),
        pool.test.select(models=open_models),
        resamples=config.resamples,
        seed=config.seed,
    )
    print("\n".join(mixed.notes))
    steps = steps_from_paper_to_ours(trained)
    curves = {one.name: _curve(mixed, one.estimates, one.solver, one.name) for one in steps}
    result: dict[str, float | str] = {"test_questions": len(mixed.test), **print_steps(mixed, steps, curves)}
    columns = [pool.test.models.index(model) for model in open_models]
    ours = trained["ours"].estimates
    result |= print_table_1("mixed", mixed, ours, curves["our corrections"])
    result |= print_table_1("open", opened, ours[:, columns], _curve(opened, ours[:, columns], lagrangian, "open pool"))
    result |= domains(config.output, mixed, ours)
    shown = {one.name: curves[one.name] for one in steps if one.name in FIGURE}
    cost_quality_figure(
        config.output / "figure_2.png", mixed.test, shown, title="MMLU, nine models: from the paper's recipe to ours", unit=UNIT
    )
    shares_figure(config.output / "figures_3_4.png", mixed, curves["our corrections"])
    write_json(config.output / "result.json", result)
    print(f"\nwritten to {config.output}/: result.json, figure_2.png, figures_3_4.png, table_2.png")
    return result


LETTER = "argmax, greedy, alpha "
CHANCE = "probabilities, greedy, alpha "
ANSWERED = "every question answered, alpha "
FIGURE = (f"{LETTER}1", f"{ANSWERED}0.01", "exact prices", "our corrections")


def steps_from_paper_to_ours(trained: Mapping[str, Trained]) -> list[Step]:
    """In the order of the table; the best alpha is used below."""
    paper = trained["paper"]
    greedy = [(f"{alpha:g}", partial(greedy_ratio, alpha=alpha, reserve=False)) for alpha in ALPHAS]
    least = f"{ALPHAS[-1]:g}"
    return [
        *(Step(LETTER + words, paper.argmax, solver, place) for place, (words, solver) in enumerate(greedy)),
        *(Step(CHANCE + words, paper.estimates, solver, len(ALPHAS)) for words, solver in greedy),
        Step(ANSWERED + least, paper.estimates, partial(greedy_ratio, alpha=ALPHAS[-1]), 1),
        Step("exact prices", paper.estimates, lagrangian, 1),
        Step("our features", trained["features"].estimates, lagrangian, 1),
        Step("our corrections", trained["ours"].estimates, lagrangian, 1),
    ]


def print_steps(contest: Contest, steps: Sequence[Step], curves: Mapping[str, Curve]) -> dict[str, float | str]:
    """AIQ of every step over the zero router and over the step that it changes, and accuracy at the paper's budgets."""
    test, (low, high) = contest.test, contest.costs
    places = budgets(test)
    where = ", ".join(label for label, _, _ in places)
    print(f"\n{'':<35} {'AIQ over zero router':<24} {'over the row that it changes':<31} accuracy {where}")
    result: dict[str, float | str] = {}
    for row, step in enumerate(steps):
        curve = curves[step.name]
        gain = aiq_gain(curve, contest.single_models, contest.weights, low=low, high=high)
        result |= named(f"{step.name} aiq_gain", gain)
        compared = ""
        if step.against:
            base = curves[steps[row - step.against].name]
            change = aiq_gain(curve, base, contest.weights, low=low, high=high)
            compared = in_words(change)
            result |= named(f"{step.name} aiq_over_row_before", change)
        found = [outcome(test, _assigned(contest, step.estimates, step.solver, budget)) for _, _, budget in places]
        result |= {f"{step.name} accuracy_at_{key}": one.mean_quality for (_, key, _), one in zip(places, found, strict=True)}
        print(f"{step.name:<35} {gain!s:<24} {compared:<31} {'  '.join(f'{100 * one.mean_quality:5.1f}' for one in found)}")
    return result


def print_table_1(
    name: str, contest: Contest, estimates: Float[np.ndarray, "queries models"], curve: Curve
) -> dict[str, float | str]:
    """Routoo's Table 1: accuracy over all questions and averaged over the 57 subjects, and what it costs."""
    test = contest.test
    print(f"\nTable 1, {name} pool {'':<24} {'accuracy':>8} {'57-mean':>8} {'usd/M':>7}  57-mean over the zero router, points")
    result: dict[str, float | str] = {}
    for column, model in enumerate(test.models):
        quality = test.quality[:, column]
        print(f"{model:<46} {_percents(quality, test.domains)} {contest.expected_cost_usd[column]:>7.2f}")
    for label, key, budget in budgets(test):
        real = outcome(test, _assigned(contest, estimates, lagrangian, budget))
        base = contest.zero_quality(real.mean_cost_usd)
        over = paired_interval(macro_difference(real.quality, base, test.domains), contest.weights)
        print(f"{'router ' + label:<46} {_percents(real.quality, test.domains)} {real.mean_cost_usd:>7.2f}  {over}")
        result |= {
            f"{name}_accuracy_at_{key}": real.mean_quality,
            f"{name}_57_mean_at_{key}": macro_mean(real.quality, test.domains),
        }
        result |= named(f"{name}_57_mean_over_zero_at_{key}", over)
    for model, paper in ((MIXTRAL, "two thirds"), (GPT4, "three quarters, nearly at half")):
        if model in test.models:
            column = test.models.index(model)
            alone = contest.expected_cost_usd[column]
            reached = least_cost(*curve.means(), float(test.quality[:, column].mean()))
            share = f"{reached / alone:.0%} of its cost" if np.isfinite(reached) else "at no cost"
            print(f"matches {model.split('/')[-1]:<38} {share}; the paper, with 56 models: {paper}")
            result[f"{name}_share_of_cost_that_matches_{'gpt4' if model == GPT4 else 'mixtral'}"] = reached / alone
    return result


def domains(output: Path, contest: Contest, estimates: Float[np.ndarray, "queries models"]) -> dict[str, float | str]:
    """Routoo's Table 2 and Appendix D: gains at half of GPT-4's cost, by sub-category and by subject."""
    test = contest.test
    _, _, budget = budgets(test)[1]
    real = outcome(test, _assigned(contest, estimates, lagrangian, budget))
    base = contest.zero_quality(real.mean_cost_usd)
    groups = mmlu_subcategories(test.domains)
    by_group = domain_gains(real.quality, base, groups, contest.weights)
    by_subject = domain_gains(real.quality, base, test.domains, contest.weights)
    rows, columns = domain_rows(groups), [test.models.index(MIXTRAL), test.models.index(GPT4)]
    print("\nTable 2: at half of GPT-4's cost, by sub-category")
    print(f"{'':<18} {'questions':>9} {'Mixtral':>8} {'GPT-4':>6} {'router':>7}  over the zero router at the same cost, points")
    for name, gain in sorted(by_group.items(), key=lambda item: -item[1].value):
        member = rows[name]
        mixtral, gpt4 = 100 * test.quality[member][:, columns].mean(axis=0)
        routed = 100 * real.quality[member].mean()
        print(f"{name:<18} {member.sum():>9} {mixtral:>8.1f} {gpt4:>6.1f} {routed:>7.1f}  {in_words(gain)}")
    clear = sum(not gain.tie for gain in by_subject.values())
    lost = sum(gain.high < 0 for gain in by_subject.values())
    print(f"of {len(by_subject)} subjects {clear} have an interval without 0, {lost} of them losses")
    best_first = dict(sorted(by_group.items(), key=lambda item: -item[1].value))
    label = "accuracy over the zero router at half of GPT-4's cost, percent points (95% paired bootstrap)"
    intervals_figure(output / "table_2.png", best_first, label)
    found = {f"sub-category {name}": gain for name, gain in by_group.items()} | {
        f"subject {name}": g for name, g in by_subject.items()
    }
    return {key: value for name, gain in found.items() for key, value in named(name, gain).items()}


def shares_figure(path: Path, contest: Contest, curve: Curve) -> None:
    """Routoo's Figures 3 and 4: share of questions by model, and by price tier, as the budget moves."""
    from matplotlib import pyplot

    assert curve.choice is not None and curve.budgets_usd is not None
    shares, cost = model_shares(curve.choice, contest.test.models), contest.expected_cost_usd
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.4), layout="constrained", sharey=True)
    used = [column for column in np.argsort(-shares.mean(axis=0)) if shares[:, column].max() > 0.01][: len(COLOURS)]
    for colour, column in zip(COLOURS, used, strict=False):
        name = contest.test.models[column].split("/")[-1]
        left.plot(curve.budgets_usd, 100 * shares[:, column], color=colour, linewidth=2, label=name)
    for colour, (tier, share) in zip(COLOURS, tier_shares(shares, cost).items(), strict=False):
        right.plot(curve.budgets_usd, 100 * share, color=colour, linewidth=2, label=f"{tier} {UNIT}")
    for axes, title in ((left, "by model"), (right, "by price tier")):
        axes.set(xscale="log", title=title, xlabel=f"budget, {UNIT} (logarithmic)")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8)
    left.set_ylabel("share of questions, percent")
    save_figure(figure, path)


def _curve(contest: Contest, estimates: np.ndarray, solver: Callable[[Problem], Assignment], name: str) -> Curve:
    return cost_quality_curve(
        contest.test, estimates, expected_cost_usd=contest.expected_cost_usd, solver=solver, progress=name
    )


def _assigned(
    contest: Contest, estimates: np.ndarray, solver: Callable[[Problem], Assignment], budget_usd: float
) -> Assignment:
    return solver(Problem(estimates, contest.expected_cost_usd, budget_usd * len(estimates)))


def _percents(quality: Float[np.ndarray, " queries"], domains: Sequence[str]) -> str:
    return f"{100 * quality.mean():>8.1f} {100 * macro_mean(quality, domains):>8.1f}"


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
