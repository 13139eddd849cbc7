"""Outcomes and curves: what a choice of models really achieved."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from jaxroute import RoutingTable, TableError, load_source
from jaxroute.evaluation import (
    aiq,
    cost_quality_curve,
    hull,
    hull_quality,
    oracle_estimates,
    outcome,
    prompt_length_estimates,
    random_estimates,
    single_models,
)
from solvers import Assignment, Problem, greedy_ratio, lagrangian
from tests.evaluation.tables import seeded_table, small_table


def test_an_unanswered_query_counts_nothing_and_costs_nothing():
    found = outcome(small_table(), np.array([1, 1, -1]))
    assert (found.quality.tolist(), found.cost_usd.tolist()) == ([1.0, 1.0, 0.0], [10.0, 20.0, 0.0])
    assert (found.mean_quality, found.mean_cost_usd) == (2 / 3, 10.0)


def test_an_assignment_has_the_outcome_of_its_choices():
    assignment: Assignment = lagrangian(Problem([[0.9, 0.1], [0.1, 0.9], [0.5, 0.4]], [1.0, 2.0], 100.0))
    assert outcome(small_table(), assignment).quality.tolist() == [1.0, 1.0, 0.5]


def test_a_model_that_was_never_run_has_no_outcome():
    with pytest.raises(TableError, match="1 chosen models were never run"):
        outcome(small_table(), np.array([0, 0, 1]))
    with pytest.raises(TableError, match="the table 3 queries"):
        outcome(small_table(), np.array([0, 0]))


def test_single_models_are_one_point_each_and_their_hull_is_the_zero_router():
    """Half of the queries to each model costs and achieves the mean of both."""
    table = seeded_table()
    cost, quality = single_models(table).means()
    assert cost == pytest.approx([0.1, 0.3, 1.0])
    assert quality.tolist() == table.quality.mean(axis=0).tolist()
    corners = hull(cost, quality)
    assert len(corners[0]) == 3
    assert hull_quality(cost, quality, (cost[1] + cost[2]) / 2) == pytest.approx((quality[1] + quality[2]) / 2)


def test_the_known_cost_of_a_model_is_its_mean_over_what_it_was_run_on():
    assert small_table().mean_cost_usd().tolist() == [2.0, 15.0]


def test_budgets_rise_evenly_from_the_cheapest_to_the_dearest_and_are_kept():
    table = seeded_table()
    curve = cost_quality_curve(table, oracle_estimates(table), points=11)
    cost, quality = curve.means()
    assert curve.budgets_usd == pytest.approx(np.linspace(0.1, 1.0, 11))
    assert (cost <= curve.budgets_usd * (1 + 1e-12)).all()
    assert curve.quality.shape == curve.cost_usd.shape == (11, len(table))
    assert cost[0] == pytest.approx(0.1)
    assert quality[-1] == table.quality.max(axis=1).mean()
    assert (np.diff(quality) >= 0).all()


def test_a_curve_can_be_made_with_other_costs_and_another_solver():
    table = seeded_table()
    expected = np.array([0.2, 0.3, 0.4])

    def by_quality(problem: Problem) -> Assignment:
        return greedy_ratio(problem, alpha=0.0)

    curve = cost_quality_curve(table, table.quality, points=5, expected_cost_usd=expected, solver=by_quality)
    assert curve.budgets_usd == pytest.approx(np.linspace(0.2, 0.4, 5))
    by_hand = by_quality(Problem(table.quality, expected, 0.3 * len(table)))
    assert curve.quality[2].tolist() == outcome(table, by_hand).quality.tolist()


def test_no_router_is_above_the_oracle_at_any_cost():
    table, train = seeded_table(), seeded_table(seed=1)
    generator = np.random.default_rng(2)
    oracle = cost_quality_curve(table, oracle_estimates(table)).means()
    routers = {
        "length": prompt_length_estimates(table, train),
        "random": random_estimates(table, train, seed=0),
        "noisy oracle": table.quality + generator.normal(0, 0.5, table.quality.shape),
    }
    at = np.linspace(0.0, 1.2, 200)
    for name, estimates in routers.items():
        router = cost_quality_curve(table, estimates).means()
        assert (hull_quality(*oracle, at) >= hull_quality(*router, at) - 1e-12).all(), name
        assert aiq(*oracle, 0.1, 1.0) > aiq(*router, 0.1, 1.0), name


def test_a_curve_says_which_model_answers_at_every_budget():
    table = seeded_table()
    curve = cost_quality_curve(table, table.quality, points=7)
    assert curve.choice is not None and curve.choice.shape == (7, len(table))
    for choice, quality, cost in zip(curve.choice, curve.quality, curve.cost_usd, strict=True):
        found = outcome(table, choice)
        assert (found.quality.tolist(), found.cost_usd.tolist()) == (quality.tolist(), cost.tolist())
    assert (curve.choice[0] == 0).all()


def test_a_curve_judged_on_some_queries_is_the_outcome_of_these():
    table = seeded_table()
    curve = cost_quality_curve(table, table.quality, points=5)
    part = curve.select(np.arange(20))
    assert part.choice is not None
    assert part.quality[3].tolist() == outcome(table.select(range(20)), part.choice[3]).quality.tolist()


@pytest.mark.parametrize("task", ["arc_challenge", "mbpp"])
@pytest.mark.parametrize("part", ["train", "test"])
def test_routerbench_accuracy_and_total_cost_are_those_of_the_file(data: Path, task: str, part: str):
    """Column sums by the csv module: a model's accuracy over the queries it was run on, and all that these cost."""
    file = data / "routerbench" / f"{task}_{part}.csv"
    table: RoutingTable = load_source("routerbench", file)
    quality: dict[str, list[float]] = {model: [] for model in table.models}
    cost: dict[str, list[float]] = {model: [] for model in table.models}
    csv.field_size_limit(10**9)
    with file.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            for model in table.models:
                if row[model]:
                    quality[model].append(float(row[model]))
                    cost[model].append(float(row[f"{model}|total_cost"]))
    assert len(table.models) == 11
    for model in table.models:
        ran = table.select(models=[model]).complete()[0]
        alone = outcome(ran, np.zeros(len(ran), int))
        assert alone.mean_quality == pytest.approx(sum(quality[model]) / len(quality[model]), rel=1e-12)
        assert alone.cost_usd.sum() == pytest.approx(sum(cost[model]), rel=1e-12)
        assert len(ran) == len(quality[model])
