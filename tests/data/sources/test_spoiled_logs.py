"""Logs in which any one value is another: read, or refused with the file's name, but never a traceback."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jaxroute import SourceError, load_source

JUNK = (None, True, 7, -3.5, float("nan"), float("inf"), "", "x", [], {}, [1], [None], {"a": 1}, [[]], [{}], {"role": 1})
MESSAGES = [{"role": "user", "content": [{"type": "text", "text": "2 + 2?"}, {"type": "image", "image": "a.png"}]}]
ANSWER = {"role": "assistant", "content": "4", "source": "generate"}
USAGE = {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13, "total_cost": 0.5}
LOGS: dict[str, tuple[dict[str, Any], ...]] = {
    "lm-eval": (
        {
            "samples_sums_2026-01-01T00-00-00.5.jsonl": {
                "doc_id": 0,
                "doc": {"q": "?"},
                "arguments": {"gen_args_0": {"arg_0": "2 + 2?", "arg_1": {"until": ["\n"]}}},
                "resps": [["4"]],
                "filtered_resps": ["4"],
                "filter": "none",
                "metrics": ["acc"],
                "doc_hash": "h",
                "acc": 1.0,
            },
            "results_2026-01-01T00-00-00.5.json": {"model_name": "org/a"},
        },
        {
            "pretrained__a_sums.jsonl": [{"doc_id": 0, "doc": 1, "arguments": [["2 + 2?", {}]], "resps": [["4"]], "acc": 1.0}],
            "results.json": {"configs": {"sums": {}}},
        },
    ),
    "inspect": (
        {
            "log.json": {
                "version": 2,
                "status": "success",
                "eval": {"task": "sums", "model": "a"},
                "samples": [
                    {
                        "id": 1,
                        "uuid": "u",
                        "input": MESSAGES,
                        "choices": ["3", "4"],
                        "attachments": {"t": "text"},
                        "messages": [*MESSAGES, ANSWER, {"role": "tool", "error": {"message": "late"}}],
                        "output": {"choices": [{"message": ANSWER}], "usage": USAGE, "time": 0.5},
                        "scores": {"match": {"value": "C"}, "judge": {"value": {"x": 1, "y": 0}}},
                        "model_usage": {"a": USAGE},
                        "error": None,
                    }
                ],
            }
        },
    ),
    "helm": (
        {
            "scenario_state.json": {
                "adapter_spec": {"model": "a"},
                "request_states": [
                    {
                        "instance": {"id": "id1", "input": {"text": "2 + 2?"}},
                        "train_trial_index": 0,
                        "request": {"prompt": "2 + 2?", "multimodal_prompt": {"media_objects": None}},
                        "result": {"success": True, "completions": [{"text": "4"}]},
                    }
                ],
            },
            "per_instance_stats.json": [
                {
                    "instance_id": "id1",
                    "train_trial_index": 0,
                    "stats": [{"name": {"name": "exact_match", "split": "test"}, "count": 1, "sum": 1, "mean": 1}],
                }
            ],
        },
    ),
    "routerarena": (
        {
            "a.jsonl": {
                "global_index": "MMLU_1",
                "question": "2 + 2?",
                "llm_selected": "a",
                "generated_answer": "4",
                "token_usage": {"input_tokens": 10, "output_tokens": 3},
                "success": True,
                "error": None,
                "evaluation_result": {"score": 1.0, "metric": "mcq_accuracy", "inference_cost": 0.5},
            }
        },
    ),
    "llmrouterbench": (
        {
            "aime-test-a-20250101_000000.json": {
                "dataset_name": "aime",
                "split": "test",
                "model_name": "a",
                "demo": False,
                "records": [
                    {
                        "index": 1,
                        "origin_query": "2 + 2?",
                        "prompt": MESSAGES,
                        "prediction": "4",
                        "score": 1.0,
                        "prompt_tokens": 10,
                        "completion_tokens": 3,
                        "cost": 0.5,
                        "raw_output": "4",
                    }
                ],
            }
        },
    ),
    "alpaca-eval": (
        {
            "annotations.json": [
                {
                    "instruction": "2 + 2?",
                    "output_1": "5",
                    "generator_1": "r",
                    "dataset": "koala",
                    "output_2": "4",
                    "generator_2": "a",
                    "annotator": "judge",
                    "preference": 1.75,
                }
            ]
        },
    ),
}
CASES = [(source, number) for source, layouts in LOGS.items() for number in range(len(layouts))]


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The way to every value inside a value, itself first."""
    yield path
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(one, (*path, key))


def spoiled(value: Any, path: tuple, junk: Any) -> Any:
    if not path:
        return junk
    changed = copy.deepcopy(value)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = junk
    return changed


def write(folder: Path, files: dict[str, Any]) -> None:
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize(("source", "number"), CASES)
def test_a_log_is_read_and_with_any_value_replaced_read_or_refused(source: str, number: int, tmp_path: Path):
    files = LOGS[source][number]
    write(tmp_path, files)
    assert load_source(source, tmp_path, paid=False).quality.shape == (1, 1)
    refused = 0
    for name, content in files.items():
        for path in places(content):
            for junk in JUNK:
                write(tmp_path, {name: spoiled(content, path, junk)})
                try:
                    load_source(source, tmp_path, paid=False)
                except SourceError as error:
                    refused += 1
                    assert len(str(error)) < 3000
                except Exception as error:
                    raise AssertionError(f"{name} with {junk!r} at {path}: {type(error).__name__}: {error}") from error
        write(tmp_path, files)
    assert refused
