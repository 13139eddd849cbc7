"""Sums of many floats that are exact to the last digit, as `math.fsum` gives them, at the speed of numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from jaxtyping import Float

BATCH = 2**15
"""Numbers that are split together: few calls of numpy, and small enough for the cache."""


@dataclass(eq=False)
class RunningSum:
    """An exact sum of arrays that come one after the other."""

    waiting: list[Float[np.ndarray, " _"]] = field(default_factory=list[np.ndarray])
    count: int = 0
    split: list[float] = field(default_factory=list[float])

    def add(self, numbers: Float[np.ndarray, " count"]) -> None:
        self.waiting.append(numbers)
        self.count += len(numbers)
        if self.count >= BATCH:
            self._settle()

    def parts(self) -> list[float]:
        """A few numbers with exactly the same sum."""
        self._settle()
        self.split = exact_parts(np.array(self.split))
        return self.split

    def total(self) -> float:
        """The exact sum, rounded once."""
        self._settle()
        return math.fsum(self.split)

    def _settle(self) -> None:
        self.split += exact_parts(np.concatenate([*self.waiting, np.zeros(0)]))
        self.waiting, self.count = [], 0


def exact_sum(*numbers: Float[np.ndarray, " _"] | list[float]) -> float:
    """The exact sum of all these numbers, rounded once."""
    return math.fsum(chain.from_iterable(exact_parts(np.asarray(some, np.float64)) for some in numbers))


def exact_parts(numbers: Float[np.ndarray, " count"]) -> list[float]:
    """A few numbers with exactly the same sum.

    Error-free splitting (Rump, Ogita & Oishi 2008, "Accurate floating-point summation part I", section 3): adding and
    subtracting a large power of two leaves the leading bits of every number, few enough for their sum to be exact.
    """
    parts: list[float] = []
    while largest := float(np.abs(numbers).max(initial=0.0)):
        try:
            shift = math.ldexp(1.0, math.frexp(largest)[1] + (len(numbers) + 2).bit_length())
        except OverflowError:
            return parts + fewest_parts(numbers.tolist())
        leading = (numbers + shift) - shift
        parts.append(float(leading.sum()))
        numbers = numbers - leading
    return parts


def fewest_parts(numbers: list[float]) -> list[float]:
    """The exact sum, rounded, and what rounding leaves of it, until nothing is left: whatever numbers have the same sum give
    the same parts."""
    parts: list[float] = []
    while rest := math.fsum(chain(numbers, (-part for part in parts))):
        parts.append(rest)
    return parts
