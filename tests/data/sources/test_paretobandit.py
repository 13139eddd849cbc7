"""ParetoBandit's rewards: the published bytes, and rows that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jaxroute import SourceError, load_source

MODELS = [
    "meta-llama/llama-3.1-8b-instruct",
    "mistralai/mistral-large-2512",
    "google/gemini-2.5-pro",
    "google/gemini-2.5-flash",
]
BENCHMARKS = {"mmlu", "gsm8k", "openbookqa", "hellaswag", "arc_challenge", "truthful_qa", "winogrande", "mbpp", "bbh"}


def row(**changes: object) -> dict:
    arms = {"small": {"reward": 0.4, "cost": 3e-5, "near_best": False}, "large": {"reward": 1.0, "cost": 0.03}}
    return {"prompt": "What?", "source": "bbh/snarks", "arms": arms, "best_arm": "large"} | changes


def write(folder: Path, *rows: object) -> Path:
    file = folder / "val_k4.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return file


def refusal(file: Path) -> str:
    with pytest.raises(SourceError) as caught:
        load_source("paretobandit", file)
    return str(caught.value)


# --- the published bytes ---


@pytest.mark.parametrize(
    ("part", "count", "quality", "dollars_per_thousand"),
    [
        ("val", 1_766, [0.790, 0.926, 0.936, 0.929], [0.029, 0.494, 14.969, 0.899]),
        ("test", 1_793, [0.795, 0.924, 0.933, 0.925], [0.028, 0.513, 15.047, 0.882]),
    ],
)
def test_a_published_part_has_its_size_and_means(
    data: Path, part: str, count: int, quality: list[float], dollars_per_thousand: list[float]
):
    table = load_source("paretobandit", data / "paretobandit" / f"{part}_k4.jsonl")
    assert (len(table), table.models, set(table.domains)) == (count, MODELS, BENCHMARKS)
    assert not np.isnan(table.quality).any()
    np.testing.assert_allclose(table.quality.mean(axis=0), quality, atol=5e-4)
    np.testing.assert_allclose(1000 * table.mean_cost_usd(), dollars_per_thousand, atol=5e-4)


def test_no_prompt_stands_in_both_parts(data: Path):
    parts = [load_source("paretobandit", data / "paretobandit" / f"{part}_k4.jsonl").prompts for part in ("val", "test")]
    assert all(len(set(part)) == len(part) for part in parts)
    assert not set(parts[0]) & set(parts[1])


# --- small files ---


def test_a_model_that_a_row_does_not_name_was_not_run(tmp_path: Path):
    table = load_source(
        "paretobandit", write(tmp_path, row(), row(arms={"large": {"reward": 0.5, "cost": 0.1}}, source="mbpp"))
    )
    np.testing.assert_array_equal(table.quality, [[0.4, 1.0], [np.nan, 0.5]])
    np.testing.assert_array_equal(table.cost_usd, [[3e-5, 0.03], [np.nan, 0.1]])
    assert table.domains == ["bbh", "mbpp"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (row(prompt=7), "line 2, column 'prompt' is neither a text"),
        (row(source=None), "line 2, column 'source' is empty"),
        (row(arms=None), "line 2, column 'arms' is not {model: {reward, cost}}: None"),
        (row(arms={}), "column 'arms' is not"),
        (row(arms={"small": 0.4}), "'small' has no numbers reward and cost: 0.4"),
        (row(arms={"small": {"reward": True, "cost": 1}}), "'small' has no numbers"),
        (row(arms={"small": {"reward": 1.2, "cost": 1}}), "reward=1.2, cost=1.0; expected [0, 1] and dollars"),
        (row(arms={"small": {"reward": 1, "cost": -1}}), "cost=-1.0"),
        ("text", "line 2 is not a JSON object: 'text'"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(tmp_path: Path, wrong: object, said: str):
    assert said in refusal(write(tmp_path, row(), wrong))


def test_a_file_of_another_kind_is_refused(tmp_path: Path):
    assert "no row has arms, source" in refusal(write(tmp_path, {"prompt": "What?", "small|quality": 1}))
