"""Proof: how far from the best a result can be, by its bound; alike for one problem and for many shards."""

from __future__ import annotations

import math


class Proof:
    """What follows from a value, a cost and a bound."""

    value: float
    cost_usd: float
    bound: float
    status: str
    objective: str
    rounding: float

    @property
    def gap(self) -> float:
        """The most value that a better assignment could add, or the most dollars that it could save; >= 0."""
        return max(0.0, self.bound - self.value if self.objective == "value" else self.cost_usd - self.bound)

    @property
    def relative_gap(self) -> float:
        """`gap` as a share of the absolute bound; infinite where there is a gap and the bound is 0.

        A gap and a bound within `rounding` count as 0, as in HiGHS: of a best value of 0, what is off by rounding is all of it.
        """
        if not self.gap or max(self.gap, abs(self.bound)) <= self.rounding:
            return 0.0
        return self.gap / abs(self.bound) if self.bound else math.inf

    @property
    def proof(self) -> str:
        """What is proved, in words: `optimal`, or `feasible, at most 0.012% below the best`."""
        off = "below the best" if self.objective == "value" else "above the cheapest"
        return f"{self.status}, at most {100 * self.relative_gap:.2g}% {off}" if self.relative_gap else self.status


def negated(number: float) -> float:
    """-number, and 0 for 0: the standard form maximises minus the dollars, and nobody pays -0 of them."""
    return 0.0 - number
