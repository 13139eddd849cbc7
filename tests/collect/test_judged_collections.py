"""A collection that a judge grades: its replies are paid from the same budget, stored, and never paid twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxroute import RoutingTable
from tests.collect.simulated import place

MODELS = ("sim-nano", "sim-small", "sim-frontier")


def quality(folder: Path, name: str = "outcomes.db") -> np.ndarray:
    return RoutingTable.load(folder / name).quality


def test_levels_follow_what_is_right_and_are_paid_once(tmp_path: Path) -> None:
    with place(tmp_path, 12, faults=("server_error=0.1",)) as there:
        first = there.collect(*MODELS, grader="judge:model=sim-large:levels=5")
        levels, asked = quality(tmp_path), there.requests
        assert 0 < first.judged_usd < first.spent_usd and set(np.unique(levels)) <= {0.0, 0.25, 0.5, 0.75, 1.0}
        there.collect(*MODELS, grader="judge:model=sim-large:levels=5")
        assert there.requests == asked
        right = np.array(
            [[there.simulation.pool.outcome(name, text).right for name in MODELS] for text in there.prompts], dtype=bool
        )
        assert levels[right].mean() > levels[~right].mean() + 0.4
        # Another scale asks the judge again, and the models not.
        answers = {name: there.simulation.counts.requests[name] for name in MODELS}
        there.collect(*MODELS, grader="judge:model=sim-large:levels=2")
        assert {name: there.simulation.counts.requests[name] for name in MODELS} == answers and there.requests > asked


def test_pairs_are_asked_in_both_orders_and_the_bias_is_reported(tmp_path: Path) -> None:
    with place(tmp_path, 12) as there:
        summary = there.collect(*MODELS, grader="judge:model=sim-medium:mode=pairs:baseline=sim-small")
        graded = quality(tmp_path)
        assert (graded[:, 1] == 0.5).all() and set(np.unique(graded)) <= {0.0, 0.5, 1.0}
        assert there.simulation.counts.requests["sim-medium"] % 2 == 0
        assert any("of 24 pairs: the first shown won" in note for note in summary.notes)


def test_without_a_verdict_a_grade_is_missing_and_costs_only_once(tmp_path: Path) -> None:
    with place(tmp_path, 5) as there:
        # Three tokens hold no verdict.
        grader = "judge:model=sim-small:output_tokens=3"
        summary = there.collect("sim-large", grader=grader, changes={"accepts": ()})
        assert "5 of 5 grades are missing" in summary.notes and there.simulation.counts.requests["sim-small"] == 10
        asked = there.requests
        there.collect("sim-large", grader=grader, changes={"accepts": ()})
        assert there.requests == asked
