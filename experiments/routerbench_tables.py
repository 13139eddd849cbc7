"""What do RouterBench's routers gain on its own tasks, within a task, over tasks, and on a task that they never saw?

    JAXROUTE_DATA=... uv run python -m experiments.routerbench_tables

RouterBench (Hu et al. 2024, arXiv:2403.12031) on the two tasks at hand, ARC-Challenge and MBPP: every model's accuracy and
cost beside its Table 1; AIQ of the routers of its section 5 by the paper's and by the code's convention; cascades by the
judge's error rate; and each task by routers that learnt from the other one.

6 minutes on 2 cores. Seen: the published dollars are those of some 455 of ARC's 1,456 queries and 131 to 142 of MBPP's 427,
whichever model answers. Accuracies differ by no more than such a sample's luck but for one: GPT-4 on ARC has 95.4 percent in
the files and 92.1 in the paper, which is 4 standard errors of 455 queries. Points over the zero router, with MiniLM
(`--router predictor:encoder=minilm bradley_terry knn:neighbours=5 knn:neighbours=10 knn:neighbours=40 mlp svm`, on an AMD
EPYC). ARC: predictor +0.5 (-0.3 to 1.3, a tie), Bradley-Terry -0.2 (tie), 40 neighbours -1.1 (a loss), MLP -3.6, SVM -13.7.
MBPP has 126 test queries: nothing gains, the predictor has -3.7 (-7.7 to 0.2, a tie). Over both tasks the predictor gains
+3.9 (2.5 to 5.3), the mean per task +3.5 and Bradley-Terry +3.3, both ties with it; 40 neighbours +1.7 (tie). Cascades need a
judge that errs in less than a tenth of its verdicts: MBPP, hull AIQ, +16.8 without error, +1.2 (tie) at 0.1. On a task that
it never saw no router gains: in hull AIQ, against the models that are best there, the predictor has -2.4 and -4.3 (tie). Both
conventions say the same.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from experiments.real_data import routerbench_parts
from experiments.reporting import named
from jaxroute import JaxrouteError, RoutingTable
from jaxroute.contest.evaluate import EvaluateConfig, evaluate
from jaxroute.contest.results import Evaluation, in_words, printed
from jaxroute.contest.rows import Contest, make_contest
from jaxroute.evaluation import aiq, aiq_gain, bootstrap_weights, mean_difference, paired_interval
from jaxroute.evaluation.plots import draw_cost_quality, save_figure
from jaxroute.routers.learning.preferences import augmented
from jaxroute.storage.files import write_json

TASKS = ("arc_challenge", "mbpp")
PUBLISHED = {
    # Share of right answers, and dollars for the published test part, on ARC and MBPP: Table 1 of arXiv:2403.12031. The
    # dollars were checked against the files, see print_models.
    "WizardLM/WizardLM-13B-V1.2": ((0.660, 0.068), (0.364, 0.011)),
    "mistralai/mistral-7b-chat": ((0.642, 0.046), (0.349, 0.006)),
    "mistralai/mixtral-8x7b-chat": ((0.844, 0.137), (0.573, 0.023)),
    "meta/code-llama-instruct-34b-chat": ((0.644, 0.177), (0.465, 0.021)),
    "zero-one-ai/Yi-34B-Chat": ((0.882, 0.182), (0.333, 0.031)),
    "gpt-3.5-turbo-1106": ((0.855, 0.228), (0.651, 0.044)),
    "claude-instant-v1": ((0.821, 0.183), (0.550, 0.064)),
    "meta/llama-2-70b-chat": ((0.794, 0.205), (0.302, 0.039)),
    "claude-v1": ((0.889, 1.829), (0.527, 0.607)),
    "claude-v2": ((0.546, 1.833), (0.605, 0.770)),
    "gpt-4-1106-preview": ((0.921, 2.286), (0.682, 1.235)),
}
ORACLE = ((0.977, 0.091), (0.899, 0.041))
"""The same of the oracle: the cheapest of the models that answer best."""
ROUTERS = ("predictor", "knn:neighbours=5", "knn:neighbours=10", "knn:neighbours=40", "mlp", "mlp:hidden=100,100", "svm")
CASCADES = tuple(f"cascade:epsilon={epsilon:g}" for epsilon in (0, 0.1, 0.2, 0.3, 0.4, 0.5))


@dataclass(frozen=True)
class Config:
    """Routers, bootstrap, output."""

    output: Path = Path("runs/routerbench_tables")
    """Folder for result.json, the figures, and a report of every setting."""
    router: tuple[str, ...] = ROUTERS
    """As in `jaxroute evaluate`; the others are compared with the first."""
    cascade: tuple[str, ...] = CASCADES
    """The same with a judge that knows the outcomes."""
    resamples: int = 1000
    """Bootstrap resamples of the test queries."""
    seed: int = 0
    """Of bootstrap and shuffles."""


def main(config: Config) -> dict[str, float | str]:
    """Run it; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    parts = {task: routerbench_parts(task) for task in TASKS}
    result: dict[str, float | str] = {}
    for place, task in enumerate(TASKS):
        result |= print_models(task, place, parts[task], config)
    settings = {task: parts[task] for task in TASKS}
    both = [augmented(*(parts[task][part] for task in TASKS)) for part in (0, 1)]
    settings["both tasks"] = (both[0], both[1])
    for task, other in zip(TASKS, reversed(TASKS), strict=True):
        settings[f"{task}, learnt from {other}"] = (augmented(*parts[other]), parts[task][1])
    judged: dict[str, Evaluation] = {}
    for name, (train, test) in settings.items():
        print(f"\n{name}")
        contest = make_contest(train, test, resamples=config.resamples, seed=config.seed)
        # A cascade learns nothing but the order of the models: once per task is enough.
        routers = config.router + (config.cascade if name in TASKS else ())
        judged[name] = evaluate(contest, EvaluateConfig(router=routers, output=config.output / name.replace(" ", "_")))
        print(printed(judged[name]))
        result |= both_conventions(name, judged[name])
    planes(config.output / "figures_4_5.png", {name: judged[name] for name in (*TASKS, "both tasks")}, config.router)
    planes(config.output / "figure_6.png", {name: judged[name] for name in TASKS}, config.cascade)
    outside = {name: one for name, one in judged.items() if "learnt from" in name}
    planes(config.output / "figures_8_9.png", outside, config.router)
    write_json(config.output / "result.json", result)
    print(f"\nwritten to {config.output}/: result.json, figures_4_5.png, figure_6.png, figures_8_9.png, a report per setting")
    return result


def print_models(task: str, place: int, parts: tuple[RoutingTable, RoutingTable], config: Config) -> dict[str, float | str]:
    """Accuracy and cost over all queries beside the published ones.

    The published dollars are those of a test part that the paper does not name; divided by the mean cost of a query here they
    give its size, which must be about the same for every model.
    """
    whole = augmented(*parts)
    weights = bootstrap_weights(len(whole), resamples=config.resamples, seed=config.seed)
    cost = whole.mean_cost_usd()
    print(f"\n{task}, {len(whole):,} queries")
    print(f"{'':<36} {'right, percent':<21} {'published':>9}  {'USD':>7} {'published':>9}  queries that it would pay for")
    result: dict[str, float | str] = {}
    for column in np.argsort(cost):
        model = whole.models[column]
        share, usd = PUBLISHED[model][place]
        right = paired_interval(mean_difference(whole.quality[:, column]), weights)
        total = float(whole.cost_usd[:, column].sum())
        within = f"{100 * right.value:.1f} ({100 * right.low:.1f} to {100 * right.high:.1f})"
        print(f"{model:<36} {within:<21} {100 * share:>9.1f}  {total:>7.3f} {usd:>9.3f}  {usd / cost[column]:.0f}")
        result |= named(f"{task} {model} accuracy", right) | {f"{task} {model} total_cost_usd": total}
    # Of equally good answers the cheapest; cells that were not run are no answers.
    best = np.nanmax(whole.quality, axis=1)
    paid = np.where(whole.quality == best[:, None], whole.cost_usd, np.inf).min(axis=1)
    share, usd = ORACLE[place]
    right = f"{100 * best.mean():.1f}"
    print(f"{'oracle':<36} {right:<21} {100 * share:>9.1f}  {paid.sum():>7.3f} {usd:>9.3f}  {usd / paid.mean():.0f}")
    result[f"{task} oracle accuracy"], result[f"{task} oracle total_cost_usd"] = float(best.mean()), float(paid.sum())
    return result


def both_conventions(name: str, evaluation: Evaluation) -> dict[str, float | str]:
    """AIQ as the paper defines it and as its code computes it, and what each is over the zero router's."""
    contest = evaluation.contest
    (low, high), zero = contest.costs, contest.single_models
    print(f"{'':<24} {'paper':>6}  {'over the zero router':<27} {'code':>6}  over the zero router")
    result: dict[str, float | str] = {}
    for one in evaluation.judged:
        if one.name == "zero_router":
            continue
        by_code = aiq(*one.entry.curve.means(), low, high, convention="code")
        gain = aiq_gain(one.entry.curve, zero, contest.weights, low=low, high=high, convention="code")
        print(
            f"{one.name:<24} {100 * one.hull.aiq:>6.1f}  {in_words(one.hull.gain):<27} {100 * by_code:>6.1f}  {in_words(gain)}"
        )
        key = f"{name} {one.name}"
        result |= {f"{key} aiq": one.hull.aiq, f"{key} aiq_by_code": by_code}
        result |= named(f"{key} aiq_gain", one.hull.gain) | named(f"{key} aiq_gain_by_code", gain)
    return result


def planes(path: Path, evaluations: Mapping[str, Evaluation], names: Sequence[str]) -> None:
    """The cost-quality plane of every setting side by side."""
    from matplotlib import pyplot

    figure, every = pyplot.subplots(
        1, len(evaluations), figsize=(7 * len(evaluations), 5.6), layout="constrained", squeeze=False
    )
    for axes, (setting, evaluation) in zip(every.flat, evaluations.items(), strict=True):
        by_name = {one.name: one for one in evaluation.judged}
        curves = {name: by_name[name].entry.curve for name in names}
        contest: Contest = evaluation.contest
        draw_cost_quality(axes, contest.test, curves, unit=contest.unit, scale=contest.scale, logarithmic=True)
        axes.set_title(f"{setting}: {len(contest.test):,} test queries")
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4)
    save_figure(figure, path)


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
