"""The ablation on a corner of the real data: every row is there, compared with the one as shipped."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import experiments.what_matters as experiment
from experiments.real_data import load_mmlu_pool
from jaxroute import TableError
from jaxroute.routers.base import find_router


def test_one_thing_is_changed_at_a_time(
    data: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = load_mmlu_pool(data)
    small = dataclasses.replace(pool, train=pool.train.select(range(150)), test=pool.test.select(range(0, 4000, 40)))
    monkeypatch.setattr(experiment, "load_mmlu_pool", lambda: small)
    monkeypatch.setenv("JAXROUTE_CACHE", str(tmp_path / "cache"))
    result = experiment.main(
        experiment.Config(
            output=tmp_path / "run",
            groups=("training", "selector"),
            encoder=str(tiny_encoder),
            layer=1,
            layers=(2,),
            other_encoders=(f"{tiny_encoder}:layers=1,2",),
            sizes=(100,),
            others=False,
            resamples=40,
        )
    )
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    assert (tmp_path / "run" / "what_matters.png").stat().st_size > 5000
    names = {key.removesuffix(" aiq_gain") for key in result if key.endswith(" aiq_gain")}
    assert {"as shipped", "exact", "greedy, as published"} <= names and "layer 2" not in names
    assert sum(name.endswith("questions") for name in names) == 1
    for name in names - {"as shipped"}:
        change = result[f"{name} aiq_gain"] - result["as shipped aiq_gain"]
        assert result[f"{name} aiq_over_shipped"] == pytest.approx(change, abs=1e-12)
    assert result["exact aiq_over_shipped"] == pytest.approx(0, abs=0.01)


def test_every_row_names_a_router_and_changes_one_thing(data: Path) -> None:
    pool = load_mmlu_pool(data)
    rows = experiment.variants(experiment.Config(others=False), pool)
    assert len({row.name for row in rows}) == len(rows)
    assert {row.group for row in rows} == {"", *experiment.GROUPS}
    shipped = rows[0]
    for row in rows[1:]:
        find_router(row.router)
        changed = (row.router != shipped.router, len(row.train) != len(shipped.train), row.solver != shipped.solver)
        assert sum(changed) == 1, row.name


def test_an_unknown_group_is_refused() -> None:
    with pytest.raises(TableError, match="groups=pooling: known are encoder"):
        experiment.Config(groups=("pooling",))
