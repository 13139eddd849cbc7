"""By domain: sub-categories, averages, gains, one left out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from jaxroute import TableError, load_source
from jaxroute.evaluation import (
    MMLU_SUBCATEGORIES,
    bootstrap_weights,
    domain_gains,
    macro_difference,
    macro_mean,
    mmlu_subcategories,
    paired_interval,
)


def test_the_subjects_of_mmlu_are_57_in_17():
    subjects = [subject for each in MMLU_SUBCATEGORIES.values() for subject in each]
    assert (len(subjects), len(set(subjects)), len(MMLU_SUBCATEGORIES)) == (57, 57, 17)
    assert mmlu_subcategories(["virology", "moral_disputes", "virology"]) == ["health", "philosophy", "health"]
    with pytest.raises(TableError, match="cooking"):
        mmlu_subcategories(["virology", "cooking"])


def test_every_published_subject_has_its_sub_category(data: Path):
    table = load_source("routellm-mmlu", data / "routellm" / "mmlu")
    found = Counter(mmlu_subcategories(table.domains))
    assert set(table.domains) == {subject for each in MMLU_SUBCATEGORIES.values() for subject in each}
    assert (len(found), sum(found.values())) == (17, 14_042)


def test_the_average_over_domains_weighs_them_alike():
    """Two of three right in one, none of one in the other: (2/3 + 0) / 2, not 2 of 4."""
    quality, domains = np.array([1.0, 1.0, 0.0, 0.0]), ["law", "law", "law", "physics"]
    assert macro_mean(quality, domains) == pytest.approx(1 / 3)
    measure = macro_difference(quality, 0.0, domains)
    assert measure(None) == pytest.approx(1 / 3)
    assert measure(np.array([[0.5, 0.0, 0.5, 0.0], [0.25, 0.25, 0.25, 0.25]])) == pytest.approx([0.5, 1 / 3])


def test_gains_by_domain_are_differences_within_it():
    generator = np.random.default_rng(14)
    domains = ["law"] * 300 + ["physics"] * 300
    base = (generator.uniform(size=600) < 0.5).astype(float)
    better = np.where(np.arange(600) < 300, np.maximum(base, generator.uniform(size=600) < 0.4), base)
    found = domain_gains(better, base, domains, bootstrap_weights(600, resamples=300))
    assert list(found) == ["law", "physics"]
    assert found["law"].value == pytest.approx((better - base)[:300].mean())
    assert not found["law"].tie and found["physics"].tie
    alone = paired_interval(lambda w: (better - base)[:300].mean() if w is None else w @ (better - base)[:300],
                            bootstrap_weights(300, resamples=300))  # fmt: skip
    assert found["law"].low == pytest.approx(alone.low, abs=0.03)


def test_a_domain_of_one_query_has_an_interval_though_most_resamples_miss_it():
    found = domain_gains(np.array([1.0, 0.0, 0.0]), np.zeros(3), ["a", "b", "b"], bootstrap_weights(3, resamples=50))
    assert (found["a"].value, found["a"].low, found["a"].high) == (1.0, 1.0, 1.0)
    assert 5 < found["a"].undefined < 35


def test_intervals_of_many_domains_hold_together():
    """Twenty domains without any gain: of intervals that each hold alone one would miss zero in two tables of three."""
    domains = [f"{row % 20}" for row in range(600)]
    missed = 0
    for seed in range(30):
        generator = np.random.default_rng(seed)
        one, other = (generator.uniform(size=600) < 0.5).astype(float), (generator.uniform(size=600) < 0.5).astype(float)
        found = domain_gains(one, other, domains, bootstrap_weights(600, resamples=200, seed=seed))
        missed += any(not gain.tie for gain in found.values())
    assert missed <= 5
