"""A multiplier that follows a stream: queries are answered as they come, within one budget for all of them.

The program is that of an assignment, but query j = 1..T has to be answered before the next one is known:

    maximise  sum_j q[j, x_j]     subject to  sum_j c[j, x_j] <= B

At a multiplier lambda the choice is x_j(lambda) = argmax_i q[j, i] - lambda c[j, i]. A sample of past queries says what that
costs on average, F(lambda), which falls in lambda. After every few queries the multiplier is the one at which the sample would
spend what is left evenly over the queries to come ("re-solving", Jasin & Kumar 2012, "A re-solving heuristic with bounded
revenue loss for network revenue management with customer choice"):

    r = (B - paid - expected in flight) / max(n, locked)           n queries to come
    lambda = F^-1(b + k (r - b)),   b = B / T                      k = kappa + (1 - kappa) (1 - n / T)^2

k = 1 corrects a deviation at once. Where the mix of queries drifts, what was saved so far says nothing of what comes, and a
small k holds the even rate b for longer; towards the end it grows, so that the budget is used. `locked` is how many queries
what is held beyond what is expected would pay for at the present rate, m (worst cases in flight / expected in flight - 1) with
m in flight: near the end the rule below lets no more than that be spent (`experiments.pacing` measures all this).

That is a plan, made of expectations. The budget itself is held by a rule on worst cases: a choice is allowed only where

    worst case <= B - paid - worst cases in flight - reserve (queries to come - 1)

`reserve` is kept for every query to come, so that the last ones can be answered too. Sums are exact.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Float

from solvers._frontier import Frontier, frontier
from solvers.errors import ProblemError
from solvers.inputs import at_least, number, whole
from solvers.problem import BUDGET_TOLERANCE, Problem

EVERY = 10
"""Queries between two looks at the sample."""
CORRECTION = 0.1
"""Of the deviation from the even rate, at the beginning of a stream: in random order no worse than 1, under drift better."""


class Pacer:
    """Chooses for one query after the other; `choose`, then `begin`, and `end` once it is known what was paid.

        pacer = Pacer(Problem(value, cost_usd), budget_usd=20.0, queries=10_000)
        choice = pacer.choose(value_of_query, cost_of_query)
        pacer.begin(cost_of_query[choice])
        pacer.end(cost_of_query[choice], paid_usd=0.0123)

    `sample` holds value and cost in dollars of past queries, `(queries, models)`, whose budget plays no part. `queries` is how
    many are to come, as far as it is known. `every` is how many begin between two changes of the multiplier, `correction` the
    kappa above, in (0, 1], and `reserve_usd` what is kept for each query to come. Raises `ProblemError`.
    """

    def __init__(
        self,
        sample: Problem,
        budget_usd: float,
        queries: int,
        *,
        every: int = EVERY,
        correction: float = CORRECTION,
        reserve_usd: float = 0.0,
    ) -> None:
        self.budget_usd = at_least("budget_usd", budget_usd, 0)
        self.every, self.correction = whole("every", every, 1), number("correction", correction)
        if not 0 < self.correction <= 1:
            raise ProblemError(f"correction={self.correction:g} must be > 0 and <= 1")
        self.reserve_usd = at_least("reserve_usd", reserve_usd, 0)
        self._to_come = whole("queries", queries, 1)
        # Exactly: a million payments, rounded one by one, would move the limit.
        self._limit = Fraction(self.budget_usd) * (1 + Fraction(BUDGET_TOLERANCE))
        self._paid, self._held, self._reserve = Fraction(0), Fraction(0), Fraction(self.reserve_usd)
        self._expected, self._since, self._in_flight, self._begun = 0.0, 0, 0, 0
        self.sample(sample)

    @property
    def multiplier(self) -> float:
        """Value per dollar below which money is not spent now; infinite where only the cheapest can be paid."""
        return self._multiplier

    @property
    def paid_usd(self) -> float:
        return float(self._paid)

    @property
    def queries(self) -> int:
        """How many are to come."""
        return self._to_come

    def sample(self, sample: Problem) -> None:
        """Take another sample of past queries, or the same at other prices."""
        self._curve: Frontier = frontier(sample)
        self._look()

    def expect(self, queries: int) -> None:
        """From now on so many queries are to come, where a forecast has changed."""
        self._to_come = whole("queries", queries, 0)
        self._look()

    def account(
        self,
        budget_usd: float,
        *,
        paid_usd: float,
        held_usd: float,
        expected_usd: float,
        in_flight: int,
        begun: int,
        queries: int,
    ) -> None:
        """In place of its own counts, those of an account that others write to as well.

        Dollars paid, and for the queries in flight their worst cases and what they are expected to cost; how many have begun
        and how many are to come. Raises `ProblemError`.
        """
        self.budget_usd = at_least("budget_usd", budget_usd, 0)
        self._limit = Fraction(self.budget_usd) * (1 + Fraction(BUDGET_TOLERANCE))
        self._paid, self._held = Fraction(at_least("paid_usd", paid_usd, 0)), Fraction(at_least("held_usd", held_usd, 0))
        self._expected = at_least("expected_usd", expected_usd, 0)
        self._in_flight, self._begun = whole("in_flight", in_flight, 0), whole("begun", begun, 0)
        self.expect(queries)

    def choose(
        self,
        value: Float[np.ndarray, " models"],
        cost_usd: Float[np.ndarray, " models"],
        worst_case_usd: Float[np.ndarray, " models"] | None = None,
        available: Bool[np.ndarray, " models"] | None = None,
    ) -> int:
        """The model for the next query at the multiplier in force, or -1 where the budget allows none.

        `worst_case_usd` is what an answer can cost at most, in dollars, by default `cost_usd`. Where no model leaves the
        reserve for the queries to come, the one with the smallest worst case is taken out of it.
        """
        worst = cost_usd if worst_case_usd is None else worst_case_usd
        asked = np.ones(len(worst), bool) if available is None else available
        left = self._limit - self._paid - self._held
        allowed = asked & (worst <= float(left - self._reserve * max(self._to_come - 1, 0)))
        if allowed.any():
            if self._multiplier == np.inf:
                return int(np.where(allowed, cost_usd, np.inf).argmin())
            choice = int(np.where(allowed, value - self._multiplier * cost_usd, -np.inf).argmax())
        else:
            choice = int(np.where(asked, worst, np.inf).argmin())
        # The comparison above is rounded, this one is not.
        return choice if asked[choice] and Fraction(float(worst[choice])) <= left else -1

    def begin(self, expected_usd: float, worst_case_usd: float | None = None) -> None:
        """A query is asked; its worst case is held until it ends. Raises `ProblemError` where that is more than is left."""
        worst = Fraction(float(expected_usd if worst_case_usd is None else worst_case_usd))
        if self._paid + self._held + worst > self._limit:
            raise ProblemError(f"worst_case_usd={float(worst):g} is more than is left of budget_usd={self.budget_usd:g}")
        self._held += worst
        self._in_flight += 1
        self._expected += float(expected_usd)
        self._count()

    def end(self, expected_usd: float, worst_case_usd: float | None = None, *, paid_usd: float) -> None:
        """The query that began with these two numbers has ended."""
        self._held -= Fraction(float(expected_usd if worst_case_usd is None else worst_case_usd))
        self._expected -= float(expected_usd)
        self._in_flight -= 1
        self._paid += Fraction(float(paid_usd))

    def skip(self) -> None:
        """The next query stays unanswered."""
        self._count()

    def _count(self) -> None:
        self._to_come, self._begun = max(self._to_come - 1, 0), self._begun + 1
        self._since += 1
        if self._since >= self.every:
            self._look()

    def _look(self) -> None:
        """The multiplier at which the sample would spend at the rate that is aimed at."""
        self._since = 0
        target = self._rate() * len(self._curve.problem)
        cheapest = self._curve.problem.least_cost
        self._multiplier = float(np.inf) if target < cheapest else self._curve.multiplier_at(target)

    def _rate(self) -> float:
        """b + k (r - b), dollars per query."""
        left = float(self._limit - self._paid) - self._expected
        locked = self._in_flight * (float(self._held) / self._expected - 1) if self._expected > 0 else 0.0
        rate = left / max(self._to_come, locked, 1)
        planned = max(self._begun + self._to_come, 1)
        even, done = self.budget_usd / planned, self._begun / planned
        return even + (self.correction + (1 - self.correction) * done**2) * (rate - even)
