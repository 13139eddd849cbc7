"""Outcomes and curves: what a choice of models really achieved."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxroute import RoutingTable, TableError, load_source
from jaxroute.evaluation import (
    aiq,
    areas,
    assign,
    cost_quality_curve,
    hull,
    hull_quality,
    outcome,
    single_models,
    zero_router,
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


def test_budgets_rise_from_the_cheapest_to_the_most_valuable_assignment_and_are_kept():
    table = seeded_table()
    curve = cost_quality_curve(table, table.quality, points=11)
    cost, quality = curve.means()
    assert curve.budgets_usd is not None and (np.diff(curve.budgets_usd) > 0).all()
    assert cost == pytest.approx(curve.budgets_usd, rel=1e-12)
    assert curve.quality.shape == curve.cost_usd.shape == (len(cost), len(table)) and len(cost) <= 11
    assert cost[0] == pytest.approx(0.1)
    assert quality[-1] == table.quality.max(axis=1).mean()
    assert (np.diff(quality) >= 0).all()


def test_a_curve_can_be_made_with_other_costs_and_another_solver():
    table = seeded_table()
    expected = np.array([0.2, 0.3, 0.4])
    estimates = table.quality + np.random.default_rng(4).normal(0, 0.1, table.quality.shape)

    def by_quality(problem: Problem) -> Assignment:
        return greedy_ratio(problem, alpha=0.0)

    curve = cost_quality_curve(table, estimates, points=5, expected_cost_usd=expected, solver=by_quality)
    best = cost_quality_curve(table, estimates, points=5, expected_cost_usd=expected)
    assert curve.budgets_usd is not None and best.budgets_usd is not None
    assert curve.budgets_usd.tolist() == best.budgets_usd.tolist()
    by_hand = assign(estimates, expected, float(curve.budgets_usd[2]) * len(table) * (1 + 1e-13), by_quality)
    assert curve.quality[2].tolist() == outcome(table, by_hand).quality.tolist()


def test_the_points_of_a_curve_are_what_the_solver_finds_at_their_budgets():
    """The frontier has every breakpoint of the price; solving again at a breakpoint's budget finds nothing better."""
    table = seeded_table()
    estimates = table.quality + np.random.default_rng(4).normal(0, 0.3, table.quality.shape)
    costs = table.cost_usd * np.random.default_rng(5).uniform(0.5, 2, (len(table), 1))
    curve = cost_quality_curve(table, estimates, points=12, expected_cost_usd=costs)
    assert curve.choice is not None and curve.budgets_usd is not None
    for choice, budget in zip(curve.choice, curve.budgets_usd, strict=True):
        alone = lagrangian(Problem(estimates, costs, float(budget) * len(table) * (1 + 1e-12)))
        rows = np.arange(len(table))
        assert estimates[rows, choice].sum() == pytest.approx(alone.value)
        assert costs[rows, choice].sum() == pytest.approx(alone.cost_usd)


def test_few_points_lose_little_of_the_area_also_where_the_curve_is_steep():
    """Models whose costs span three orders of magnitude: most of the gain is at the cheap end, which even budgets miss."""
    generator = np.random.default_rng(7)
    cost = np.array([0.001, 0.01, 1.0])
    estimates = np.sort(generator.uniform(size=(600, 3)) ** 2, axis=1)
    table = RoutingTable([f"{row}" for row in range(600)], ["small", "middle", "large"], estimates, cost)

    def area(points: int) -> float:
        return float(areas(*cost_quality_curve(table, estimates, points=points).means(), 0.001, 1.0))

    every = area(5_000)
    lost = every - area(51)
    assert lost < 0.0005
    even = np.linspace(*cost_quality_curve(table, estimates).means()[0][[0, -1]], 51)
    fine = cost_quality_curve(table, estimates, points=5_000).means()
    assert every - float(areas(even, np.interp(even, *fine), 0.001, 1.0)) > 5 * lost


def test_equal_estimates_are_upgraded_in_an_order_that_is_not_the_files():
    """In a file sorted by domain, the first rows first would be all of one domain: knowledge that no router has."""
    table = seeded_table(400)
    curve = cost_quality_curve(table, np.tile([0.5, 0.6, 0.7], (400, 1)), points=3)
    assert curve.choice is not None
    first, last = (curve.choice[1, rows].mean() for rows in (slice(200), slice(200, 400)))
    assert first == pytest.approx(last, abs=0.3)


def test_the_zero_router_is_chosen_on_training_rows_and_judged_on_others():
    train, test = seeded_table(60, seed=1), seeded_table(80, seed=2)
    train = replace(train, quality=np.tile([0.2, 0.1, 0.9], (60, 1)))
    found = zero_router(train, test)
    cost, quality = found.means()
    assert cost == pytest.approx([0.1, 1.0]), "the middle model lies under the line in training"
    assert quality.tolist() == test.quality.mean(axis=0)[[0, 2]].tolist()


def test_no_router_is_above_the_oracle_at_any_cost():
    table, train = seeded_table(), seeded_table(seed=1)
    generator = np.random.default_rng(2)
    mean = train.quality.mean(axis=0)
    oracle = cost_quality_curve(table, table.quality).means()
    routers = {
        "length": mean + (mean - mean.min()) * np.array([[len(prompt) / 500] for prompt in table.prompts]),
        "random": mean + (mean - mean.min()) * generator.uniform(size=(len(table), 1)),
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
