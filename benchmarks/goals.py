"""What the solvers are meant to reach, beside what they reached."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """One figure of `benchmarks.solvers` and what it is meant to be."""

    figure: str
    """Its name in result.json."""
    what: str
    wanted: float | str
    """A text that the figure is equal to, or a number."""
    at_least: bool = False
    """Whether the figure is meant to be at least, and not at most, the number."""

    def reached(self, found: float | str) -> bool:
        if isinstance(self.wanted, str) or isinstance(found, str):
            return found == self.wanted
        return found >= self.wanted if self.at_least else found <= self.wanted

    @property
    def sign(self) -> str:
        return "" if isinstance(self.wanted, str) else ">= " if self.at_least else "<= "


GOALS = [
    Goal("exact_1e5x11_one_cost_cpu_seconds", "exact, one cost per model, 100,000 x 11: seconds", 0.2),
    Goal("exact_1e5x11_one_cost_status", "  proved", "optimal"),
    Goal("exact_1e6x11_one_cost_cpu_seconds", "exact, one cost per model, 1,000,000 x 11: seconds", 1.5),
    Goal("exact_1e6x11_one_cost_status", "  proved", "optimal"),
    Goal("exact_1e6x56_one_cost_cpu_seconds", "exact, one cost per model, 1,000,000 x 56: seconds", 2.5),
    Goal("exact_1e6x56_one_cost_status", "  proved", "optimal"),
    Goal("exact_1e6x2_seconds", "exact, a pair of models, 1,000,000 x 2: seconds", 0.5),
    Goal("exact_1e6x2_status", "  proved", "optimal"),
    Goal("strongly_correlated_unproved", "strongly correlated instances not proved in 5 s", 0.0),
    Goal("capacity_2000x20_status", "exact, capacities, 2,000 x 20", "optimal"),
    Goal("capacity_4000x11_status", "exact, capacities, 4,000 x 11", "optimal"),
    Goal("max_seconds_taken_over_limit", "time taken over max_seconds", 1.1),
    Goal("lagrangian_1e6x56_cpu_seconds", "lagrangian, 1,000,000 x 56: seconds", 0.6),
    Goal("lagrangian_1e6x56_over_read", "  over the time of a sum of the matrix", 40.0),
    Goal("lagrangian_readings", "  readings of all queries", 9.0),
    Goal("problem_readings", "Problem: readings of all queries", 1.0),
    Goal("greedy_call_vs_python_ratio", "greedy_ratio as called: times a plain Python loop", 10.0, at_least=True),
    Goal("universe_5000x100000_seconds", "build_universe, 56 of 5,000 models, 100,000 queries: seconds", 0.4),
    Goal("universe_58x805_bound_above_value", "build_universe, 58 graded models: bounds above values", 0.01),
    Goal("exact_universe_58x805_seconds_at_most", "build_universe, 58 graded models, exact: seconds", 5.0),
    Goal("exact_universe_58x805_unproved", "  sizes that are not proved", 0.0),
    Goal("exact_vs_highs_ratio", "exact, 1,000 x 11: times as fast as HiGHS", 1.0, at_least=True),
    Goal("exact_vs_cp_sat_ratio", "exact, 1,000 x 11: times as fast as CP-SAT on the full model", 1.0, at_least=True),
    Goal("universe_vs_apricot_ratio", "build_universe, 56 of 1,000 models: times apricot-select", 1.0, at_least=True),
    Goal("lagrangian_1e7x56_memmap_resident_gb", "lagrangian, 10,000,000 x 56 from a file: gigabytes held", 3.0),
]


def print_goals(result: dict[str, float | str]) -> None:
    """A table of the goals whose figures are known."""
    print(f"\n{'':<72} {'found':>10}  {'goal':>10}")
    for goal in GOALS:
        if goal.figure not in result:
            continue
        found = result[goal.figure]
        shown, wanted = (one if isinstance(one, str) else f"{one:.4g}" for one in (found, goal.wanted))
        print(f"{goal.what:<72} {shown:>10}  {goal.sign + wanted:>10}{'' if goal.reached(found) else '  not reached'}")
