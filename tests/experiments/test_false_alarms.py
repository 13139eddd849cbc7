"""The experiment on a few small tables: every share is there, and a strong signal is called a gain."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import experiments.false_alarms as experiment
from jaxroute import TableError


def test_shares_of_false_gains_and_power(tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXROUTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(experiment, "HARDER", {"prompt_length": 3.0, "domain_mean": 3.0})
    config = experiment.Config(
        output=tmp_path / "run", tables=3, models=(2, 3), rows=(30, 60), planted=3, planted_rows=150, resamples=60, shuffles=59,
        budgets=11, encoder=str(tiny_encoder),
    )  # fmt: skip
    result = experiment.main(config)
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    assert (tmp_path / "run" / "false_alarms.png").stat().st_size > 5000
    shares = [
        result[f"share_{router}_{models}_{rows}"] for router in experiment.NO_SIGNAL for models in (2, 3) for rows in (30, 60)
    ]
    assert result["share_largest"] == max(shares) and all(0 <= share <= 1 for share in shares)
    assert result["power"] == min(result["power_prompt_length_5"], result["power_prompt_length_9"]) == 1.0
    assert result["found_domain_mean_9"] == 1.0
    assert all(result[f"planted_gain_{name}_{models}"] > 0.02 for name in experiment.HARDER for models in (5, 9))


def test_tables_without_signal_have_none_and_others_do(tiny_encoder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("JAXROUTE_CACHE", str(tmp_path / "cache"))
    config = experiment.Config(tables=2, planted=1, planted_rows=2000, resamples=20)
    prompts = experiment.Prompts.load(200, str(tiny_encoder))
    first, second = experiment._without_signal(config, prompts, 2, 100)
    assert np.ptp(first.test.cost_usd, axis=0).max() == 0 < np.ptp(second.test.cost_usd, axis=0).min()
    assert len(first.train) == len(first.test) == 100
    (known,) = experiment._with_signal(config, 9, experiment.POOLS[9], "prompt_length")
    length = np.array([len(prompt) for prompt in known.test.prompts])
    advantage = known.test.quality[:, 8] - known.test.quality[:, :7].mean(axis=1)
    assert np.corrcoef(length, advantage)[0, 1] > 0.15
    assert known.test.quality.mean(axis=0) == pytest.approx(experiment.ACCURACY, abs=0.04)


@pytest.mark.parametrize(
    ("given", "words"), [({"tables": 0}, "tables=0"), ({"rows": ()}, "rows="), ({"models": (1, 2)}, "models=")]
)
def test_bad_sizes_are_refused(given: dict, words: str) -> None:
    with pytest.raises(TableError, match=words):
        experiment.Config(**given)
