"""Small problems with masks, capacities and minimum values, all their assignments, and a crowded batch."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from solvers import Assignment, Problem
from solvers.sharded import ShardedAssignment

CAREFUL = settings(deadline=None, derandomize=True, max_examples=150)
ROUNDING = 1e-11

NUMBERS = [
    st.sampled_from([0.0, 1.0]),
    st.integers(0, 10).map(lambda count: count / 10),
    st.just(0.5),
    st.floats(0.0, 1.0),
    st.sampled_from([0.1 * count for count in range(8)]),
]


@st.composite
def drawn(draw: st.DrawFn) -> dict:
    """The arguments of a small problem without a budget: ties, masks, capacities that bind, equal models."""
    queries, models = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    cells = {}
    for name in ("value", "cost_usd"):
        numbers = st.lists(draw(st.sampled_from(NUMBERS)), min_size=queries * models, max_size=queries * models)
        cells[name] = np.array(draw(numbers)).reshape(queries, models)
    if draw(st.booleans()):
        cells["cost_usd"][:] = cells["cost_usd"][0]
    arguments: dict = dict(cells, allow_unanswered=draw(st.booleans()))
    if draw(st.booleans()):
        flags = st.lists(st.booleans(), min_size=queries * models, max_size=queries * models)
        arguments["available"] = np.array(draw(flags)).reshape(queries, models)
        for name in cells:
            arguments[name] = np.where(arguments["available"], arguments[name], np.nan)
    if draw(st.booleans()):
        arguments["capacity"] = np.array(draw(st.lists(st.integers(0, queries), min_size=models, max_size=models)))
    return arguments


def assignments(arguments: dict) -> list[tuple[float, float, tuple[int, ...]]]:
    """Value, cost and choices of every assignment within masks and capacities; every sum is exact."""
    value, cost = arguments["value"], arguments["cost_usd"]
    queries, models = value.shape
    available = arguments.get("available", np.ones((queries, models), bool))
    capacity = arguments.get("capacity", np.full(models, queries))
    choices = [
        [*np.flatnonzero(available[row]).tolist(), *([-1] if arguments["allow_unanswered"] else [])] for row in range(queries)
    ]
    return [
        (
            math.fsum(value[row, column] for row, column in enumerate(tried) if column >= 0),
            math.fsum(cost[row, column] for row, column in enumerate(tried) if column >= 0),
            tried,
        )
        for tried in itertools.product(*choices)
        if all(tried.count(model) <= capacity[model] for model in range(models))
    ]


def limit_and_best(
    every: list[tuple[float, float, tuple[int, ...]]], share: float, *, minimised: bool, met: bool = True
) -> tuple[float, float]:
    """A limit, `share` of the way up the sums of these assignments, one of them if `met`; and the best result within it: the
    least cost of a minimum value if `minimised`, else the most value of a budget."""
    sums = sorted(one[0 if minimised else 1] for one in every)
    limit = sums[int(share * (len(sums) - 1))] if met else sums[0] + share * (sums[-1] - sums[0])
    if minimised:
        return limit, min(one[1] for one in every if one[0] >= limit - 1e-12 * abs(limit))
    return limit, max(one[0] for one in every if one[1] <= limit * (1 + 1e-12))


def check_within(found: ShardedAssignment, limit: float, best: float) -> None:
    """It is within the limit, no better than the best, and its bound is no worse."""
    if found.objective == "cost_usd":
        assert found.value >= limit - 1e-12 * abs(limit)
        assert found.bound <= best + ROUNDING and best <= found.cost_usd
    else:
        assert found.cost_usd <= limit * (1 + 1e-12)
        assert found.value <= best and best <= found.bound + ROUNDING


def check_honest(problem: Problem, found: Assignment) -> None:
    rows = np.flatnonzero(found.choice >= 0)
    assert found.value == math.fsum(problem.value[rows, found.choice[rows]])
    assert found.cost_usd == math.fsum(problem.cost_usd[rows, found.choice[rows]])
    assert problem.allow_unanswered or len(rows) == len(problem)
    if problem.available is not None:
        assert problem.available[rows, found.choice[rows]].all()
    if problem.capacity is not None:
        assert (np.bincount(found.choice[rows], minlength=len(problem.capacity)) <= problem.capacity).all()
    if problem.budget_usd is not None:
        assert found.cost_usd <= problem.budget_usd * (1 + 1e-12)
    if problem.minimum_value is not None:
        assert found.value >= problem.minimum_value - 1e-12 * abs(problem.minimum_value)


def crowded(seed: int, queries: int = 300, models: int = 6, **changes: object) -> Problem:
    """Every model is better than all cheaper ones, and none has room for everybody who wants it."""
    generator = np.random.default_rng(seed)
    value = 1 / (1 + np.exp(-(generator.normal(size=(queries, 1)) + np.linspace(-1, 1, models))))
    value = np.clip(value + 0.1 * generator.normal(size=value.shape), 0, 1)
    cost = np.linspace(0.1, 2.0, models) * generator.uniform(0.5, 1.5, (queries, 1))
    problem = Problem(value, cost, capacity=np.full(models, queries // models + 7))
    return replace(problem, budget_usd=problem.least_cost * 1.15, **changes)
