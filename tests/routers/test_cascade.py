"""Cascades and overgeneration: their bills worked out by hand, their judges right and wrong."""

from __future__ import annotations

import numpy as np
import pytest

from jaxroute import RoutingTable, load_source
from jaxroute.errors import RouterError
from jaxroute.evaluation import cost_quality_curve
from jaxroute.routers.base import find_router


def three_queries() -> RoutingTable:
    """Small, medium and large cost 1, 2 and 4 (the expensive one is first); they answer 0, 1 and 2 of three queries right."""
    quality = [[1.0, 0.0, 0.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]
    return RoutingTable(["a", "b", "c"], ["large", "small", "medium"], quality, np.array([4.0, 1.0, 2.0]))  # pyright: ignore[reportArgumentType]


def test_every_try_and_every_judgement_is_billed() -> None:
    table = three_queries()
    curve = find_router("cascade:epsilon=0:judge_usd=0.1").curve(table, table)
    # Without a cap: a is tried by all three after two judgements, b by two after one, and c is judged once and accepted.
    np.testing.assert_allclose(curve.cost_usd[-1], [1 + 0.1 + 2 + 0.1 + 4, 1 + 0.1 + 2 + 0.1, 1 + 0.1])
    np.testing.assert_allclose(curve.quality[-1], [1, 1, 1])
    # The least cap pays for one call; there is nothing to judge.
    np.testing.assert_allclose(curve.cost_usd[0], [1, 1, 1])
    np.testing.assert_allclose(curve.quality[0], [0, 0, 1])
    assert curve.budgets_usd is not None
    assert (curve.cost_usd <= curve.budgets_usd[:, None] + 1e-9).all()


def test_a_model_can_be_the_judge_at_its_own_mean_cost() -> None:
    table = three_queries()
    curve = find_router("cascade:epsilon=0:judge=medium").curve(table, table)
    np.testing.assert_allclose(curve.cost_usd[-1], [1 + 2 + 2 + 2 + 4, 1 + 2 + 2 + 2, 1 + 2])
    with pytest.raises(RouterError, match=r"judge='giant' is none of the models large, small, medium"):
        find_router("cascade:judge=giant").curve(table, table)


def test_a_judge_that_is_always_wrong_stops_at_the_first_wrong_answer() -> None:
    table = three_queries()
    curve = find_router("cascade:epsilon=1").curve(table, table)
    np.testing.assert_allclose(curve.quality[-1], [0, 0, 1])
    np.testing.assert_allclose(curve.cost_usd[-1], [1, 1, 7])


def test_models_that_were_not_run_are_passed_over() -> None:
    table = three_queries()
    quality = table.quality.copy()
    quality[0, 1] = quality[1, 2] = np.nan
    holes = RoutingTable(table.prompts, table.models, quality, table.cost_usd)
    curve = find_router("cascade:epsilon=0").curve(table, holes)
    np.testing.assert_allclose(curve.cost_usd[-1], [2 + 4, 1 + 4, 1])
    np.testing.assert_allclose(curve.quality[-1], [1, 1, 1])


@pytest.mark.parametrize("name", ["cascade", "overgenerate"])
def test_a_better_judge_makes_a_better_router(name: str) -> None:
    train, test = load_source("simulated", queries=600).split(0.5, seed=0)
    best = [find_router(f"{name}:epsilon={epsilon}").curve(train, test).means()[1].max() for epsilon in (0, 0.2, 0.5)]
    assert best[0] > best[1] > best[2]
    # With a judge that is never wrong, some model's right answer is always found.
    assert best[0] == pytest.approx(test.quality.max(axis=1).mean())


def test_reranking_pays_for_all_answers_and_gives_the_best() -> None:
    table = three_queries()
    curve = find_router("overgenerate:epsilon=0:judge_usd=0.1").curve(table, table)
    np.testing.assert_allclose(curve.cost_usd, np.repeat([[1.0], [1 + 2 + 0.2], [1 + 2 + 4 + 0.3]], 3, axis=1))
    np.testing.assert_allclose(curve.quality, [[0, 0, 1], [0, 1, 1], [1, 1, 1]])


def test_the_oracle_takes_the_best_and_then_the_cheapest() -> None:
    table = three_queries()
    curve = find_router("oracle").curve(table, table)
    np.testing.assert_allclose(curve.quality[-1], [1, 1, 1])
    np.testing.assert_allclose(cost_quality_curve(table, table.quality).quality.max(axis=0), [1, 1, 1])
    reached = np.flatnonzero(curve.quality.all(axis=1))[0]
    np.testing.assert_allclose(curve.cost_usd[reached], [4, 2, 1])
