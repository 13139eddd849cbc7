"""A model added from a few answers is estimated sensibly, and moves no other; models removed, replaced, moved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxroute import RoutingTable, TableError, TrainConfig
from jaxroute.data.prices import Price
from jaxroute.data.table import Queries
from jaxroute.encoders import Encoder, load_encoder
from jaxroute.encoders.features import FeatureConfig, Features
from jaxroute.predictor.extending import ADDED, extend, without
from jaxroute.predictor.fitting import train_head
from jaxroute.predictor.heads import Head
from jaxroute.predictor.predictor import Predictor, head_estimates
from jaxroute.predictor.pricing import table_pricing
from jaxroute.predictor.shift import shift

LEVELS = {"a": -0.8, "b": 0.0, "c": 0.4, "d": 0.1, "new": 1.5, "poor": -1.5}
COSTS = {"a": 1.0, "b": 1.0, "c": 1.2, "d": 0.9, "new": 20.0, "poor": 1.1}
BASE = ["a", "b", "c", "d"]
WIDTH = 48
"""Of the tiny encoder."""


def features_of(prompts: Sequence[str]) -> np.ndarray:
    """Features that hang on the prompt's number alone."""
    return np.stack([np.random.default_rng(int(one.split()[1])).normal(size=WIDTH) for one in prompts]).astype(np.float32)


def read(encoder: Encoder, prompts: list[str], config: FeatureConfig) -> Features:
    return Features(features_of(prompts), np.zeros(len(prompts), bool))


def outcomes(queries: int = 300, *, seed: int = 0, first: int = 0, harder: float = 0.0) -> RoutingTable:
    """Every question has a difficulty of its own beyond its features, which all models share."""
    generator = np.random.default_rng(seed)
    prompts = [f"query {row}" for row in range(first, first + queries)]
    features, names = features_of(prompts), list(LEVELS)
    logits = 1.5 * features[:, :1] + generator.normal(size=(queries, 1)) + np.array([LEVELS[name] for name in names]) - harder
    quality = generator.binomial(1, 1 / (1 + np.exp(-logits))).astype(float)
    return RoutingTable(prompts, names, quality, np.array([COSTS[name] for name in names]))


def graded(table: RoutingTable) -> RoutingTable:
    """The mean of four outcomes per cell in place of one."""
    draws = [outcomes(len(table), seed=seed, first=int(table.prompts[0].split()[1])).quality for seed in (11, 12, 13)]
    return replace(table, quality=np.mean([table.quality, *draws], axis=0))


def trained(table: RoutingTable, tiny_encoder: Path, levels: int = 2) -> Predictor:
    encoder, config = load_encoder(str(tiny_encoder)), TrainConfig(penalties=(0.1,), corrections=(0.3,), levels=levels)
    head, report = train_head(features_of(table.prompts), table, config)
    pool = report.pool_questions(table)
    features = FeatureConfig(layers=(1,)).of(encoder)
    pricing, seen = table_pricing(table, None), np.unique(table.prompt_numbers)
    return Predictor(encoder, features, head, table.models, levels, pricing, seen=seen, pool=pool, read=read)


@pytest.fixture(scope="module")
def predictor(tiny_encoder: Path) -> Predictor:
    return trained(outcomes().select(models=BASE), tiny_encoder)


ASKED = Queries([f"query {row}" for row in range(1000, 1037)], [""] * 37)


def test_no_other_model_moves_by_a_bit(predictor: Predictor) -> None:
    before = predictor.estimate(ASKED)
    after, _ = extend(predictor, outcomes(40).select(models=["new", "poor"]))
    estimates = after.estimate(ASKED)
    assert estimates.models == [*BASE, "new", "poor"]
    np.testing.assert_array_equal(estimates.quality[:, :4], before.quality)
    np.testing.assert_array_equal(estimates.cost_usd[:, :4], before.cost_usd)
    fewer = without(after, ["new", "poor"])
    np.testing.assert_array_equal(fewer.estimate(ASKED).quality, before.quality)
    assert fewer.about[ADDED] == {}


@pytest.mark.slow
def test_no_number_of_models_moves_the_others() -> None:
    """Rounding depends on the shape of what is computed at once; the shape must not depend on how many models there are."""
    generator, levels = np.random.default_rng(0), 5
    rows = generator.normal(size=(200, 9)).astype(np.float32)
    correction = generator.normal(size=(12, 9, levels)).astype(np.float32)

    def estimates(models: int) -> np.ndarray:
        head = Head(9, models, levels)
        nnx.update(head, {"correction": jnp.asarray(correction[:models])})
        return head_estimates(head, rows)

    wanted = estimates(12)
    for count in (2, 3):
        np.testing.assert_array_equal(estimates(count), wanted[:, :count])


def test_a_model_that_goes_moves_no_other_by_a_bit(predictor: Predictor) -> None:
    before = predictor.estimate(ASKED)
    for gone in (["a"], ["b", "d"]):
        left = [model for model in BASE if model not in gone]
        after = without(predictor, gone).estimate(ASKED)
        assert after.models == left
        np.testing.assert_array_equal(after.quality, before.select(left).quality)
        np.testing.assert_array_equal(after.cost_usd, before.select(left).cost_usd)


def test_graded_answers(tiny_encoder: Path) -> None:
    """Five levels: a new model's mean is met, its estimates follow its grades, and no other model moves."""
    table = graded(outcomes())
    predictor = trained(table.select(models=BASE), tiny_encoder, levels=5)
    before = predictor.estimate(ASKED)
    after, added = extend(predictor, table.select(np.arange(150), models=["new", "poor"]))
    estimates = after.estimate(ASKED)
    np.testing.assert_array_equal(estimates.quality[:, :4], before.quality)
    assert ((estimates.quality > 0) & (estimates.quality < 1)).all()
    fresh = graded(outcomes(400, seed=3, first=4000))
    found = after.estimate(Queries(fresh.prompts, fresh.domains)).quality
    for one in added:
        column = table.models.index(one.model)
        assert abs(one.quality - table.quality[:, column].mean()) < 0.06 and one.low < one.quality < one.high
        grades = found[:, after.models.index(one.model)]
        assert np.corrcoef(grades, fresh.quality[:, column])[0, 1] > 0.4
    left = without(after, ["c", "new"])
    np.testing.assert_array_equal(left.estimate(ASKED).quality, estimates.select(left.models).quality)


@pytest.mark.slow
def test_a_hundred_probes_say_how_good_a_model_is(predictor: Predictor) -> None:
    table = outcomes()
    after, added = extend(predictor, table.select(np.arange(100), models=["new", "poor"]))
    for one in added:
        truth = table.quality[:, table.models.index(one.model)].mean()
        assert abs(one.quality - truth) < 0.09 and one.high - one.low < 0.2 and one.known_questions == 100
        estimate = after.estimate(Queries(table.prompts, table.domains)).quality[:, after.models.index(one.model)]
        assert abs(estimate.mean() - one.quality) < 0.03
    assert [bool(one.like) for one in added] == [False, True]


@pytest.mark.slow
def test_the_answers_of_others_to_the_same_questions_make_it_surer(predictor: Predictor) -> None:
    """Twelve draws of 50 probes: with the pool's residuals the error of the expected quality is smaller."""
    table, errors = outcomes(), {True: [], False: []}
    truth = table.quality[:, table.models.index("new")].mean()
    for draw in range(12):
        rows = np.random.default_rng(draw).permutation(300)[:50]
        for known in errors:
            one = predictor if known else replace(predictor, pool=None)
            errors[known].append(extend(one, table.select(rows, models=["new"]))[1][0].quality - truth)
    assert np.std(errors[True]) < 0.9 * np.std(errors[False])


def test_order_and_number_of_steps_do_not_matter(predictor: Predictor) -> None:
    table = outcomes(40)
    at_once, _ = extend(predictor, table.select(models=["new", "poor"]))
    first, _ = extend(predictor, table.select(models=["poor"]))
    in_turn, _ = extend(first, table.select(models=["new"]))
    again, _ = extend(in_turn, table.select(models=["new"]), models=["new"])
    wanted = at_once.estimate(ASKED)
    for one in (in_turn, again):
        found = one.estimate(ASKED).select(at_once.models)
        np.testing.assert_array_equal(found.quality, wanted.quality)
        np.testing.assert_array_equal(found.cost_usd, wanted.cost_usd)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_three_equal_answers_are_no_proof(predictor: Predictor, outcome: float) -> None:
    table = outcomes(3).select(models=["new"])
    _, (one,) = extend(predictor, replace(table, quality=np.full((3, 1), outcome)))
    assert 0.02 < one.quality < 0.98 and one.high - one.low > 0.2 and one.more_probes > 10


def test_a_model_that_answers_anew_takes_its_old_place(predictor: Predictor) -> None:
    table = outcomes(200)
    better = replace(table, quality=np.where(np.array(table.models) == "b", table.quality[:, [4]], table.quality))
    after, _ = extend(predictor, better, models=["b"])
    assert after.models == BASE
    before, now = predictor.estimate(ASKED).quality, after.estimate(ASKED).quality
    np.testing.assert_array_equal(now[:, [0, 2, 3]], before[:, [0, 2, 3]])
    assert now[:, 1].mean() > before[:, 1].mean() + 0.1


def test_what_was_added_is_saved(predictor: Predictor, tmp_path: Path) -> None:
    from jaxroute import load

    after, _ = extend(predictor, outcomes(40).select(models=["new"]))
    after.save(tmp_path / "checkpoint")
    restored = load(tmp_path / "checkpoint").reading(read)
    np.testing.assert_array_equal(restored.estimate(ASKED).quality, after.estimate(ASKED).quality)
    assert isinstance(restored, Predictor) and restored.pool is not None
    assert json.loads((tmp_path / "checkpoint" / "estimator.json").read_text())["about"][ADDED]["new"]["probes"] == 40


def test_prices_are_needed_where_tokens_are_priced(predictor: Predictor) -> None:
    assert predictor.pricing is not None
    tokens = [100.0] * 4
    priced = replace(
        predictor, pricing=replace(predictor.pricing, prices=dict.fromkeys(BASE, Price(1e4, 1e4)), output_tokens=tokens)
    )
    probes = outcomes(30).select(models=["new"])
    with pytest.raises(TableError, match="no price for new; give --prices"):
        extend(priced, probes)
    after, _ = extend(priced, probes, prices={"new": Price(2e5, 2e5)})
    assert after.pricing is not None and after.pricing.output_tokens is not None
    # 20 dollars at 0.2 dollars per token, less the prompt.
    assert 80 < after.pricing.output_tokens[-1] < 100


def test_tables_that_cannot_extend_are_refused(predictor: Predictor) -> None:
    table = outcomes(20)
    with pytest.raises(TableError, match="knows all of its models already"):
        extend(predictor, table.select(models=BASE))
    with pytest.raises(TableError, match="no model would be left that these can lean on"):
        extend(predictor, table, models=BASE)
    with pytest.raises(TableError, match="has no outcomes of it"):
        extend(predictor, table, models=["other"])
    empty = replace(table, quality=np.where(np.array(table.models) == "new", np.nan, table.quality))
    with pytest.raises(TableError, match="new has no outcome"):
        extend(predictor, empty.select(models=["new"]))
    with pytest.raises(TableError, match="no model would be left"):
        without(predictor, BASE)


def test_new_traffic_moves_levels_as_far_as_few_prompts_can_say(predictor: Predictor) -> None:
    hard = outcomes(400, seed=5, first=5000, harder=2.0).select(models=BASE)
    moved, report = shift(predictor, hard.select(np.arange(100)))
    rest = hard.select(np.arange(100, 400))
    truth, queries = rest.quality.mean(axis=0), Queries(rest.prompts, rest.domains)
    errors = [np.abs(one.estimate(queries).quality.mean(axis=0) - truth).mean() for one in (predictor, moved)]
    assert errors[1] < 0.3 * errors[0] and report.outcomes == [100] * 4
    gap = np.array(report.seen) - report.after
    assert (np.abs(gap) < np.abs(np.array(report.seen) - report.before)).all()
    only, _ = shift(predictor, hard.select(np.arange(100)), domain="hard")
    np.testing.assert_array_equal(only.estimate(queries).quality, predictor.estimate(queries).quality)
    of_it = Queries(rest.prompts, ["hard"] * len(rest))
    np.testing.assert_allclose(only.estimate(of_it).quality, moved.estimate(queries).quality, atol=1e-6)
    with pytest.raises(TableError, match="no outcome of d"):
        shift(predictor, hard.select(models=["a", "b", "c"]))
