"""RouteLLM's routers: rankings worked out by hand, a planted structure found, battles and thresholds as defined."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxroute import RoutingTable, TableError
from jaxroute.data.table import Queries
from jaxroute.errors import RouterError
from jaxroute.routers import bradley_terry, matrix_factorization
from jaxroute.routers.base import find_router
from jaxroute.routers.learning.preferences import augmented, judged_battles, strong_score, win_rates, wins


def test_two_models_strengths_differ_by_the_log_odds_of_winning() -> None:
    found = bradley_terry.strengths(np.array([[[0.0, 3.0], [1.0, 0.0]]]), ridge=0.0 + 1e-12)[0]
    assert found[0] - found[1] == pytest.approx(np.log(3))


def test_strengths_are_the_logistic_regression_on_single_battles() -> None:
    generator = np.random.default_rng(2)
    first, second = generator.integers(0, 4, 300), generator.integers(0, 4, 300)
    first, second = first[first != second], second[first != second]
    won = generator.uniform(size=len(first)) < 1 / (1 + np.exp(-(first - second) / 2.0))
    design = np.eye(4)[first] - np.eye(4)[second]
    theirs = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-9, max_iter=1000).fit(design, won).coef_[0]
    count = np.zeros((1, 4, 4))
    np.add.at(count[0], (np.where(won, first, second), np.where(won, second, first)), 1)
    ours = bradley_terry.strengths(count, ridge=1e-10)[0]
    np.testing.assert_allclose(ours - ours.mean(), theirs - theirs.mean(), atol=1e-3)


def test_similar_battles_count_gamma_times_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first prompt: weight 100 for the battle there, 10 for the other; so the odds are 100 to 10."""
    axes = {"sums": [1.0, 0.0], "law": [0.0, 1.0]}
    monkeypatch.setattr(bradley_terry, "embed", lambda prompts, encoder: np.array([axes[one] for one in prompts]))
    table = judged_battles(["sums", "law"], ["coder", "coder"], ["lawyer", "lawyer"], ["first", "second"])
    config = bradley_terry.Config(ridge=1e-12)
    estimates = bradley_terry.estimate(bradley_terry.fit(table, config), Queries(["sums", "law"], [""] * 2), config)
    np.testing.assert_allclose(estimates, [[10 / 11, 1 / 11], [1 / 11, 10 / 11]], rtol=1e-6)


def test_a_model_that_never_loses_stays_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bradley_terry, "embed", lambda prompts, encoder: np.ones((len(prompts), 1)))
    table = RoutingTable(["a", "b"], ["best", "middle", "worst"], np.array([[1.0, 0.5, 0.0]] * 2), np.ones(3))
    estimates = bradley_terry.estimate(
        bradley_terry.fit(table, bradley_terry.Config()), Queries(["c"], [""]), bradley_terry.Config()
    )
    assert 0.99 < estimates[0, 0] < 1 and estimates[0, 1] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0, 0, 0, 0]), (2, [0, 1, 0, 1]), (3, [0, 2, 1, 2]), (4, [0, 2, 1, 3]), (9, [0, 2, 1, 3])]
)
def test_tiers_are_runs_of_like_strength(count: int, expected: list[int]) -> None:
    np.testing.assert_array_equal(bradley_terry.least_variance_tiers(np.array([0.0, 10.0, 1.0, 10.5]), count), expected)


def test_models_of_a_tier_are_estimated_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    monkeypatch.setattr(bradley_terry, "embed", lambda prompts, encoder: generator.normal(size=(len(prompts), 3)))
    quality = (generator.uniform(size=(60, 4)) < [0.1, 0.9, 0.12, 0.88]).astype(float)
    table = RoutingTable([str(row) for row in range(60)], list("abcd"), quality, np.ones(4))
    config = bradley_terry.Config(tiers=2)
    estimates = bradley_terry.estimate(bradley_terry.fit(table, config), Queries(["x", "y"], [""] * 2), config)
    np.testing.assert_allclose(estimates[:, [0, 1]], estimates[:, [2, 3]])
    assert (estimates[:, 1] > estimates[:, 0]).all()


def test_factors_find_who_is_good_at_what(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts lie on a circle and each of three models is best at its own third of it."""
    generator = np.random.default_rng(1)

    def on_circle(prompts: list[str], encoder: str) -> np.ndarray:
        angle = np.array([float(one) for one in prompts])
        return np.column_stack([np.cos(angle), np.sin(angle)])

    monkeypatch.setattr(matrix_factorization, "embed", on_circle)
    angle = generator.uniform(0, 2 * np.pi, 400)
    closeness = np.cos(angle[:, None] - np.arange(3) * 2 * np.pi / 3)
    table = RoutingTable([str(one) for one in angle[:300]], list("abc"), (closeness[:300] + 1) / 2, np.ones(3))
    config = matrix_factorization.Config(width=16, epochs=20, learning_rate=1e-2)
    state = matrix_factorization.fit(table, config)
    estimates = matrix_factorization.estimate(state, Queries([str(one) for one in angle[300:]], [""] * 100), config)
    assert np.mean(np.argmax(estimates, axis=1) == np.argmax(closeness[300:], axis=1)) > 0.9


def test_factors_need_a_battle_that_someone_won() -> None:
    table = RoutingTable(["a"], ["one", "two"], np.array([[1.0, 1.0]]), np.ones(2))
    with pytest.raises(RouterError, match="no model ever answered better"):
        matrix_factorization.fit(table, matrix_factorization.Config())


def test_outcomes_and_battles_tell_the_same_preferences() -> None:
    graded = RoutingTable(["a", "b", "c"], ["one", "two"], np.array([[1.0, 0.0], [0.3, 0.3], [0.2, 0.9]]), np.ones(2))
    judged = judged_battles(["a", "b", "c"], ["one", "two", "one"], ["two", "one", "two"], ["first", "tie", "second"])
    np.testing.assert_array_equal(wins(graded.quality), wins(judged.quality))
    np.testing.assert_array_equal(wins(np.array([[1.0, np.nan]])), np.zeros((1, 2, 2)))


def test_a_battle_needs_two_models_and_a_verdict() -> None:
    with pytest.raises(TableError, match=r"battle 1 between 'x' and 'x' has winner='tie'"):
        judged_battles(["a", "b"], ["x", "x"], ["y", "x"], ["first", "tie"])
    with pytest.raises(TableError, match="one entry per battle"):
        judged_battles(["a"], ["x"], ["y"], [])


def test_golden_labels_join_the_battles_as_rows() -> None:
    judged = judged_battles(["a"], ["two"], ["one"], ["first"])
    golden = RoutingTable(["b"], ["three", "one"], np.array([[0.5, 1.0]]), np.array([7.0, 2.0]))
    both = augmented(judged, golden)
    assert both.models == ["one", "two", "three"] and both.prompts == ["a", "b"]
    np.testing.assert_array_equal(both.quality, [[0, 1, np.nan], [1, np.nan, 0.5]])
    np.testing.assert_array_equal(both.cost_usd, [[0, 0, np.nan], [2, np.nan, 7]])


def test_of_two_models_the_win_rate_is_the_papers_score() -> None:
    np.testing.assert_allclose(win_rates(np.array([[0.0, np.log(3)]])), [[0.25, 0.75]])
    np.testing.assert_allclose(win_rates(np.zeros((1, 3))), [[0.5] * 3])


def test_a_router_of_one_pair_routes_another_without_training() -> None:
    train = RoutingTable(["a", "aaa"], ["small", "big"], np.array([[0.0, 1.0], [0.0, 1.0]]), np.ones(2))
    trained = find_router("prompt_length").fit(train)
    other = trained.transferred(["7B", "70B"])
    queries = Queries(["aaaa", "a"], ["", ""])
    score = strong_score(other.estimate(queries).quality, other.models, weak="7B", strong="70B")
    np.testing.assert_array_equal(
        score, strong_score(trained.estimate(queries).quality, trained.models, weak="small", strong="big")
    )
    assert score[0] > score[1]
    with pytest.raises(TableError, match="2 models, one for each of small, big"):
        trained.transferred(["7B"])
    with pytest.raises(TableError, match="strong='giant' is none"):
        strong_score(other.estimate(queries).quality, other.models, weak="7B", strong="giant")
