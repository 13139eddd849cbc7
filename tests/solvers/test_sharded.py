"""One price over many shards: the same however they are cut, within the limit, below the best, and a bound above it."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import solvers.sharded.rounds as rounds
from benchmarks.instances import answers, batch
from solvers import InfeasibleBudget, InfeasibleProblem, InfeasibleValue, Problem, ProblemError, lagrangian
from solvers.sharded import ArrayShard, ShardedAssignment, WrongCell, solve_shards
from solvers.sharded.summaries import BUCKETS
from solvers.sharded.walking import ties
from tests.solvers.constrained import assignments, check_within, drawn, limit_and_best

CAREFUL = settings(deadline=None, derandomize=True, max_examples=80)


def cut(value: np.ndarray, cost: np.ndarray, count: int, available: np.ndarray | None = None) -> list[ArrayShard]:
    """Uneven shards, some of them perhaps empty, in an order that is drawn."""
    draw = random.Random(count)
    ends = [0, *sorted(draw.randint(0, len(value)) for _ in range(count - 1)), len(value)]
    shards = [
        ArrayShard(
            value[first:last],
            cost if cost.ndim == 1 else cost[first:last],
            start=first,
            available=None if available is None else available[first:last],
        )
        for first, last in pairwise(ends)
    ]
    draw.shuffle(shards)
    return shards


def choices(found: ShardedAssignment, shards: Sequence[ArrayShard]) -> np.ndarray:
    ordered = sorted(shards, key=lambda shard: (shard.start, len(shard)))
    return np.concatenate([part.choice for shard in ordered for part in found.price.assign(shard)])


def everything(shards: list[ArrayShard], budget_usd: float | None = None, **options: Any) -> tuple:
    found = solve_shards(shards, budget_usd, **options)
    chosen = choices(found, shards).tobytes()
    return found.value, found.cost_usd, found.bound, found.multiplier, repr(found.price), chosen, tuple(found.taken.tolist())


def check_honest(found: ShardedAssignment, value: np.ndarray, cost: np.ndarray, shards: list[ArrayShard]) -> None:
    """What is said of the choices is true of them, to the last bit."""
    chosen = choices(found, shards)
    rows = np.flatnonzero(chosen >= 0)
    every = np.broadcast_to(cost, value.shape)
    assert found.value == math.fsum(value[rows, chosen[rows]])
    assert found.cost_usd == math.fsum(every[rows, chosen[rows]])
    assert found.unanswered == len(chosen) - len(rows)
    assert np.bincount(chosen[rows], minlength=value.shape[1]).tolist() == found.taken[: value.shape[1]].tolist()


@given(arguments=drawn(), share=st.floats(0, 1), met=st.booleans(), minimised=st.booleans(), count=st.integers(2, 5))
@CAREFUL
def test_between_the_cheapest_and_the_best_and_the_same_however_it_is_cut(
    arguments: dict, share: float, met: bool, minimised: bool, count: int
):
    """All assignments of small problems, with ties, masks, equal models, and limits that are met to the last digit."""
    arguments.pop("capacity", None)
    value, cost, available = arguments["value"], arguments["cost_usd"], arguments.get("available")
    every = assignments(arguments)
    options: dict[str, Any] = {"allow_unanswered": arguments["allow_unanswered"]}
    shards = [cut(value, cost, one, available) for one in (1, count)]
    if not every:
        with pytest.raises(InfeasibleProblem, match="no model is available"):
            solve_shards(shards[1], 1.0, **options)
        return
    limit, best = limit_and_best(every, share, minimised=minimised, met=met)
    options |= {"minimum_value": limit} if minimised else {"budget_usd": limit}
    found = solve_shards(shards[0], **options)
    check_honest(found, value, cost, shards[0])
    check_within(found, limit, best)
    if found.status == "optimal":
        assert (found.cost_usd if minimised else found.value) == pytest.approx(best, abs=1e-9)
    assert len({everything(one, **options) for one in shards}) == 1


@pytest.mark.parametrize("kind", ["one cost", "cost per query", "right or wrong", "masked"])
def test_rounds_of_a_large_problem_agree_with_the_lagrangian_of_all(kind: str, monkeypatch: pytest.MonkeyPatch):
    """With limits so small that the sample, the histograms, and the ties of right and wrong are all needed."""
    for name, small in {"FEW": 100, "SAMPLE": 300, "MOST_STEPS": 400, "WINDOW": 50}.items():
        monkeypatch.setattr(rounds, name, small)
    value, cost, budget = batch(6_000, 5, cost_per_query=kind == "cost per query")
    available = None
    if kind == "right or wrong":
        value = answers(6_000, 5).astype(float)
    if kind == "masked":
        available = np.random.default_rng(0).random(value.shape) < 0.7
        available[:, 2] = True
        value = np.where(available, value, np.nan)
    shards = [cut(value, cost, count, available) for count in (1, 2, 7, 64)]
    found = solve_shards(shards[2], budget)
    check_honest(found, value, cost, shards[2])
    problem = Problem(np.nan_to_num(value), cost, budget, available=available)
    near = lagrangian(problem)
    assert found.cost_usd <= budget * (1 + 1e-12)
    assert found.bound == pytest.approx(near.bound, rel=1e-9) and near.value <= found.bound
    assert found.value <= near.bound and found.value >= near.value - 1e-4 * near.bound
    assert len({everything(one, budget) for one in shards}) == 1


def test_a_sample_that_misleads_costs_passes_and_nothing_else(monkeypatch: pytest.MonkeyPatch):
    """First come the easy questions of every file: the price is far from where the first look says."""
    for name, small in {"FEW": 100, "SAMPLE": 300, "MOST_STEPS": 500, "WINDOW": 50}.items():
        monkeypatch.setattr(rounds, name, small)
    value, cost, budget = batch(6_000, 5)
    order = np.argsort(value[:, -1] - value[:, 0])
    for sorted_rows in (order, order[::-1]):
        rows = value[sorted_rows]
        found = {count: solve_shards(cut(rows, cost, count), budget) for count in (1, 7)}
        assert found[1].value == found[7].value and found[1].bound == found[7].bound
        assert found[1].relative_gap < 1e-4


def test_a_budget_that_is_too_small_names_one_that_is_accepted():
    value, cost, _ = batch(500, 4, cost_per_query=True)
    with pytest.raises(InfeasibleBudget) as raised:
        solve_shards(cut(value, cost, 3), 1e-9)
    least = raised.value.least_budget_usd
    assert least == math.fsum(cost.min(axis=1)) and solve_shards(cut(value, cost, 3), least).cost_usd <= least * (1 + 1e-12)
    with pytest.raises(InfeasibleValue) as too_much:
        solve_shards(cut(value, cost, 3), minimum_value=1e9)
    most = too_much.value.most_value
    assert solve_shards(cut(value, cost, 3), minimum_value=most).value >= most * (1 - 1e-12)


def test_without_a_limit_every_query_has_its_best_model(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rounds, "FEW", 10)
    value, cost, _ = batch(400, 4)
    for limit in (None, 1e6):
        found = solve_shards(cut(value, cost, 3), limit)
        assert found.value == math.fsum(value.max(axis=1)) == found.bound and found.multiplier == 0 and found.gap == 0


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e6])
def test_the_scale_of_values_and_dollars_does_not_matter(scale: float):
    value, cost, budget = batch(2_000, 4, cost_per_query=True)
    found = solve_shards(cut(value * scale, cost / scale, 3), budget / scale)
    assert found.value <= found.bound and found.relative_gap < 1e-4


def test_whole_numbers_are_taken_as_dollars():
    found = solve_shards([ArrayShard([[0, 3], [0, 2]], [1, 4])], 6)
    assert (found.value, found.cost_usd) == (3.0, 5.0)


def test_wrong_input_is_named():
    value, cost, _ = batch(100, 3)
    one, other = ArrayShard(value[:60], cost, name="a"), ArrayShard(value[50:], cost, start=50, name="b")
    with pytest.raises(ProblemError, match="a and b both hold query 50"):
        solve_shards([other, one], 1.0)
    with pytest.raises(ProblemError, match="a has 3 models and b has 2"):
        solve_shards([one, ArrayShard(value[60:, :2], cost[:2], start=60, name="b")], 1.0)
    with pytest.raises(ProblemError, match="hold no queries"):
        solve_shards([ArrayShard(value[:0], cost)], 1.0)
    wrong = value.copy()
    wrong[70, 1] = np.inf
    with pytest.raises(WrongCell, match="b: value of query 70, model 1, is inf") as raised:
        solve_shards([one, ArrayShard(wrong[60:], cost, start=60, name="b")], 1.0)
    assert raised.value.row == 10 and str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
    with pytest.raises(WrongCell, match="cost_usd of query 0, model 2"):
        solve_shards([ArrayShard(value, cost * [1, 1, -1])], 1.0)
    with pytest.raises(ProblemError, match="give one of them"):
        solve_shards([one], 1.0, minimum_value=2.0)


def test_a_shard_that_an_engine_loses_or_reads_twice_is_noticed():
    shards = cut(*batch(1_000, 3)[:2], 4)
    with pytest.raises(ProblemError, match="a shard was lost, or read twice"):
        solve_shards(shards, 5.0, map=lambda step, given: [step(shard) for shard in given[1:]])
    with pytest.raises(ProblemError, match="a shard was lost, or read twice"):
        solve_shards(shards, 5.0, map=lambda step, given: [step(shard) for shard in [*given, given[0]]])


def test_ties_differ_for_all_queries_and_follow_no_order():
    drawn_ties = ties(np.arange(10_000))
    assert len(set(drawn_ties.tolist())) == 10_000
    assert abs(np.corrcoef(np.arange(10_000), drawn_ties.astype(float))[0, 1]) < 0.03


def test_summaries_stay_small_however_many_steps_there_are(monkeypatch: pytest.MonkeyPatch):
    """Where steps are many, a shard answers with a histogram."""
    for name, small in {"FEW": 100, "SAMPLE": 300, "MOST_STEPS": 100, "WINDOW": 20}.items():
        monkeypatch.setattr(rounds, name, small)
    value, cost, budget = batch(5_000, 5)
    sizes = []

    def watched(step, shards):
        for shard in shards:
            summary = step(shard)
            if step.part == 1:
                sizes.append(summary.nbytes)
            yield summary

    solve_shards([replace(shard) for shard in cut(value, cost, 5)], budget, map=watched)
    assert max(sizes) < 40 * BUCKETS
