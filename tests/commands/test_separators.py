"""Prompts that hold what some programs take for the end of a line go through every command unharmed, and break no output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jaxroute.cli import main
from jaxroute.commands.simulate import models_yaml
from jaxroute.data.table import RoutingTable
from jaxroute.serve.records import write_outcomes
from jaxroute.simulation import SimulationConfig, serving_in_thread
from tests.serve.proxies import proxy

SEPARATORS = "\u2028 \u2029 \x85 \x0b \x0c \x1c \x1d \x1e \r \r\n é"
PROMPTS = [f"question {number}{SEPARATORS}" + "river " * (number % 2 * 40) for number in range(12)]
MODELS = ("sim-nano", "sim-large")


def write(path: Path, rows: list[dict]) -> Path:
    """With all that JSON lets stand as it is."""
    path.write_bytes("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    return path


def lines(path: Path) -> list[dict]:
    """As a program reads them that splits at whatever Unicode calls the end of a line."""
    text = path.read_bytes().decode()
    assert len(text.splitlines()) == text.count("\n") and "é" in text
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_no_separator_breaks_a_line(tmp_path: Path) -> None:
    rows = [{"id": f"{number}{SEPARATORS}", "prompt": prompt, "reference": "is"} for number, prompt in enumerate(PROMPTS)]
    prompts = write(tmp_path / "prompts.jsonl", rows)
    costs = {"sim-nano|cost_usd": 0.0001, "sim-large|cost_usd": 0.002, "sim-large|quality": 1}
    table = [{"prompt": row["prompt"], "sim-nano|quality": number % 2} | costs for number, row in enumerate(rows)]
    write(tmp_path / "table.jsonl", table)
    assert RoutingTable.load(tmp_path / "table.jsonl").prompts == PROMPTS
    checkpoint, scored = tmp_path / "checkpoint", tmp_path / "scored"
    main(f"train --router prompt_length --table {tmp_path}/table.jsonl --output {checkpoint}".split())
    main(f"route --checkpoint {checkpoint} --prompts {prompts} --budget-usd 1 --output {tmp_path}/routed.jsonl".split())
    assert [{name: row[name] for name in rows[0]} for row in lines(tmp_path / "routed.jsonl")] == rows
    main(f"score --checkpoint {checkpoint} --prompts {prompts} --output {scored} --format jsonl".split())
    assert [row["id"] for row in lines(scored / "shard-00000.jsonl")] == [row["id"] for row in rows]
    with serving_in_thread(SimulationConfig(time_scale=0.0)) as simulation:
        (tmp_path / "models.yaml").write_text(models_yaml(simulation.base_url))
        given = ["--prompts", str(prompts), "--models", str(tmp_path / "models.yaml"), "--budget-usd", "1", "--only", *MODELS]
        main(["run", "--checkpoint", str(checkpoint), "--output", str(tmp_path / "answers.jsonl"), *given])
        main(["collect", "--grader", "regex:pattern=answer (is)", "--output", str(tmp_path / "outcomes.db"), *given])
    answers = lines(tmp_path / "answers.jsonl")
    assert [row["prompt"] for row in answers] == PROMPTS and all(row["answer"] for row in answers)
    assert RoutingTable.load(tmp_path / "outcomes.db").prompts == PROMPTS
    kept = tmp_path / "kept.jsonl"
    main(f"prepare filter --table {tmp_path}/table.jsonl --reference-model sim-nano --count 1 --output {kept}".split())
    assert {row["prompt"] for row in lines(kept)} >= set(PROMPTS[::2])


def test_no_separator_breaks_a_record(tmp_path: Path) -> None:
    with proxy(tmp_path, record="full", record_file=tmp_path / "record.db") as one:
        content = {"model": "auto", "messages": [{"role": "user", "content": PROMPTS[0]}]}
        reply = one.post(json.dumps(content, ensure_ascii=False).encode())
        one.post({"id": reply.headers["x-jaxroute-id"], "quality": 1}, "/v1/feedback")
    assert write_outcomes(tmp_path / "record.db", tmp_path / "outcomes.jsonl") == 1
    [line] = (tmp_path / "outcomes.jsonl").read_bytes().decode().splitlines()
    assert json.loads(line)["prompt"] == PROMPTS[0] == RoutingTable.load(tmp_path / "outcomes.jsonl").prompts[0]
