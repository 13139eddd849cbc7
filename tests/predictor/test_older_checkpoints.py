"""What earlier versions wrote is still read: checkpoints of every kind, and saved tables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import jaxroute
from jaxroute import CheckpointError, Router, RoutingTable
from jaxroute.predictor.checkpoint import is_estimator

OLD = Path(__file__).parents[1] / "old"
EXPECTED = json.loads((OLD / "expected.json").read_text())


@pytest.mark.parametrize("kind", ["predictor", "adapters", "whole", "router"])
def test_a_checkpoint_of_an_earlier_version_estimates_what_it_did_and_is_written_anew(
    kind: str, tmp_path: Path, fresh_cache: Path
) -> None:
    encoder = None if kind == "router" else str(OLD / "encoder")
    assert is_estimator(OLD / kind)
    old = jaxroute.load(OLD / kind, encoder=encoder)
    old.save(tmp_path / "anew")
    for estimator in (old, jaxroute.load(tmp_path / "anew", encoder=encoder)):
        routed = Router(estimator).route_in_full(EXPECTED["prompts"], multiplier=1.0)
        np.testing.assert_allclose(routed.estimates.quality, EXPECTED[kind], atol=1e-5)
        np.testing.assert_allclose(routed.cost_usd, EXPECTED[f"{kind}_cost_usd"], rtol=1e-5)
    assert {path.name for path in (tmp_path / "anew").iterdir()} - {"adapter"} == {"estimator.json", "arrays.npz"}


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_a_table_of_an_earlier_version_holds_what_it_did(suffix: str) -> None:
    table = RoutingTable.load(OLD / f"table.{suffix}")
    assert table.prompts == EXPECTED["table_prompts"]
    np.testing.assert_array_equal(table.quality, EXPECTED["table_quality"])
    np.testing.assert_array_equal(table.cost_usd, EXPECTED["table_cost_usd"])
    assert table.output_tokens is not None


@pytest.mark.parametrize(
    ("file", "message"), [("length.npz", r"length\.npz is damaged"), ("head/_METADATA", "head/ is damaged")]
)
def test_a_damaged_one_is_rejected(file: str, message: str, tmp_path: Path, fresh_cache: Path) -> None:
    folder = Path(shutil.copytree(OLD / "predictor", tmp_path / "copy"))
    (folder / file).write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(CheckpointError, match=message):
        jaxroute.load(folder, encoder=str(OLD / "encoder"))
