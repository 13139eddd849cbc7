"""Problems of all kinds against oracles: a few here, thousands in `python -m tests.solvers.fuzz`."""

from __future__ import annotations

import pytest

from tests.solvers import fuzz


@pytest.mark.parametrize("count", [60, pytest.param(2_000, marks=pytest.mark.slow)])
def test_no_problem_has_a_wrong_value_bound_or_refusal(count: int):
    found = fuzz.main(count, seed=7)
    assert sum(number for name, number in found.items() if "unproved" not in name) == count
    assert not any("unproved" in name for name in found)
