"""Which choice matters most: the encoder, its layer and pooling, the head, the training questions, or the selector?

    JAXROUTE_DATA=... uv run python -m experiments.what_matters

The nine-model MMLU pool. Every row changes one thing of the predictor as shipped and keeps the rest; AIQ over the zero router,
and less that of the predictor as shipped, both with paired bootstrap intervals.

10 minutes on 2 cores, of which encoding takes 6, once.

Seen on 4,182 test questions on an AMD EPYC, without the 7,798 other questions (`--no-others`), hull AIQ in points: the
predictor as shipped has +2.3 (1.7 to 2.9). What matters most is the selector: with the same estimates greedy by value per
dollar has -9.8, with alpha 0.1 -7.0; exact assignments are no better than exact prices (tie). Then the head: without a
correction per model it gains 0.9 less (0.4 to 1.5), and the likeliest level in place of probabilities loses all (-7.0). Then
questions: 996 tie with all 1,996, 503 gain 1.2 less (0.5 to 1.8), and 251 lose (-0.8). Least matters the encoder, as long as
it reads the question: MiniLM, layer 10 or the last token tie with layer 20's mean, though the log-loss tells them apart;
layer 30's mean loses 0.5 (0.1 to 0.8). The subject alone has +1.0. With version 0.1.0, 7,798 others of two models added 0.2
(0.1 to 0.4).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float
from tqdm.auto import tqdm

from experiments.encoding import encode_once
from experiments.real_data import MmluPool, load_mmlu_pool, with_other_questions
from experiments.reporting import intervals_figure, named
from jaxroute import JaxrouteError, RoutingTable, TableError
from jaxroute.contest.results import in_words
from jaxroute.contest.rows import make_contest
from jaxroute.evaluation import aiq_gain, cost_quality_curve, log_loss
from jaxroute.routers.base import find_router
from jaxroute.storage.files import write_json
from solvers import Assignment, Problem, exact, greedy_ratio, lagrangian

Solver = Callable[[Problem], Assignment]
SHIPPED = "as shipped"
GROUPS = ("encoder", "layer, pooling", "head", "training", "selector")


@dataclass(frozen=True)
class Config:
    """What is varied, the bootstrap, the output."""

    output: Path = Path("runs/what_matters")
    """Folder for result.json and the figure."""
    groups: tuple[str, ...] = GROUPS
    """What is varied: all of these, or some."""
    encoder: str = "smollm2"
    """The decoder of all rows but those that name another encoder."""
    layer: int = 20
    """Its layer as shipped."""
    layers: tuple[int, ...] = (10, 30)
    """Other ones."""
    other_encoders: tuple[str, ...] = ("minilm:layers=6",)
    """Encoders in its place, with a layer of theirs."""
    sizes: tuple[int, ...] = (125, 250, 500, 1000)
    """Training questions, fewer than there are."""
    others: bool = True
    """Whether RouteLLM's questions, which only Mixtral and GPT-4 answered, join the training once."""
    resamples: int = 1000
    """Bootstrap resamples of the test questions."""
    seed: int = 0
    """Of the bootstrap and of which training questions are fewer."""

    def __post_init__(self) -> None:
        if unknown := set(self.groups) - set(GROUPS):
            raise TableError(f"groups={', '.join(sorted(unknown))}: known are {'; '.join(GROUPS)}")


@dataclass(frozen=True)
class Variant:
    """One row: what is changed, the router, what it learns from, and how budgets are met."""

    group: str
    name: str
    router: str
    train: RoutingTable
    solver: Solver = lagrangian


def main(config: Config) -> dict[str, float | str]:
    """Run it; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    pool = load_mmlu_pool()
    contest = make_contest(pool.train, pool.test, resamples=config.resamples, seed=config.seed)
    print("\n".join(contest.notes))
    rows = variants(config, pool)
    kinds = {row.router: find_router(row.router) for row in rows}
    encode_once(kinds.values(), pool.train.prompts + pool.test.prompts)
    estimates: dict[tuple[str, int], Float[np.ndarray, "queries models"]] = {}
    curves, result = {}, {}
    for row in tqdm(rows, desc="variants", unit=" variants"):
        key = row.router, len(row.train)
        if key not in estimates:
            estimates[key] = kinds[row.router].fit(row.train).estimate(contest.test.queries).quality
        curves[row.name] = cost_quality_curve(
            contest.test, estimates[key], expected_cost_usd=contest.expected_cost_usd, solver=row.solver, progress=row.name
        )
    low, high = contest.costs
    print(f"\n{'':<16} {'':<44} {'AIQ over zero router':<22} {'less the one as shipped':<28} log-loss")
    gains = {}
    for row in rows:
        gain = aiq_gain(curves[row.name], contest.single_models, contest.weights, low=low, high=high)
        change = aiq_gain(curves[row.name], curves[SHIPPED], contest.weights, low=low, high=high)
        values = estimates[row.router, len(row.train)]
        loss = f"{log_loss(contest.test.quality, values):.4f}" if values.min() >= 0 and values.max() <= 1 else ""
        compared = "" if row.name == SHIPPED else in_words(change)
        print(f"{row.group:<16} {row.name:<44} {gain!s:<22} {compared:<28} {loss}")
        result |= named(f"{row.name} aiq_gain", gain)
        result |= {} if row.name == SHIPPED else named(f"{row.name} aiq_over_shipped", change)
        gains[f"{row.group}: {row.name}" if row.group else row.name] = gain
    intervals_figure(
        config.output / "what_matters.png", gains, "AIQ over the zero router, percent points (95% paired bootstrap)"
    )
    write_json(config.output / "result.json", result)
    print(f"\nwritten to {config.output}/: result.json, what_matters.png")
    return result


def variants(config: Config, pool: MmluPool) -> list[Variant]:
    """In the order of the table."""
    train, test = pool.train, pool.test
    shipped = f"predictor:encoder={config.encoder}:layers={config.layer}"
    last, every = "pooling=last", f"predictor:encoder={config.encoder}:layers="
    rows = [Variant("", SHIPPED, shipped, train)]
    rows += [Variant("encoder", name.split(":")[0], f"predictor:encoder={name}", train) for name in config.other_encoders]
    rows += [Variant("encoder", "none: the subject's mean", "domain_mean", train)]
    rows += [Variant("layer, pooling", f"layer {layer}", f"{every}{layer}", train) for layer in config.layers]
    rows += [
        Variant("layer, pooling", f"layer {layer}, last token", f"{every}{layer}:{last}", train)
        for layer in (config.layer, max(config.layers))
    ]
    rows += [
        Variant("head", "difference, as published", f"{shipped}:head=difference", train),
        Variant("head", "likeliest level, as published", f"{shipped}:kind=argmax", train),
        Variant("head", "nearest neighbours (of MiniLM)", "knn", train),
    ]
    for size in config.sizes:
        fewer, _ = train.split(size / len(train), seed=config.seed)
        rows.append(Variant("training", f"{len(fewer):,} questions", shipped, fewer))
    if config.others:
        more = with_other_questions(train, test)
        rows.append(Variant("training", f"{len(more):,} questions, most of two models", shipped, more))
    rows += [
        Variant("selector", "exact", shipped, train, exact),
        Variant("selector", "greedy, every question answered", shipped, train, greedy_ratio),
        Variant("selector", "greedy, alpha 0.1, every question answered", shipped, train, partial(greedy_ratio, alpha=0.1)),
        Variant("selector", "greedy, as published", shipped, train, partial(greedy_ratio, reserve=False)),
    ]
    return [row for row in rows if row.group in ("", *config.groups)]


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
