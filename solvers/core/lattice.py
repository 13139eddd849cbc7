"""The lattice of all sums: which pairs of cost and gain the swaps of a core can add up to.

Sums of whole pairs (extra, gain) are points of the lattice that the pairs span. Its Hermite normal form (Cohen 1993, "A Course
in Computational Algebraic Number Theory", section 2.4) has the basis (step, shift), (0, period): swaps that cost C * step gain
C * shift and a multiple of the period. At the multiplier they gain at most multiplier * C * step. A gain that belongs to no
such point within the room is impossible, whatever the swaps. Where every answer is worth its cost and a multiple of ten, for
one, the gains for a given cost lie ten apart, and the gap is closed as soon as no gain lies within it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from solvers.core.whole import WholeCore

FIRST = 64
"""Pairs that nearly always span the whole lattice; the others are checked."""
MOST_COSTS = 10_000
"""Costs within the room for which gains are looked up."""
SMALL_PERIOD = 2**31
"""Products of two smaller numbers fit into 64 bits."""


@dataclass(frozen=True)
class Lattice:
    """Sums that cost C * step gain C * shift and a multiple of `period`, or exactly that where it is 0."""

    step: int
    shift: int
    period: int

    def next_gain(self, core: WholeCore, above: float) -> float:
        """The least gain of more than `above` that some swaps might add up to within the room; infinite if there is none."""
        least = math.floor(above) + 1
        if not self.step:
            # Without a choice between costs, the best gain is the base's.
            return least
        slope = core.multiplier * self.step
        most = math.floor(core.room / self.step)
        # Costs that can gain so much at all.
        count = (slope * most + core.rounding - least) / slope if slope else math.inf
        if count < 0:
            return math.inf
        if self.period == 1 or not count < MOST_COSTS:
            return least
        costs = np.array([most - index for index in range(int(count) + 1)], object)
        gains = costs * self.shift
        gains = gains if not self.period else least + (gains - least) % self.period
        possible = (gains >= least) & (gains <= slope * costs + core.rounding)
        return float(min(gains[possible], default=math.inf))


def lattice_of(core: WholeCore) -> Lattice:
    """The lattice that the open choices of a core span."""
    usable = ~np.isneginf(core.gain)
    extra, gain = core.extra[usable].astype(np.int64), core.gain[usable].astype(np.int64)
    basis = Lattice(0, 0, 0)
    rest = slice(0, FIRST)
    while True:
        for pair in set(zip(extra[rest].tolist(), gain[rest].tolist(), strict=True)):
            basis = _spanned(basis, *pair)
        if basis.step == basis.period == 1:
            return basis
        missing = np.flatnonzero(~_contains(basis, extra, gain))[:FIRST]
        if not missing.size:
            return basis
        rest = missing


def _spanned(basis: Lattice, extra: int, gain: int) -> Lattice:
    """The lattice of `basis` and one more pair, by Euclid's algorithm on the costs."""
    step, shift = basis.step, basis.shift
    while extra:
        quotient = step // extra
        step, shift, extra, gain = extra, gain, step - quotient * extra, shift - quotient * gain
    period = math.gcd(basis.period, gain)
    if step < 0:
        step, shift = -step, -shift
    return Lattice(step, shift % period if period else shift, period)


def _contains(basis: Lattice, extra: Int[np.ndarray, " pairs"], gain: Int[np.ndarray, " pairs"]) -> Bool[np.ndarray, " pairs"]:
    """Which of the pairs are points of the lattice."""
    if not 0 < basis.period < SMALL_PERIOD:
        extra, gain = extra.astype(object), gain.astype(object)
    costs, beyond = (extra // basis.step, extra % basis.step) if basis.step else (extra * 0, extra)
    if not basis.period:
        return np.asarray((beyond == 0) & (gain == costs * basis.shift), bool)
    return np.asarray((beyond == 0) & ((gain - costs % basis.period * basis.shift) % basis.period == 0), bool)
