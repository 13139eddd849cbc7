"""RouterArena's cached results: the published bytes, and small files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxroute import RoutingTable, SourceError, load_source


def row(number: int, score: Any = 1.0, cost: float | None = 0.5, **changes: Any) -> dict:
    return {
        "global_index": f"MMLUPro_law_{number}",
        "question": f"question {number}",
        "llm_selected": "small",
        "generated_answer": "\\boxed{A}",
        "token_usage": {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100},
        "success": True,
        "error": None,
        "evaluation_result": {"ground_truth": "A", "score": score, "metric": "mcq_accuracy", "inference_cost": cost},
    } | changes


def write(folder: Path, *rows: Any, name: str = "small") -> Path:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return folder


def load(path: Path, **options: Any) -> RoutingTable:
    return load_source("routerarena", path, **options)


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        load(path, **options)
    return str(caught.value)


def test_the_published_folder_has_its_size_and_means(data: Path):
    folder = data / "routerarena"
    assert "claude-3-haiku-20240307.jsonl, line 495: the score -0.0330189 must lie in [0, 1]" in refusal(folder)
    table = load(folder, clip=True)
    assert (len(table), table.models) == (809, ["claude-3-haiku-20240307", "gemini-2.0-flash-001"])
    np.testing.assert_allclose(table.quality.mean(axis=0), [0.523, 0.690], atol=5e-4)
    assert "1 score outside of [0, 1] was cut to it" in table.note
    assert len(load(folder, metric="mcq_accuracy")) == 565


def test_dollars_of_the_log_equal_tokens_times_the_list_beside_it(data: Path):
    folder = data / "routerarena"
    table = load(folder, clip=True)
    prices = json.loads((folder / "cost.json").read_text())
    for column, model in enumerate(table.models):
        first, second = (prices[model][f"{part}_token_price_per_million"] for part in ("input", "output"))
        assert table.input_tokens is not None and table.output_tokens is not None
        expected = (table.input_tokens[:, column] * first + table.output_tokens[:, column] * second) / 1e6
        np.testing.assert_allclose(table.cost_usd[:, column], expected, rtol=1e-9)


def test_files_join_on_the_question_and_a_failure_is_missing(tmp_path: Path):
    write(tmp_path, row(0), row(1, 0.0))
    write(
        tmp_path, row(1, llm_selected="large", success=False, error="timeout"), row(0, 0.0, llm_selected="large"), name="large"
    )
    table = load(tmp_path)
    assert table.models == ["large", "small"] and table.domains == ["MMLUPro_law"] * 2
    np.testing.assert_array_equal(table.quality, [[np.nan, 0], [0, 1]])
    assert "1 of 4 outcomes are missing: failed: timeout (1)" in table.note


def test_a_price_list_beside_the_results_prices_what_has_no_dollars(tmp_path: Path):
    write(tmp_path, row(0, cost=None), row(1, cost=0.03))
    assert "1 outcome without tokens or dollars at the model's mean cost" in load(tmp_path).note
    entry = {"input_token_price_per_million": 10, "output_token_price_per_million": 100}
    (tmp_path / "cost.json").write_text(json.dumps({"small": entry, "unread": {}}))
    assert load(tmp_path).cost_usd[:, 0] == pytest.approx([0.02, 0.03])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (row(2, score="high"), "line 2: score='high' is not a number"),
        (row(2, question=None), "line 2: the question is empty"),
        (row(2, token_usage=7), "line 2: token_usage=7"),
        ({"doc": 1, "resps": []}, "has no global_index, question, evaluation_result: it has 'doc', 'resps'; it looks like"),
        ([], "line 2 is not a JSON object"),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(tmp_path: Path, wrong: Any, said: str):
    message = refusal(write(tmp_path, row(1), wrong))
    assert "small.jsonl, line 2" in message and said in message


def test_an_unknown_metric_and_an_empty_folder_are_refused(tmp_path: Path):
    assert "it holds no .jsonl" in refusal(tmp_path)
    assert "metric='x' is none of its metrics, which are mcq_accuracy" in refusal(write(tmp_path, row(1)), metric="x")
