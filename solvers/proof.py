"""Proof: how far from the best a result can be, by its bound; alike for one problem and for many shards."""

from __future__ import annotations

import math


class Proof:
    """What follows from a value, a cost and a bound."""

    value: float
    cost_usd: float
    bound: float
    objective: str

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
