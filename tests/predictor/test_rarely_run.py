"""A model with far fewer outcomes than the others leans on them, and moves none of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxroute import RoutingTable, TrainConfig
from jaxroute.predictor.extending import ADDED, extend
from jaxroute.predictor.fitting import fold_numbers, train_head
from jaxroute.predictor.predictor import head_estimates
from jaxroute.predictor.rarely_run import rarely_run
from jaxroute.predictor.training import train

MODELS = ["a", "new", "b", "c"]
LEVELS, COSTS = np.array([-0.5, 1.2, 0.0, 0.4]), np.array([1.0, 20.0, 1.2, 0.9])
CONFIG = TrainConfig(penalties=(0.1,), corrections=(0.3,), folds=3)


def pool(queries: int = 240, *, asked: int = 40, graded: bool = False) -> tuple[np.ndarray, RoutingTable]:
    """Features, and outcomes of three models on all queries, of `new` on some."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(queries, 12)).astype(np.float32)
    logits = 1.2 * features[:, :1] + generator.normal(size=(queries, 1)) + LEVELS
    chance = 1 / (1 + np.exp(-logits))
    quality = np.round(chance * 4) / 4 if graded else generator.binomial(1, chance).astype(float)
    quality[generator.permutation(queries)[asked:], 1] = np.nan
    # Questions that only the new model was asked.
    quality[np.flatnonzero(~np.isnan(quality[:, 1]))[:5]] *= np.array([np.nan, 1, np.nan, np.nan])
    domains = ["law" if row % 3 else "art" for row in range(queries)]
    return features, RoutingTable([f"query {row}" for row in range(queries)], MODELS, quality, COSTS, domains=domains)


@pytest.mark.filterwarnings("ignore::jaxroute.errors.FewOutcomes")
@pytest.mark.slow
@pytest.mark.parametrize("levels", [2, 5])
def test_the_others_do_not_move_and_what_is_held_out_is_not_seen(levels: int) -> None:
    features, table = pool(graded=levels > 2)
    config = replace(CONFIG, levels=levels)
    head, report = train_head(features, table, config)
    assert list(report.leaning) == ["new"] and report.corrections["new"] > 0
    answered = np.flatnonzero(~np.isnan(table.quality[:, 0]))
    alone, of_others = train_head(features[answered], table.select(answered, models=["a", "b", "c"]), config)
    others = [0, 2, 3]
    np.testing.assert_array_equal(head_estimates(head, features)[:, others], head_estimates(alone, features))
    np.testing.assert_array_equal(report.held_out_estimates[answered][:, others], of_others.held_out_estimates)
    assert np.isfinite(report.held_out_estimates).all() and np.isfinite(report.held_out_shared).all()
    # Every outcome of one fold turned round: what was held out there stays, elsewhere it moves.
    fold = fold_numbers(table, config.folds, seed=config.seed)
    turned = table.quality.copy()
    turned[fold == 1, 1] = 1 - turned[fold == 1, 1]
    again = train_head(features, replace(table, quality=turned), config)[1].held_out_estimates
    np.testing.assert_array_equal(again[fold == 1, 1], report.held_out_estimates[fold == 1, 1])
    assert np.abs(again - report.held_out_estimates)[fold != 1, 1].mean() > 0.01
    # The head's own estimates of all questions have about the mean of those that were held out.
    assert abs(head_estimates(head, features)[:, 1].mean() - report.held_out_estimates[:, 1].mean()) < 0.05
    # Where nothing may be a model's own, there is one fit for all.
    for one in (replace(config, head="difference"), replace(config, corrections=())):
        assert not train_head(features, table, one)[1].leaning


@pytest.mark.slow
def test_training_with_it_is_training_without_it_and_adding_it(tiny_encoder: Path, fresh_cache: Path) -> None:
    _, table = pool()
    config = replace(CONFIG, encoder=str(tiny_encoder))
    together, report = train(table, config)
    assert "leaning on the other models: new" in str(report)
    rows = np.flatnonzero(~np.isnan(table.quality[:, 0]))
    others, _ = train(table.select(rows, models=["a", "b", "c"]), config)
    added, _ = extend(others, table.select(models=["new"]))
    one, two = (each.estimate(table.queries).select(MODELS).quality for each in (together, added))
    np.testing.assert_array_equal(one, two)
    assert together.about[ADDED] == added.about[ADDED]
    assert together.pool is not None and others.pool is not None
    np.testing.assert_array_equal(together.pool.numbers, others.pool.numbers)
    np.testing.assert_array_equal(together.pool.slopes, others.pool.slopes)


@pytest.mark.parametrize(
    ("counts", "rare"),
    [
        ((2000, 2000, 2000, 50), [3]),
        ((50, 2000, 2000, 2000, 399, 400), [0, 4]),
        ((2000, 2000, 50), []),  # Two models say nothing of how models differ.
        ((2000, 2000, 60, 50), []),
        ((14000, 2000, 2000, 2000, 2000), []),
        ((300, 300, 300, 100), []),
        ((100, 100, 100, 5), []),
        ((300, 300, 300, 1), [3]),
    ],
)
def test_which_models_lean_on_others(counts: tuple[int, ...], rare: list[int]) -> None:
    quality = np.full((max(counts), len(counts)), np.nan)
    for column, count in enumerate(counts):
        quality[:count, column] = 1.0
    assert rarely_run(quality).tolist() == rare


@pytest.mark.filterwarnings("ignore::jaxroute.errors.FewOutcomes")
def test_a_handful_of_outcomes_is_held_out_too() -> None:
    features, table = pool(asked=6)
    head, report = train_head(features, table, CONFIG)
    assert list(report.leaning) == ["new"]
    assert np.isfinite(report.held_out_estimates).all() and np.isfinite(head_estimates(head, features)).all()
    # Of the questions that it was asked in one fold, no estimate hangs on its outcomes there.
    fold = fold_numbers(table, CONFIG.folds, seed=CONFIG.seed)
    part = fold == fold[~np.isnan(table.quality[:, 1])][0]
    turned = table.quality.copy()
    turned[part, 1] = 1 - turned[part, 1]
    again = train_head(features, replace(table, quality=turned), CONFIG)[1].held_out_estimates
    np.testing.assert_array_equal(again[part, 1], report.held_out_estimates[part, 1])
    assert not np.array_equal(again, report.held_out_estimates)
