"""Betting: a claim that is false is hardly ever shown, one that is true is, and bounds lie below means."""

from __future__ import annotations

import numpy as np
import pytest

from jaxroute.guarantees.betting import log_wealth, lower_bound, shown

ERROR = 0.1


@pytest.mark.parametrize("draw", [lambda g, n: g.random(n) < 0.3, lambda g, n: g.beta(0.3, 0.7, n)])
def test_a_false_claim_is_shown_no_more_often_than_the_error_allows(draw) -> None:
    """The mean is 0.3, and is claimed to be above 0.3: on the edge of the null, where it is the likeliest to be shown."""
    times = 2000
    values = np.asarray(draw(np.random.default_rng(0), (times, 200)), float)
    share = shown(values, 0.3, ERROR).mean()
    assert share <= ERROR + 3 * np.sqrt(ERROR * (1 - ERROR) / times)
    # And the error is used: a test that shows nothing would pass the line above.
    assert share > 0.02


def test_a_clear_claim_is_shown_and_its_contrary_is_not() -> None:
    values = (np.random.default_rng(1).random(500) < 0.6).astype(float)
    assert shown(values, 0.5, ERROR)
    assert not shown(1 - values, 0.5, ERROR)


def test_less_is_shown_of_a_higher_mean_and_at_a_smaller_error() -> None:
    values = np.random.default_rng(2).random(300)
    wealth = [float(log_wealth(values, mean, ERROR)) for mean in (0.3, 0.4, 0.45, 0.5, 0.55)]
    assert wealth == sorted(wealth, reverse=True)
    bounds = [lower_bound(values, error) for error in (0.2, 0.1, 0.01)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] < values.mean()


def test_what_lies_above_zero_needs_no_rows() -> None:
    assert shown(np.zeros(0), 0.0, ERROR)
    assert not shown(np.zeros(0), 0.1, ERROR)
