"""Does a cascade whose judge reads the answers beat routing alone at the same realised cost?

    JAXROUTE_DATA=... uv run python -m experiments.learned_cascade

A few minutes of one core, nearly all of it to encode. Seen: not clearly. What an answer shows by itself is nothing,
save on MBPP (penalty 300, test log-loss 0.6386 before and 0.6339 after the answer), and there the cascade gains -1.2
points (-3.7 to +1.0). What answers show of each other is much where they end in a choice: with all of them beside
each other 0.1507 in place of 0.3704 on ARC and 0.5357 in place of 0.6042 on RouterArena. A cascade with one call in
sight cannot use it. With two it gains on ARC -0.1 points (-1.3 to +1.0, p 0.59) at the same realised cost, and +0.7
(+0.1 to +1.3, p 0.03) where it is learnt on the smaller part and judged on the larger; at 1.9 dollars per 1,000
queries 94.5 in place of 94.0 percent, and 93.4 in place of 91.5. On RouterArena, whose better model is the cheaper
one, it gains nothing. In the simulated pool, where wrong answers never agree, it gains +2.7 (+0.6 to +4.9, p 0.002).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float

from experiments.real_data import data_folder, routerbench_parts
from experiments.reporting import named
from jaxroute import JaxrouteError, RoutingTable, TrainConfig, load_source
from jaxroute.encoders import load_encoder
from jaxroute.encoders.features import FeatureConfig, prompt_features
from jaxroute.errors import TableError
from jaxroute.evaluation import Curve, Interval, areas, bootstrap_weights, hull, log_loss, paired_interval
from jaxroute.evaluation.plots import line, save_figure
from jaxroute.predictor.agreement import compared
from jaxroute.predictor.answers import Judge, JudgeConfig, JudgeReport, answer_features, fit_judge
from jaxroute.predictor.cascade_price import Beforehand, Cascaded, cascade_at, prices_between, together
from jaxroute.predictor.fitting import fold_numbers, train_head
from jaxroute.predictor.predictor import head_estimates
from jaxroute.simulation.pool import SimulatedPool
from jaxroute.storage.files import write_json

POOLS = ("routerarena", "arc", "mbpp", "arc_swapped", "mbpp_swapped", "simulated")
ROUTERBENCH = {"arc": "arc_challenge", "mbpp": "mbpp"}
READ_TOKENS = 128
SHARES = (0.25, 0.5, 0.75)
"""Of the range of costs, where qualities are reported too."""
WAYS = {"cascade": False, "look_ahead": True}
"""Whether the call after next is in sight: without, a second opinion never pays."""
WIDE = 10
"""A range of costs whose ends differ by more than this factor is drawn on a logarithmic axis."""
LABELS = {"cascade": "cascade", "look_ahead": "cascade that looks one call further ahead"}


@dataclass(frozen=True)
class Config:
    """Estimates and judge learnt on training rows; routing and cascades replayed on others, at their true costs."""

    output: Path = Path("runs/learned_cascade")
    """Folder for result.json and the figure."""
    pools: tuple[str, ...] = POOLS
    """Which tables: routerarena, RouterBench's arc and mbpp, these learnt on the test part and judged on the larger training
    part (arc_swapped, mbpp_swapped), simulated."""
    models: int = 5
    """Of a pool with more, those at the corners of the training rows' hull are kept, at most so many."""
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(encoder="minilm", features=FeatureConfig(max_tokens=READ_TOKENS))
    )
    """Of the estimates from prompts alone; the judge reads with the same encoder, and as many tokens: an answer's end."""
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    """Of the judge."""
    queries: int = 300
    """Of the simulated pool."""
    points: int = 61
    """Prices of a curve."""
    resamples: int = 1000
    """Of the bootstrap over queries."""
    permutations: int = 999
    """Of the test: each swaps cascade and routing on about half of the queries."""
    seed: int = 0
    """Of the splits, the simulation and the bootstrap."""

    def __post_init__(self) -> None:
        if unknown := [name for name in self.pools if name not in POOLS]:
            raise TableError(f"pools={unknown[0]!r} must be some of {', '.join(POOLS)}")
        if self.models < 2:
            raise TableError(f"models={self.models} must be at least 2")
        if self.points < 3 or min(self.resamples, self.permutations) < 1:
            raise TableError(
                f"points={self.points} must be at least 3, resamples={self.resamples} and "
                f"permutations={self.permutations} at least 1"
            )


@dataclass(frozen=True)
class Part:
    """Unseen queries, and what is estimated of them before and after the answers."""

    test: RoutingTable
    estimates: Float[np.ndarray, "queries models"]
    judged: Float[np.ndarray, "queries models"]
    """Each answer alone."""
    evidence: Float[np.ndarray, "queries models models"]
    """What another answer adds to its log-odds."""
    judge: Judge
    report: JudgeReport


def main(config: Config) -> dict[str, float | str]:
    """Run it; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    result: dict[str, float | str] = {}
    drawn: dict[str, tuple[RoutingTable, dict[str, Curve]]] = {}
    heads = (("", 12), ("test", 6), ("models", 8), ("log-loss before, alone, together", 34), ("gain in points (95%)", 25))
    print("".join(f"{words:>{width}}" for words, width in (*heads, ("looking ahead", 25), ("p", 7), ("calls", 12))))
    for name, train, test in _tables(config):
        part = learnt(train, test, config)
        curves, calls = replayed(part, train, config)
        gains = {way: gain(curves[way], curves["routing"], config) for way in WAYS}
        everyone = np.ones(test.quality.shape, bool)
        beside = together(part.estimates, part.judged, part.evidence, everyone)
        losses = [log_loss(test.quality, one) for one in (part.estimates, part.judged, beside)]
        result |= {f"{name}_queries": len(test), f"{name}_models": len(test.models)}
        result |= {f"{name}_loss_{when}": loss for when, loss in zip(("before", "after", "together"), losses, strict=True)}
        result |= {f"{name}_penalty": str(part.report.penalty), f"{name}_carry": part.judge.agreement.carry}
        result |= {f"{name}_held_out_loss_of_sets_alone": part.judge.agreement.losses[0]}
        result |= {f"{name}_held_out_loss_of_sets_together": part.judge.agreement.losses[1]}
        result |= {f"{name}_held_out_loss_before": part.report.losses[np.inf]}
        result |= {f"{name}_held_out_loss_after": part.report.losses[part.report.penalty]}
        for way, one in gains.items():
            p_value = swapped_p_value(curves[way], curves["routing"], config)
            result |= named(f"{name}_{way}_gain", one) | {f"{name}_{way}_calls": calls[way], f"{name}_{way}_p": p_value}
        for share in SHARES:
            cost, values = at_share(curves, share)
            result[f"{name}_cost_at_{share:g}"] = cost
            result |= {f"{name}_{way}_quality_at_{share:g}": value for way, value in values.items()}
        for way, curve in curves.items():
            result[f"{name}_{way}_best"] = float(curve.means()[1].max())
        drawn[name] = (test, curves)
        shown = "".join(f"{one.in_points:>25}" for one in gains.values())
        asked = " ".join(f"{one:.2f}" for one in calls.values())
        read = "".join(f"{loss:>{width}.4f}" for loss, width in zip(losses, (16, 9, 9), strict=True))
        p_value = f"{result[f'{name}_look_ahead_p']:.3f}"
        print(f"{name:<12}{len(test):>6}{len(test.models):>8}{read}{shown}{p_value:>7}{asked:>12}", flush=True)
        # Encoding takes long: what is known is kept.
        write_json(config.output / "result.json", result)
        _figure(config.output / "learned_cascade.png", drawn)
    print(f"\nwritten to {config.output}/: result.json, learned_cascade.png")
    return result


def learnt(train: RoutingTable, test: RoutingTable, config: Config) -> Part:
    """Estimates and judgements of the test rows; the judge is fitted on held-out estimates of the training rows."""
    encoder, features = load_encoder(config.train.encoder), config.train.features
    known, unseen = (prompt_features(encoder, one.prompts, features).values for one in (train, test))
    head, report = train_head(known, train, config.train)
    estimates = head_estimates(head, unseen)
    read = []
    for one in (train, test):
        assert one.response is not None
        likelihood = one.log_likelihood
        read.append(answer_features(encoder, one.prompts, one.response, features, log_likelihood=likelihood))
    fold = fold_numbers(train, config.train.folds, seed=config.train.seed)
    assert train.response is not None and test.response is not None
    pairs = compared(train.response)
    judge, judging = fit_judge(read[0], report.held_out_estimates, train.quality, fold, train.models, config.judge, pairs=pairs)
    judged = judge.estimate(read[1], estimates)
    return Part(test, estimates, judged, judge.evidence(compared(test.response), judged), judge, judging)


def replayed(part: Part, train: RoutingTable, config: Config) -> tuple[dict[str, Curve], dict[str, float]]:
    """Curves over the same prices at realised cost, and each cascade's mean number of calls where prices overlap.

    Models are expected to cost their mean in training. Judgements are free: the encoder has read the prompt already.
    """
    cost = np.broadcast_to(train.mean_cost_usd(), part.estimates.shape)
    known = Beforehand.of(part.judge, part.estimates, cost)
    prices = prices_between(known, config.points)
    silent = Beforehand(part.estimates, cost, np.zeros_like(part.judge.surprise))
    found = {"routing": [cascade_at(silent, part.estimates, float(price)) for price in prices]}
    for way, ahead in WAYS.items():
        found[way] = [
            cascade_at(known, part.judged, float(price), evidence=part.evidence, look_ahead=ahead) for price in prices
        ]
    curves = {way: _curve(part.test, every) for way, every in found.items()}
    low, high = shared_range(*curves.values())
    calls = {}
    for way in WAYS:
        within = [low <= spent <= high for spent in curves[way].means()[0]]
        counts = [one.asked.sum(axis=1).mean() for one, inside in zip(found[way], within, strict=True) if inside]
        calls[way] = float(np.mean(counts)) if counts else float("nan")
    return curves, calls


def gain(curve: Curve, base: Curve, config: Config) -> Interval:
    """Mean difference of quality over the realised mean costs that both reach, points joined by straight lines, paired."""
    low, high = shared_range(curve, base)
    weights = bootstrap_weights(curve.quality.shape[1], resamples=config.resamples, seed=config.seed)
    return paired_interval(lambda drawn: areas(*curve.means(drawn), low, high) - areas(*base.means(drawn), low, high), weights)


def swapped_p_value(curve: Curve, base: Curve, config: Config) -> float:
    """Of the null that both are alike: how often the gain is as large where the two curves of each query may be swapped."""
    low, high = shared_range(curve, base)
    queries = curve.quality.shape[1]
    kept = np.random.default_rng(config.seed).integers(2, size=(config.permutations, queries)) / queries
    kept = np.concatenate([np.full((1, queries), 1 / queries), kept])

    def area(first: Curve, second: Curve) -> Float[np.ndarray, " permutations"]:
        cost, quality = (one + other for one, other in zip(first.means(kept), second.means(1 / queries - kept), strict=True))
        return areas(cost, quality, low, high)

    gains = area(curve, base) - area(base, curve)
    return float((gains >= gains[0] - 1e-12).mean())


def at_share(curves: dict[str, Curve], share: float) -> tuple[float, dict[str, float]]:
    """A cost this share of the way through the range that all curves reach, on a logarithmic scale, and the qualities there."""
    low, high = shared_range(*curves.values())
    cost = float(low * (high / low) ** share)
    found = {}
    for way, curve in curves.items():
        spent, quality = curve.means()
        order = np.argsort(spent, kind="stable")
        found[way] = float(np.interp(cost, spent[order], quality[order]))
    return cost, found


def shared_range(*curves: Curve) -> tuple[float, float]:
    """From the highest of the least mean costs to the lowest of the largest, in dollars per query."""
    costs = [curve.means()[0] for curve in curves]
    low = float(max(cost.min() for cost in costs))
    return low, max(low, float(min(cost.max() for cost in costs)))


def _curve(test: RoutingTable, every: list[Cascaded]) -> Curve:
    rows = np.arange(len(test))
    quality = np.stack([test.quality[rows, one.given] for one in every])
    return Curve(quality, np.stack([(test.cost_usd * one.asked).sum(axis=1) for one in every]))


def _tables(config: Config) -> Iterator[tuple[str, RoutingTable, RoutingTable]]:
    """Name, training part, test part; all models answered all queries."""
    for name in config.pools:
        if name == "routerarena":
            arena = load_source("routerarena", data_folder() / "routerarena", clip=True).complete()[0]
            train, test = arena.split(0.5, seed=config.seed)
        elif name == "simulated":
            train, test = _simulated(config).split(0.5, seed=config.seed)
        else:
            train, test = routerbench_parts(ROUTERBENCH[name.removesuffix("_swapped")])
            train, test = (test, train) if name.endswith("_swapped") else (train, test)
        kept = _kept(train, config)
        yield name, _plain(train.select(models=kept)), _plain(test.select(models=kept))


def _kept(train: RoutingTable, config: Config) -> list[str]:
    """All models of a small pool, else those that some mix of models needs on the training rows, the cheapest first."""
    if len(train.models) <= config.models:
        return train.models
    cost, quality = train.mean_cost_usd(), train.quality.mean(axis=0)
    corners, _ = hull(cost, quality)
    chosen = [train.models[int(np.flatnonzero(cost == corner)[quality[cost == corner].argmax()])] for corner in corners]
    if len(chosen) > config.models:
        places = np.linspace(0, len(chosen) - 1, config.models).round().astype(int)
        return [chosen[place] for place in places]
    return chosen


def _simulated(config: Config) -> RoutingTable:
    """The pool with its answers, which end in a number: only that two are the same shows that they are right."""
    table = load_source("simulated", queries=config.queries, seed=config.seed)
    pool = SimulatedPool(table)
    answers = [[" ".join(pool.write(model, prompt).words) for model in table.models] for prompt in table.prompts]
    return replace(table, response=np.array(answers, dtype=object))


def _plain(table: RoutingTable) -> RoutingTable:
    """RouterBench stores an answer as the text of a list of one text."""
    assert table.response is not None
    return replace(table, response=np.vectorize(plain_answer, otypes=[object])(table.response))


def plain_answer(answer: str) -> str:
    """The text in the list; the answer as it is where it is none."""
    try:
        parts = ast.literal_eval(answer) if answer.startswith("[") else answer
    except (ValueError, SyntaxError):
        return answer
    return "\n".join(parts) if isinstance(parts, list) and all(isinstance(part, str) for part in parts) else answer


def over_routing(curve: Curve, routing: Curve) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Mean costs that both reach, from cheap to expensive, and there the difference in mean quality; straight lines between."""
    low, high = shared_range(curve, routing)
    lines = []
    for one in (curve, routing):
        cost, quality = one.means()
        order = np.argsort(cost, kind="stable")
        lines.append((cost[order], quality[order]))
    every = np.unique(np.concatenate([cost for cost, _ in lines]))
    cost = every[(every >= low) & (every <= high)]
    return cost, np.interp(cost, *lines[0]) - np.interp(cost, *lines[1])


def _figure(path: Path, drawn: dict[str, tuple[RoutingTable, dict[str, Curve]]]) -> None:
    """What each way of cascading has over routing alone at the same cost. Of the heights themselves, lines hide each other."""
    from matplotlib import pyplot, ticker

    wide = min(3, len(drawn))
    high = -(-len(drawn) // wide)
    figure, panels = pyplot.subplots(high, wide, figsize=(4.2 * wide, 3.2 * high + 0.5), layout="constrained", squeeze=False)
    for axes in panels.flat[len(drawn) :]:
        axes.remove()
    for axes, (name, (test, curves)) in zip(panels.flat, drawn.items(), strict=False):
        axes.axhline(0, color="#444444", linewidth=1.5, label="routing alone")
        routing = curves["routing"]
        for position, way in enumerate(WAYS):
            cost, more = over_routing(curves[way], routing)
            axes.plot(1000 * cost, 100 * more, label=LABELS[way], **line(position))
        cheap, expensive = shared_range(*curves.values())
        if expensive > WIDE * cheap:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        else:
            axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        least, most = axes.get_ylim()
        axes.set_ylim(min(least, -1.0), max(most, 1.0))
        axes.set_title(f"{name.replace('_', ', ')}: {len(test):,} queries", fontsize=10)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("realised dollars per 1,000 queries", fontsize=10)
    figure.supylabel("true mean quality over routing alone at that cost, points", fontsize=10)
    figure.legend(*panels.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    save_figure(figure, path)


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
