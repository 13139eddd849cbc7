"""LLMRouterBench's results: the newest file of every dataset, split and model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxroute import RoutingTable, SourceError, load_source
from jaxroute.data.prices import Price


def record(index: int, score: float | None = 1.0, cost: float = 0.5, **changes: Any) -> dict:
    return {
        "index": index,
        "origin_query": f"question {index}",
        "prompt": f"Question: question {index}\nAnswer:",
        "prediction": "4",
        "ground_truth": "4",
        "score": score,
        "prompt_tokens": 1000,
        "completion_tokens": 10,
        "cost": cost,
        "raw_output": "It is 4.",
    } | changes


def write(folder: Path, model: str, records: list, *, time: str = "20250101_000000", **changes: Any) -> Path:
    inner = folder / "aime" / "test" / model
    inner.mkdir(parents=True, exist_ok=True)
    content = {
        "performance": 0.5,
        "dataset_name": "aime",
        "split": "test",
        "model_name": model,
        "demo": False,
        "records": records,
    }
    (inner / f"aime-test-{model}-{time}.json").write_text(json.dumps(content | changes))
    return folder


def load(path: Path, **options: Any) -> RoutingTable:
    return load_source("llmrouterbench", path, **options)


def refusal(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        load(path)
    return str(caught.value)


def test_models_join_on_records(tmp_path: Path):
    write(tmp_path, "a", [record(1), record(2, 0.0)])
    write(tmp_path, "b", [record(2, None), record(1, 0.25, 0.75)])
    table = load(tmp_path)
    assert (table.models, table.domains) == (["a", "b"], ["aime"] * 2)
    np.testing.assert_array_equal(table.quality, [[1, 0.25], [0, np.nan]])
    assert table.cost_usd[0].tolist() == [0.5, 0.75] and table.prompts[0] == "Question: question 1\nAnswer:"
    assert table.response is not None and table.response[0, 0] == "It is 4."


def test_the_newest_file_counts_and_demos_do_not(tmp_path: Path):
    write(tmp_path, "a", [record(1, 0.0)], time="20250101_000000")
    write(tmp_path, "a", [record(1, 1.0)], time="20250301_000000")
    write(tmp_path, "a", [record(1, 0.5)], time="20250401_000000", demo=True)
    table = load(tmp_path)
    assert table.quality.tolist() == [[1]] and "1 older files" in table.note


def test_an_index_with_another_question_is_another_query(tmp_path: Path):
    write(tmp_path, "a", [record(1)])
    write(tmp_path, "b", [record(1, origin_query="another")])
    assert len(load(tmp_path)) == 2


def test_models_that_ran_locally_are_priced_by_tokens(tmp_path: Path):
    write(tmp_path, "local", [record(1, cost=0.0)])
    write(tmp_path, "paid", [record(1, cost=0.02)])
    prices = {"local": Price(1.0, 100.0), "paid": Price(20.0, 0.0)}
    assert load(tmp_path).cost_usd.tolist() == [[0.0, 0.02]]
    assert load(tmp_path, prices=prices).cost_usd[0] == pytest.approx([0.002, 0.02])


def test_prompts_may_be_messages_or_other_json(tmp_path: Path):
    messages = [{"role": "user", "content": "Hello"}]
    write(tmp_path, "a", [record(1, prompt=messages), record(2, prompt={"task": 1})])
    assert load(tmp_path).prompts == ["Hello", '{"task": 1}']


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (record(2, score="good"), "records[1]: score='good' is not a number"),
        ({"score": 1}, "records[1] has no index and score: it has 'score'"),
        (record(2, prompt="", origin_query=""), "records[1]: the prompt is empty"),
        (record(2, score=55.0), "records[1]: the score 55 must lie in [0, 1]"),
        (7, "records[1] has no index and score: 7"),
    ],
)
def test_a_wrong_record_is_named_by_its_place(tmp_path: Path, wrong: Any, said: str):
    message = refusal(write(tmp_path, "a", [record(1), wrong]))
    assert "aime/test/a/aime-test-a-20250101_000000.json, " in message and said in message


def test_other_files_are_named(tmp_path: Path):
    assert "it holds no .json" in refusal(tmp_path)
    (tmp_path / "x.json").write_text('{"eval": {}, "samples": []}')
    assert "x.json has no dataset_name, split, model_name, records: it has 'eval', 'samples'; it looks like" in refusal(
        tmp_path
    )
