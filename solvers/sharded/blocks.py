"""Blocks: a few queries in the standard form, a row per choice, small enough for a processor's cache.

The choices are the models and then, where it is allowed, no answer. A choice that is not available is worth -inf. With a
minimum value the parts are exchanged, as in `solvers.problem`: minus the dollars as values, minus the values as costs. With
capacities every model has a toll, which is taken off what it is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from jaxtyping import Bool, Float, Int

from solvers.errors import InfeasibleProblem, ProblemError
from solvers.sharded.shards import Shard
from solvers.survey import LARGEST

BLOCK_CELLS = 2**16
"""Choices per block: half a megabyte in float64."""


@dataclass(frozen=True)
class Terms:
    """What is asked of every shard."""

    models: int
    minimised: bool = False
    """Whether dollars are minimised, for a minimum value."""
    allow_unanswered: bool = False
    tolls: tuple[float, ...] | None = None
    """Value per place of every choice; None without capacities."""
    drawn: float = 0.0
    """With tolls: the largest value that is drawn to settle ties, see `weighing`."""
    cheapest: bool = False
    """With tolls: whether least costs alone count, and no values."""

    @property
    def width(self) -> int:
        """Choices per query."""
        return self.models + self.allow_unanswered


@dataclass(frozen=True, eq=False)
class Block:
    """Queries of a shard; arrays of one row per choice, with one column per query, or one for all of them."""

    numbers: Int[np.ndarray, " rows"]
    """Of its queries in the whole problem."""
    value: Float[np.ndarray, "choices rows"]
    cost: Float[np.ndarray, "choices #rows"]
    worth: Float[np.ndarray, "choices rows"]
    """The value less the choice's toll."""
    size: float
    """At least the largest absolute worth and value of an available choice."""
    cost_size: float
    """The largest absolute cost of an available choice."""

    def __len__(self) -> int:
        return self.worth.shape[1]

    def picked(self, choice: Int[np.ndarray, " rows"]) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
        """Value and cost of one choice per query."""
        row = np.arange(len(self))
        cost = self.cost[choice, 0] if self.cost.shape[1] == 1 else self.cost[choice, row]
        return self.value[choice, row], cost

    def only(self, rows: Int[np.ndarray, " some"]) -> Block:
        """Some of its queries, in one piece of memory."""
        value, worth = self.value[:, rows], self.worth
        worth = value if worth is self.value else worth[:, rows]
        cost = np.broadcast_to(self.cost, self.worth.shape)[:, rows]
        return Block(self.numbers[rows], value, cost, worth, self.size, self.cost_size)

    @staticmethod
    def joined(blocks: list[Block]) -> Block:
        """The queries of all of them, which have a cost each."""
        if len(blocks) == 1:
            return blocks[0]
        numbers = np.concatenate([block.numbers for block in blocks])
        value, cost = (np.concatenate([cells(block) for block in blocks], axis=1) for cells in (_VALUE, _COST))
        same = all(block.worth is block.value for block in blocks)
        worth = value if same else np.concatenate([block.worth for block in blocks], axis=1)
        size, cost_size = (max(map(one, blocks)) for one in (_SIZE, _COST_SIZE))
        return Block(numbers, value, cost, worth, size, cost_size)


_VALUE, _COST, _SIZE, _COST_SIZE = map(attrgetter, ("value", "cost", "size", "cost_size"))


class WrongCell(ProblemError):
    """A number that is no value, or no dollars."""

    def __init__(self, shard: str, row: int, query: int, model: int, field: str, number: float, rule: str):
        super().__init__(f"{shard}: {field} of query {query}, model {model}, is {number}: it must be {rule}")
        self.shard, self.row, self.query, self.model, self.field = shard, row, query, model, field
        self.number, self.rule = number, rule

    def __reduce__(self) -> tuple[type[WrongCell], tuple[object, ...]]:
        return type(self), (self.shard, self.row, self.query, self.model, self.field, self.number, self.rule)


def blocks(shard: Shard, terms: Terms, rows: int | None = None) -> Iterator[Block]:
    """The queries of a shard, or its first `rows`, in order. Raises `ProblemError` naming the first cell that is wrong."""
    step, done, wanted = max(1, BLOCK_CELLS // terms.width), 0, len(shard) if rows is None else min(rows, len(shard))
    if not wanted:
        return
    for value, cost in shard.chunks():
        if value.shape[1:] != (terms.models,) or cost.shape not in (value.shape, (1, terms.models)):
            raise ProblemError(
                f"{shard.name} has values of shape {value.shape} and costs of {cost.shape}, expected {terms.models} models"
            )
        for first in range(0, min(len(value), wanted - done), step):
            part = slice(first, min(first + step, wanted - done, len(value)))
            numbers = np.arange(part.start, part.stop) + (shard.start + done)
            yield _standard(shard, terms, numbers, value[part], cost if len(cost) == 1 else cost[part])
        done += len(value)
        if done >= wanted:
            break
    if done < wanted or (rows is None and done != len(shard)):
        raise ProblemError(f"{shard.name} gave {done:,} queries where it says that it holds {len(shard):,}: it was changed")


def drawn_blocks(
    shard: Shard, terms: Terms, is_drawn: Callable[[Int[np.ndarray, " rows"]], Bool[np.ndarray, " rows"]]
) -> Iterator[Block]:
    """The queries of a shard whose numbers are drawn, in order; of the others nothing is looked at."""
    done = 0
    for value, cost in shard.chunks():
        rows = np.flatnonzero(is_drawn(np.arange(shard.start + done, shard.start + done + len(value))))
        if rows.size:
            numbers = rows + (shard.start + done)
            yield _standard(shard, terms, numbers, value[rows], cost if len(cost) == 1 else cost[rows])
        done += len(value)


def _standard(shard: Shard, terms: Terms, numbers: Int[np.ndarray, " rows"], value: np.ndarray, cost: np.ndarray) -> Block:
    """A block of these cells, whose queries have these numbers."""
    given, dollars = _columns(value), _columns(cost)
    lowest, highest, least, most = given.min(), given.max(), dollars.min(), dollars.max()
    masked, closed = not (lowest == lowest and least == least), np.zeros((0, 0), bool)
    if masked:
        closed = np.isnan(given) | np.isnan(dollars)
        given, dollars = np.where(closed, 0.0, given), np.where(closed, 0.0, np.broadcast_to(dollars, closed.shape))
        lowest, highest, least, most = given.min(), given.max(), dollars.min(), dollars.max()
    if not (lowest >= -LARGEST and highest <= LARGEST and least >= 0 and most <= LARGEST):
        raise _wrong(shard, numbers, given, dollars)
    if terms.minimised:
        given, dollars = np.broadcast_to(-dollars, given.shape), -given
    if masked:
        given = np.where(closed, -np.inf, given)
    if terms.allow_unanswered:
        given, dollars = (np.vstack([cells, np.zeros((1, cells.shape[1]))]) for cells in (given, dollars))
    largest = max(abs(lowest), abs(highest))
    size, cost_size = max(largest, most if terms.minimised else 0.0), largest if terms.minimised else most
    worth = given
    if terms.tolls is not None:
        tolls = np.array(terms.tolls)
        worth = np.where(np.isneginf(given), given, -dollars) if terms.cheapest else given
        worth, size = worth - tolls[:, None], size + float(np.abs(tolls).max())
    if masked and not terms.allow_unanswered and closed.all(axis=0).any():
        query = numbers[np.argmax(closed.all(axis=0))]
        raise InfeasibleProblem(
            f"{shard.name}: no model is available for query {query}: make one available, or allow unanswered queries"
        )
    return Block(numbers, given, dollars, worth, float(size), float(cost_size))


def _columns(cells: np.ndarray) -> np.ndarray:
    """Transposed, in float64, with the queries of a choice next to each other."""
    turned = np.asarray(cells.T, np.float64)
    return turned if turned.strides[-1] == turned.itemsize else np.ascontiguousarray(turned)


def _wrong(shard: Shard, numbers: Int[np.ndarray, " rows"], value: np.ndarray, cost: np.ndarray) -> WrongCell:
    """The first cell that cannot be used."""
    for name, cells, least, rule in (("value", value, -LARGEST, "finite"), ("cost_usd", cost, 0.0, "finite and >= 0 dollars")):
        wrong = np.argwhere(~((cells >= least) & (cells <= LARGEST)).T)
        if len(wrong):
            row, model = wrong[0].tolist()
            query = int(numbers[row])
            return WrongCell(shard.name, query - shard.start, query, model, name, float(cells[model, row]), rule)
    raise AssertionError("a block was rejected whose cells are all right")
