"""How long and how expensive answers will be: regressions that must beat the mean and add up in dollars."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxroute import Checkpoint, CheckpointError, RoutingTable, TableError, TrainConfig, load_source, train, train_costs
from jaxroute.data.prices import Price
from jaxroute.data.sources.simulated import simulated_prices
from jaxroute.encoders.features import FeatureConfig
from jaxroute.predictor.checkpoint import load_checkpoint, save_checkpoint
from jaxroute.predictor.cost_head import CostHead
from jaxroute.predictor.costs import NEVER, CostConfig, CostReport, fit_cost_head, ridge
from jaxroute.predictor.pricing import Pricing, counted_ratio
from jaxroute.routing.router import Router

MODELS = ["terse", "plain", "wordy"]
PROMPTS = ["What is 2 plus 2?", "Write a Rust function that reverses a list of coins.", "Translate 'hello' into Finnish."]


def law(queries: int, seed: int = 0, noise: float = 0.6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, prompt lengths and log-normal amounts whose logarithms depend on both; models share most of it."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(queries, 12))
    tokens = generator.integers(5, 200, queries)
    common = 0.5 * features[:, 0] - 0.3 * features[:, 1] + 0.4 * np.log1p(tokens)
    own = 0.3 * features[:, 2:5]
    amount = np.exp(common[:, None] + own + np.array([1.0, 2.0, 3.0]) + generator.normal(0, noise, (queries, 3)))
    return features, tokens, amount


def fit(features: np.ndarray, tokens: np.ndarray, amount: np.ndarray, **given) -> tuple[CostHead, CostReport]:
    fold = np.arange(len(features)) % 5
    return fit_cost_head(features, tokens, amount, **({"models": MODELS, "fold": fold, "config": CostConfig()} | given))


# --- the regression ---


@pytest.mark.parametrize(("rows", "inputs"), [(80, 7), (30, 70)])
def test_the_closed_form_is_scikit_learns_ridge(rows: int, inputs: int):
    """With a penalty per row, an intercept and no more; more rows than inputs and fewer."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    generator = np.random.default_rng(1)
    features, target = generator.normal(2.0, 1.0, (rows, inputs)), generator.normal(size=(rows, 2))
    penalties = (3.0, 0.1, 0.01)
    for penalty, (weight, free) in zip(penalties, ridge(features, np.ones((rows, 1)), target, penalties), strict=True):
        reference = linear_model.Ridge(alpha=penalty * rows, solver="svd").fit(features, target)
        np.testing.assert_allclose(weight.T, reference.coef_, atol=1e-9)
        np.testing.assert_allclose(free[0], reference.intercept_, atol=1e-9)


def test_a_free_input_is_not_penalised():
    """At any strength it gets what least squares gives it; without the others, exactly that."""
    generator = np.random.default_rng(2)
    features = generator.normal(size=(60, 5))
    free = np.column_stack([np.ones(60), generator.normal(size=60)])
    target = free @ np.array([[2.0], [-3.0]])
    for weight, loading in ridge(features, free, target, (1e6, 1.0, NEVER)):
        np.testing.assert_allclose(weight, 0, atol=1e-12)
        np.testing.assert_allclose(loading, [[2.0], [-3.0]], atol=1e-9)


@pytest.mark.parametrize("unit", ["tokens", "dollars"])
def test_constant_amounts_are_their_mean_quietly(unit: str):
    """One price per answer leaves nothing to explain; nothing is divided by zero, and no share is printed."""
    features, tokens, amount = law(60)
    amount[:, 0], amount[:, 1] = 0.0, 0.1 + 1e-17 * np.arange(60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head, report = fit(features, tokens, amount, unit=unit)
        expected = head.expected(features, tokens)
    assert report.choices["terse"] == report.choices["plain"] == "mean"
    assert report.explained["terse"] == report.explained["plain"] == 0.0 and "inf" not in str(report)
    np.testing.assert_allclose(expected[:, :2], amount[:, :2], rtol=1e-12)


def test_features_that_differ_in_the_last_bit_give_the_same_amounts():
    """As from another processor; also where a feature is constant but for rounding."""
    features, tokens, amount = law(300)
    features = np.column_stack([features, np.full(300, 0.1)]).astype(np.float32)
    other = np.nextafter(features, np.random.default_rng(0).choice([-np.inf, np.inf], features.shape).astype(np.float32))
    (head, report), (again, repeated) = (fit(one, tokens, amount) for one in (features, other))
    assert report.choices == repeated.choices and head.learned.any()
    np.testing.assert_allclose(again.expected(other, tokens), head.expected(features, tokens), rtol=1e-5)


# --- the dollar scale ---


@pytest.mark.parametrize("unit", ["tokens", "dollars"])
def test_log_normal_amounts_are_met_on_average_and_one_by_one_better_than_by_the_mean(unit: str):
    """exp of the estimated logarithm alone would be low by exp(-0.6^2 / 2), a sixth."""
    scale = 1.0 if unit == "tokens" else 1e-4
    features, tokens, amount = law(4000)
    head, report = fit(features[:2000], tokens[:2000], scale * amount[:2000], unit=unit)
    estimate, truth = head.expected(features[2000:], tokens[2000:]), scale * amount[2000:]
    standard_error = (truth - estimate).std(axis=0) / np.sqrt(len(truth))
    assert (np.abs((truth - estimate).mean(axis=0)) < 3 * standard_error).all()
    assert (3 * standard_error < 0.12 * truth.mean(axis=0)).all()  # so the sixth would have been seen
    assert ((truth - estimate) ** 2).sum() < 0.8 * ((truth - truth.mean(axis=0)) ** 2).sum()
    assert head.learned.all() and all(share > 0.2 for share in report.explained.values())


def test_no_estimate_leaves_the_range_of_training():
    """Nor overflows, for a prompt unlike any other."""
    features, tokens, amount = law(300)
    head, _ = fit(features, tokens, amount)
    far = head.expected(1e6 * features[:50], np.full(50, 10**9))
    assert (far >= amount.min(axis=0)).all() and (far <= amount.max(axis=0)).all()


def test_noise_leaves_every_model_its_mean():
    """Thirty pools of noise: a head that took its best guess would be learnt in nearly all of them."""
    learned = 0
    for seed in range(30):
        generator = np.random.default_rng(seed)
        features, tokens = generator.normal(size=(200, 20)), generator.integers(5, 50, 200)
        amount = generator.lognormal(3.0, 0.7, (200, 3))
        head, report = fit(features, tokens, amount)
        kept = np.array([report.choices[model] == "mean" for model in MODELS])
        np.testing.assert_array_equal(kept, ~head.learned)
        estimate = head.expected(features, tokens)
        expected = np.broadcast_to(amount.mean(axis=0), estimate.shape)
        np.testing.assert_allclose(estimate[:, kept], expected[:, kept], rtol=1e-12)
        learned += head.learned.sum()
    assert learned <= 9  # of 90


def test_what_all_models_share_is_learnt_from_all_of_them():
    """A model that was run 40 times profits from the lengths of the others' answers."""
    features, tokens, amount = law(1500, noise=0.8)
    known = amount.copy()
    known[40:1000, 0] = np.nan
    known[1000:] = np.nan
    together, report = fit(features, tokens, known)
    alone, _ = fit(features, tokens, known[:, :1], models=MODELS[:1])
    truth = amount[1000:, 0]

    def error(head: CostHead) -> float:
        return float(((np.log(head.expected(features[1000:], tokens[1000:])[:, 0]) - np.log(truth)) ** 2).mean())

    assert "shared" in report.choices["terse"]
    assert error(together) < error(alone)


def test_constant_and_free_answers_stay_what_they_are():
    features, tokens, amount = law(200)
    amount[:, 0], amount[:, 1] = 7.0, 0.0
    for unit in ("tokens", "dollars"):
        head, _ = fit(features, tokens, amount, unit=unit)
        estimate = head.expected(features, tokens)
        np.testing.assert_allclose(estimate[:, 0], 7.0, rtol=1e-12)
        np.testing.assert_array_equal(estimate[:, 1], 0.0)


def test_some_answers_for_nothing_are_counted():
    """An answer of 0 dollars has no logarithm; the sum over the training queries is met all the same."""
    features, tokens, amount = law(1000)
    amount[np.random.default_rng(4).uniform(size=1000) < 0.1] = 0.0
    head, _ = fit(features, tokens, amount / 1e4, unit="dollars")
    estimate = head.expected(features, tokens)
    np.testing.assert_allclose(estimate.sum(axis=0), amount.sum(axis=0) / 1e4, rtol=0.03)
    assert np.isfinite(estimate).all()


# --- what counts, and what does not ---


def test_unknown_amounts_count_for_nothing():
    """Whatever stands in a table beside a run that was not made: the same costs come out."""
    features, tokens, amount = law(120)
    quality = np.ones_like(amount)
    gaps = np.random.default_rng(3).uniform(size=amount.shape) < 0.3
    quality[gaps] = np.nan
    heads = []
    for beside in (np.nan, 1e9):
        shown = np.where(gaps, beside, amount)
        heads.append(fit(features, tokens, np.where(np.isnan(quality), np.nan, shown))[0])
    for first, second in zip(*(head.expected(features, tokens).T for head in heads), strict=True):
        np.testing.assert_array_equal(first, second)
    without = ~gaps[:, 0]
    alone, _ = fit(features, tokens, np.where(gaps, np.nan, amount)[:, :1], models=MODELS[:1])
    only, _ = fit(
        np.vstack([features[without], features[~without]]),
        np.concatenate([tokens[without], tokens[~without]]),
        np.concatenate([amount[without, :1], np.full((gaps[:, 0].sum(), 1), np.nan)]),
        models=MODELS[:1],
        fold=np.concatenate([(np.arange(120) % 5)[without], (np.arange(120) % 5)[~without]]),
    )
    np.testing.assert_allclose(only.expected(features, tokens), alone.expected(features, tokens), rtol=1e-8)


def test_the_order_of_models_and_of_queries_changes_nothing():
    features, tokens, amount = law(250)
    amount[::7, 1] = np.nan
    head, _ = fit(features, tokens, amount)
    turned, _ = fit(features, tokens, amount[:, ::-1], models=MODELS[::-1])
    expected = head.expected(features, tokens)
    np.testing.assert_allclose(turned.expected(features, tokens)[:, ::-1], expected, rtol=1e-8)
    np.testing.assert_array_equal(head.select([2, 0]).expected(features, tokens), expected[:, [2, 0]])
    order = np.random.default_rng(0).permutation(250)
    shuffled, _ = fit(features[order], tokens[order], amount[order], fold=(np.arange(250) % 5)[order])
    np.testing.assert_allclose(shuffled.expected(features, tokens), expected, rtol=1e-8)


def test_wrong_input_is_named():
    features, tokens, amount = law(50)
    wrong = amount.copy()
    wrong[3, 1] = -2.0
    for given, words in (
        ((features, tokens, wrong), r"amount of 'plain' on query 3 is -2\.0"),
        ((features, tokens, np.where(wrong < 0, np.inf, wrong)), "amount of 'plain' on query 3 is inf"),
        ((features, tokens, amount[:, :2]), r"amount has shape \(50, 2\), expected \(queries, models\) = \(50, 3\)"),
        ((features, tokens[:9], amount), r"prompt_tokens has shape \(9,\)"),
        ((features * np.nan, tokens, amount), "features must be finite"),
        ((features, tokens, np.where([True, False, True], amount, np.nan)), "plain has no known tokens"),
    ):
        with pytest.raises(TableError, match=words):
            fit(*given)
    with pytest.raises(TableError, match="fold must name at least two parts"):
        fit(features, tokens, amount, fold=np.zeros(50, int))
    with pytest.raises(TableError, match="unit='words'"):
        fit(features, tokens, amount, unit="words")
    with pytest.raises(TableError, match=r"costs\.penalties=\(-1\.0,\).*costs\.clear=-1"):
        CostConfig(penalties=(-1.0,), clear=-1)


# --- what Pricing makes of it ---


def priced_heads() -> tuple[Pricing, np.ndarray, np.ndarray]:
    features, tokens, amount = law(400)
    amount[:, 2] = np.random.default_rng(0).lognormal(3.0, 0.7, 400)
    head, _ = fit(features, tokens, amount, config=CostConfig(clear=6.0))
    means = amount.mean(axis=0).tolist()
    prices = {model: Price(1.0, 10.0) for model in MODELS}
    return Pricing(MODELS, [0.1, 0.2, 0.3], prices=prices, output_tokens=means, length_head=head), features, tokens


def test_dollars_are_prompt_tokens_and_expected_lengths_at_their_prices():
    pricing, features, tokens = priced_heads()
    assert pricing.length_head is not None and pricing.output_tokens is not None
    cost, words = pricing.expected_cost_usd(tokens, features=features)
    lengths = pricing.length_head.expected(features, tokens)
    np.testing.assert_allclose(cost[:, :2], (tokens[:, None] + 10 * lengths[:, :2]) / 1e6, rtol=1e-12)
    np.testing.assert_array_equal(cost[:, 2], (tokens + 10 * pricing.output_tokens[2]) / 1e6)
    assert "the mean for wordy" in words
    means, plain = pricing.expected_cost_usd(tokens)
    assert "mean number of tokens" in plain and not np.allclose(means, cost)
    fixed, words = pricing.expected_cost_usd(tokens, features=features, output_tokens=50)
    np.testing.assert_allclose(fixed, np.tile((tokens[:, None] + 500) / 1e6, 3), rtol=1e-12)
    assert "50 tokens" in words and "learnt" not in words


def test_without_prices_dollars_are_predicted_whole():
    pricing, features, tokens = priced_heads()
    whole = replace(pricing, prices=None, cost_head=pricing.length_head)
    cost, words = whole.expected_cost_usd(tokens, features=features)
    assert whole.cost_head is not None
    np.testing.assert_array_equal(cost[:, :2], whole.cost_head.expected(features, tokens)[:, :2])
    np.testing.assert_array_equal(cost[:, 2], 0.3)
    assert "learnt from the dollars" in words
    turned, _ = whole.select(MODELS[::-1]).expected_cost_usd(tokens, features=features)
    np.testing.assert_array_equal(turned[:, ::-1], cost)


def test_a_model_that_counts_more_tokens_is_paid_for_them():
    table = RoutingTable(
        prompts=["one", "two"],
        models=["same", "double"],
        quality=np.array([[1.0, 1.0], [1.0, np.nan]]),
        cost_usd=np.zeros((2, 2)),
        input_tokens=np.array([[10.0, 20.0], [30.0, 9999.0]]),
    )
    ratio = counted_ratio(table, np.array([10, 30]))
    assert ratio == [1.0, 2.0]
    assert counted_ratio(replace(table, input_tokens=None), np.array([10, 30])) is None
    pricing = Pricing(["same", "double"], [0.0, 0.0], {name: Price(5.0, 0.0) for name in table.models}, input_ratio=ratio)
    cost, words = pricing.expected_cost_usd(np.array([100]))
    np.testing.assert_allclose(cost, [[5e-4, 1e-3]], rtol=1e-12)
    assert "per token of the encoder" in words


def test_a_head_must_fit_its_models():
    pricing, *_ = priced_heads()
    assert pricing.length_head is not None
    with pytest.raises(TableError, match="length_head is for 2 models, the prices are for 3"):
        replace(pricing, length_head=pricing.length_head.select([0, 1]))
    with pytest.raises(TableError, match="length_head needs output_tokens"):
        replace(pricing, output_tokens=None)


# --- from training to a routed batch ---


@pytest.fixture(scope="module")
def trained(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the simulated pool whose lengths were learnt."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXROUTE_CACHE", str(tmp_path_factory.mktemp("cache")))
        table = load_source("simulated", queries=300)
        config = TrainConfig(
            encoder=str(tiny_encoder), features=FeatureConfig(layers=(1,)), head="difference", penalties=(0.3, 0.1)
        )
        predictor, _ = train(table, config)
        pricing, reports = train_costs(table, simulated_prices(), predictor, config)
        assert len(reports) == 1 and "sim-large (" in str(reports[0])
        folder = tmp_path_factory.mktemp("trained") / "checkpoint"
        save_checkpoint(folder, Checkpoint(predictor, pricing, {}))
    return folder


def test_a_checkpoint_gives_the_same_costs_again(trained: Path, tmp_path: Path, fresh_cache: Path):
    first = load_checkpoint(trained)
    save_checkpoint(tmp_path / "again", first)
    routed = [Router.load(folder).route_in_full(PROMPTS, budget_usd=0.01) for folder in (trained, tmp_path / "again")]
    np.testing.assert_array_equal(routed[0].cost_usd, routed[1].cost_usd)
    assert "as the prompt lets expect" in routed[0].assumption
    means, _ = first.pricing.expected_cost_usd(first.predictor.encoder.count_tokens(PROMPTS))
    assert not np.allclose(routed[0].cost_usd, means, rtol=0.01)


def test_predicted_costs_keep_a_budget_and_tell_the_least_one(trained: Path, fresh_cache: Path):
    from solvers import InfeasibleBudget

    router = Router.load(trained)
    with pytest.raises(InfeasibleBudget) as caught:
        router.route(PROMPTS, budget_usd=1e-9)
    least = caught.value.least_budget_usd
    assert router.route(PROMPTS, budget_usd=least).cost_usd <= least * (1 + 1e-12)
    assert router.route(PROMPTS, multiplier=1.0).status == "optimal"


def test_a_damaged_or_exchanged_head_does_not_route(trained: Path, tmp_path: Path):
    folder = Path(shutil.copytree(trained, tmp_path / "copy"))
    with np.load(folder / "arrays.npz") as stored:
        arrays = dict(stored)
    assert "length_head/intercept" in arrays
    arrays["length_head/intercept"] += 1
    np.savez(folder / "arrays.npz", **arrays)
    with pytest.raises(CheckpointError, match=r"arrays\.npz is not as saved"):
        load_checkpoint(folder)
    (folder / "arrays.npz").unlink()
    with pytest.raises(CheckpointError, match=r"arrays\.npz is damaged"):
        load_checkpoint(folder)


def test_without_counts_and_with_constant_costs_nothing_is_learnt(trained: Path, fresh_cache: Path):
    """As in the pools of right and wrong answers: a price list, or one cost per model, and no tokens."""
    predictor = load_checkpoint(trained).predictor
    table = load_source("simulated", queries=60)
    table = replace(table, output_tokens=None, input_tokens=None, cost_usd=table.mean_cost_usd())
    priced, reports = train_costs(table, simulated_prices(), predictor)
    assert (priced.head, priced.input_ratio, reports) == (None, None, [])
    flat, reports = train_costs(table, None, predictor)
    assert flat.head is None and reports == []
    costs, _ = flat.expected_cost_usd(np.array([9]), features=np.zeros((1, 48)))
    np.testing.assert_array_equal(costs[0], table.cost_usd[0])


def test_learning_costs_can_be_declined(trained: Path, fresh_cache: Path):
    predictor = load_checkpoint(trained).predictor
    table = load_source("simulated", queries=60)
    pricing, reports = train_costs(table, simulated_prices(), predictor, TrainConfig(costs=CostConfig(predict=False)))
    assert pricing.head is None and reports == []
    assert not list(fresh_cache.rglob("*.sqlite"))  # nothing was encoded
