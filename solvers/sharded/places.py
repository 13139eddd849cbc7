"""Places for all queries: whether the capacities leave one for each, decided by how many queries have which models.

Queries that may go to the same models are alike here: counts per set of models are enough, and these add up over shards. A
largest flow from the sets to their models finds a place for every query, or a smallest cut: models that are the only ones of
more queries than they have places (Hall 1935, "On representatives of subsets"). Either is proved by whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from solvers.errors import Crowded, InfeasibleCapacity
from solvers.sharded.blocks import Terms, blocks
from solvers.sharded.shards import Shard

MOST_SETS = 2**16
"""Sets of models that are counted, those of the fewest models first."""


@dataclass(frozen=True, eq=False)
class Sets:
    """How many queries may go to which models."""

    counts: dict[bytes, tuple[int, int]]
    """By the bits of the models: how many queries, and the least of their numbers."""
    most_models: int
    """Sets of more models are left out. What has no place among the others has none among all."""

    def merged(self, other: Sets) -> Sets:
        """Both as one; the order makes no difference."""
        counts = dict(self.counts)
        for models, count in other.counts.items():
            _count(counts, models, *count)
        return Sets(counts, min(self.most_models, other.most_models)).limited()

    def limited(self) -> Sets:
        """The sets of the fewest models, at most MOST_SETS. A shard has no more of a size than all shards have together, so
        that every shard keeps what all of them keep."""
        sizes = np.array([_size(models) for models in self.counts], np.int64)
        most = self.most_models
        running = np.cumsum(np.bincount(sizes, minlength=1))
        if (running > MOST_SETS).any():
            most = min(most, int(np.argmax(running > MOST_SETS)) - 1)
        listed = zip(self.counts.items(), sizes.tolist(), strict=True)
        kept = {models: count for (models, count), size in listed if size <= most}
        return Sets(kept, most)


@dataclass(frozen=True)
class CountSets:
    """The step that counts the sets of a shard. It can be pickled."""

    terms: Terms

    def __call__(self, shard: Shard) -> Sets:
        models = self.terms.models
        found = Sets({}, models)
        for block in blocks(shard, self.terms):
            for one in _counted(~np.isneginf(block.value[:models]), block.numbers):
                _count(found.counts, *one)
            if len(found.counts) > 2 * MOST_SETS:
                found = found.limited()
        return found.limited()


def check_places(sets: Sets, capacity: list[int], queries: int) -> bool:
    """Whether every query has a place: True is proved; False where too many sets were left out to know.

    Raises `InfeasibleCapacity`, which names the models that are too small together, and capacities that would do.
    """
    models = len(capacity)
    listed = sorted(sets.counts)
    bits = np.array([np.unpackbits(np.frombuffer(one, np.uint8), count=models) for one in listed], bool).reshape(-1, models)
    counts = np.array([sets.counts[one][0] for one in listed], np.int64)
    left, cut = _largest_flow(bits, counts, np.minimum(capacity, queries))
    if not left.any():
        return sets.most_models == models
    only = ~(bits & ~cut).any(axis=1)
    first = min(sets.counts[one][1] for one, without in zip(listed, left.tolist(), strict=True) if without)
    crowded = Crowded(np.flatnonzero(cut).tolist(), int(counts[only].sum()), int(np.array(capacity)[cut].sum()))
    enough = np.array(capacity)
    for row in np.flatnonzero(left).tolist():
        # The model that has the most places is the first to be given more.
        enough[int(np.where(bits[row], capacity, -1).argmax())] += left[row]
    raise InfeasibleCapacity(capacity, enough.tolist(), int(left.sum()), first, queries, crowded)


def _counted(usable: Bool[np.ndarray, "models rows"], numbers: Int[np.ndarray, " rows"]) -> Iterator[tuple[bytes, int, int]]:
    """The sets of some queries: how many have each, and the least number."""
    whole = usable.all(axis=0)
    if whole.any():
        yield np.packbits(usable[:, whole.argmax()]).tobytes(), int(np.count_nonzero(whole)), int(numbers[whole.argmax()])
    some = np.flatnonzero(~whole)
    found, first, count = np.unique(np.packbits(usable[:, some], axis=0).T, axis=0, return_index=True, return_counts=True)
    for one, row, times in zip(found, first.tolist(), count.tolist(), strict=True):
        yield one.tobytes(), times, int(numbers[some[row]])


def _count(counts: dict[bytes, tuple[int, int]], models: bytes, count: int, first: int) -> None:
    before, least = counts.get(models, (0, first))
    counts[models] = before + count, min(least, first)


def _largest_flow(
    bits: Bool[np.ndarray, "sets models"], counts: Int[np.ndarray, " sets"], places: Int[np.ndarray, " models"]
) -> tuple[Int[np.ndarray, " sets"], Bool[np.ndarray, " models"]]:
    """How many queries of every set have no place, and the models on the source's side of a smallest cut."""
    from ortools.graph.python import max_flow  # pyright: ignore[reportMissingTypeStubs]

    sets, models = bits.shape
    source, sink = sets + models, sets + models + 1
    row, column = np.nonzero(bits)
    # OR-Tools' own annotations take shapes for dtypes, hence `Any`.
    network: Any = max_flow.SimpleMaxFlow()
    supply = network.add_arcs_with_capacity(np.full(sets, source), np.arange(sets), counts)
    network.add_arcs_with_capacity(row, sets + column, counts[row])
    network.add_arcs_with_capacity(sets + np.arange(models), np.full(models, sink), places)
    status = network.solve(source, sink)
    if status != network.OPTIMAL:
        raise RuntimeError(f"OR-Tools' largest flow ended with {status}")
    reached = np.array(network.get_source_side_min_cut())
    cut = np.zeros(models, bool)
    cut[[node - sets for node in reached.tolist() if sets <= node < sets + models]] = True
    return counts - np.array(network.flows(supply)), cut


def _size(models: bytes) -> int:
    """How many models a set has."""
    return int.from_bytes(models, "big").bit_count()
