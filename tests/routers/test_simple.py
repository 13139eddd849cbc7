"""The routers that every report shows, on tables where their estimates are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jaxroute import RoutingTable, load_source
from jaxroute.data.table import Queries
from jaxroute.errors import FewOutcomes
from jaxroute.evaluation import apgr, hull
from jaxroute.routers import random_model
from jaxroute.routers.base import find_router


def at_mean_costs(table: RoutingTable) -> RoutingTable:
    """With nothing to learn of costs, which other tests are about."""
    return replace(table, cost_usd=table.mean_cost_usd())


def test_the_best_single_model_is_the_best_in_training() -> None:
    train, test = at_mean_costs(load_source("simulated", queries=400)).split(0.5, seed=0)
    estimates = find_router("best_single").fit(train).estimate(test.queries).quality
    assert (np.argmax(estimates, axis=1) == np.argmax(train.quality.mean(axis=0))).all()


def test_longer_prompts_go_to_better_models_first() -> None:
    train = RoutingTable(["a", "aaa", "aaaa", "aaaa"], ["weak", "strong"], np.array([[0, 1.0]] * 4), np.ones(2))
    estimates = find_router("prompt_length").fit(train).estimate(Queries(["aaa", "b" * 9, "bb", "aaaa"], [""] * 4)).quality
    # One prompt in four is shorter than three letters, and one is as long; 1/8 and 3/8 meet half-way at two letters.
    np.testing.assert_allclose(estimates[:, 1], 1 + np.array([3 / 8, 3 / 4, 1 / 4, 3 / 4]) - 0.5)
    np.testing.assert_allclose(estimates[:, 0], 0)


def test_random_recovers_half_of_the_gap() -> None:
    table = at_mean_costs(load_source("simulated", queries=2000))
    train, test = table.select(models=["sim-nano", "sim-frontier"]).split(0.2, seed=0)
    weak, strong = test.quality.T
    scores = [find_router(f"random:seed={seed}").fit(train).estimate(test.queries).quality[:, 1] for seed in range(10)]
    assert np.mean([apgr(weak, strong, score) for score in scores]) == pytest.approx(0.5, abs=0.02)


def test_random_models_are_equally_likely_and_have_a_spread() -> None:
    table = load_source("simulated", queries=500)
    kind = find_router("random_model")
    every = random_model.trials(table, kind.config)
    cost, quality = every.means()
    assert every.quality.shape == (10, 500) and quality.std() > 0
    mean_cost, mean_quality = kind.curve(table, table).means()
    assert mean_quality == pytest.approx(quality.mean()) and mean_cost == pytest.approx(cost.mean())
    assert mean_quality == pytest.approx(table.quality.mean(), abs=0.03)


def test_the_zero_routers_points_are_the_single_models_on_the_training_hull() -> None:
    test, train = load_source("simulated", queries=100).split(0.5, seed=0)
    curve = find_router("zero_router").curve(train, test)
    assert curve.choice is not None and (curve.choice == curve.choice[:, :1]).all()
    chosen = curve.choice[:, 0]
    corners = hull(train.mean_cost_usd(), train.quality.mean(axis=0))
    np.testing.assert_allclose(train.mean_cost_usd()[chosen], corners[0])
    np.testing.assert_allclose(curve.means()[1], test.quality.mean(axis=0)[chosen])


def test_a_domain_without_outcomes_of_a_model_gets_its_mean() -> None:
    quality = np.array([[1.0, np.nan], [0.0, np.nan], [1.0, 1.0]])
    table = RoutingTable(["a", "b", "c"], ["one", "two"], quality, np.ones(2), domains=["law", "law", "art"])
    estimates = find_router("domain_mean:strength=0").fit(table).estimate(Queries(["d", "e"], ["law", "war"])).quality
    np.testing.assert_allclose(estimates[:, 0], [0.5, 2 / 3])
    # One outcome of the second model: its mean of 1 leans on the first model's.
    assert (estimates[:, 1] > estimates[:, 0]).all() and (estimates[:, 1] < 1).all()


@pytest.mark.parametrize(
    "spec",
    [
        *("best_single", "prompt_length", "random", "domain_mean", "knn", "bradley_terry", "routoo_knn"),
        *("svm", "mlp:epochs=20", "matrix_factorization:epochs=2:width=8", "tensoropera_mlp:epochs=2"),
    ],
)
@pytest.mark.parametrize("right", [0.0, 1.0])
def test_one_outcome_right_or_wrong_decides_nothing(spec: str, right: float) -> None:
    """A model that was run once is estimated like the others on the same prompt, and the user is warned of it."""
    kind = find_router(spec)
    train = RoutingTable(
        [f"question {row} of {('law', 'art')[row % 2]}" for row in range(80)],
        ["one", "two", "new"],
        np.column_stack([np.arange(80) % 3 > 0, np.arange(80) % 2, np.where(np.arange(80) == 4, right, np.nan)]).astype(float),
        np.ones(3),
        domains=["law", "art"] * 40,
    )
    queries = Queries(["another question of law", "question 3 of art"], ["law", "art"])
    with pytest.warns(FewOutcomes, match=r"new \(1\); the estimates of these models lean on those of the others"):
        estimates = kind.fit(train).estimate(queries).quality
    low, high = estimates[:, :2].min(axis=1), estimates[:, :2].max(axis=1)
    assert (estimates[:, 2] > low - 0.15).all() and (estimates[:, 2] < high + 0.15).all()


def test_equally_few_outcomes_of_all_models_lean_on_nothing() -> None:
    """The pool says no more of one model than of another: their means are taken as they are, and the warning says so."""
    quality = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    table = RoutingTable(["a", "b", "c"], ["one", "two"], quality, np.ones(2))
    with pytest.warns(
        FewOutcomes, match=r"one \(3\), two \(3\); the estimates of these models rest on their own outcomes alone"
    ):
        estimates = find_router("best_single").fit(table).estimate(Queries(["d"], [""])).quality
    np.testing.assert_allclose(estimates, quality.mean(axis=0, keepdims=True))


def test_a_trained_router_in_a_notebook_is_a_line() -> None:
    """Not the thousands of numbers that it has learnt."""
    quality = np.random.default_rng(0).integers(0, 2, (300, 40)).astype(float)
    models = [f"model {number}" for number in range(40)]
    trained = find_router("domain_mean").fit(RoutingTable([f"q{n}" for n in range(300)], models, quality, np.ones(40)))
    assert repr(trained).startswith("TrainedRouter('domain_mean', models=[model 0,") and len(repr(trained)) < 400
