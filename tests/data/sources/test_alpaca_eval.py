"""AlpacaEval's annotations: preferences over one reference model, by one judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxroute import RoutingTable, SourceError, load_source
from jaxroute.data.prices import Price


def row(number: int, preference: float | None, model: str = "small", **changes: Any) -> dict:
    return {
        "instruction": f"instruction {number}",
        "output_1": "from the reference",
        "generator_1": "gpt4",
        "dataset": "koala",
        "output_2": f"answer {number}",
        "generator_2": model,
        "annotator": "judge",
        "preference": preference,
        "price_per_example": 0.01,
    } | changes


def write(folder: Path, model: str, *rows: Any, judge: str = "judge") -> Path:
    inner = folder / model / judge
    inner.mkdir(parents=True)
    (inner / "annotations.json").write_text(json.dumps(rows))
    return folder


def load(path: Path, **options: Any) -> RoutingTable:
    return load_source("alpaca-eval", path, **({"paid": False} | options))


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        load(path, **options)
    return str(caught.value)


def test_quality_is_the_preference_over_the_reference_model(tmp_path: Path):
    write(tmp_path, "small", row(1, 1.0), row(2, 1.0000002), row(3, 1.5), row(4, 0), row(5, 2.0), row(6, None))
    write(tmp_path, "large", row(5, 1.25, "large"))
    table = load(tmp_path)
    assert table.models == ["large", "small"] and table.domains == ["koala"] * 6
    by_prompt = dict(zip(table.prompts, table.quality[:, 1]))
    expected = [0, 2e-7, 0.5, 0.5, 1, np.nan]
    np.testing.assert_allclose([by_prompt[f"instruction {number}"] for number in range(1, 7)], expected, atol=1e-9)
    assert table.quality[table.prompts.index("instruction 5")].tolist() == [0.25, 1.0]
    assert "the preference over gpt4" in table.note and "1 of 7 outcomes are missing: no preference (1)" in table.note


def test_the_reference_model_is_a_draw_against_itself(tmp_path: Path):
    table = load(write(tmp_path, "small", row(1, 2.0)), reference=True)
    assert table.models == ["small", "gpt4"] and table.quality.tolist() == [[1, 0.5]]
    assert table.response is not None and table.response.tolist() == [["answer 1", "from the reference"]]


def test_the_judges_price_is_not_the_answers(tmp_path: Path):
    write(tmp_path, "small", row(1, 2.0))
    assert "the log has no dollars" in refusal(tmp_path, paid=True)
    assert load(tmp_path, paid=True, prices={"small": Price(1.0, 3.0)}).cost_usd.tolist() == [[2.0]]


def test_one_judge_and_one_reference_model(tmp_path: Path):
    write(tmp_path, "small", row(1, 2.0))
    write(tmp_path, "large", row(1, 1.0, "large", annotator="other"), judge="other")
    assert "there are several annotators, other, judge: give one as annotator=" in refusal(tmp_path)
    assert load(tmp_path, annotator="judge").models == ["small"]
    assert "annotator='x' is none of those there, which are other, judge" in refusal(tmp_path, annotator="x")
    write(tmp_path, "third", row(1, 1.0, "third", generator_1="davinci"))
    assert "several reference models, gpt4, davinci: load them apart" in refusal(tmp_path, annotator="judge")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (row(1, 3.0), "entry 1: preference=3.0 must be from 1"),
        (row(1, 2.0, instruction=""), "entry 1: the instruction is empty"),
        ({"instruction": "x"}, "entry 1 has no generator_1, generator_2, preference: it has 'instruction'"),
        ({"global_index": 1, "evaluation_result": {}}, "it looks like a file of the source 'routerarena'"),
    ],
)
def test_a_wrong_row_is_named_by_file_and_entry(tmp_path: Path, wrong: Any, said: str):
    message = refusal(write(tmp_path, "small", row(2, 1.0), wrong))
    assert "small/judge/annotations.json, entry 1" in message and said in message


def test_an_empty_folder_is_refused(tmp_path: Path):
    assert "it holds no annotations.json" in refusal(tmp_path)
