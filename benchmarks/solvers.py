"""How fast are the solvers, and against whom?

    uv run --group benchmarks python -m benchmarks.solvers [--small]

5 minutes on 2 cores, `--small` half a minute. Every figure is the median of several runs; comparisons run in one process.
Measured 30 percent of the way from the cheapest to the most expensive assignment, one cost per model: `lagrangian`
1,000,000 x 56 in 1.1 s, gap 1.1e-10; `exact` proved 10,000 x 56 in 0.06 s, 100,000 x 11 in 5.1 s and 1,000,000 x 56 in 12 s;
ten million queries from a file took 15 s and 3.0 GB. With a capacity for every model `lagrangian` takes 14 s for
1,000,000 x 11, `exact` 8.9 s for 10,000 x 56 with a cost per query. CP-SAT on the full model of 1,000 x 11 does not prove in
60 s what `exact` proves in 0.004 s; HiGHS takes 1.1 s. `greedy_ratio` is 11 times as fast as a plain loop over lists,
`build_universe` 36 times as fast as apricot-select's lazy greedy.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import tyro

from benchmarks import peers
from benchmarks.instances import answers, batch, problem
from benchmarks.memory import peak_gigabytes
from jaxroute.storage.files import write_json
from solvers import Problem, build_universe, exact, frontier, greedy_ratio, lagrangian

Result = dict[str, float | str]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Config:
    """Solvers on made-up batches; a full run takes minutes, `--small` less than one."""

    output: Path = Path("runs/benchmarks/solvers")
    """Folder for result.json."""
    small: bool = False
    """A hundredth of the queries, to see that everything runs; its figures say nothing."""
    runs: int = 3
    """Runs of which the median is reported."""
    peer_seconds: float = 60.0
    """Time limit of CP-SAT and HiGHS on the full model."""


def main(config: Config) -> Result:
    """Run them all; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    result: Result = {"small": str(config.small)}
    for part in (
        assignments,
        with_capacities,
        against_integer_programs,
        against_the_relaxation,
        against_a_loop,
        universes,
        many_queries,
    ):
        found = part(config)
        result |= found
        for name, value in found.items():
            print(f"{name:<44} {value if isinstance(value, str) else f'{value:.4g}'}", flush=True)
    write_json(config.output / "result.json", result)
    return result


def assignments(config: Config) -> Result:
    """Lagrangian, exact and frontier by themselves."""
    result: Result = {}
    posed: Problem | None = None
    sizes = [("1e4x56", 10_000, 56), ("1e5x11", 100_000, 11), ("1e6x56", 1_000_000, 56)]
    for name, queries, models in sizes:
        for cost, per_query in (("", False), ("_cost_per_query", True)):
            given = batch(_scaled(queries, config), models, cost_per_query=per_query)
            result[f"problem_{name}{cost}_seconds"] = _median(lambda given=given: Problem(*given), config)[0]
            posed = Problem(*given)
            for solver in (lagrangian, exact):
                seconds, found = _median(lambda solver=solver, posed=posed: solver(posed), config)
                key = f"{solver.__name__}_{name}{cost}"
                result |= {f"{key}_seconds": seconds, f"{key}_relative_gap": found.relative_gap, f"{key}_status": found.status}
    assert posed is not None  # The largest, with a cost per query.
    largest = posed
    seconds, curve = _median(lambda: frontier(largest), config)
    return result | {"frontier_1e6x56_cost_per_query_seconds": seconds, "frontier_1e6x56_cost_per_query_points": len(curve)}


def with_capacities(config: Config) -> Result:
    """Every model takes at most 1.5 times its even share of the queries; one run each."""
    result: Result = {}
    for name, queries, models, solver in (
        ("1e4x56_cost_per_query", 10_000, 56, exact),
        ("1e5x11", 100_000, 11, lagrangian),
        ("1e6x11", 1_000_000, 11, lagrangian),
    ):
        value, cost, budget = batch(_scaled(queries, config), models, cost_per_query="per_query" in name)
        capacity = np.full(models, 3 * len(value) // (2 * models) + 1)
        once = replace(config, runs=1)
        built, posed = _median(lambda given=(value, cost, budget), room=capacity: Problem(*given, capacity=room), once)
        seconds, found = _median(lambda posed=posed, solver=solver: solver(posed), once)
        result |= {
            f"problem_{name}_capacity_seconds": built,
            f"{solver.__name__}_{name}_capacity_seconds": seconds,
            f"{solver.__name__}_{name}_capacity_relative_gap": found.relative_gap,
            f"{solver.__name__}_{name}_capacity_status": found.status,
        }
    return result


def against_integer_programs(config: Config) -> Result:
    """CP-SAT and HiGHS on the full model of 1,000 x 11."""
    result: Result = {}
    posed = problem(1_000, 11)
    ours, found = _median(lambda: exact(posed), config)
    for name, peer in (("cp_sat", peers.full_cp_sat), ("highs", peers.highs)):
        value, seconds, status = peer(posed, config.peer_seconds if not config.small else 5.0)
        result |= {
            f"{name}_1e3x11_seconds": seconds,
            f"{name}_1e3x11_status": status,
            f"{name}_1e3x11_value_below_exact": found.value - value,
            f"exact_vs_{name}_ratio": seconds / ours,
        }
    return result | {"exact_1e3x11_seconds": ours, "exact_1e3x11_status": found.status}


def against_the_relaxation(config: Config) -> Result:
    """OR-Tools' PDLP on the linear relaxation of 10,000 x 11, whose value the Lagrangian bound is."""
    posed = problem(_scaled(10_000, config), 11)
    ours, found = _median(lambda: lagrangian(posed), config)
    value, seconds = peers.pdlp_bound(posed)
    return {"lagrangian_vs_pdlp_ratio": seconds / ours, "pdlp_bound_off_by": value / found.bound - 1}


def against_a_loop(config: Config) -> Result:
    """The paper's selector, to the letter, as a loop over lists."""
    ratios, same = [], True
    value, cost, budget = batch(_scaled(100_000, config), 11)
    listed = value.tolist(), np.tile(cost, (len(value), 1)).tolist()
    posed = Problem(value, cost, budget)
    for alpha in (1.0, 0.1, 0.01):
        for _ in range(config.runs):
            found = greedy_ratio(posed, alpha=alpha, reserve=False)
            started = time.perf_counter()
            choice = peers.plain_greedy(*listed, budget, alpha)
            ratios.append((time.perf_counter() - started) / found.seconds)
            same &= bool(np.array_equal(found.choice, choice))
    return {"greedy_vs_python_ratio": float(np.median(ratios)), "greedy_same_as_python": str(same)}


def universes(config: Config) -> Result:
    """apricot-select's lazy greedy, and a pool of 5,000 models on 100,000 queries."""
    result: Result = {}
    answered = answers(_scaled(10_000, config), 1_000 if not config.small else 100)
    if importlib.util.find_spec("apricot"):
        peers.apricot_cover(answered[:100, :60], 8)  # it compiles on its first call
        ratios, differences = [], []
        for _ in range(config.runs):
            started = time.perf_counter()
            found = build_universe(answered, 56)
            ours = time.perf_counter() - started
            value, seconds = peers.apricot_cover(answered, 56)
            ratios.append(seconds / ours)
            differences.append(found.value - value)
        result |= {"universe_vs_apricot_ratio": float(np.median(ratios)), "universe_above_apricot": min(differences)}
    else:
        print("apricot-select is not installed: run with --group benchmarks to compare with it")
    large = answers(_scaled(100_000, config), 5_000 if not config.small else 500)
    seconds, found = _median(lambda: build_universe(large, 56), config)
    return result | {
        "universe_5000x100000_seconds": seconds,
        "universe_5000x100000_value": found.value,
        "universe_5000x100000_bound": found.bound,
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
        "lagrangian_1e7x56_memmap_seconds": seconds,
        "lagrangian_1e7x56_memmap_relative_gap": gap,
        "lagrangian_1e7x56_memmap_resident_gb": gigabytes,
    }


def route_file(path: str, budget_usd: str, *cost_usd: str) -> None:
    value = np.load(path, mmap_mode="r")
    found = lagrangian(Problem(value, np.array([float(one) for one in cost_usd]), float(budget_usd)))
    print(found.seconds, found.relative_gap, peak_gigabytes())


def _median(call: Callable[[], Found], config: Config) -> tuple[float, Found]:
    """Median seconds, and what the last call found."""
    seconds, found = [], []
    for _ in range(config.runs):
        started = time.perf_counter()
        found = [call()]
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds)), found[-1]


def _scaled(queries: int, config: Config) -> int:
    return queries // 100 if config.small else queries


if __name__ == "__main__":
    main(tyro.cli(Config))
