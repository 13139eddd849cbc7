"""Exact tests: as scipy has them, never above their error, and rising with the evidence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from jaxroute.guarantees.exact_tests import paired_p_value, paired_shown, share_lower_bound, share_p_value, share_upper_bound

ERROR = 0.1


@pytest.mark.parametrize(("right", "rows"), [(0, 5), (3, 5), (5, 5), (120, 200), (1999, 2000)])
def test_shares_are_as_scipy_has_them(right: int, rows: int) -> None:
    for share in (0.2, 0.6, 0.97):
        assert share_p_value(right, rows, share) == pytest.approx(binomtest(right, rows, share, "greater").pvalue, abs=1e-12)
    above = binomtest(right, rows, alternative="greater").proportion_ci(1 - ERROR, "exact")
    below = binomtest(right, rows, alternative="less").proportion_ci(1 - ERROR, "exact")
    assert share_lower_bound(right, rows, ERROR) == pytest.approx(above.low, abs=1e-9)
    assert share_upper_bound(right, rows, ERROR) == pytest.approx(below.high, abs=1e-9)


@pytest.mark.parametrize(
    ("rows", "differing", "within"), [(40, 0.3, 0.06), pytest.param(150, 0.1, 0.02, marks=pytest.mark.slow)]
)
def test_the_paired_test_keeps_its_error_whatever_share_differs(rows: int, differing: float, within: float) -> None:
    """Every outcome of the null's edge, weighed: no draw, no chance."""
    share = (differing - within) / 2 / differing
    steps = np.log(np.maximum(np.arange(rows + 1), 1)).cumsum()
    level = 0.0
    for total in range(rows + 1):
        ways = steps[rows] - steps[total] - steps[rows - total]
        weight = np.exp(ways + total * np.log(differing) + (rows - total) * np.log(1 - differing))
        if weight < 1e-4:
            continue
        for one in range(total, -1, -1):
            if not paired_shown(one, total - one, rows, within, ERROR):
                break
            inner = steps[total] - steps[one] - steps[total - one]
            level += weight * np.exp(inner + one * np.log(share) + (total - one) * np.log(1 - share))
    assert level <= ERROR
    assert level > 0.03


def test_the_same_answer_whatever_was_asked_before() -> None:
    for better in (30, 45, 38, 41, 36):
        expected = paired_p_value(better, 80 - better, 700, 0.02, ERROR) <= ERROR
        assert paired_shown(better, 80 - better, 700, 0.02, ERROR) == expected


def test_p_values_fall_with_evidence_and_with_what_is_allowed() -> None:
    by_rows = [paired_p_value(20, 80 - 20 + step, 800, 0.05, ERROR) for step in (0, 10, 20)]
    assert by_rows == sorted(by_rows)
    by_within = [paired_p_value(40, 45, 800, within, ERROR) for within in (0.01, 0.02, 0.04)]
    assert by_within == sorted(by_within, reverse=True)
    # Two answers that never differ say the more the more there are.
    assert paired_p_value(0, 0, 60, 0.02, ERROR) > ERROR > paired_p_value(0, 0, 200, 0.02, ERROR)
