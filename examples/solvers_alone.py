"""The solvers without language models: estimates and costs in, an assignment and its proof out.

    uv run python examples/solvers_alone.py

The numbers are made up: 2,000 queries, three models, one cost per model.
"""

from __future__ import annotations

import numpy as np

from solvers import Assignment, InfeasibleBudget, Problem, exact, frontier, greedy_ratio, lagrangian


def main(queries: int = 2000, seed: int = 0) -> dict[str, Assignment]:
    generator = np.random.default_rng(seed)
    value = np.sort(generator.uniform(0, 1, (queries, 3)), axis=1)  # the third model is the best on every query
    cost_usd = np.array([0.001, 0.005, 0.03])
    problem = Problem(value, cost_usd, budget_usd=20.0)

    found = {solver.__name__: solver(problem) for solver in (greedy_ratio, lagrangian, exact)}
    print(*found.values(), sep="\n")

    curve = frontier(problem)
    print(f"the next dollar after 20 buys {curve.multiplier_at(20.0):.3f}, after 40 {curve.multiplier_at(40.0):.3f}")

    # Of the most expensive model only 100 answers are to be had.
    found["capacity"] = lagrangian(Problem(value, cost_usd, 20.0, capacity=np.array([queries, queries, 100])))
    print(found["capacity"])

    try:
        Problem(value, cost_usd, budget_usd=1.0)
    except InfeasibleBudget as error:
        print(f"rejected: {error}")
        found["least budget"] = exact(Problem(value, cost_usd, error.least_budget_usd))
    return found


if __name__ == "__main__":
    main()
