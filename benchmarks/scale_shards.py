"""One price over many shards: the same however they are cut, merged in moments, and found in a few readings of the files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

from benchmarks.instances import batch
from benchmarks.memory import peak_gigabytes
from jaxroute.batch.assigning import AssignShards, assign_shards
from jaxroute.data.estimate_files import COST
from jaxroute.data.shard_files import ShardFile, list_shards
from jaxroute.storage.files import write_json
from solvers import Problem, lagrangian
from solvers.sharded import ArrayShard, ShardedAssignment, solve_shards
from solvers.sharded.blocks import Terms
from solvers.sharded.summaries import Look, Summary
from solvers.sharded.walking import Span

CUTS = (1, 2, 7, 64)
MODELS = 11
Figures = dict[str, float | str | bool]


def identical_shards(small: bool, scratch: Path) -> Figures:
    """The same queries as 1, 2, 7 and 64 shards, in shuffled order: choices, value, cost, bound and multiplier, bit by bit."""
    found = set[tuple[object, ...]]()
    for cost_per_query in (False, True):
        value, cost, budget = batch(20_000 if small else 1_000_000, MODELS, cost_per_query=cost_per_query)
        one = {_everything(shards, solve_shards(shards, budget)) for shards in (cut(value, cost, count) for count in CUTS)}
        found |= {(cost_per_query, len(one))}
    return {"identical_shards": found == {(False, 1), (True, 1)}}


def cut(value: np.ndarray, cost: np.ndarray, count: int) -> list[ArrayShard]:
    """`count` shards of uneven sizes, in an order that is drawn."""
    generator = np.random.default_rng(count)
    inner = np.sort(generator.integers(0, len(value) + 1, count - 1)).tolist()
    shards = [
        ArrayShard(value[first:last], cost if cost.ndim == 1 else cost[first:last], start=first, name=f"shard {number}")
        for number, (first, last) in enumerate(zip([0, *inner], [*inner, len(value)], strict=True))
    ]
    return [shards[place] for place in generator.permutation(count)]


def _everything(shards: list[ArrayShard], found: ShardedAssignment) -> tuple[object, ...]:
    """All that an assignment says, as numbers and bytes that are compared bit by bit."""
    choices = [assigned.choice for shard in sorted(shards, key=lambda one: one.start) for assigned in found.price.assign(shard)]
    numbers = (found.value, found.cost_usd, found.bound, found.multiplier, found.price.tie)
    return *numbers, np.concatenate(choices).astype(np.int16).tobytes(), found.taken.tobytes()


def capacities(small: bool, scratch: Path) -> Figures:
    """A capacity for every model, of 13 percent of the queries, over 1 and 64 shards: the same, and how near to the best;
    against `lagrangian` on all queries at once."""
    value, cost, budget = batch(60_000 if small else 1_000_000, MODELS, cost_per_query=True)
    capacity = np.full(MODELS, int(0.13 * len(value)))
    one = set[tuple[object, ...]]()
    result: Figures = {}
    found = None
    for count in (CUTS[0], CUTS[-1]):
        shards, started = cut(value, cost, count), time.process_time()
        found = solve_shards(shards, budget, capacity=capacity)
        result |= {"capacities_1e6x11_cpu_seconds": time.process_time() - started}
        one.add(_everything(shards, found))
        assert (found.taken <= capacity).all() and found.cost_usd <= budget * (1 + 1e-12)
        result |= {"capacities_1e6x11_relative_gap": found.relative_gap, "capacities_1e6x11_passes": float(len(found.rounds))}
    assert found is not None
    result |= {"identical_capacities": len(one) == 1}
    if small:
        return result
    started = time.process_time()
    together = lagrangian(Problem(value, cost, budget, capacity=capacity))
    return result | {
        "capacities_1e6x11_lagrangian_cpu_seconds": time.process_time() - started,
        "capacities_1e6x11_lagrangian_relative_gap": together.relative_gap,
        "capacities_1e6x11_bound_off_lagrangian": abs(found.bound / together.bound - 1),
    }


def merged_summaries(small: bool, scratch: Path) -> Figures:
    """A simulated fleet: the summaries of 1,000 shards of 1,000,000 queries each, of a span that holds the price, merged.

    A few real shards are looked at, and their summaries stand for those of all.
    """
    rows, made, fleet = (20_000, 2, 100) if small else (1_000_000, 4, 1_000)
    terms, span = Terms(MODELS), Span(4.86, 4.84)
    looked = []
    for number in range(made):
        value, cost, _ = batch(rows, MODELS, seed=number)
        looked.append(Look(terms, span, 2**12)(ArrayShard(value, cost)))
    started = time.perf_counter()
    total = Summary.empty(terms)
    for number in range(fleet):
        total = total.merged(looked[number % made], span).limited(2**22, span)
    return {
        "merge_1000_seconds": time.perf_counter() - started,
        "merge_1000_bytes": float(sum(looked[number % made].nbytes for number in range(fleet))),
        "merge_1000_queries": float(total.queries),
    }


def assigned_from_disk(small: bool, scratch: Path) -> Figures:
    """10^8 x 11 estimates and costs in 100 Parquet shards, as `jaxroute score` writes them, assigned within a budget as by
    `jaxroute assign`, in turns with a process that reads and decodes the same columns once and does nothing else. Both are
    processes of their own and use two threads.
    """
    return _from_disk("1e8x11", 100, small, scratch)


def crowded_from_disk(small: bool, scratch: Path) -> Figures:
    """The same of 10^7 x 11 in 10 shards, with a capacity for every model, of 13 percent of the queries."""
    found = _from_disk("1e7x11", 10, small, scratch, 0.13)
    return {f"crowded_{name}": value for name, value in found.items() if name.startswith("assign")}


def _from_disk(size: str, count: int, small: bool, scratch: Path, *capacity: float) -> Figures:
    count, rows = (4, 50_000) if small else (count, 1_000_000)
    try:
        budget = _write_shards(scratch / "scored", count, rows)
        read = _run("read", scratch)
        assigned = _run("assign", scratch, repr(budget), *map(str, capacity))
        again = _run("read", scratch)
        summary = json.loads((scratch / "assigned" / "summary.json").read_text())
        written = sum(path.stat().st_size for path in (scratch / "assigned").glob("*.parquet"))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    reading = (read["seconds"] + again["seconds"]) / 2
    return {
        f"assign_{size}_relative_gap": summary["relative_gap"],
        f"assign_{size}_seconds_per_read": assigned["seconds"] / reading,
        f"assign_{size}_seconds": assigned["seconds"],
        f"assign_{size}_cpu_seconds_per_read": 2 * assigned["cpu_seconds"] / (read["cpu_seconds"] + again["cpu_seconds"]),
        f"assign_{size}_peak_gigabytes": assigned["peak_gigabytes"],
        f"assign_{size}_passes": summary["passes"],
        f"assign_{size}_queries": summary["queries"],
        f"read_{size}_seconds": reading,
        f"read_{size}_gigabytes": read["gigabytes"],
        f"read_{size}_bytes_per_row": read["gigabytes"] * 2**30 / summary["queries"],
        f"assign_{size}_bytes_per_row": written / summary["queries"],
    }


def _write_shards(folder: Path, count: int, rows: int) -> float:
    """Shards with the columns of `jaxroute score`, and a budget in the middle. Rows are drawn from a table of `rows` estimates
    and, apart from them, one of costs, so that none is like another."""
    folder.mkdir(parents=True)
    value, cost, budget = batch(rows, MODELS, cost_per_query=True)
    value, cost = value.T.astype(np.float32), np.ascontiguousarray(cost.T)
    for number in range(count):
        generator = np.random.default_rng(number)
        one, other = generator.permutation(rows), generator.permutation(rows)
        columns: dict[str, np.ndarray] = {"row": np.arange(number * rows, (number + 1) * rows), "cut": np.zeros(rows, bool)}
        columns |= {f"model_{model}": value[model, one] for model in range(MODELS)}
        columns |= {f"model_{model}{COST}": cost[model, other] for model in range(MODELS)}
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"shard-{number:05d}.parquet")
    write_json(folder / "manifest.json", {})
    write_json(folder / "summary.json", {"rows": count * rows})
    return budget * count


def _run(what: str, scratch: Path, *arguments: str) -> dict[str, float]:
    """One measurement in a process of its own; returns what it prints."""
    command = [sys.executable, "-m", "benchmarks.scale_shards", what, str(scratch), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _measured(what: str, scratch: Path, *arguments: str) -> dict[str, float]:
    """Reading, or assigning, in this process."""
    gigabytes = sum(path.stat().st_size for path in (scratch / "scored").glob("*.parquet")) / 2**30
    started, cpu = time.perf_counter(), time.process_time()
    shards = list_shards(scratch / "scored")
    if what == "read":
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(_read, shards))
    else:
        budget, *share = map(float, arguments)
        capacity = {name: int(share[0] * sum(map(len, shards))) for name in shards[0].names} if share else None
        assign_shards(AssignShards(scratch / "scored", None, scratch / "assigned", budget_usd=budget, capacity=capacity))
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "peak_gigabytes": peak_gigabytes(),
        "gigabytes": gigabytes,
    }


def _read(shard: ShardFile) -> None:
    """All chunks, as an assignment gets them."""
    for _ in shard.chunks():
        pass


if __name__ == "__main__":
    print(json.dumps(_measured(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])))
