"""Logs of inspect: the real bytes of several versions, and small logs of both formats."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest

from jaxroute import RoutingTable, SourceError, load_source
from jaxroute.data.prices import Price

USAGE = {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13}


def sample(number: int, value: Any = "C", epoch: int = 1, **changes: Any) -> dict:
    answer = {"role": "assistant", "content": "4", "source": "generate"}
    return {
        "id": number,
        "epoch": epoch,
        "input": f"question {number}",
        "target": "4",
        "messages": [{"role": "user", "content": f"question {number}", "source": "input"}, answer],
        "output": {"choices": [{"message": answer}], "usage": USAGE, "time": 0.5},
        "scores": {"match": {"value": value}},
        "model_usage": {"org/small": {"input_tokens": 100, "output_tokens": 30, "total_tokens": 130}},
        "working_time": 2.0,
    } | changes


def header(model: str, status: str = "success") -> dict:
    return {"version": 2, "status": status, "eval": {"task": "sums", "model": model}, "plan": {}}


def write_json(file: Path, samples: list[dict], *, model: str = "org/small", status: str = "success") -> Path:
    file.write_text(json.dumps(header(model, status) | {"samples": samples}))
    return file


def write_eval(file: Path, samples: list[dict], *, model: str = "org/small", start: bool = False) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_journal/start.json" if start else "header.json", json.dumps(header(model)))
        for one in samples:
            archive.writestr(f"samples/{one['id']}_epoch_{one['epoch']}.json", json.dumps(one))
    return file


def write_zstandard(file: Path, samples: list[dict]) -> Path:
    """A zip as Python 3.14 writes it with Zstandard, put together by hand."""
    entries = {"header.json": header("org/small")} | {f"samples/{one['id']}_epoch_1.json": one for one in samples}
    body, directory = b"", b""
    for name, value in entries.items():
        plain = json.dumps(value).encode()
        packed = bytes(pyarrow.compress(plain, codec="zstd", asbytes=True))
        common = struct.pack("<HHHHIIIHH", 0, 93, 0, 0, 0, len(packed), len(plain), len(name), 0)
        directory += b"PK\x01\x02" + struct.pack("<HH", 63, 63) + common
        directory += struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name.encode()
        body += b"PK\x03\x04" + struct.pack("<H", 63) + common + name.encode() + packed
    end = struct.pack("<HHHHIIH", 0, 0, len(entries), len(entries), len(directory), len(body), 0)
    file.write_bytes(body + directory + b"PK\x05\x06" + end)
    return file


def load(path: Path | list[Path], **options: Any) -> RoutingTable:
    return load_source("inspect", path, **({"paid": False} | options))


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        load(path, **options)
    return str(caught.value)


# --- the real bytes ---


def test_logs_of_several_versions_load_together(data: Path):
    table = load(data / "inspect")
    assert table.models == ["openai/gpt-4o-mini", "openai/gpt-4o"]
    assert set(table.domains) == {"popularity", "security_guide", "images", "inspect_evals/mmlu_0_shot"}
    assert (~np.isnan(table.quality)).sum(axis=0).tolist() == [13, 2]
    assert "10 of 28 outcomes are missing: not scored (10)" in table.note
    assert "popularity.json (cancelled)" in table.note
    assert "What is this a picture of?\n[image 1: image/png]" in table.prompts
    assert [prompt for prompt in table.prompts if prompt.endswith("\n\nA) 6.0 e\nB) 6.8 eV\nC) 12.2 eV\nD) 13.6 eV")]


def test_a_grader_of_the_same_model_does_not_count_as_its_answer(data: Path):
    table = load(data / "inspect" / "2025-05-12T20-28-26-04-00_security-guide.json")
    assert table.input_tokens is not None and table.input_tokens[0, 0] == 61
    assert table.output_tokens is not None and table.output_tokens[0, 0] == 17


# --- small logs ---


@pytest.mark.parametrize("write", [write_json, write_eval, write_zstandard])
def test_every_format_gives_the_same_table(tmp_path: Path, write: Any):
    table = load(write(tmp_path / f"log.{'json' if write is write_json else 'eval'}", [sample(1), sample(2, "I")]))
    assert (table.prompts, table.models, table.domains) == (["question 1", "question 2"], ["org/small"], ["sums"] * 2)
    assert table.quality.tolist() == [[1], [0]]
    assert table.response is not None and table.response.tolist() == [["4"], ["4"]]


def test_epochs_are_averaged_and_a_failed_sample_is_missing(tmp_path: Path):
    failed = sample(1, epoch=3, scores={}, error={"message": "TimeoutError('sandbox')"})
    write_eval(tmp_path / "a.eval", [sample(1), sample(1, "I", epoch=2), failed])
    write_json(tmp_path / "b.json", [sample(1, scores={}, error={"message": "TimeoutError()"})], model="org/large")
    table = load(tmp_path)
    np.testing.assert_array_equal(table.quality, [[0.5, np.nan]])
    assert "2 of 4 outcomes are missing: failed: TimeoutError (2)" in table.note


def test_tokens_are_of_the_answer_or_of_all_calls_and_dollars_of_the_log_win(tmp_path: Path):
    several = sample(2)
    several["messages"].append(several["messages"][-1])
    paid = sample(3)
    paid["output"] = paid["output"] | {"usage": USAGE | {"total_cost": 0.25}}
    write_json(tmp_path / "log.json", [sample(1), several, paid])
    table = load(tmp_path, paid=True, prices={"org/small": Price(1e3, 1e4)})
    assert table.input_tokens is not None and table.input_tokens.tolist() == [[10], [100], [10]]
    assert table.cost_usd[:, 0] == pytest.approx([0.04, 0.4, 0.25])
    assert table.latency_seconds is not None and table.latency_seconds[:, 0].tolist() == [0.5, 2.0, 0.5]


def test_cached_tokens_are_tokens_in(tmp_path: Path):
    apart = {"input_tokens": 4, "input_tokens_cache_read": 6, "output_tokens": 3, "total_tokens": 13}
    without_total = {"input_tokens": 4, "input_tokens_cache_write": 6, "output_tokens": 3}
    samples = [sample(place, output={"usage": one}) for place, one in enumerate([USAGE, apart, without_total])]
    table = load(write_json(tmp_path / "log.json", samples))
    assert table.input_tokens is not None and table.input_tokens[:, 0].tolist() == [10, 10, 10]


def test_a_scored_sample_in_which_a_tool_failed_counts(tmp_path: Path):
    one = sample(1)
    one["messages"].insert(1, {"role": "tool", "content": "", "error": {"type": "timeout", "message": "late"}})
    table = load(write_json(tmp_path / "log.json", [one]))
    assert table.quality[0, 0] == 1 and "in 1 scored sample a tool failed" in table.note


def test_a_scorer_and_its_part_are_chosen(tmp_path: Path):
    scores = {"match": {"value": "I"}, "pkg/judge": {"value": {"style": 0.25, "truth": "P"}}}
    write_json(tmp_path / "log.json", [sample(1, scores=scores)])
    assert load(tmp_path).quality[0, 0] == 0
    assert load(tmp_path, scorer="pkg/judge/truth").quality[0, 0] == 0.5
    assert "has the parts style, truth: choose one with scorer=pkg/judge/PART" in refusal(tmp_path, scorer="pkg/judge")
    assert "not scored by loose, but by match, pkg/judge" in refusal(tmp_path, scorer="loose")


def test_the_sample_of_a_retried_evaluation_counts_once(tmp_path: Path):
    write_json(tmp_path / "a.json", [sample(1, "I", uuid="u")], status="error")
    write_json(tmp_path / "b.json", [sample(1, "I", uuid="u"), sample(2, uuid="v")])
    table = load(tmp_path)
    assert table.quality.tolist() == [[0], [1]] and "repeated" not in table.note


def test_equal_ids_with_other_inputs_are_other_queries(tmp_path: Path):
    write_json(tmp_path / "a.json", [sample(1)])
    write_json(tmp_path / "b.json", [sample(1, input="another")], model="org/large")
    table = load(tmp_path)
    assert table.prompts == ["question 1", "another"] and np.isnan(table.quality).sum() == 2


def test_messages_attachments_and_images_become_text(tmp_path: Path):
    parts = [{"type": "text", "text": "attachment://t"}, {"type": "image", "image": "attachment://i"}, {"type": "reasoning"}]
    attached = {"t": "What is it?", "i": "data:image/png;base64,AAAA"}
    calls = [{"function": "look", "arguments": {"at": 1}}]
    given = [{"role": "user", "content": parts}, {"role": "assistant", "content": "", "tool_calls": calls}]
    table = load(write_json(tmp_path / "log.json", [sample(1, input=given, attachments=attached)]))
    assert table.prompts == ['user: What is it?\n[image 1: image/png]\n\nassistant: [calls look({"at": 1})]']


def test_a_log_that_was_broken_off_is_read_as_far_as_it_goes(tmp_path: Path):
    assert len(load(write_eval(tmp_path / "log.eval", [sample(1)], start=True))) == 1


# --- wrong files ---


def test_what_is_no_log_is_named(tmp_path: Path):
    assert "it holds no .eval and no .json" in refusal(tmp_path)
    (tmp_path / "other.json").write_text(json.dumps({"request_states": []}))
    assert "other.json is no log: it has 'request_states'; it looks like a file of the source 'helm'" in refusal(tmp_path)
    (tmp_path / "cut.eval").write_bytes(write_eval(tmp_path / "log.eval", [sample(1)]).read_bytes()[:-30])
    assert "cut.eval cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"scores": {"match": {"value": 7}}},
            "the score 7 must lie in [0, 1] (1 such cell); scores on another scale need scale=10",
        ),
        ({"scores": {"match": {"value": "GREAT"}}}, "the score 'match' is 'GREAT', neither a number nor one of C, I"),
        ({"input": ""}, "the input is empty"),
        ({"input": [{"role": "judge", "content": "x"}]}, "role='judge' is none of"),
    ],
)
def test_a_wrong_sample_is_named_by_its_place(tmp_path: Path, changes: dict, said: str):
    message = refusal(write_eval(tmp_path / "log.eval", [sample(1), sample(2, **changes)]))
    assert "log.eval, samples/2_epoch_1.json: " in message and said in message


def test_an_unknown_task_is_refused(tmp_path: Path):
    write_json(tmp_path / "log.json", [sample(1)])
    assert len(load(tmp_path, task="sums")) == 1
    assert "task='x' is none of its tasks, which are sums" in refusal(tmp_path, task="x")
