"""The learned cascade on the simulated pool: its answers show nothing, and the curves and gains are all there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import experiments.learned_cascade as experiment
from jaxroute import TableError, TrainConfig


def test_on_answers_that_show_nothing(tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXROUTE_CACHE", str(tmp_path / "cache"))
    config = experiment.Config(
        output=tmp_path / "run", pools=("simulated",), train=TrainConfig(encoder=str(tiny_encoder)), queries=120, points=9,
        resamples=50,
    )  # fmt: skip
    result = experiment.main(config)
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    assert (tmp_path / "run" / "learned_cascade.png").stat().st_size > 5000
    for way in experiment.WAYS:
        gain = f"simulated_{way}_gain"
        assert float(result[f"{gain}_low"]) <= float(result[gain]) <= float(result[f"{gain}_high"])
        assert abs(float(result[gain])) < 0.1


def test_an_answer_in_a_list_is_unpacked() -> None:
    assert experiment.plain_answer("['B']") == "B"
    assert experiment.plain_answer("[see below") == "[see below"
    assert experiment.plain_answer("[1, 2]") == "[1, 2]"


def test_unknown_pools_are_refused() -> None:
    with pytest.raises(TableError, match="pools='arena'"):
        experiment.Config(pools=("arena",))
