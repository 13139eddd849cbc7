"""The universe experiment on small pools: sets are judged on queries they were not chosen on, and bounds hold."""

from __future__ import annotations

import numpy as np

from experiments.universe import Config, Pool, choose, simulated_answers


def test_lazy_is_below_exact_and_exact_below_the_bound():
    answered = simulated_answers(400, 8, seed=1)
    rows, figures = choose(Pool("made up", True, answered[:200], answered[200:], 8), Config())
    assert [row.size for row in rows] == list(range(1, 9))
    for row in rows:
        assert row.lazy <= row.exact <= row.bound + 1e-12
        assert row.bound <= row.all_models + 1e-12
    assert all(row.judged <= answered[200:].any(axis=1).mean() for row in rows)
    assert figures["exact_all_proved"] == "True" and figures["lazy_same_as_greedy"] == "True"


def test_a_simulated_pool_has_uneven_models_with_strengths_of_their_own():
    answered = simulated_answers(2_000, 50, seed=0)
    shares = answered.mean(axis=0)
    assert 0.02 < shares.min() < shares.max() < 0.9
    best = answered[:, int(shares.argmax())]
    # Another model answers what the best does not.
    assert answered.any(axis=1).mean() > best.mean() + 0.05
    assert np.array_equal(answered, simulated_answers(2_000, 50, seed=0))


def test_simulated_pools_show_a_few_sizes_and_no_exact():
    answered = simulated_answers(600, 60, seed=2)
    rows, figures = choose(Pool("simulated", False, answered[:300], answered[300:], 20), Config())
    assert [row.size for row in rows] == [1, 2, 3, 5, 10, 20]
    assert all(np.isnan(row.exact) for row in rows)
    assert figures["lazy_evaluations"] < figures["greedy_evaluations"]
