"""The benchmark of the solvers runs from end to end, and its instances are what their names say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import solvers
from benchmarks.goals import GOALS, Goal
from benchmarks.instances import graded

CONTRACT = [
    "exact_1e5x11_one_cost_cpu_seconds",
    "exact_1e6x56_one_cost_cpu_seconds",
    "exact_1e6x2_status",
    "exact_1e6x2_seconds",
    "strongly_correlated_unproved",
    "capacity_2000x20_status",
    "lagrangian_1e6x56_over_read",
    "greedy_call_vs_python_ratio",
    "universe_5000x100000_seconds",
]


@pytest.mark.slow
def test_a_small_run_writes_every_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("APRICOT_PYTHON", raising=False)
    solvers.main(solvers.Config(output=tmp_path, small=True, runs=1, exact_seconds=1.0))
    found = json.loads((tmp_path / "result.json").read_text())
    assert set(CONTRACT) <= set(found)
    assert {goal.figure for goal in GOALS} <= set(found)
    assert found["problem_readings"] == 1 and found["greedy_same_as_python"] == "True"


def test_readings_and_the_loop_are_measured_as_calls(tmp_path: Path):
    found = solvers.main(solvers.Config(output=tmp_path, small=True, runs=1, only=["readings", "against_a_loop"]))
    assert found["problem_readings"] == 1 and found["greedy_same_as_python"] == "True"
    assert json.loads((tmp_path / "result.json").read_text()) == found


def test_a_goal_is_reached_from_its_side():
    assert Goal("", "", 0.5).reached(0.4) and not Goal("", "", 0.5).reached(0.6)
    assert Goal("", "", 10.0, at_least=True).reached(11.0) and not Goal("", "", 10.0, at_least=True).reached(9.0)
    assert Goal("", "", "optimal").reached("optimal") and not Goal("", "", "optimal").reached("feasible")
    assert not Goal("", "", 1.0, at_least=True).reached("not compared")


def test_grades_are_grades():
    quality = graded(50, 6)
    assert quality.shape == (50, 6) and 0 <= quality.min() < 0.2 and 0.8 < quality.max() <= 1
