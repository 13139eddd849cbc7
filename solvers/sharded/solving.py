"""One price for all shards, in a few rounds of small summaries.

    1. a look at the first queries of every shard says about where the price is
    2. every shard sums the choices above that span exactly, and lists the steps in it, or spreads them over buckets where they
       are many; the span is narrowed, or moved where the price is not in it, until the steps in it are few
    3. in one place, the steps are taken in the order of their keys until the budget ends, and the last of it is spent on the
       nearest ones

The dual bound at the price is the sum of the shards' (Fisher 1981, "The Lagrangian relaxation method for solving integer
programming problems", section 2):

    multiplier * limit + sum over shards of sum_j max_i (value[j, i] - multiplier * cost[j, i])
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
from jaxtyping import Int

from solvers.dual import PROVED
from solvers.errors import InfeasibleBudget, InfeasibleValue, ProblemError, shown
from solvers.inputs import no_type_check, number, switch
from solvers.problem import BUDGET_TOLERANCE, NO_LIMIT
from solvers.sharded.blocks import Terms
from solvers.sharded.price import Price
from solvers.sharded.repair import fill, window_of_steps
from solvers.sharded.shards import Map, Shard
from solvers.sharded.summaries import Look, Summary, Total, narrowed
from solvers.sharded.walking import EVERYTHING, MOST_TIE, TOP, Span, Steps, ties
from solvers.sums import exact_parts
from solvers.survey import LARGEST

FEW = 2**14
"""Queries of which all steps are listed in the first round."""
SAMPLE = 2**17
"""Queries of the first look at a large problem."""
MOST_STEPS = 2**22
"""Steps that are brought to one place: 300 MB."""
WINDOW = 2**12
"""Steps on either side of the price among which the last of the budget is spent."""
DEVIATIONS = 5.0
"""How far the ends of the first span are from the sample's price, in standard deviations of its cost."""
MOST_ROUNDS = 60
BESIDE = 1.5
"""How long the span is that follows one in which the price is not."""
NARROW = 1e-4
WIDER = 8
ROUNDING = 16 * sys.float_info.epsilon


@dataclass(frozen=True, eq=False)
class ShardedAssignment:
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
    objective: str = "value"
    """What `bound` and `gap` are about: `value`, or `cost_usd` where a minimum value was asked for."""
    solver: str = "solve_shards"

    @property
    def gap(self) -> float:
        """The most value that a better assignment could add, or the most dollars that it could save; >= 0."""
        return max(0.0, self.bound - self.value if self.objective == "value" else self.cost_usd - self.bound)

    @property
    def relative_gap(self) -> float:
        """`gap` as a share of the absolute bound; infinite where there is a gap and the bound is 0."""
        if not self.gap:
            return 0.0
        return self.gap / abs(self.bound) if self.bound else math.inf

    @property
    def unanswered(self) -> int:
        """How many queries are left without a model."""
        return int(self.taken[self.price.terms.models :].sum())

    def __str__(self) -> str:
        lost = f", {self.unanswered:,} unanswered" if self.unanswered else ""
        off = "below the best" if self.objective == "value" else "above the cheapest"
        return (
            f"{self.solver}: value {self.value:.6g} for {self.cost_usd:.6g} dollars on {self.queries:,} queries{lost}; "
            f"{self.status}, at most {self.relative_gap:.2g} {off}; {self.seconds:.3g} s in {len(self.rounds)} rounds"
        )


@no_type_check
def solve_shards(
    shards: Iterable[Shard],
    budget_usd: float | None = None,
    *,
    minimum_value: float | None = None,
    allow_unanswered: bool = False,
    map: Map = map,
) -> ShardedAssignment:
    """The Lagrangian assignment of all queries in these shards within one budget, with a proved bound.

    Every shard is read a few times, a block at a time, and never held whole: see `Shard`; `ArrayShard` is one of arrays. The
    parameters are those of a `Problem`; a model that may not answer has NaN in the shard. `map` runs a step on every shard: the
    `map` of an executor or an engine, see `Map`.

    The same queries, by their numbers, give the same choices, value, cost and bound, however they are cut. Where steps tie at
    the price, those of the queries with the least `walking.ties(number)` are taken.

    Returns a `ShardedAssignment` within all constraints. Raises `ProblemError` naming the shard, query and model of a cell that
    cannot be used, and `InfeasibleBudget` or `InfeasibleValue` with a limit that is accepted when passed back.
    """
    started = time.perf_counter()
    found = _Rounds(*_posed(shards, budget_usd, minimum_value, switch("allow_unanswered", allow_unanswered)), map)
    state, terms = found.decided(), found.terms
    (value, cost), changed, taken = _spent(state)
    bound = state.bound()
    total, spent = math.fsum(value), math.fsum(cost)
    closed = bound - total <= PROVED * state.magnitude
    minimised = terms.minimised
    multiplier = state.multiplier
    if minimised:
        multiplier = 1 / multiplier if multiplier else math.inf
    return ShardedAssignment(
        queries=state.queries,
        value=-spent if minimised else total,
        cost_usd=-total if minimised else spent,
        bound=-max(bound, total) if minimised else max(bound, total),
        multiplier=multiplier,
        status="optimal" if closed else "feasible",
        seconds=time.perf_counter() - started,
        price=Price(terms, state.multiplier, state.tie, changed),
        taken=taken,
        rounds=tuple(found.said),
        bytes_merged=found.bytes_merged,
        objective="cost_usd" if minimised else "value",
    )


@dataclass(frozen=True, eq=False)
class _Decided:
    """The steps near the price, in the order of their keys, of which the first `count` are taken."""

    queries: int
    value: Total
    """Of all choices without any of the steps, as `cost` and `taken`."""
    cost: Total
    taken: Int[np.ndarray, " choices"]
    magnitude: float
    limit: float
    steps: Steps
    count: int
    alone: bool = False
    """Whether only steps that tie at the price are known whole."""

    @property
    def multiplier(self) -> float:
        """That of the first step that is not taken; 0 where all are."""
        return float(self.steps.multiplier[self.count]) if self.count < len(self.steps) else 0.0

    @property
    def tie(self) -> int:
        return int(ties(self.steps.query[self.count : self.count + 1])[0]) if self.count < len(self.steps) else 0

    def has_window(self, span: Span) -> bool:
        """Whether WINDOW steps are on both sides of the price, or all that there are."""
        before = self.count >= WINDOW or not math.isfinite(span.high) or not span.high
        return before and (len(self.steps) - self.count >= WINDOW or not span.low)

    def ties_alone(self) -> _Decided:
        """The same with the last of the budget spent on steps that tie at the price only, whatever else was looked at."""
        return replace(self, alone=True)

    def window(self) -> tuple[int, int]:
        """The steps among which the last of the budget is spent: from one place to another."""
        first, last = max(0, self.count - WINDOW), min(len(self.steps), self.count + WINDOW)
        if self.alone:
            tied = np.flatnonzero(self.steps.multiplier == self.multiplier)
            first, last = max(first, int(tied[0])), min(last, int(tied[-1]) + 1)
        return first, last

    def sums(self, count: int) -> tuple[list[float], list[float]]:
        """Value and cost with the first `count` steps, as numbers whose sum is exact."""
        taken = self.steps[:count]
        value, cost = (
            exact_parts(np.concatenate([known.parts, cells[1], -cells[0]]))
            for known, cells in ((self.value, taken.value), (self.cost, taken.cost))
        )
        return value, cost

    def bound(self) -> float:
        """The dual bound at the multiplier, rounded outward.

        The choices at the multiplier are the best ones there, but for the rounding of their steps' multipliers, which is
        relative to what they are worth.
        """
        value, cost = self.sums(self.count)
        if not self.multiplier:
            return math.fsum(value)
        if self.multiplier >= TOP:
            return self.magnitude
        left = Fraction(self.limit) - sum(map(Fraction, cost))
        bound = float(sum(map(Fraction, value)) + Fraction(self.multiplier) * left)
        return math.nextafter(bound + ROUNDING * self.magnitude, math.inf)


@dataclass(frozen=True, eq=False)
class _Kept:
    """What a round found that has the price and fewer steps beside it than are wanted."""

    span: Span
    state: _Decided


class _Rounds:
    """The rounds, from a look at the first queries to the steps near the price."""

    def __init__(self, shards: list[Shard], terms: Terms, limit: float, given: float | None, map: Map):
        self.shards, self.terms, self.limit, self.given, self.map = shards, terms, limit, given, map
        self.queries = sum(len(shard) for shard in shards)
        self.said: list[str] = []
        self.bytes_merged = 0

    def decided(self) -> _Decided:
        """The steps on both sides of the price: WINDOW of them, or all that there are."""
        span = EVERYTHING if self.queries <= FEW else self._guess()
        kept: _Kept | None = None
        misses = halvings = 0
        while len(self.said) < MOST_ROUNDS:
            found = self._look(span)
            if found.cost.rounded() > self.limit:
                self._check_reachable(span, found)
                span, misses = _above(span, misses), misses + 1
            elif found.steps is None and kept is not None:
                # More steps than can be brought to one place are beside the price: what is widened is widened less.
                halvings += 1
                span = _widened(kept.span, kept.state, halvings)
                if span == kept.span:
                    return kept.state.ties_alone()
            elif found.steps is None:
                reached = _bucket(span, found, self.limit)
                misses += reached is None
                span = reached or _below(span, misses - 1)
            else:
                state = _placed(found, self.limit)
                if state.count == len(state.steps) and span.low > 0:
                    span, misses = _below(span, misses), misses + 1
                elif state.has_window(span):
                    return state
                else:
                    kept = _Kept(span, state)
                    span = _widened(span, state, halvings)
                    if span == kept.span:
                        return state.ties_alone()
        raise AssertionError(f"the price was not found in {MOST_ROUNDS} rounds: {self.said[-1]}")

    def _guess(self) -> Span:
        """Where a look at the first queries of every shard says that the price is."""
        part = min(1.0, SAMPLE / self.queries)
        found = self._look(EVERYTHING, part, sys.maxsize)
        assert found.steps is not None
        steps = _ordered(Steps.of(found.steps))
        share = found.queries / self.queries
        extra = steps.cost[1] - steps.cost[0]
        running = np.cumsum(extra)
        target = self.limit * share - found.cost.rounded()
        middle = int(np.searchsorted(running, target))
        # The standard deviation of the sample's cost at the price.
        _, row = np.unique(steps.query[:middle], return_inverse=True)
        deviation = math.sqrt(float((np.bincount(row, extra[:middle]) ** 2).sum())) if middle else 0.0
        width = math.ceil(2 * WINDOW * share) + 16
        first = min(int(np.searchsorted(running, target - DEVIATIONS * deviation)), middle - width)
        last = max(int(np.searchsorted(running, target + DEVIATIONS * deviation)), middle + width)
        high = float(steps.multiplier[first]) if 0 <= first < len(steps) else math.inf
        low = float(steps.multiplier[last]) if last < len(steps) else 0.0
        return Span(max(high, low), low)

    def _look(self, span: Span, part: float = 1.0, most: int | None = None) -> Summary:
        """One round: all shards, or the first `part` of them, looked at and merged."""
        most = MOST_STEPS if most is None else most
        look = Look(self.terms, span, most, part)
        found = Summary.empty(self.terms)
        for one in self.map(look, self.shards):
            self.bytes_merged += one.nbytes
            found = found.merged(one, span).limited(most, span)
        if part >= 1 and found.queries != self.queries:
            raise ProblemError(f"{found.queries:,} of {self.queries:,} queries were looked at: a shard was lost, or read twice")
        listed = "too many steps to list" if found.steps is None else f"{sum(map(len, found.steps)):,} steps"
        self.said.append(f"{found.queries:,} queries between {span.low:.6g} and {span.high:.6g}: {listed}")
        return found

    def _check_reachable(self, span: Span, found: Summary) -> None:
        """Raise where even the cheapest choices break the limit."""
        if math.isfinite(span.high):
            return
        assert self.given is not None
        least = found.cost.rounded()
        if self.terms.minimised:
            raise InfeasibleValue(self.given, -least)
        raise InfeasibleBudget(self.given, least)


def _posed(
    shards: Iterable[Shard], budget_usd: object, minimum_value: object, allow_unanswered: bool
) -> tuple[list[Shard], Terms, float, float | None]:
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


def _ordered(steps: Steps) -> Steps:
    """By their keys; those of one query stay in their order."""
    by_query = np.argsort(steps.query, kind="stable")
    steps = steps[by_query]
    return steps[np.lexsort((ties(steps.query), -steps.multiplier))]


def _placed(found: Summary, limit: float) -> _Decided:
    """The steps in order, and how many of them the limit pays for: exact, since every step adds to the cost."""
    assert found.steps is not None
    steps = _ordered(Steps.of(found.steps))
    state = _Decided(found.queries, found.value, found.cost, found.taken, found.magnitude.rounded(), limit, steps, 0)
    running = np.cumsum(steps.cost[1] - steps.cost[0])
    count = int(np.searchsorted(running, limit - found.cost.rounded(), side="right"))
    # Running sums are rounded.
    while count and math.fsum(state.sums(count)[1]) > limit:
        count -= 1
    while count < len(steps) and math.fsum(state.sums(count + 1)[1]) <= limit:
        count += 1
    return replace(state, count=count)


def _bucket(span: Span, found: Summary, limit: float) -> Span | None:
    """The bucket in which the limit is reached, from its first step to its last; None if it is not reached in the span."""
    assert found.histogram is not None
    reached = found.cost.rounded() + np.cumsum(found.histogram.cost) > limit
    if not reached.any():
        # At no price there are no steps: every query has its best choice.
        return None if span.low > 0 else Span(0.0, 0.0)
    bucket = int(np.argmax(reached))
    return narrowed(span, int(found.histogram.nearest[bucket]), int(found.histogram.furthest[bucket]))


def _above(span: Span, misses: int) -> Span:
    """Steps before the span: some, and after a miss all."""
    high = math.inf if misses or span.high >= TOP / BESIDE else span.high * BESIDE
    return Span(high, span.high, 0, span.first)


def _below(span: Span, misses: int) -> Span:
    """Steps after the span: some, and after a miss all."""
    return Span(span.low, 0.0 if misses else span.low / BESIDE, span.last, MOST_TIE)


def _widened(span: Span, state: _Decided, halvings: int) -> Span:
    """The span with more steps on the sides of the price where WINDOW steps are wanting."""
    high, low, first, last = span.high, span.low, span.first, span.last
    reach = math.log(high / low) * 2 if 0 < low < high < math.inf else NARROW
    reach, ties_in = math.exp(reach / 2.0**halvings), span.last - span.first + 1
    if state.count < WINDOW and math.isfinite(high) and high:
        high, first = (high, max(0, first - WIDER * ties_in)) if first else (min(high * reach, TOP), 0)
    if len(state.steps) - state.count < WINDOW and low:
        low, last = (low, min(MOST_TIE, last + WIDER * ties_in)) if last < MOST_TIE else (low / reach, MOST_TIE)
    return Span(high, low, first, last)


def _spent(state: _Decided) -> tuple[tuple[list[float], list[float]], dict[int, int], Int[np.ndarray, " choices"]]:
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
