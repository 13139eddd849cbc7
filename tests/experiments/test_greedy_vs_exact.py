"""Greedy against exact on a made-up batch: the shares are shares of the optimum, and nothing is lost between orders."""

from __future__ import annotations

import numpy as np

from experiments.greedy_vs_exact import Batch, Config, compare, summary


def test_what_answers_everything_never_exceeds_the_optimum():
    generator = np.random.default_rng(0)
    value = generator.uniform(size=(60, 4))
    cost = np.array([0.1, 0.2, 0.5, 1.0])
    rows = compare(Batch("made up", value, cost, (value > 0.5).astype(float)), Config(orders=3))
    assert {row.reach for row in rows} == {"most expensive", "saturation"}
    for row in rows:
        assert row.lowest <= row.of_optimum <= row.highest
        assert 0 <= row.quality <= 1
        if row.method == "exact":
            assert row.of_optimum == 1 and row.unanswered == 0
        elif "answering all" in row.method:
            assert row.highest <= 1 + 1e-9 and row.unanswered == 0
    # To the letter, with little weight on cost, the early queries take it all.
    assert any(row.unanswered > 0.3 for row in rows if row.method == "greedy, alpha 0.01")
    assert summary(rows)["made_up_exact_least_share"] == 1
