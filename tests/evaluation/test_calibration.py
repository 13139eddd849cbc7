"""Brier, log-loss, calibration error and reliability: by hand and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.calibration
import sklearn.metrics

from jaxroute import TableError
from jaxroute.evaluation import brier, expected_calibration_error, log_loss, reliability


def test_log_loss_is_what_scikit_learn_computes_on_the_observed_cells():
    generator = np.random.default_rng(4)
    quality = (generator.uniform(size=(40, 3)) < 0.6).astype(float)
    estimates = generator.uniform(0.01, 0.99, size=(40, 3))
    quality[generator.uniform(size=quality.shape) < 0.3] = np.nan
    seen = ~np.isnan(quality)
    theirs = sklearn.metrics.log_loss(quality[seen], estimates[seen])
    assert log_loss(quality, estimates) == pytest.approx(theirs, rel=1e-12)


def test_log_loss_of_a_graded_quality_and_of_certainty():
    assert log_loss(np.array([[0.5]]), np.array([[0.5]])) == pytest.approx(math.log(2))
    assert log_loss(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]])) == pytest.approx(1e-7, rel=1e-3)
    assert log_loss(np.array([[0.0]]), np.array([[1.0]])) == pytest.approx(-math.log(1e-7))


def test_the_brier_score_is_what_scikit_learn_computes_and_leaves_unseen_cells_out():
    generator = np.random.default_rng(7)
    quality, estimates = (generator.uniform(size=50) < 0.4).astype(float), generator.uniform(size=50)
    assert brier(quality, estimates) == pytest.approx(sklearn.metrics.brier_score_loss(quality, estimates))
    assert brier(np.array([[0.5, np.nan]]), np.array([[0.7, 0.0]])) == pytest.approx(0.04)


def test_calibration_error_worked_out_in_four_bins():
    """Bins of 0.25: (0.1, 0.2) hold one right of two, off by 0.35; (0.3) is right, 0.7; (0.8, 0.9, 1.0) two of three."""
    estimates = np.array([0.1, 0.2, 0.3, 0.8, 0.9, 1.0])
    quality = np.array([0.0, 1.0, 1.0, 1.0, 0.0, 1.0])
    points = reliability(quality, estimates, bins=4)
    assert points.cells.tolist() == [2, 1, 3]
    assert points.estimate == pytest.approx([0.15, 0.3, 0.9])
    assert points.quality == pytest.approx([0.5, 1.0, 2 / 3])
    by_hand = (2 * 0.35 + 1 * 0.7 + 3 * (0.9 - 2 / 3)) / 6
    assert expected_calibration_error(quality, estimates, bins=4) == pytest.approx(by_hand)


def test_bins_of_equal_mass_hold_equally_many_cells():
    """Of six cells in three bins two each: means 0.15, 0.55, 0.95 against 0.5, 1, 0.5."""
    estimates, quality = np.array([0.1, 0.2, 0.3, 0.8, 0.9, 1.0]), np.array([0.0, 1.0, 1.0, 1.0, 0.0, 1.0])
    points = reliability(quality, estimates, bins=3, equal="mass")
    assert points.cells.tolist() == [2, 2, 2]
    assert points.expected_calibration_error == pytest.approx((0.35 + 0.45 + 0.45) / 3)


@pytest.mark.parametrize(("equal", "theirs"), [("width", "uniform"), ("mass", "quantile")])
def test_the_diagram_is_that_of_scikit_learn(equal: str, theirs: str):
    generator = np.random.default_rng(8)
    estimates = generator.uniform(size=1000)
    quality = (generator.uniform(size=1000) < estimates**2).astype(float)
    height, place = sklearn.calibration.calibration_curve(quality, estimates, n_bins=10, strategy=theirs)
    points = reliability(quality, estimates, bins=10, equal=equal)
    assert points.quality == pytest.approx(height, abs=0.02) and points.estimate == pytest.approx(place, abs=0.005)


def test_estimates_that_mean_what_they_say_have_next_to_no_error_and_bold_ones_much():
    generator = np.random.default_rng(9)
    chance = generator.uniform(size=(4000, 3))
    quality = (generator.uniform(size=chance.shape) < chance).astype(float)
    bold = (chance > 0.5).astype(float)
    for equal in ("width", "mass"):
        assert expected_calibration_error(quality, chance, equal=equal) < 0.02
        assert expected_calibration_error(quality, bold, equal=equal) > 0.2
    assert brier(quality, chance) < brier(quality, bold)


def test_nothing_observed_and_unknown_bins_are_refused():
    with pytest.raises(TableError, match="no cell"):
        brier(np.array([np.nan]), np.array([0.5]))
    with pytest.raises(ValueError, match="equal='size'"):
        reliability(np.ones(2), np.ones(2), equal="size")
    with pytest.raises(ValueError, match="bins=0"):
        reliability(np.ones(2), np.ones(2), bins=0)
