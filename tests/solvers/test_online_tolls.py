"""Tolls: at full load the places of a model go to the queries that they are worth most to, and nobody waits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from solvers import Problem, ProblemError, Toll, lagrangian

RATE = 40.0
CAPACITY = (math.inf, math.inf, 8.0, 4.0)
"""Queries a second; the two best models are wanted by far more."""
AT_ONCE = 20.0
"""Places that are kept for a burst."""


def stream(queries: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    difficulty, profile = generator.normal(0, 1.5, (queries, 1)), generator.normal(0, 0.5, (queries, 4))
    return 1 / (1 + np.exp(difficulty - np.linspace(-0.5, 2.0, 4) + profile))


def answered(value: np.ndarray, step: float, cost: np.ndarray | float = 0.0, seed: int = 0) -> tuple[float, list[Toll]]:
    """What all are worth together, where a query whose model is full goes to the next best; none waits."""
    arrivals = np.cumsum(np.random.default_rng([seed, 1]).exponential(1 / RATE, len(value)))
    tolls = [Toll(rate, step=step) for rate in CAPACITY]
    free, before, total = np.full(4, AT_ONCE), 0.0, 0.0
    for now, worth in zip(arrivals, value - cost, strict=True):
        free = np.minimum(free + np.array(CAPACITY) * (now - before), AT_ONCE)
        before = now
        net = worth - np.array([toll.at(now) for toll in tolls])
        tolls[int(net.argmax())].wanted(now)
        choice = int(np.where(free >= 1, net, -np.inf).argmax())
        free[choice] -= 1
        total += worth[choice]
    return total, tolls


def test_at_full_load_the_value_is_near_the_offline_optimum_with_capacities() -> None:
    value = stream(6_000, seed=0)
    seconds = len(value) / RATE
    capacity = np.array([min(rate * seconds + AT_ONCE, len(value)) for rate in CAPACITY]).astype(int)
    best = lagrangian(Problem(value, np.zeros(4), 1.0, capacity=capacity)).value
    least = value[:, :2].max(axis=1).sum()
    priced, tolls = answered(value, 0.02)
    by_arrival, _ = answered(value, 0.0)
    assert priced > 0.985 * best
    assert (priced - least) / (best - least) > 0.9 > 0.6 > (by_arrival - least) / (best - least)
    assert tolls[0].at(1e9) == 0 < tolls[2]._value < tolls[3]._value


def test_a_toll_rises_with_excess_and_falls_to_nothing() -> None:
    toll = Toll(2.0, step=0.03)
    for half_second in range(1, 41):
        # As many as it can take move nothing.
        toll.wanted(half_second / 2)
    assert toll.at(20.0) == pytest.approx(0.015)
    for quarter in range(1, 41):
        toll.wanted(20 + quarter / 4)
    assert toll.at(30.0) == pytest.approx(0.015 + 0.3)
    assert toll.at(35.0) == pytest.approx(0.165) and toll.at(1_000.0) == 0.0
    # A clock that goes back moves nothing.
    assert toll.at(0.0) == 0.0


def test_one_query_moves_the_toll_of_a_slow_model_a_little() -> None:
    slow = Toll(1 / 60)
    slow.wanted(0.0)
    assert slow.at(0.0) == 0.02 and slow.at(30.0) == pytest.approx(0.01)
    unlimited = Toll()
    unlimited.wanted(0.0)
    assert unlimited.at(0.0) == 0.0


def test_what_cannot_work_is_named() -> None:
    for rate in (0.0, -1.0, math.nan):
        with pytest.raises(ProblemError, match="per_second="):
            Toll(rate)
    with pytest.raises(ProblemError, match="step"):
        Toll(step=-1.0)
