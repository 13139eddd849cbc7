"""lm-eval's samples: the layouts of several versions, filters and metrics, the join over models, and files that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxroute import RoutingTable, SourceError, load_source

TIME = "2026-01-02T03-04-05.678901"


def row(number: int, score: float | None, filter: str = "none", **changes: Any) -> dict:
    """A row as version 0.4.13 writes it."""
    return {
        "doc_id": number,
        "doc": {"question": f"question {number}"},
        "target": "4",
        "arguments": {"gen_args_0": {"arg_0": f"Question {number}\nAnswer:", "arg_1": {"until": ["\n\n"]}}},
        "resps": [[f"answer {number}", "another"]],
        "filtered_resps": [f"answer {number}"],
        "filter": filter,
        "metrics": ["exact_match"],
        "doc_hash": f"hash{number}",
        "prompt_hash": "p",
        "target_hash": "t",
        "exact_match": score,
    } | changes


def write(folder: Path, model: str, rows: list[dict], *, task: str = "sums", time: str = TIME, name: str = "") -> Path:
    inner = folder / model.replace("/", "__")
    inner.mkdir(parents=True, exist_ok=True)
    file = inner / f"samples_{task}_{time}.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    (inner / f"results_{time}.json").write_text(json.dumps({"model_name": name or model}))
    return file


def load(path: Path | list[Path], **options: Any) -> RoutingTable:
    return load_source("lm-eval", path, paid=False, **options)


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        load(path, **options)
    return str(caught.value)


def test_models_join_on_documents_whatever_their_order(tmp_path: Path):
    write(tmp_path, "org/small", [row(0, 0.0), row(1, 1.0)])
    write(tmp_path, "org/large", [row(2, 1.0), row(1, 0.0)])
    table = load(tmp_path)
    assert table.models == ["org/large", "org/small"]
    assert table.prompts == ["Question 2\nAnswer:", "Question 1\nAnswer:", "Question 0\nAnswer:"]
    np.testing.assert_array_equal(table.quality, [[1, np.nan], [0, 1], [np.nan, 0]])
    assert table.domains == ["sums"] * 3
    assert table.response is not None and table.response.tolist() == [["answer 2", ""], ["answer 1"] * 2, ["", "answer 0"]]


def test_the_model_is_called_as_the_results_call_it(tmp_path: Path):
    write(tmp_path, "some_hash", [row(0, 1.0)], name="org/model")
    assert load(tmp_path).models == ["org/model"]
    (tmp_path / "some_hash" / f"results_{TIME}.json").unlink()
    assert load(tmp_path).models == ["some_hash"]


@pytest.mark.parametrize(("options", "quality"), [({}, 0.0), ({"filter": "flexible"}, 1.0)])
def test_a_row_per_filter_counts_once(tmp_path: Path, options: dict, quality: float):
    write(tmp_path, "a", [row(0, 0.0, "strict"), row(0, 1.0, "flexible")])
    write(tmp_path, "a", [row(0, 1.0)], task="choices")
    table = load(tmp_path, **options)
    assert dict(zip(table.domains, table.quality[:, 0])) == {"sums": quality, "choices": 1.0}
    assert f"sums: filter {options.get('filter', 'strict')} of strict, flexible" in table.note


def test_a_metric_is_the_first_or_the_one_that_is_named(tmp_path: Path):
    choice = {"metrics": ["acc", "acc_norm"], "acc": 0.0, "acc_norm": 1.0}
    write(tmp_path, "a", [row(0, None, **choice)])
    assert load(tmp_path).quality[0, 0] == 0 and load(tmp_path, metric="f1,acc_norm").quality[0, 0] == 1
    assert "metric='f1' is none of its metrics, which are acc, acc_norm" in refusal(tmp_path, metric="f1")


def test_the_answers_of_a_choice_by_likelihood_are_no_responses(tmp_path: Path):
    requests = {f"gen_args_{place}": {"arg_0": "Pick one:", "arg_1": f" {place}"} for place in range(2)}
    write(tmp_path, "a", [row(0, 1.0, arguments=requests, resps=[[["-0.1", "False"]], [["-0.2", "True"]]])])
    table = load(tmp_path)
    assert table.prompts == ["Pick one:"] and table.response is None


def test_the_newest_file_of_a_task_counts(tmp_path: Path):
    write(tmp_path, "a", [row(0, 0.0)], time="2026-01-01T00-00-00.5")
    write(tmp_path, "a", [row(0, 1.0)], time="2026-02-01T00-00-00.5")
    table = load(tmp_path)
    assert table.quality[0, 0] == 1 and "1 older files" in table.note


def test_a_list_of_paths_and_a_pattern_of_tasks(tmp_path: Path):
    files = [write(tmp_path, "a", [row(0, 0.0)]), write(tmp_path, "a", [row(1, 1.0)], task="other")]
    assert len(load(files)) == 2 and len(load(files[0])) == 1
    assert load(tmp_path, task="oth*").domains == ["other"]
    assert "task='x' is none of its tasks, which are" in refusal(tmp_path, task="x")


# --- older layouts ---


def old_row(number: int, score: float) -> dict:
    """As version 0.4.1 wrote it: no hash, no filter, no list of metrics, arguments as lists."""
    new = row(number, score)
    kept = {name: new[name] for name in ("doc_id", "doc", "target", "resps", "filtered_resps")}
    return kept | {"arguments": [[f"Question {number}\nAnswer:", {"until": ["\n"]}]], "exact_match": score}


def test_a_file_of_version_0_4_1_is_one_array_and_holds_all_filters_without_names(tmp_path: Path):
    rows = [old_row(0, 0.0), old_row(1, 0.0), old_row(0, 1.0), old_row(1, 1.0)]
    (tmp_path / "pretrained__org__small_sums.jsonl").write_text(json.dumps(rows, indent=2))
    (tmp_path / "results.json").write_text(json.dumps({"configs": {"sums": {}, "s": {}}}))
    table = load(tmp_path)
    assert (table.models, table.domains) == (["org/small"], ["sums", "sums"])
    assert table.quality.tolist() == [[0], [0]]
    assert load(tmp_path, filter="number 2").quality.tolist() == [[1], [1]]


def test_chat_messages_in_arguments_are_rendered(tmp_path: Path):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    wrapped = {"gen_args_0": {"arg_0": [json.dumps(messages)], "arg_1": {}}}
    write(tmp_path, "a", [row(0, 1.0, arguments=wrapped)])
    assert load(tmp_path).prompts == ["system: Be brief.\n\nuser: Hello"]


# --- wrong files ---


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"doc": 1, "arguments": [["x", {}]]}, "line 2 has no filter, which other rows have"),
        ({"doc": 1, "arguments": [["x", {}]], "filter": "none"}, "line 2 has no exact_match, which other rows have"),
        (row(0, 7.0), "line 2: the score 7 must lie in [0, 1] (1 such cell); scores on another scale need scale=10"),
        (
            row(0, None, exact_match=[1, 2]),
            "line 2: exact_match is [1, 2], not a number; choose another with the option metric",
        ),
        (row(0, 1.0, arguments={}), "line 2: the prompt in 'arguments' is empty"),
        ({"instruction": "x", "generator_2": "y"}, "it looks like a file of the source 'alpaca-eval'"),
        ("text", "line 2 is not a JSON object"),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(tmp_path: Path, wrong: Any, said: str):
    write(tmp_path, "a", [row(1, 1.0), wrong])
    message = refusal(tmp_path)
    assert f"a/samples_sums_{TIME}.jsonl, line 2" in message and said in message


def test_unknown_filters_and_empty_folders_are_refused(tmp_path: Path):
    assert "holds no samples_*.jsonl: run lm_eval with --log_samples" in refusal(tmp_path)
    write(tmp_path, "a", [row(0, 0.0, "strict"), row(0, 1.0, "flexible")])
    assert "filter='loose' is none of its filters, which are strict, flexible" in refusal(tmp_path, filter="loose")
    assert "there is no such file or folder" in refusal(tmp_path / "nowhere")
