"""Many problems of all kinds, each solved by every solver and by an oracle: `python -m tests.solvers.fuzz --count 10000`.

The kinds: small ones of any numbers, against all their assignments; Pisinger's five classes in dollars or cents, with and
without masks and unanswered queries, for a budget or a minimum value, against a dynamic programme over whole numbers; and
capacities with one cost per model, against one over counts. It prints how many there were of every kind, and fails at the first
wrong one.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter

import numpy as np

from benchmarks.knapsacks import KINDS, knapsack
from solvers import Assignment, InfeasibleProblem, Problem, exact, greedy_ratio, lagrangian
from tests.solvers.constrained import assignments, check_honest
from tests.solvers.oracles import best_by_counts, best_in_whole_dollars, least_for_whole_value

UNITS = (1.0, 0.01, 1e-5, 0.3)
"""Dollars per whole unit of cost."""


def main(count: int, seed: int = 0) -> Counter[str]:
    """Check `count` problems; how many there were of every kind, and how many of them stayed unproved."""
    generator = np.random.default_rng(seed)
    found: Counter[str] = Counter()
    for index in range(count):
        check = (small, whole, whole, counted)[index % 4]
        try:
            kind, optimal = check(generator)
        except AssertionError as error:
            raise AssertionError(f"problem {index} of seed {seed}: {error}") from error
        found[kind] += 1
        if not optimal:
            found[f"{kind}, unproved"] += 1
    return found


def small(generator: np.random.Generator) -> tuple[str, bool]:
    """Up to six queries and four models with numbers of any kind."""
    queries, models = int(generator.integers(1, 7)), int(generator.integers(1, 5))
    shape = (queries, models)
    arguments: dict = {"value": _numbers(generator, shape), "cost_usd": _numbers(generator, shape)}
    if generator.uniform() < 0.4:
        arguments["cost_usd"][:] = arguments["cost_usd"][0]
    arguments["allow_unanswered"] = bool(generator.uniform() < 0.3)
    if generator.uniform() < 0.4:
        arguments["available"] = generator.uniform(size=shape) < 0.7
    if generator.uniform() < 0.4:
        arguments["capacity"] = generator.integers(0, queries + 1, models)
    possible = assignments(arguments)
    spread = generator.uniform() < 0.5
    if not possible:
        _rejected(arguments)
        return "small, infeasible", True
    value, cost, _ = possible[generator.integers(len(possible))]
    if generator.uniform() < 0.3:
        least = value - 0.01 * spread
        enough = [price for worth, price, _ in possible if worth >= least - 1e-12 * abs(least)]
        return "small, minimum value", _checked(Problem(**arguments, minimum_value=least), min(enough))
    budget = cost * (1 + 0.1 * spread)
    best = max(worth for worth, price, _ in possible if price <= budget * (1 + 1e-12))
    return "small, budget", _checked(Problem(**arguments, budget_usd=budget), best)


def whole(generator: np.random.Generator) -> tuple[str, bool]:
    """Up to sixty queries of one of Pisinger's classes."""
    kind = str(generator.choice(KINDS))
    queries, models = int(generator.integers(1, 61)), int(generator.integers(1, 9))
    largest, share = int(generator.choice([10, 100, 300])), float(generator.choice([0.0, 0.01, 0.3, 0.5, 0.9, 0.999]))
    value, cost, budget = knapsack(kind, queries, models, largest, share=share, seed=int(generator.integers(2**32)))
    name, available = kind, None
    if generator.uniform() < 0.3:
        available = generator.uniform(size=cost.shape) < 0.6
        available[np.arange(queries), generator.integers(models, size=queries)] = True
        least, most = (sum(pick(row[mask]) for row, mask in zip(cost, available, strict=True)) for pick in (min, max))
        budget, name = float(least + int(share * (most - least))), f"{name}, masks"
    if generator.uniform() < 0.2:
        value, cost = _one_cost(generator, value, cost)
        budget, available, name = float(cost.min() * queries + int(share * np.ptp(cost) * queries)), None, f"{kind}, one cost"
    unit = float(generator.choice(UNITS))
    if generator.uniform() < 0.25:
        usable = np.ones(cost.shape, bool) if available is None else available
        minimum = math.floor(np.where(usable, value, 0).max(axis=1).sum() * generator.uniform(0.3, 1.0))
        problem = Problem(value, cost * unit, minimum_value=minimum, available=available)
        return f"{name}, minimum value", _checked(problem, unit * least_for_whole_value(value, cost, minimum, available))
    answered = generator.uniform() < 0.8
    problem = Problem(value, cost * unit, budget * unit, available=available, allow_unanswered=not answered)
    if not answered:
        value, cost = (np.pad(cells, ((0, 0), (0, 1))) for cells in (value, cost))
        available = None if available is None else np.pad(available, ((0, 0), (0, 1)), constant_values=True)
    return name if answered else f"{name}, unanswered", _checked(problem, best_in_whole_dollars(value, cost, budget, available))


def counted(generator: np.random.Generator) -> tuple[str, bool]:
    """Capacities with one cost per model, two or three models and up to thirty queries."""
    queries, models = int(generator.integers(2, 31)), int(generator.integers(2, 4))
    value = generator.uniform(size=(queries, models))
    if generator.uniform() < 0.5:
        value = np.rint(value * generator.choice([1, 4, 100]))
    cost = np.sort(generator.uniform(0.1, 2.0, models))
    if generator.uniform() < 0.5:
        cost = np.rint(cost * 10)
    capacity = generator.integers(queries // models, queries + 1, models)
    capacity[-1] += max(0, queries - capacity.sum())
    least = Problem(value, cost, capacity=capacity).least_cost
    budget = least + generator.uniform() * max(0.0, cost.max() * queries - least)
    problem = Problem(value, cost, budget, capacity=capacity)
    return "capacities, one cost", _checked(problem, best_by_counts(value, cost, budget, capacity))


def _numbers(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Numbers with ties and without, of one size or of many."""
    drawn = generator.uniform(size=shape)
    choices = (
        lambda: np.rint(drawn),
        lambda: np.rint(drawn * 10) / 10,
        lambda: drawn,
        lambda: np.rint(drawn * 7) * 0.1,
        lambda: 10 ** (drawn * 12 - 9),
        lambda: np.where(drawn < 0.5, 0.04, drawn * 1e-8),
    )
    return choices[generator.integers(len(choices))]()


def _one_cost(generator: np.random.Generator, value: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same values with one cost per model."""
    return value, np.tile(cost[generator.integers(len(cost))], (len(cost), 1))


def _rejected(arguments: dict) -> None:
    try:
        Problem(**arguments)
    except InfeasibleProblem:
        return
    raise AssertionError("accepted although no assignment is possible")


def _checked(problem: Problem, optimum: float) -> bool:
    """Whether `exact` proved it; raises where anything is wrong."""
    best = exact(problem, max_seconds=20)
    _check(problem, best, optimum)
    _check(problem, lagrangian(problem), optimum)
    if problem.capacity is None and problem.minimum_value is None:
        _check(problem, greedy_ratio(problem), optimum)
    return best.status == "optimal"


def _check(problem: Problem, found: Assignment, optimum: float) -> None:
    check_honest(problem, found)
    achieved, sign = (found.value, 1) if problem.minimum_value is None else (found.cost_usd, -1)
    trifle = 4e-12 * max(problem.magnitude, 1e-300)
    assert sign * (achieved - optimum) <= trifle, f"{found} is better than the oracle's {optimum!r}"
    assert sign * (found.bound - optimum) >= -trifle / 4, f"{found} has the bound {found.bound!r}, the optimum is {optimum!r}"
    if found.status == "optimal":
        assert sign * (optimum - achieved) <= trifle, f"{found} is worse than the oracle's {optimum!r}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, number in sorted(main(options.count, options.seed).items()):
        print(f"{number:6d} {name}")
