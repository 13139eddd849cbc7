"""One price for all shards: the rounds that find it, the last of the budget, and the proof.

The dual bound at the price is the sum of the shards' (Fisher 1981, "The Lagrangian relaxation method for solving integer
programming problems", section 2):

    multiplier * limit + sum over shards of sum_j max_i (value[j, i] - multiplier * cost[j, i])
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int, Integer

from solvers.dual import PROVED
from solvers.errors import InfeasibleProblem, ProblemError, shown
from solvers.inputs import array, no_type_check, number, switch
from solvers.problem import BUDGET_TOLERANCE, NO_LIMIT
from solvers.proof import Proof, negated
from solvers.sharded.blocks import Terms
from solvers.sharded.price import Price
from solvers.sharded.repair import fill, window_of_steps
from solvers.sharded.rounds import Decided, Rounds
from solvers.sharded.shards import Map, Shard
from solvers.sharded.tolls import TollRounds
from solvers.sharded.walking import Steps, ties
from solvers.survey import LARGEST


@dataclass(frozen=True, eq=False)
class ShardedAssignment(Proof):
    """One model per query of many shards, and a proof of how far from the best; what `Assignment` is for one problem.

    Value, cost and bound are exact sums over all shards, rounded once, so that they are the same to the last bit however the
    queries are cut, in any order. `price.assign(shard)` gives the choices of a shard, on any machine, without the others.
    """

    queries: int
    value: float
    """The sum of the chosen values."""
    cost_usd: float
    """The sum of the chosen costs in dollars."""
    bound: float
    """Proved: no assignment has a larger value. With a minimum value: none costs fewer dollars."""
    multiplier: float
    """Lambda, value per further dollar; infinite where a dollar less would cost nothing."""
    status: str
    """`optimal`: proved best within rounding; `feasible`: within the constraints."""
    seconds: float
    price: Price
    """What decides every query's choice."""
    taken: Int[np.ndarray, " choices"]
    """How many queries each model answers, and then, where allowed, how many none."""
    rounds: tuple[str, ...] = ()
    """What was found in every round, in words."""
    bytes_merged: int = 0
    """What summaries held in all rounds together."""
    tolls: Float[np.ndarray, " models"] | None = None
    """With capacities: what one more place in every model would add to the value, or save in dollars, by the bound."""
    objective: str = "value"
    """What `bound` and `gap` are about: `value`, or `cost_usd` where a minimum value was asked for."""
    rounding: float = 0.0
    """A gap that rounding alone explains, in the unit of `bound`."""
    solver: str = "solve_shards"

    @property
    def unanswered(self) -> int:
        """How many queries are left without a model."""
        return int(self.taken[self.price.terms.models :].sum())

    def __str__(self) -> str:
        lost = f", {self.unanswered:,} unanswered" if self.unanswered else ""
        return (
            f"{self.solver}: value {self.value:.6g} for {self.cost_usd:.6g} dollars on {self.queries:,} queries{lost}; "
            f"{self.proof}; {self.seconds:.3g} s in {len(self.rounds)} rounds"
        )


@no_type_check
def solve_shards(
    shards: Iterable[Shard],
    budget_usd: float | None = None,
    *,
    minimum_value: float | None = None,
    capacity: Integer[np.ndarray, " models"] | None = None,
    allow_unanswered: bool = False,
    map: Map = map,
) -> ShardedAssignment:
    """The Lagrangian assignment of all queries in these shards within one budget, with a proved bound.

    Every shard is read a few times, a block at a time, and never held whole: see `Shard`; `ArrayShard` is one of arrays. The
    parameters are those of a `Problem`; a model that may not answer has NaN in the shard. `map` runs a step on every shard: the
    `map` of an executor or an engine, see `Map`.

    `capacity`, the largest number of queries per model `(models,)`, is kept exactly. Tolls are then searched beside the price,
    see `solvers.sharded.tolls`: the bound is proved over all queries, whatever the search has missed.

    The same queries, by their numbers, give the same choices, value, cost and bound, however they are cut. Where steps tie at
    the price, those of the queries with the least `walking.ties(number)` are taken.

    Returns a `ShardedAssignment` within all constraints. Raises `ProblemError` naming the shard, query and model of a cell that
    cannot be used, and `InfeasibleBudget` or `InfeasibleValue` with a limit that is accepted when passed back.
    """
    started = time.perf_counter()
    posed = _posed(shards, budget_usd, minimum_value, switch("allow_unanswered", allow_unanswered))
    if capacity is None:
        return _by_price(Rounds(*posed, map), started)
    return _by_tolls(TollRounds(*posed, _capacity(capacity, posed), map), started)


def _by_price(rounds: Rounds, started: float) -> ShardedAssignment:
    state = rounds.decided()
    (value, cost), changed, taken = _spent(state)
    price = Price(rounds.terms, state.multiplier, state.tie, changed)
    sums = math.fsum(value), math.fsum(cost)
    return _proved(rounds, price, sums, state.bound(), state.multiplier, taken, state.magnitude, started)


def _by_tolls(rounds: TollRounds, started: float) -> ShardedAssignment:
    found = rounds.found()
    price = Price(found.terms, found.multiplier, changed=found.changed)
    sums, bound = (found.value, found.cost), found.bound
    made = _proved(rounds, price, sums, bound.value, bound.multiplier, found.taken, found.magnitude, started)
    return replace(made, tolls=np.array(bound.tolls)[: found.terms.models])


def _proved(
    rounds: Rounds | TollRounds,
    price: Price,
    sums: tuple[float, float],
    bound: float,
    multiplier: float,
    taken: Int[np.ndarray, " choices"],
    magnitude: float,
    started: float,
) -> ShardedAssignment:
    """What was found in the standard form, as its user sees it."""
    value, cost = sums
    minimised = price.terms.minimised
    if minimised:
        multiplier = 1 / multiplier if multiplier else math.inf
    return ShardedAssignment(
        queries=rounds.queries,
        value=negated(cost) if minimised else value,
        cost_usd=negated(value) if minimised else cost,
        bound=negated(max(bound, value)) if minimised else max(bound, value),
        multiplier=multiplier,
        status="optimal" if bound - value <= PROVED * magnitude else "feasible",
        seconds=time.perf_counter() - started,
        price=price,
        taken=taken,
        rounds=tuple(rounds.said),
        bytes_merged=rounds.bytes_merged,
        objective="cost_usd" if minimised else "value",
        rounding=PROVED * magnitude,
    )


_Posed = tuple[list[Shard], Terms, float, float | None]


def _posed(shards: Iterable[Shard], budget_usd: object, minimum_value: object, allow_unanswered: bool) -> _Posed:
    """The shards, what is asked of them, the limit of the standard form, and the number that it was made from."""
    listed = sorted(shards, key=lambda shard: (shard.start, len(shard)))
    held = [shard for shard in listed if len(shard)]
    if not held:
        raise ProblemError(f"shards hold no queries ({len(listed)} shards)")
    for one, other in pairwise(held):
        if one.start + len(one) > other.start:
            raise ProblemError(
                f"{one.name} and {other.name} both hold query {other.start}: is one of them there twice? "
                "Give every shard the number of its first query"
            )
        if one.models != other.models:
            raise ProblemError(f"{one.name} has {one.models} models and {other.name} has {other.models}")
    if budget_usd is not None and minimum_value is not None:
        raise ProblemError(f"budget_usd={shown(budget_usd)} and minimum_value={shown(minimum_value)}: give one of them")
    terms = Terms(held[0].models, minimum_value is not None, allow_unanswered)
    if minimum_value is not None:
        least = number("minimum_value", minimum_value)
        if not abs(least) <= LARGEST:
            raise ProblemError(f"minimum_value={least!r} must be finite")
        return held, terms, BUDGET_TOLERANCE * abs(least) - least, least
    if budget_usd is None:
        return held, terms, NO_LIMIT, None
    budget = number("budget_usd", budget_usd)
    if not math.isfinite(budget) or budget < 0:
        raise ProblemError(f"budget_usd={budget!r} must be finite and >= 0 dollars")
    return held, terms, min(budget * (1 + BUDGET_TOLERANCE), NO_LIMIT), budget


def _capacity(capacity: object, posed: _Posed) -> Int[np.ndarray, " models"]:
    """Checked; places for all queries are there, as far as no model is masked."""
    shards, terms, _, _ = posed
    given, queries = array("capacity", capacity, instead="pass an array without a mask"), sum(map(len, shards))
    if given.shape != (terms.models,) or given.dtype.kind not in "iu" or (given < 0).any():
        raise ProblemError(f"capacity={shown(given.tolist())} must be {terms.models} whole numbers >= 0, one per model")
    places = sum(given.tolist())
    if places < queries and not terms.allow_unanswered:
        raise InfeasibleProblem(
            f"capacity={shown(given.tolist())} has {places:,} places for {queries:,} queries: raise some, or allow unanswered "
            "queries"
        )
    return given


def _spent(state: Decided) -> tuple[tuple[list[float], list[float]], dict[int, int], Int[np.ndarray, " choices"]]:
    """The last of the budget spent among the steps nearest to the price.

    Returns value and cost as numbers whose sums are exact, the choices of the queries that the price alone would give another
    one, and how many queries take each choice.
    """
    first, last = state.window()
    near = state.steps[first:last]
    taken = state.taken + _moved(state.steps[: state.count], len(state.taken))
    if not state.multiplier:
        return state.sums(state.count), {}, taken
    window, choice, query, meaning = window_of_steps(near, state.count - first, state.sums(first), state.limit)
    filled, sums = fill(window, choice, state.multiplier, state.bound())
    by_price = (near.multiplier > state.multiplier) | (
        (near.multiplier == state.multiplier) & (ties(near.query) < np.uint64(state.tie))
    )
    expected = np.bincount(np.searchsorted(query, near.query), by_price, minlength=len(query)).astype(np.int64)
    row = np.arange(len(query))
    changed = np.flatnonzero(filled != expected)
    taken -= np.bincount(meaning[row, choice], minlength=len(taken))
    taken += np.bincount(meaning[row, filled], minlength=len(taken))
    return sums, dict(zip(query[changed].tolist(), meaning[changed, filled[changed]].tolist(), strict=True)), taken


def _moved(steps: Steps, width: int) -> Int[np.ndarray, " choices"]:
    """How many more queries take each choice after these steps."""
    return np.bincount(steps.end, minlength=width) - np.bincount(steps.start, minlength=width)
