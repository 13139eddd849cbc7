"""RouteLLM's measures of a pair: worked out by hand, by its own rules, and on its published data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxroute import TableError, load_source
from jaxroute.evaluation import (
    apgr,
    apgr_measure,
    bootstrap_weights,
    calibrated_threshold,
    call_curve,
    cpt,
    cpt_measure,
    paired_interval,
)

CAREFUL = settings(deadline=None, derandomize=True, max_examples=60)


def by_deciles(weak: np.ndarray, strong: np.ndarray, score: np.ndarray) -> float:
    """RouteLLM's rule with pandas' deciles: at or above each one, and strictly above the last."""
    thresholds = pd.qcut(score, 10, retbins=True)[1]
    called = [score >= threshold for threshold in thresholds[:-1]] + [score > thresholds[-1]]
    share = np.array([calls.mean() for calls in called])[::-1]
    quality = np.array([np.where(calls, strong, weak).mean() for calls in called])[::-1]
    low, high = weak.mean() * (share[-1] - share[0]), strong.mean() * (share[-1] - share[0])
    return float((np.trapezoid(quality, share) - low) / (high - low))


def test_a_score_that_says_nothing_recovers_half_of_the_gap():
    """A strong model that is better by the same amount everywhere gains in proportion to its share of calls."""
    weak, strong = np.full(50, 0.25), np.full(50, 0.75)
    assert apgr(weak, strong, np.random.default_rng(5).uniform(size=50)) == pytest.approx(0.5)
    assert apgr(weak, strong, np.zeros(50)) == pytest.approx(0.5)


def test_a_perfect_score_recovers_more_than_half_and_a_perverse_one_less():
    """The strong model is right on the upper five of ten: all of the gap at half of the calls, so 1/4 + 1/2."""
    score = np.arange(10.0)
    strong = (score >= 5).astype(float)
    assert apgr(np.zeros(10), strong, score) == pytest.approx(0.75)
    assert apgr(np.zeros(10), strong, -score) == pytest.approx(0.25)


@pytest.mark.parametrize("seed", range(3))
def test_the_gap_recovered_follows_the_rule_of_routellm(seed: int):
    """With distinct scores, a hundred or so to a decile, and with ties at the top."""
    generator = np.random.default_rng(seed)
    weak, strong = (generator.uniform(size=(2, 1000)) < [[0.5], [0.8]]).astype(float)
    for score in (generator.uniform(size=1000), np.minimum(generator.integers(0, 400, 1000), 390).astype(float)):
        assert apgr(weak, strong, score) == pytest.approx(by_deciles(weak, strong, score), abs=1e-12)


@pytest.mark.parametrize(("source", "folder", "queries", "figure"), [
    ("routellm-mmlu", "mmlu", 14_037, 0.583),
    ("routellm-gsm8k", "gsm8k", 1_307, 0.598),
])  # fmt: skip
def test_the_length_of_a_prompt_recovers_this_much(data: Path, source: str, folder: str, queries: int, figure: float):
    """To within one in the third decimal, which is what the order of prompts of equal length makes of it."""
    table = load_source(source, data / "routellm" / folder, decontaminate=True)
    weak, strong = table.quality.T
    length = np.array([len(prompt) for prompt in table.prompts], float)
    assert len(table) == queries
    assert weak.mean() < strong.mean()
    assert apgr(weak, strong, length) == pytest.approx(figure, abs=1e-3)


def test_quality_by_the_share_of_strong_calls_worked_out():
    """Scores 3, 2, 2, 1: none, the first, the first three, all; the strong model gains on 1 and 4 and loses on 2."""
    weak, strong = np.array([0.0, 1.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.0, 1.0])
    curve = call_curve(weak, strong, np.array([3.0, 2.0, 2.0, 1.0]), thresholds=None)
    assert curve.share.tolist() == [0.0, 0.25, 0.75, 1.0]
    assert curve.quality.tolist() == [0.25, 0.5, 0.25, 0.5]
    assert curve.recovered.tolist() == [0.0, 1.0, 0.0, 1.0]


def test_the_first_crossing_counts_where_the_curve_falls_again():
    """The curve above recovers everything at a quarter of the calls, loses it at three quarters and has it again at all."""
    weak, strong, score = np.array([0.0, 1.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.0, 1.0]), np.array([3.0, 2.0, 2.0, 1.0])
    assert [cpt(weak, strong, score, recovered) for recovered in (0.0, 0.5, 0.8, 1.0)] == pytest.approx([0.0, 0.125, 0.2, 0.25])


def test_the_calls_that_a_perfect_score_needs():
    """Ten queries, the strong model right on the five of highest score: half of the gap with a quarter of the calls."""
    score = np.arange(10.0)
    strong = (score >= 5).astype(float)
    assert [cpt(np.zeros(10), strong, score, x) for x in (0.2, 0.5, 0.8, 1.0)] == pytest.approx([0.1, 0.25, 0.4, 0.5])
    assert cpt(np.zeros(10), strong, -score, 0.5) == pytest.approx(0.75)


@CAREFUL
@given(st.integers(0, 1000), st.booleans())
def test_more_of_the_gap_never_needs_fewer_calls(seed: int, deciles: bool):
    generator = np.random.default_rng(seed)
    weak, strong = (generator.uniform(size=(2, 30)) < [[0.4], [0.7]]).astype(float)
    if not strong.mean() > weak.mean():
        return
    score = generator.integers(0, 12, 30).astype(float)
    curve = call_curve(weak, strong, score, thresholds=10 if deciles else None)
    asked = np.linspace(0, 1, 21)
    calls = [cpt(weak, strong, score, x, thresholds=10 if deciles else None) for x in asked]
    assert (np.diff(calls) >= -1e-12).all() and calls[0] == 0 and calls[-1] <= 1
    for wanted, share in zip(asked, calls, strict=True):
        assert np.interp(share, curve.share, np.maximum.accumulate(curve.recovered)) >= wanted - 1e-9
        assert (curve.recovered[curve.share < share - 1e-12] < wanted).all()


def test_a_pair_named_the_wrong_way_round_and_a_share_beyond_the_gap_are_refused():
    with pytest.raises(TableError, match="other way round"):
        cpt(np.ones(4), np.zeros(4), np.arange(4.0), 0.5)
    with pytest.raises(ValueError, match=r"recovered=1\.5"):
        cpt(np.zeros(4), np.ones(4), np.arange(4.0), 1.5)
    with pytest.raises(TableError, match="must be finite"):
        apgr(np.zeros(4), np.array([1.0, 1.0, 1.0, np.nan]), np.arange(4.0))


@pytest.mark.parametrize("ties", [False, True])
def test_a_resample_is_measured_as_if_its_queries_were_written_out(ties: bool):
    generator = np.random.default_rng(10)
    weak, strong = (generator.uniform(size=(2, 200)) < [[0.4], [0.7]]).astype(float)
    score = generator.integers(0, 30, 200).astype(float) if ties else generator.normal(size=200)
    weights = bootstrap_weights(200, resamples=20)
    for row, area, calls in zip(
        weights, apgr_measure(weak, strong, score)(weights), cpt_measure(weak, strong, score, 0.5)(weights), strict=True
    ):
        drawn = np.repeat(np.arange(200), np.rint(row * 200).astype(int))
        assert area == pytest.approx(by_deciles(weak[drawn], strong[drawn], score[drawn]), abs=1e-12)
        assert area == pytest.approx(apgr(weak[drawn], strong[drawn], score[drawn]), abs=1e-12)
        assert calls == pytest.approx(cpt(weak[drawn], strong[drawn], score[drawn], 0.5), abs=1e-12)


@pytest.mark.parametrize(("source", "folder"), [("routellm-mmlu", "mmlu"), ("routellm-gsm8k", "gsm8k")])
def test_a_random_score_recovers_half_of_the_published_gap(data: Path, source: str, folder: str):
    table = load_source(source, data / "routellm" / folder, decontaminate=True)
    weak, strong = table.quality.T
    found = [apgr(weak, strong, np.random.default_rng(seed).uniform(size=len(table))) for seed in range(40)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.01)
    length = np.array([len(prompt) for prompt in table.prompts], float)
    interval = paired_interval(apgr_measure(weak, strong, length), bootstrap_weights(len(table), resamples=100))
    assert 0.5 < interval.low < interval.value < interval.high < 0.7
    assert cpt(weak, strong, length, 0.5) < 0.45


@CAREFUL
@given(st.lists(st.integers(0, 12), min_size=1, max_size=40), st.floats(0, 1))
def test_a_calibrated_threshold_calls_as_often_as_wanted_to_within_ties(ranks: list[int], share: float) -> None:
    score = np.array(ranks) / 7
    threshold = calibrated_threshold(score, share)
    called = (score >= threshold).mean()
    assert called <= share * (1 + 1e-9)
    below = score[score < threshold]
    if below.size:
        assert (score >= below.max()).mean() > share * (1 - 1e-9), "one step lower would be too many"
    else:
        assert called == 1


def test_calibration_needs_scores_and_a_share() -> None:
    assert calibrated_threshold(np.array([0.1, 0.9, 0.5, 0.7]), 0.5) == 0.7
    assert calibrated_threshold(np.array([0.1, 0.9]), 0) == np.inf
    with pytest.raises(ValueError, match=r"share=1\.2"):
        calibrated_threshold(np.array([0.1]), 1.2)
    with pytest.raises(TableError, match="all of them finite"):
        calibrated_threshold(np.array([np.nan]), 0.5)
