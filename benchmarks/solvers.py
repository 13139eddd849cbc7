"""How fast are the solvers, and against whom?

    uv run python -m benchmarks.solvers [--small]

About 5 minutes on 2 cores of an AMD EPYC with AVX-512, where all goals that it prints are met; `--small` takes one. Every
figure is that of the call as a user makes it, in seconds of
processor time over all threads, the least of a few runs; whatever is compared takes turns in one process. Made-up batches with
one cost per model, 30 percent of the way from the cheapest to the most expensive assignment, unless a name says otherwise.

Compared with apricot-select where a Python has it: set APRICOT_PYTHON to one, such as that of
`uv venv E; uv pip install --python E/bin/python apricot-select==0.6.1 scikit-learn`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks import peers
from benchmarks.goals import print_goals
from benchmarks.instances import answers, batch, graded, problem
from benchmarks.knapsacks import knapsack
from benchmarks.memory import peak_gigabytes
from jaxroute.storage.files import write_json
from solvers import Problem, build_universe, exact, frontier, greedy_ratio, lagrangian

Result = dict[str, float | str]
CORRELATED = [(17, 20), (60, 3), (273, 11), (686, 6), (1_000, 10)]
"""Queries and models of the strongly correlated instances."""


@dataclass(frozen=True)
class Config:
    """Solvers on made-up batches; a full run takes minutes, `--small` less than one."""

    output: Path = Path("runs/benchmarks/solvers")
    """Folder for result.json."""
    small: bool = False
    """A hundredth of the queries, to see that everything runs; its figures say nothing."""
    runs: int = 3
    """Runs of which the fastest is reported."""
    exact_seconds: float = 60.0
    """Time limit of `exact`, and of CP-SAT and HiGHS on the full model."""
    only: list[str] = field(default_factory=list[str])
    """Parts to run, by the names of their functions; all if none is given."""


def main(config: Config) -> Result:
    """Run them all; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    if config.small:
        config = replace(config, exact_seconds=min(config.exact_seconds, 3.0))
    result: Result = {"small": str(config.small)}
    parts = [
        readings,
        against_a_loop,
        universes,
        one_cost_per_model,
        correlated,
        with_capacities,
        held_limits,
        against_integer_programs,
        against_the_relaxation,
        cost_per_query,
        many_queries,
    ]
    for part in parts:
        if config.only and part.__name__ not in config.only:
            continue
        found = part(config)
        result |= found
        for name, value in found.items():
            print(f"{name:<52} {value if isinstance(value, str) else f'{value:.4g}'}", flush=True)
    if not config.small:
        print_goals(result)
    write_json(config.output / "result.json", result)
    return result


class Counted:
    """A table that counts the rows that are read."""

    def __init__(self, cells: np.ndarray):
        self.cells, self.rows = cells, 0
        self.shape, self.dtype = cells.shape, cells.dtype

    def __getitem__(self, rows: slice) -> np.ndarray:
        found = self.cells[rows]
        self.rows += len(found)
        return found


def readings(config: Config) -> Result:
    """A problem and its Lagrangian assignment, over one reading of the matrix (its sum); they take turns."""
    given = batch(_scaled(1_000_000, config), 56)
    posed = Problem(*given)
    (read, _), (built, _), (solved, found) = _in_turns(
        [lambda: given[0].sum(), lambda: Problem(*given), lambda: lagrangian(posed)], config
    )
    counted = Counted(given[0])
    counting = Problem(counted, *given[1:])
    built_rows, counted.rows = counted.rows, 0
    lagrangian(counting)
    return {
        "problem_readings": built_rows / len(counted.cells),
        "lagrangian_readings": counted.rows / len(counted.cells),
        "read_1e6x56_cpu_seconds": read,
        "problem_1e6x56_cpu_seconds": built,
        "problem_1e6x56_over_read": built / read,
        "lagrangian_1e6x56_cpu_seconds": solved,
        "lagrangian_1e6x56_over_read": solved / read,
        "lagrangian_1e6x56_relative_gap": found.relative_gap,
    }


def against_a_loop(config: Config) -> Result:
    """The paper's selector, to the letter, as a loop over lists; problem and lists are there before."""
    ratios: list[float] = []
    same = True
    value, cost, budget = batch(_scaled(100_000, config), 11)
    listed = value.tolist(), np.tile(cost, (len(value), 1)).tolist()
    posed = Problem(value, cost, budget)
    for alpha in (1.0, 0.1, 0.01):
        (ours, found), (loop, choice) = _in_turns(
            [
                lambda alpha=alpha: greedy_ratio(posed, alpha=alpha, reserve=False),
                lambda alpha=alpha: peers.plain_greedy(*listed, budget, alpha),
            ],
            config,
        )
        ratios.append(loop / ours)
        same &= bool(np.array_equal(found.choice, choice))
    return {
        "greedy_call_vs_python_ratio": float(np.median(ratios)),
        "greedy_call_vs_python_ratio_least": min(ratios),
        "greedy_same_as_python": str(same),
    }


def universes(config: Config) -> Result:
    """5,000 models on 100,000 queries; graded pools, where sets are proved best; apricot-select's lazy greedy."""
    large = answers(_scaled(100_000, config), 5_000 if not config.small else 500)
    ((seconds, found),) = _in_turns([lambda: build_universe(large, 56)], config)
    result: Result = {"universe_5000x100000_seconds": seconds, "universe_5000x100000_value": found.value}
    result["universe_5000x100000_bound"] = found.bound
    del large
    quality = graded(805 if not config.small else 80, 58 if not config.small else 20)
    once = _once(config)
    ((choosing, chosen),) = _in_turns([lambda: build_universe(quality, 12)], once)
    ((bounding, bounds),) = _in_turns([lambda: chosen.bound_by_size], once)
    result |= {
        "universe_58x805_seconds": choosing,
        "universe_58x805_bounds_seconds": bounding,
        "universe_58x805_bound_above_value": max(
            bound / value - 1 for bound, value in zip(bounds, chosen.value_by_size, strict=True)
        ),
    }
    taken, unproved = [], 0
    for size in (2, 3, 5, 8, 12):
        ((seconds, best),) = _in_turns(
            [lambda size=size: build_universe(quality, size, "exact", max_seconds=config.exact_seconds)], once
        )
        taken.append(seconds)
        unproved += best.bound > best.value * (1 + 1e-9)
    result |= {"exact_universe_58x805_seconds_at_most": max(taken), "exact_universe_58x805_unproved": float(unproved)}
    return result | _against_apricot(config)


def _against_apricot(config: Config) -> Result:
    python = peers.apricot_python()
    if python is None:
        print("not compared with apricot-select: this Python does not have it, and APRICOT_PYTHON is not set")
        return {"universe_vs_apricot_ratio": "not compared: apricot-select is not installed"}
    answered = answers(_scaled(10_000, config), 1_000 if not config.small else 100)
    ratios, differences = [], []
    for _ in range(config.runs):
        ((ours, found),) = _in_turns([lambda: build_universe(answered, 56)], _once(config))
        value, seconds = peers.apricot_cover(python, answered, 56)
        ratios.append(seconds / ours)
        differences.append(found.value - value)
    return {"universe_vs_apricot_ratio": float(np.median(ratios)), "universe_above_apricot": min(differences)}


def one_cost_per_model(config: Config) -> Result:
    """`exact` where every model has one cost; with two models it is the case of RouteLLM."""
    result: Result = {}
    for name, queries, models in (
        ("1e4x56", 10_000, 56),
        ("1e5x11", 100_000, 11),
        ("1e6x2", 1_000_000, 2),
        ("1e6x11", 1_000_000, 11),
        ("1e6x56", 1_000_000, 56),
    ):
        posed = Problem(*batch(_scaled(queries, config), models))
        ((seconds, found),) = _in_turns([lambda posed=posed: exact(posed, max_seconds=config.exact_seconds)], _once(config))
        key = f"exact_{name}" if models == 2 else f"exact_{name}_one_cost"
        result |= {
            f"{key}_seconds" if models == 2 else f"{key}_cpu_seconds": seconds,
            f"{key}_status": found.status,
            f"{key}_relative_gap": found.relative_gap,
        }
    return result


def correlated(config: Config) -> Result:
    """Pisinger's strongly correlated instances, up to numbers of 1,000 and of 10,000, five seconds each."""
    taken, unproved = [], []
    for bound in (1_000, 10_000):
        for queries, models in CORRELATED:
            posed = Problem(*knapsack("strongly_correlated", queries, models, bound))
            ((seconds, found),) = _in_turns([lambda posed=posed: exact(posed, max_seconds=5.0)], _once(config))
            taken.append(seconds)
            if found.status != "optimal":
                unproved.append(f"{queries} x {models}, {bound:,}")
        if config.small:
            break
    return {
        "strongly_correlated_unproved": float(len(unproved)),
        "strongly_correlated_unproved_names": "; ".join(unproved) or "none",
        "strongly_correlated_cpu_seconds_at_most": max(taken),
    }


def with_capacities(config: Config) -> Result:
    """Every model takes at most 1.5 times its even share of the queries."""
    result: Result = {}
    proving = partial(exact, max_seconds=config.exact_seconds)
    for name, queries, models, solver in (
        ("2000x20", 2_000, 20, proving),
        ("4000x11", 4_000, 11, proving),
        ("1e4x56_cost_per_query", 10_000, 56, proving),
        ("1e6x11", 1_000_000, 11, lagrangian),
    ):
        value, cost, budget = batch(_scaled(queries, config), models, cost_per_query="per_query" in name)
        capacity = np.full(models, 3 * len(value) // (2 * models) + 1)
        posed = Problem(value, cost, budget, capacity=capacity)
        ((seconds, found),) = _in_turns([lambda posed=posed, solver=solver: solver(posed)], _once(config))
        result |= {
            f"capacity_{name}_cpu_seconds": seconds,
            f"capacity_{name}_status": found.status,
            f"capacity_{name}_relative_gap": found.relative_gap,
        }
    return result


def held_limits(config: Config) -> Result:
    """How long `exact` really takes on what it cannot prove in time, over its limit; in seconds of the clock, as limits are."""
    ratios = []
    value, cost, budget = knapsack("strongly_correlated", 20_000 if not config.small else 2_000, 10, 10_000)
    # A trifle on every value leaves no two gains ten apart.
    posed = Problem(value + np.random.default_rng(0).uniform(0, 1e-3, value.shape), cost, budget)
    crowded_value, cost, budget = batch(_scaled(10_000, config), 56)
    capacity = np.full(56, 3 * len(crowded_value) // 112 + 1)
    for one in (posed, Problem(crowded_value, cost, budget, capacity=capacity)):
        for limit in (2.0, 10.0) if not config.small else (1.0,):
            started = time.perf_counter()
            exact(one, max_seconds=limit)
            ratios.append((time.perf_counter() - started) / limit)
    return {"max_seconds_taken_over_limit": max(ratios)}


def against_integer_programs(config: Config) -> Result:
    """CP-SAT and HiGHS on the full model of 1,000 x 11."""
    result: Result = {}
    posed = problem(1_000, 11)
    ((ours, found),) = _in_turns([lambda: exact(posed)], config)
    for name, peer in (("cp_sat", peers.full_cp_sat), ("highs", peers.highs)):
        value, seconds, status = peer(posed, config.exact_seconds)
        result |= {
            f"{name}_1e3x11_cpu_seconds": seconds,
            f"{name}_1e3x11_status": status,
            f"{name}_1e3x11_value_below_exact": found.value - value,
            f"exact_vs_{name}_ratio": seconds / ours,
        }
    return result | {"exact_1e3x11_cpu_seconds": ours, "exact_1e3x11_status": found.status}


def against_the_relaxation(config: Config) -> Result:
    """OR-Tools' PDLP on the linear relaxation of 10,000 x 11, whose value the Lagrangian bound is."""
    posed = problem(_scaled(10_000, config), 11)
    ((ours, found),) = _in_turns([lambda: lagrangian(posed)], config)
    value, seconds = peers.pdlp_bound(posed)
    return {"lagrangian_vs_pdlp_ratio": seconds / ours, "pdlp_bound_off_by": value / found.bound - 1}


def cost_per_query(config: Config) -> Result:
    """A cost for every query and model: all solvers, and all budgets at once."""
    given = batch(_scaled(1_000_000, config), 11, cost_per_query=True)
    posed = Problem(*given)
    once = _once(config)
    (built, _), (near, found), (all_budgets, curve) = _in_turns(
        [lambda: Problem(*given), lambda: lagrangian(posed), lambda: frontier(posed)], once
    )
    ((best, proved),) = _in_turns([lambda: exact(posed, max_seconds=config.exact_seconds)], once)
    return {
        "problem_1e6x11_cost_per_query_cpu_seconds": built,
        "lagrangian_1e6x11_cost_per_query_cpu_seconds": near,
        "lagrangian_1e6x11_cost_per_query_relative_gap": found.relative_gap,
        "exact_1e6x11_cost_per_query_cpu_seconds": best,
        "exact_1e6x11_cost_per_query_status": proved.status,
        "frontier_1e6x11_cost_per_query_cpu_seconds": all_budgets,
        "frontier_1e6x11_cost_per_query_points": len(curve),
    }


def many_queries(config: Config) -> Result:
    """Ten million queries from a file, in a process whose memory is measured."""
    queries, models = _scaled(10_000_000, config), 56
    with tempfile.TemporaryDirectory(dir=config.output.parent if config.output.parent.exists() else None) as folder:
        path = Path(folder) / "value.npy"
        stored = np.lib.format.open_memmap(path, "w+", np.float32, (queries, models))
        rows, cost, budget = 0, np.empty(models), 0.0
        for start in range(0, queries, 500_000):
            rows = min(500_000, queries - start)
            stored[start : start + rows], cost, budget = batch(rows, models, seed=start)
        stored.flush()
        del stored
        program = "import sys; from benchmarks.solvers import route_file; route_file(*sys.argv[1:])"
        arguments = [str(path), repr(budget * queries / rows), *map(repr, cost.tolist())]
        run = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    seconds, gap, gigabytes = map(float, run.stdout.split())
    return {
        "lagrangian_1e7x56_memmap_cpu_seconds": seconds,
        "lagrangian_1e7x56_memmap_relative_gap": gap,
        "lagrangian_1e7x56_memmap_resident_gb": gigabytes,
    }


def route_file(path: str, budget_usd: str, *cost_usd: str) -> None:
    """Build and solve; prints the seconds of both, the gap and the most memory held."""
    value = np.load(path, mmap_mode="r")
    started = time.process_time()
    found = lagrangian(Problem(value, np.array([float(one) for one in cost_usd]), float(budget_usd)))
    print(time.process_time() - started, found.relative_gap, peak_gigabytes())


def _in_turns(calls: list[Callable[[], Any]], config: Config) -> list[tuple[float, Any]]:
    """Of every call the least seconds of processor time, and what it returned; the calls take turns."""
    seconds = [np.inf] * len(calls)
    found: dict[int, Any] = {}
    for _ in range(config.runs):
        for place, call in enumerate(calls):
            started = time.process_time()
            found[place] = call()
            seconds[place] = min(seconds[place], time.process_time() - started)
    return [(float(seconds[place]), found[place]) for place in range(len(calls))]


def _once(config: Config) -> Config:
    return replace(config, runs=1)


def _scaled(queries: int, config: Config) -> int:
    return max(queries // 100, 100) if config.small else queries


if __name__ == "__main__":
    main(tyro.cli(Config))
