"""Every example runs as it is, and what it returns holds what it promises."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def _main(name: str):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name=name)["main"]


@pytest.mark.slow
def test_own_outcomes_become_a_batch_within_the_budget(tmp_path):
    found = _main("own_outcomes")(tmp_path)
    assert found["expected_cost_usd"] <= found["budget_usd"]
    assert found["true_cost_usd"] == pytest.approx(found["expected_cost_usd"], rel=0.3)


def test_solvers_agree_within_their_proofs_and_the_named_budget_is_accepted():
    found = _main("solvers_alone")()
    assert found["greedy_ratio"].value <= found["lagrangian"].value <= found["exact"].value <= found["lagrangian"].bound
    assert np.sum(found["capacity"].choice == 2) <= 100
    assert found["least budget"].status == "optimal"


def test_a_router_of_ones_own_is_one_file():
    quality = _main("own_router")()
    assert quality.shape[1] == 10 and np.all((quality >= 0) & (quality <= 1))
    assert len(np.unique(quality[:, 0])) > 1


@pytest.mark.slow
def test_a_scored_stream_is_assigned_within_five_times_the_least_cost(tmp_path):
    assignment = _main("stream")(tmp_path)
    assert len(assignment.choice) == 120 and (assignment.choice >= 0).all()
    assert len(set(assignment.choice.tolist())) > 1


def test_every_example_is_tested():
    tested = Path(__file__).read_text(encoding="utf-8")
    assert all(f'_main("{path.stem}")' in tested for path in EXAMPLES.glob("*.py"))
