"""Shards: a problem in pieces, each of which any process can read; and the map that runs one step on every piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from solvers.errors import ProblemError
from solvers.inputs import floats, no_type_check

CHUNK_ROWS = 2**14
Made = TypeVar("Made")


@runtime_checkable
class Shard(Protocol):
    """Some queries of a large problem: any object with these members, which processes can send to each other (pickle).

    Every shard of a problem has the same models in the same order.
    """

    @property
    def name(self) -> str:
        """How messages name it, such as the path of its file."""
        ...

    @property
    def start(self) -> int:
        """The number of its first query in the whole problem, from 0. Queries are known by their numbers alone: results do
        not depend on how the queries are cut into shards, nor on the order in which shards are given."""
        ...

    @property
    def models(self) -> int:
        """How many models it has."""
        ...

    def __len__(self) -> int:
        """How many queries it holds; 0 is allowed."""
        ...

    def chunks(self) -> Iterator[tuple[Float[np.ndarray, "rows models"], Float[np.ndarray, "#rows models"]]]:
        """Its queries in order, some at a time: value `(rows, models)` and dollars `(rows, models)`, or `(1, models)` where
        they are the same for all of them. NaN in either: that model may not answer that query. It is called once per round."""
        ...


class Map(Protocol):
    """How a step is run on all shards: `map` itself, the `map` of an executor, or an engine's.

    `step` and the shards can be pickled. Results may come in any order, since summaries are merged in any order; nothing else
    is asked of an engine. One that runs a step twice, after a worker was lost, must give one of the two results.
    """

    def __call__(self, step: Callable[[Shard], Made], shards: Sequence[Shard], /) -> Iterable[Made]: ...


@no_type_check
@dataclass(frozen=True, eq=False)
class ArrayShard:
    """Queries in memory, or in a memory-mapped file. Raises `ProblemError` for arrays that do not fit each other."""

    value: Float[np.ndarray, "queries models"]
    """float32 or float64, `(queries, models)`; NaN where that model may not answer."""
    cost_usd: Float[np.ndarray, "queries models"] | Float[np.ndarray, " models"]
    """Dollars per answer, `(queries, models)`, or `(models,)` where they are the same for every query."""
    start: int = 0
    """The number of its first query in the whole problem."""
    available: Bool[np.ndarray, "queries models"] | None = None
    """Which model may answer which query; other cells are not read."""
    name: str = "shard"

    def __post_init__(self) -> None:
        for field in ("value", "cost_usd"):
            object.__setattr__(self, field, floats(field, getattr(self, field), instead="pass NaN where the mask is set"))
        shape = self.value.shape
        if len(shape) != 2 or self.cost_usd.shape not in (shape, shape[1:]):
            raise ProblemError(
                f"{self.name}: value has shape {shape} and cost_usd {self.cost_usd.shape}, expected (queries, models) and "
                "the same or (models,)"
            )
        if self.available is not None and (self.available.shape != shape or self.available.dtype != bool):
            raise ProblemError(
                f"{self.name}: available is {self.available.dtype} of shape {self.available.shape}, expected bool of {shape}"
            )

    @property
    def models(self) -> int:
        return self.value.shape[1]

    def __len__(self) -> int:
        return self.value.shape[0]

    def chunks(self) -> Iterator[tuple[Float[np.ndarray, "rows models"], Float[np.ndarray, "#rows models"]]]:
        for first in range(0, len(self), CHUNK_ROWS):
            rows = slice(first, first + CHUNK_ROWS)
            value: Any = self.value[rows]
            if self.available is not None:
                value = np.where(self.available[rows], value, np.nan)
            yield value, self.cost_usd[None] if self.cost_usd.ndim == 1 else self.cost_usd[rows]
