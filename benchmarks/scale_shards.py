"""One price over many shards: the same however they are cut, merged in moments, and found in a few readings of the files."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmarks.instances import batch
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
        one = {_everything(cut(value, cost, count), budget) for count in CUTS}
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


def _everything(shards: list[ArrayShard], budget: float) -> tuple[object, ...]:
    """All that an assignment says, as numbers and bytes that are compared bit by bit."""
    found: ShardedAssignment = solve_shards(shards, budget)
    choices = [assigned.choice for shard in sorted(shards, key=lambda one: one.start) for assigned in found.price.assign(shard)]
    numbers = (found.value, found.cost_usd, found.bound, found.multiplier, found.price.tie)
    return *numbers, np.concatenate(choices).astype(np.int16).tobytes(), found.taken.tobytes()


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
    """10^8 x 11 estimates and costs in Parquet shards: the time of an assignment over that of reading them once."""
    return {}
