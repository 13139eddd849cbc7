"""The lattice of all sums: it contains every sum, and excludes what it can."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.knapsacks import knapsack
from solvers import Problem
from solvers.core.lattice import Lattice, lattice_of
from solvers.core.whole import WholeCore, whole_core
from solvers.dual import search

CAREFUL = settings(deadline=None, derandomize=True, max_examples=150)


def core_with(gain: np.ndarray, extra: np.ndarray, room: float, multiplier: float) -> WholeCore:
    base = np.zeros(len(gain), int)
    return WholeCore(base, gain, extra, room, multiplier, rounding=1e-9, base_value=0.0, unit=1.0, value_rounding=0.0)


@st.composite
def cores(draw: st.DrawFn) -> WholeCore:
    """Small cores whose first choice is the base, the best at their multiplier."""
    queries, models = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    step, period, multiplier = draw(st.integers(1, 4)), draw(st.integers(1, 12)), draw(st.sampled_from([0.5, 1.0, 1.7]))
    extra = np.array(draw(st.lists(st.integers(-6, 6), min_size=queries * models, max_size=queries * models)))
    extra = step * extra.reshape(queries, models)
    loss = np.array(draw(st.lists(st.integers(0, 3), min_size=queries * models, max_size=queries * models)))
    gain = np.floor(multiplier * extra) // period * period - period * loss.reshape(queries, models)
    extra[:, 0], gain[:, 0] = 0, 0
    return core_with(gain.astype(float), extra.astype(float), float(draw(st.integers(-10, 20))), multiplier)


@CAREFUL
@given(cores(), st.integers(-30, 30))
def test_no_gain_that_swaps_add_up_to_is_excluded(core: WholeCore, above: int):
    lattice = lattice_of(core)
    excluded = lattice.next_gain(core, above)
    assert excluded > above
    for columns in itertools.product(range(core.gain.shape[1]), repeat=len(core.gain)):
        rows = np.arange(len(core.gain))
        cost, gain = core.extra[rows, columns].sum(), core.gain[rows, columns].sum()
        if cost <= core.room and gain > above:
            assert gain >= excluded


def test_values_of_cost_and_tens_lie_ten_apart():
    problem = Problem(*knapsack("strongly_correlated", 50, 5, 1_000))
    core = whole_core(problem, search(problem, problem.cheapest), problem.cheapest)
    assert lattice_of(core) == Lattice(step=1, shift=1, period=10)
    assert Lattice(1, 1, 10).next_gain(core_with(core.gain, core.extra, 100.0, 1.05), 93) == 94
    # Cost 100 gains 90 or 100, 99 gains 99, and at 1.01 nothing beyond 101.
    assert Lattice(1, 1, 10).next_gain(core_with(core.gain, core.extra, 100.0, 1.01), 100) == math.inf


def test_pairs_beyond_the_first_ones_count():
    """All but the last of 500 pairs lie on a line."""
    extra = np.arange(1000.0).reshape(500, 2)
    gain = 3 * extra
    core = SimpleNamespace(extra=extra, gain=gain)
    assert lattice_of(core) == Lattice(1, 3, 0)
    gain[-1, -1] += 7
    assert lattice_of(core) == Lattice(1, 3, 7)


def test_numbers_near_the_largest_are_no_overflow():
    extra, gain = np.array([[0.0, 2.0**49], [0.0, 2.0**49]]), np.array([[0.0, 2.0**50], [0.0, 2.0**50 - 2**45]])
    assert lattice_of(SimpleNamespace(extra=extra, gain=gain)) == Lattice(2**49, 0, 2**45)
