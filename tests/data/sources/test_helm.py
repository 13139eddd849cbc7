"""HELM's runs: a metric by instance and trial, without perturbed instances."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxroute import RoutingTable, SourceError, load_source
from jaxroute.data.prices import Price

PERTURBATION = {"name": "lowercase", "robustness": True}


def state(number: int, trial: int = 0, perturbation: Any = None, **request: Any) -> dict:
    instance = {"input": {"text": f"question {number}"}, "split": "test", "id": f"id{number}"}
    return {
        "instance": instance | ({"perturbation": perturbation} if perturbation else {}),
        "train_trial_index": trial,
        "request": {"prompt": f"Examples.\n\nquestion {number}"} | request,
        "result": {"success": True, "completions": [{"text": f"answer {number}"}]},
    }


def stats(number: int, trial: int = 0, perturbation: Any = None, **means: float) -> dict:
    rows = [{"name": {"name": name, "split": "test"}, "count": 1, "sum": mean, "mean": mean} for name, mean in means.items()]
    rows.append({"name": {"name": "training_co2_cost", "split": "test"}, "count": 0, "sum": 0})
    row = {"instance_id": f"id{number}", "train_trial_index": trial, "stats": rows}
    return row | ({"perturbation": perturbation} if perturbation else {})


def write(folder: Path, model: str, states: list[dict], numbers: list[dict], scenario: str = "mmlu:subject=law,") -> Path:
    run = folder / f"{scenario}model={model.replace('/', '_')}"
    run.mkdir(parents=True)
    (run / "scenario_state.json").write_text(json.dumps({"adapter_spec": {"model": model}, "request_states": states}))
    (run / "per_instance_stats.json").write_text(json.dumps(numbers))
    return run


def load(path: Path, **options: Any) -> RoutingTable:
    return load_source("helm", path, **({"paid": False} | options))


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        load(path, **options)
    return str(caught.value)


def test_models_join_on_instances_of_a_scenario(tmp_path: Path):
    write(tmp_path, "org/a", [state(1), state(2)], [stats(1, exact_match=1), stats(2, exact_match=0)])
    write(tmp_path, "org/b", [state(2)], [stats(2, exact_match=1)])
    table = load(tmp_path)
    assert (table.models, table.domains) == (["org/a", "org/b"], ["mmlu:subject=law"] * 2)
    np.testing.assert_array_equal(table.quality, [[1, np.nan], [0, 1]])
    assert table.prompts[0] == "Examples.\n\nquestion 1"
    assert table.response is not None and table.response[1].tolist() == ["answer 2", "answer 2"]


def test_perturbed_instances_are_dropped_and_trials_averaged(tmp_path: Path):
    states = [state(1), state(1, 1), state(1, 0, PERTURBATION)]
    numbers = [stats(1, 0, exact_match=1), stats(1, 1, exact_match=0), stats(1, 0, PERTURBATION, exact_match=0)]
    write(tmp_path, "a", states, numbers)
    table = load(tmp_path)
    assert table.quality.tolist() == [[0.5]]
    assert "1 perturbed instance was dropped" in table.note and "1 repeated outcome was averaged" in table.note


def test_the_main_metric_counts_or_the_one_that_is_named(tmp_path: Path):
    write(tmp_path, "a", [state(1)], [stats(1, exact_match=0, f1_score=0.25, style=1)], scenario="qa:")
    table = load(tmp_path)
    assert table.quality[0, 0] == 0.25 and "qa: f1_score" in table.note
    assert load(tmp_path, metric="none,exact_match,style").quality[0, 0] == 0
    assert "metric='x' is none of its metrics; it has exact_match, f1_score, style" in refusal(tmp_path, metric="x")


def test_a_failed_request_is_missing_and_so_is_an_instance_without_the_metric(tmp_path: Path):
    failed = state(1)
    failed["result"] = {"success": False, "error": "too long", "completions": []}
    write(tmp_path, "a", [failed, state(2), state(3)], [stats(1, exact_match=0), stats(2), stats(3, exact_match=1)])
    table = load(tmp_path)
    np.testing.assert_array_equal(table.quality[:, 0], [np.nan, np.nan, 1])
    assert "2 of 3 outcomes are missing: failed: too long (1), no exact_match (1)" in table.note


def test_tokens_times_prices_are_dollars(tmp_path: Path):
    write(
        tmp_path, "a", [state(1)], [stats(1, exact_match=1, num_prompt_tokens=1000, num_output_tokens=10, inference_runtime=2)]
    )
    table = load(tmp_path, paid=True, prices={"a": Price(1, 100)})
    assert table.cost_usd[0, 0] == pytest.approx(0.002)
    assert table.latency_seconds is not None and table.latency_seconds[0, 0] == 2


def test_chat_messages_and_media_become_text(tmp_path: Path):
    media = [{"content_type": "text/plain", "text": "See:"}, {"content_type": "image/png", "location": "/data/cat.png"}]
    states = [
        state(1, prompt="", multimodal_prompt={"media_objects": media}),
        state(2, prompt="", messages=[{"role": "system", "content": "Hi"}, {"role": "user", "content": "Yes?"}]),
    ]
    write(tmp_path, "a", states, [stats(1, exact_match=1), stats(2, exact_match=1)])
    assert load(tmp_path).prompts == ["See:\n[image 1: cat.png]", "system: Hi\n\nuser: Yes?"]


def test_wrong_folders_are_named(tmp_path: Path):
    assert "it holds no scenario_state.json" in refusal(tmp_path)
    run = write(tmp_path, "a", [state(1, prompt="")], [stats(1, style=3)])
    assert "its main metric is not known: give it as metric=; it has style" in refusal(tmp_path)
    assert "request_states[0]: the prompt is empty" in refusal(tmp_path, metric="style")
    (run / "scenario_state.json").write_text('{"doc": 1, "resps": 2}')
    assert "has no request_states and adapter_spec.model: it has 'doc', 'resps'; it looks like" in refusal(tmp_path)
    (run / "per_instance_stats.json").unlink()
    assert "there is no per_instance_stats.json beside it" in refusal(tmp_path)


def test_a_score_on_another_scale_is_refused(tmp_path: Path):
    write(tmp_path, "a", [state(1)], [stats(1, rating=8)])
    assert "request_states[0]: the score 8 must lie in [0, 1]" in refusal(tmp_path, metric="rating")
    assert load(tmp_path, metric="rating", scale=10).quality[0, 0] == 0.8
