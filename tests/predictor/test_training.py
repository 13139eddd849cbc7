"""Heads fit what they should, choose their strengths on held-out queries, and say what they chose."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxroute import RoutingTable, TableError, TrainConfig, load, train
from jaxroute.data.shrinkage import pool_levels, towards_pool
from jaxroute.data.table import Queries
from jaxroute.encoders.features import FeatureConfig
from jaxroute.errors import FewOutcomes
from jaxroute.evaluation import log_loss
from jaxroute.predictor.domain_effects import domain_numbers
from jaxroute.predictor.fitting import MEANS, check_trainable, fold_numbers, train_head
from jaxroute.predictor.heads import argmax_level, cross_entropy, expected_level, level_targets
from jaxroute.predictor.predictor import head_estimates


def simulated(queries: int = 400, *, seed: int = 0, special: float = 0.0, levels: int = 2) -> tuple[np.ndarray, RoutingTable]:
    """Features and outcomes of three models; `special` is how much the last one's success turns on feature 1 alone."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(queries, 8)).astype(np.float32)
    logits = 1.5 * features[:, :1] + np.array([-0.8, 0.0, 0.4])
    logits[:, 2] += special * features[:, 1]
    chance = 1 / (1 + np.exp(-logits))
    quality = generator.binomial(levels - 1, chance) / (levels - 1)
    table = RoutingTable(
        prompts=[f"query {row}" for row in range(queries)], models=["a", "b", "c"], quality=quality, cost_usd=np.ones(3)
    )
    return features, table


def shrunk(table: RoutingTable) -> np.ndarray:
    """The models' levels as a head without features has them."""
    return towards_pool(table.quality.mean(axis=0)[None], pool_levels(table.quality).reliability)[0]


@given(st.integers(2, 6), st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_targets_are_distributions_whose_mean_is_the_quality(levels: int, qualities: list[float]) -> None:
    target = level_targets(np.array([qualities]), levels)
    np.testing.assert_allclose(target.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(target @ (np.arange(levels) / (levels - 1)), [qualities], atol=1e-6)


def test_expected_and_likeliest_level_by_hand() -> None:
    logits = jnp.log(jnp.array([[[0.2, 0.3, 0.5]]]))
    np.testing.assert_allclose(expected_level(logits), [[0.3 * 0.5 + 0.5]], rtol=1e-6)
    np.testing.assert_allclose(argmax_level(logits), [[1.0]])


def test_unobserved_cells_count_for_nothing() -> None:
    logits = jnp.array([[[0.0, 1.0]], [[5.0, -5.0]]])
    losses = cross_entropy(logits, jnp.array([[[0.0, 1.0]], [[0.0, 1.0]]]), jnp.array([[1.0], [0.0]]))
    np.testing.assert_allclose(losses, [[np.log1p(np.exp(-1.0))], [0.0]], rtol=1e-6)


def test_the_published_form_gives_the_fitted_logits() -> None:
    """W (h - e_m) + b with embeddings of least norm says what the fit's weights and intercepts said."""
    features, table = simulated()
    head, report = train_head(features, table, TrainConfig(head="difference", penalties=(0.1,)))
    estimates = head_estimates(head, features)
    assert report.difference_penalty == 0.1
    logits = np.log(estimates / (1 - estimates))
    gaps = logits - logits[:, :1]
    np.testing.assert_allclose(gaps, np.broadcast_to(gaps[0], gaps.shape), atol=1e-3)
    np.testing.assert_allclose(estimates.mean(axis=0), shrunk(table), atol=5e-3)


def test_the_difference_head_orders_models_alike_on_every_query() -> None:
    features, table = simulated(special=3.0)
    head, _ = train_head(features, table, TrainConfig(head="difference"))
    order = np.argsort(head_estimates(head, features), axis=1)
    assert (order == order[0]).all()


def test_a_model_with_a_profile_of_its_own_is_freed_and_predicted_better() -> None:
    features, table = simulated(special=2.0)
    unseen, test = simulated(special=2.0, seed=1)
    _, plain = train_head(features, table, TrainConfig(head="difference"))
    head, report = train_head(features, table, TrainConfig(head="interaction"))
    assert report.corrections["c"] > max(report.corrections["a"], report.corrections["b"])
    assert report.held_out_loss < plain.held_out_loss - 0.02
    difference, _ = train_head(features, table, TrainConfig(head="difference"))
    with_correction = log_loss(test.quality, head_estimates(head, unseen))
    assert with_correction < log_loss(test.quality, head_estimates(difference, unseen)) - 0.02


def test_without_profiles_no_model_is_freed_far() -> None:
    features, table = simulated()
    _, report = train_head(features, table, TrainConfig(head="interaction"))
    assert max(report.corrections.values()) <= 0.3


def test_noise_teaches_nothing_but_the_base_rates() -> None:
    generator = np.random.default_rng(3)
    features, table = simulated()
    noise = generator.normal(size=features.shape).astype(np.float32)
    head, report = train_head(noise, table, TrainConfig(head="difference"))
    base_rate = np.broadcast_to(table.quality.mean(axis=0), table.quality.shape)
    assert report.difference_penalty == MEANS and "the means alone" in str(report)
    assert abs(report.held_out_loss - log_loss(table.quality, base_rate)) < 0.003
    assert np.abs(head_estimates(head, noise) - base_rate).max() < 0.01


def test_features_that_say_nothing_leave_the_base_rates() -> None:
    features, table = simulated()
    head, _ = train_head(np.ones_like(features), table, TrainConfig(head="difference", penalties=(1.0,)))
    expected = np.broadcast_to(shrunk(table), table.quality.shape)
    np.testing.assert_allclose(head_estimates(head, np.ones_like(features)), expected, atol=2e-3)


def test_a_model_run_on_a_handful_of_queries_does_not_break_the_fit() -> None:
    features, table = simulated()
    quality = table.quality.copy()
    quality[3:, 0] = np.nan
    part = RoutingTable(prompts=table.prompts, models=table.models, quality=quality, cost_usd=np.ones(3))
    head, report = train_head(features, part, TrainConfig(penalties=(1.0, 0.3)))
    assert np.isfinite(head_estimates(head, features)).all()
    assert report.corrections["a"] <= 0.3


def test_missing_outcomes_are_masked_and_never_read_as_zero() -> None:
    features, table = simulated()
    quality = table.quality.copy()
    hidden = np.random.default_rng(0).random(quality.shape) < 0.4
    quality[hidden] = np.nan
    part = RoutingTable(prompts=table.prompts, models=table.models, quality=quality, cost_usd=np.ones(3))
    head, _ = train_head(features, part, TrainConfig(head="difference"))
    unseen = np.where(hidden, table.quality, np.nan)
    base_rate = np.broadcast_to(np.nanmean(quality, axis=0), quality.shape)
    assert log_loss(unseen, head_estimates(head, features)) < log_loss(unseen, base_rate) - 0.08


def test_more_than_two_levels_predict_graded_quality() -> None:
    features, table = simulated(levels=4)
    unseen, test = simulated(400, levels=4, seed=1)
    head, _ = train_head(features, table, TrainConfig(levels=4))
    estimates = head_estimates(head, unseen)
    guess = np.mean((test.quality - table.quality.mean(axis=0)) ** 2)
    assert np.mean((test.quality - estimates) ** 2) < 0.6 * guess
    likeliest = head_estimates(head, unseen, kind="argmax")
    assert set(np.unique(likeliest * 3).round(6)) <= {0.0, 1.0, 2.0, 3.0}


def test_training_twice_gives_the_same_numbers() -> None:
    features, table = simulated(special=2.0)
    first, second = (train_head(features, table, TrainConfig(seed=4))[0] for _ in range(2))
    np.testing.assert_array_equal(head_estimates(first, features), head_estimates(second, features))


@pytest.mark.parametrize("levels", [2, 4])
def test_features_that_differ_in_the_last_bit_give_the_same_estimates(levels: int) -> None:
    """As from another processor; also where a feature is constant, where another is a copy, and where one is far from 0."""
    features, table = simulated(special=2.0, levels=levels)
    features = np.column_stack([features, np.full(400, 0.1, np.float32), features[:, :1], 100 + features[:, :1]])
    other = np.nextafter(features, np.random.default_rng(0).choice([-np.inf, np.inf], features.shape).astype(np.float32))
    assert (features != other).all()
    (head, report), (again, repeated) = (train_head(one, table, TrainConfig(levels=levels)) for one in (features, other))
    assert any(report.corrections.values())
    np.testing.assert_allclose(head_estimates(again, other), head_estimates(head, features), atol=1e-5)
    np.testing.assert_allclose(repeated.held_out_estimates, report.held_out_estimates, atol=1e-5)


def test_equal_losses_are_a_tie_that_the_strongest_penalty_wins() -> None:
    """Features that say nothing: all penalties have the same loss, to rounding."""
    features, table = simulated(100)
    nothing = 1e-4 + 1e-9 * np.sign(features)
    for one in (nothing, nothing[::-1]):
        _, report = train_head(one.astype(np.float32), table, TrainConfig(penalties=(0.1, 0.5, 0.3)))
        assert report.difference_penalty == MEANS
        assert not any(report.corrections.values())


def test_permuting_the_models_permutes_the_estimates() -> None:
    features, table = simulated(special=2.0)
    order = ["c", "a", "b"]
    head, _ = train_head(features, table, TrainConfig())
    permuted, _ = train_head(features, table.select(models=order), TrainConfig())
    np.testing.assert_allclose(head_estimates(permuted, features), head_estimates(head, features)[:, [2, 0, 1]], atol=1e-6)


def table_of(prompts: list[str], domains: list[str] | None = None) -> RoutingTable:
    quality = np.random.default_rng(0).integers(0, 2, size=(len(prompts), 2)).astype(float)
    return RoutingTable(prompts=prompts, models=["a", "b"], quality=quality, cost_usd=np.ones(2), domains=domains or [])


def test_equal_prompts_are_held_out_together_and_split_together() -> None:
    """Five copies of every prompt with labels of pure noise: a fold that saw one copy would know the others."""
    table = table_of([f"Query {row % 40}" + " " * (row // 40) for row in range(200)])
    fold = fold_numbers(table, 5, seed=0)
    assert all(len(set(fold[row::40])) == 1 for row in range(40))
    first, second = table.split(0.7, seed=0)
    assert not {prompt.strip() for prompt in first.prompts} & {prompt.strip() for prompt in second.prompts}
    assert len(first) + len(second) == 200


def test_folds_spread_every_domain_evenly() -> None:
    domains = ["law"] * 50 + ["art"] * 23 + ["zoo"] * 3
    fold = fold_numbers(table_of([f"query {row}" for row in range(len(domains))], domains), 5, seed=0)
    assert sorted(set(fold)) == [0, 1, 2, 3, 4]
    for name, least, most in (("law", 10, 10), ("art", 4, 5), ("zoo", 0, 1)):
        counts = np.bincount(fold[np.array(domains) == name], minlength=5)
        assert least <= counts.min() and counts.max() <= most


def test_what_cannot_train_is_refused_by_name() -> None:
    features, table = simulated(40)
    quality = table.quality.copy()
    quality[:, 1] = np.nan
    empty = RoutingTable(prompts=table.prompts, models=table.models, quality=quality, cost_usd=np.ones(3))
    with pytest.raises(TableError, match="b was never run"):
        train_head(features, empty, TrainConfig())
    with pytest.raises(TableError, match="has 4 queries; training with 5 folds needs 10"):
        train_head(features[:4], table.select(range(4)), TrainConfig())
    with pytest.raises(TableError) as caught:
        TrainConfig(head="deep", levels=1, folds=1, penalties=())
    for part in ("head='deep'", "levels=1", "folds=1", "penalties=()"):
        assert part in str(caught.value)


def test_beyond_the_range_of_training_estimates_stay_at_its_edge() -> None:
    """A one-word prompt has states like none that were seen; a linear head must not be asked about them."""
    features, table = simulated(seed=3)
    head, _ = train_head(features, table, TrainConfig(head="difference", penalties=(0.1,)))
    edge = np.stack([features.min(axis=0), features.max(axis=0)])
    far = edge + 1e3 * np.array([[-1.0], [1.0]], np.float32) * (edge[1] - edge[0])
    np.testing.assert_array_equal(head_estimates(head, far.astype(np.float32)), head_estimates(head, edge))
    np.testing.assert_allclose(head_estimates(head, features)[:3], head_estimates(head, features[:3]), rtol=1e-6)


def test_auxiliary_outcomes_of_the_same_queries_help_and_are_not_estimated() -> None:
    losses = {}
    for seed in range(3):
        features, table = simulated(220, seed=seed)
        unseen, truth = simulated(2000, seed=100 + seed)
        chance = 1 / (1 + np.exp(-1.5 * features[:, :1] - np.linspace(-1, 1, 6)))
        for name, auxiliary in {"alone": None, "helped": chance}.items():
            head, report = train_head(features, table, TrainConfig(head="difference"), auxiliary=auxiliary)
            estimates = head_estimates(head, unseen)
            assert estimates.shape == truth.quality.shape
            assert report.held_out_estimates.shape == table.quality.shape
            losses.setdefault(name, []).append(log_loss(truth.quality, estimates))
    assert np.mean(losses["helped"]) < np.mean(losses["alone"])


def test_auxiliary_outcomes_that_nobody_observed_change_nothing() -> None:
    features, table = simulated(200, special=2.0)
    alone, _ = train_head(features, table, TrainConfig())
    empty = np.full((200, 2), np.nan)
    empty[0] = 0.5, 0.5
    helped, _ = train_head(features, table, TrainConfig(), auxiliary=empty)
    np.testing.assert_allclose(head_estimates(helped, features), head_estimates(alone, features), atol=0.02)


def test_auxiliary_outcomes_of_other_queries_or_another_scale_are_refused() -> None:
    features, table = simulated(200)
    for wrong in (np.ones((199, 2)), np.full((200, 1), 7.0)):
        with pytest.raises(TableError, match="auxiliary"):
            train_head(features, table, TrainConfig(), auxiliary=wrong)


def by_domain(queries: int = 600, *, seed: int = 0, known: bool = True) -> tuple[np.ndarray, RoutingTable]:
    """Three models on features that say nothing of the domain; the last one is good at law and bad at art."""
    features, table = simulated(queries, seed=seed)
    generator = np.random.default_rng(seed + 50)
    domains = generator.choice(["art", "law", "zoo"], queries)
    quality = table.quality.copy()
    quality[domains == "law", 2], quality[domains == "art", 2] = 1.0, 0.0
    labels = domains.tolist() if known else [""] * queries
    return features, RoutingTable(table.prompts, table.models, quality, np.ones(3), domains=labels)


def test_a_domain_that_says_something_lowers_the_loss_and_an_unknown_one_costs_nothing() -> None:
    features, table = by_domain()
    unseen, test = by_domain(seed=1)
    head, report = train_head(features, table, TrainConfig())
    without, _ = train_head(features, table, TrainConfig(domains=False))
    assert report.domains == ["art", "law", "zoo"]
    domain = domain_numbers(test.domains, report.domains)
    blind = head_estimates(without, unseen)
    assert log_loss(test.quality, head_estimates(head, unseen, domain=domain)) < log_loss(test.quality, blind) - 0.1
    unknown = domain_numbers(["never seen"] * len(test), report.domains)
    np.testing.assert_array_equal(head_estimates(head, unseen, domain=unknown), blind)
    np.testing.assert_array_equal(head_estimates(head, unseen), blind)


def test_domains_that_say_nothing_have_no_effects() -> None:
    features, table = simulated(special=2.0)
    drawn = np.random.default_rng(1).choice(["art", "law", "zoo"], len(table)).tolist()
    labelled = RoutingTable(table.prompts, table.models, table.quality, np.ones(3), domains=drawn)
    _, report = train_head(features, labelled, TrainConfig())
    assert report.domain_spread <= 0.1
    one = RoutingTable(table.prompts, table.models, table.quality, np.ones(3), domains=["law"] * len(table))
    assert train_head(features, one, TrainConfig())[1].domains == []


def test_one_outcome_says_little_and_is_warned_of() -> None:
    """Right or wrong, the model is estimated like the others; the others keep their estimates."""
    features, table = simulated(300)
    for outcome in (0.0, 1.0):
        quality = np.column_stack([table.quality, np.full(300, np.nan)])
        quality[7, 3] = outcome
        part = RoutingTable(table.prompts, [*table.models, "new"], quality, np.ones(4))
        with pytest.warns(FewOutcomes, match=r"new \(1\)"):
            head, _ = train_head(features, part, TrainConfig())
        estimates = head_estimates(head, features)
        low, high = estimates[:, :3].min(axis=1), estimates[:, :3].max(axis=1)
        assert (estimates[:, 3] > low - 0.05).all() and (estimates[:, 3] < high + 0.05).all()
        plain, alone = (train_head(features, one, TrainConfig(head="difference"))[0] for one in (part, table))
        np.testing.assert_allclose(head_estimates(plain, features)[:, :3], head_estimates(alone, features), atol=0.01)


def test_one_prompt_many_times_is_no_training_table() -> None:
    _, table = simulated(12)
    same = RoutingTable(["What is 2 + 2?"] * 12, table.models, table.quality, np.ones(3))
    with pytest.raises(TableError, match="1 distinct prompt in 12 rows; training with 5 folds needs 5"):
        check_trainable(same, TrainConfig())


def test_a_saved_predictor_still_knows_its_domains(tiny_encoder: Path, fresh_cache: Path, tmp_path: Path) -> None:
    """And one for which the domain of a query is unknown estimates it as without."""
    domains = ["law" if row % 2 else "art" for row in range(60)]
    quality = np.column_stack([np.arange(60) % 2, np.random.default_rng(0).integers(0, 2, 60)]).astype(float)
    prompts = [f"query {row}" for row in range(60)]
    table = RoutingTable(prompts, ["a", "b"], quality, np.ones(2), domains=domains)
    config = TrainConfig(encoder=str(tiny_encoder), features=FeatureConfig(layers=(2,)), penalties=(10.0,), folds=3)
    predictor, _ = train(table, config)
    predictor.save(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    known = loaded.estimate(Queries(prompts[:2], ["art", "law"])).quality
    np.testing.assert_array_equal(known, predictor.estimate(Queries(prompts[:2], ["art", "law"])).quality)
    unknown = loaded.estimate(prompts[:2]).quality
    assert known[1, 0] > unknown[1, 0] + 0.05 and known[0, 0] < unknown[0, 0] - 0.05
    np.testing.assert_array_equal(loaded.estimate(Queries(prompts[:2], ["zoo", ""])).quality, unknown)
