"""Sums of many floats that are exact to the last digit, as `math.fsum` gives them, at the speed of numpy."""

from __future__ import annotations

import math
from itertools import chain

import numpy as np
from jaxtyping import Float


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
            return parts + _exact_parts_of_huge(numbers.tolist())
        leading = (numbers + shift) - shift
        parts.append(float(leading.sum()))
        numbers = numbers - leading
    return parts


def _exact_parts_of_huge(numbers: list[float]) -> list[float]:
    """The same where the power of two would overflow."""
    parts: list[float] = []
    while rest := math.fsum(chain(numbers, (-part for part in parts))):
        parts.append(rest)
    return parts
