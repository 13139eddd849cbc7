"""Streams of a corner of the real data: every way is there, none gains more than hindsight, and the figure is drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import experiments.pacing as experiment
from jaxroute.data.prices import ROUTOO_TABLE_1, flat_cost_usd


def invented(_: object) -> experiment.Numbers:
    """Estimates that a pool of nine models might have."""
    generator = np.random.default_rng(0)
    models = list(ROUTOO_TABLE_1)
    quality = generator.uniform(0.2, 0.8, (900, 1)) + np.linspace(0, 0.2, 9) * generator.exponential(1, (900, 9))
    domains = [("law", "history")[row % 2] for row in range(500)]
    return experiment.Numbers(quality[:400], quality[400:], domains, flat_cost_usd(ROUTOO_TABLE_1, models), 8)


def test_no_way_gains_more_than_hindsight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "estimated", invented)
    result = experiment.main(experiment.Config(output=tmp_path, lengths=(400,), draws=2, in_flight=5))
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert len(result) == 5 * 5 * 3 and all(value <= 1 + 1e-9 for value in result.values())
    assert result["random_400_re_solved_at_50"] > 0.95
    assert result["price_doubles_400_re_solved_at_25"] > result["price_doubles_400_fixed_at_25"]
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 26
    assert (tmp_path / "paths.png").stat().st_size > 5000


def test_streams_are_what_they_are_called() -> None:
    numbers, generator = invented(None), np.random.default_rng(1)
    law = experiment.stream(numbers, "law last", 100, generator)
    easy = experiment.stream(numbers, "easy first", 100, generator)
    assert (np.diff(easy.value.mean(axis=1)) <= 0).all()
    rows = [int(np.flatnonzero((numbers.future == value).all(axis=1))[0]) for value in law.value]
    asked = [numbers.domains[row] for row in rows]
    assert asked == sorted(asked) and set(asked) == {"history", "law"}
    doubled = experiment.stream(numbers, "price doubles", 100, generator)
    assert doubled.cost_usd[50, 8] == 2 * doubled.cost_usd[49, 8]
