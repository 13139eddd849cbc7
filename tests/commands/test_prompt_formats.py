"""One prompt in every format, through every command that reads prompts: the same decision everywhere."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from jaxroute.cli import main
from jaxroute.errors import JaxrouteError

CHAT = [{"role": "user", "content": "What is 2+2?"}]
PLAIN = [
    {"id": "a", "prompt": "What is 2+2?", "note": "short"},
    {"id": "b", "prompt": "Name every river. " * 20, "note": "long"},
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A router by prompt length, which needs no encoder, trained on chats: the large model is needed for long ones."""
    folder = tmp_path_factory.mktemp("formats")
    rows = []
    for number in range(40):
        chat = [{"role": "user", "content": f"question {number} " + "river " * (number % 2 * 40)}]
        costs = {"small|cost_usd": 0.0001, "large|cost_usd": 0.002}
        rows.append({"messages": chat, "small|quality": 1 - number % 2, "large|quality": 1} | costs)
    (folder / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(f"train --router prompt_length --table {folder}/table.jsonl --output {folder}/checkpoint".split())
    return folder / "checkpoint"


def write(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def routed(checkpoint: Path, prompts: Path) -> list[dict]:
    output = prompts.with_name("assignment.jsonl")
    main(f"route --checkpoint {checkpoint} --prompts {prompts} --budget-usd 0.0021 --output {output}".split())
    return [json.loads(line) for line in output.read_text().splitlines()]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_route_and_score_read_every_format(checkpoint: Path, tmp_path: Path, suffix: str):
    """The long prompt gets the large model, and what stood in its row comes back."""
    prompts = write(tmp_path / f"prompts{suffix}", PLAIN)
    found = routed(checkpoint, prompts)
    assert [row["model"] for row in found] == ["small", "large"]
    assert [{name: row[name] for name in PLAIN[0]} for row in found] == PLAIN
    main(f"score --checkpoint {checkpoint} --prompts {prompts} --output {tmp_path}/scored".split())
    scored = pyarrow.parquet.read_table(tmp_path / "scored" / "shard-00000.parquet").to_pylist()
    assert [row["id"] for row in scored] == ["a", "b"]
    assert [row[given["model"]] for row, given in zip(scored, found)] == pytest.approx(
        [row["estimate"] for row in found], abs=1e-6
    )


def test_a_batch_file_is_routed_and_scored_as_the_plain_prompts_are(checkpoint: Path, tmp_path: Path):
    batch = [
        {"custom_id": row["id"], "method": "POST", "body": {"messages": [{"role": "user", "content": row["prompt"]}]}}
        for row in PLAIN
    ]
    plain, found = (
        routed(checkpoint, write(tmp_path / "p.jsonl", PLAIN)),
        routed(checkpoint, write(tmp_path / "b.jsonl", batch)),
    )
    decided = ("model", "estimate", "cost_usd")
    assert [[row[name] for name in decided] for row in found] == [[row[name] for name in decided] for row in plain]
    assert [row["custom_id"] for row in found] == ["a", "b"] and found[0]["body"] == batch[0]["body"]
    main(f"score --checkpoint {checkpoint} --prompts {tmp_path}/b.jsonl --output {tmp_path}/scored --format jsonl".split())
    rows = [json.loads(line) for line in (tmp_path / "scored" / "shard-00000.jsonl").read_text().splitlines()]
    assert [row["custom_id"] for row in rows] == ["a", "b"]


def test_only_the_checkpoints_models_matter_in_a_price_list(checkpoint: Path, tmp_path: Path):
    """A list that lacks one says which; this router takes no prices, which is said after the list was found good."""
    prices = tmp_path / "prices.json"
    prompts = write(tmp_path / "p.jsonl", PLAIN)
    prices.write_text('{"small": {"input": 1, "output": 1}, "embedding": {"input_cost_per_token": 1}}')
    with pytest.raises(JaxrouteError, match="no price for large; the list has: small, embedding"):
        main(f"route --checkpoint {checkpoint} --prompts {prompts} --budget-usd 1 --prices {prices}".split())


def test_training_takes_dollars_from_a_price_list_where_a_table_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With tokens and prices the table is whole, and training begins; without prices it is refused, with what to do."""
    rows = [
        {"prompt": f"q{number}", "model": model, "quality": number % 2, "input_tokens": 10, "output_tokens": 20}
        for number in range(20)
        for model in ("small", "large")
    ]
    table = write(tmp_path / "table.jsonl", rows)
    prices = tmp_path / "prices.json"
    prices.write_text('{"small": {"input": 0.2, "output": 0.6}, "large": {"input": 10, "output": 30}}')
    begun = []
    monkeypatch.setattr("jaxroute.commands.train.train", lambda table, *_, **__: begun.append(table) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(f"train --table {table} --prices {prices} --output {tmp_path}/checkpoint".split())
    assert begun[0].cost_usd[0].tolist() == pytest.approx([1.4e-5, 7e-4])
    with pytest.raises(JaxrouteError, match="--prices"):
        main(f"train --table {table} --output {tmp_path}/checkpoint".split())
