"""The rounds that find the price of all shards, each a look at every shard and a merge of small summaries.

1. a look at the first queries of every shard says about where the price is
2. every shard sums the choices above that span exactly, and lists the steps in it, or spreads them over buckets where they
   are many; the span is narrowed, or moved where the price is not in it, until the steps in it are few
3. the steps are taken in the order of their keys until the budget ends
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from jaxtyping import Int

from solvers.errors import InfeasibleBudget, InfeasibleValue, ProblemError
from solvers.sharded.blocks import Terms
from solvers.sharded.shards import Map, Shard
from solvers.sharded.summaries import Look, Summary, Total, narrowed
from solvers.sharded.walking import EVERYTHING, MOST_TIE, TOP, Span, Steps, ties
from solvers.sums import exact_parts

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


class Rounds:
    """The rounds, from a look at the first queries to the steps near the price."""

    def __init__(self, shards: list[Shard], terms: Terms, limit: float, given: float | None, map: Map):
        self.shards, self.terms, self.limit, self.given, self.map = shards, terms, limit, given, map
        self.queries = sum(len(shard) for shard in shards)
        self.said: list[str] = []
        self.bytes_merged = 0

    def decided(self) -> Decided:
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


@dataclass(frozen=True, eq=False)
class Decided:
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

    def ties_alone(self) -> Decided:
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
    state: Decided


def _ordered(steps: Steps) -> Steps:
    """By their keys; those of one query stay in their order."""
    by_query = np.argsort(steps.query, kind="stable")
    steps = steps[by_query]
    return steps[np.lexsort((ties(steps.query), -steps.multiplier))]


def _placed(found: Summary, limit: float) -> Decided:
    """The steps in order, and how many of them the limit pays for: exact, since every step adds to the cost."""
    assert found.steps is not None
    steps = _ordered(Steps.of(found.steps))
    state = Decided(found.queries, found.value, found.cost, found.taken, found.magnitude.rounded(), limit, steps, 0)
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


def _widened(span: Span, state: Decided, halvings: int) -> Span:
    """The span with more steps on the sides of the price where WINDOW steps are wanting."""
    high, low, first, last = span.high, span.low, span.first, span.last
    reach = math.log(high / low) * 2 if 0 < low < high < math.inf else NARROW
    reach, ties_in = math.exp(reach / 2.0**halvings), span.last - span.first + 1
    if state.count < WINDOW and math.isfinite(high) and high:
        high, first = (high, max(0, first - WIDER * ties_in)) if first else (min(high * reach, TOP), 0)
    if len(state.steps) - state.count < WINDOW and low:
        low, last = (low, min(MOST_TIE, last + WIDER * ties_in)) if last < MOST_TIE else (low / reach, MOST_TIE)
    return Span(high, low, first, last)
