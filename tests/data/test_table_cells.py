"""Cells, headers and messages of a table of outcomes: which are read, and with which place a wrong one is named."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from jaxroute import load_source
from tests.data.written_tables import lines, one_row, refusal, write


def test_bytes_of_parquet_are_decoded(tmp_path: Path):
    """Writers that know no text type store UTF-8 bytes; they are texts, not `b'...'`."""
    cells = {"prompt": "größer".encode(), "query_id": b"a", "domain": b"law", "small|response": b"yes"}
    table = load_source("table", lines(tmp_path, cells, suffix=".parquet"))
    assert (table.prompts, table.query_ids, table.domains) == (["größer"], ["a"], ["law"])
    assert table.response is not None and table.response.tolist() == [["yes"]]


@pytest.mark.parametrize("column", ["prompt", "domain", "small|response", "query_id"])
@pytest.mark.parametrize("cell", [2.5, True, ["a"], {"a": 1}])
def test_a_cell_that_is_no_text_is_refused_with_its_place(tmp_path: Path, column: str, cell: object):
    message = refusal(lines(tmp_path, {column: "fine"}, {column: cell}))
    assert f"line 2, column '{column}'" in message and repr(cell).strip("[]{}")[:3] in message


@pytest.mark.parametrize("column", ["prompt", "domain", "small|response", "query_id"])
def test_bytes_that_are_no_text_are_refused_with_their_place(tmp_path: Path, column: str):
    message = refusal(lines(tmp_path, {column: b"fine"}, {column: b"\xff"}, suffix=".parquet"))
    assert f"row 1 (the first is 0), column '{column}'" in message


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_an_id_may_be_a_whole_number(tmp_path: Path, suffix: str):
    assert load_source("table", lines(tmp_path, {"query_id": 7}, {"query_id": 2**62 + 1}, suffix=suffix)).query_ids == [
        "7",
        str(2**62 + 1),
    ]


def test_a_model_is_named_by_a_text(tmp_path: Path):
    row = {"prompt": "q", "model": 7, "quality": 1, "cost_usd": 1}
    assert "line 1, column 'model': 7 is not a text" in refusal(write(tmp_path, json.dumps(row), "mine.jsonl"))


# --- places ---


def test_a_wrong_cell_of_a_long_file_is_named_as_the_file_has_it(tmp_path: Path):
    """By the line in which its row begins, counting the header, blank lines and quoted newlines, and by its own column."""
    content = 'prompt,model,quality,cost_usd\n"a\nb",small,1,0.1\n\nc,small,0,0.1\n"a\nb",large,1,1\nc,large,1.5,-1\n'
    message = refusal(write(tmp_path, content))
    assert "line 8, column 'quality': 1.5 must be at most 1.0" in message
    assert "line 8, column 'cost_usd': -1.0 must be at least 0.0" in message
    assert "|" not in message


def test_a_missing_cost_is_named_as_the_file_has_it(tmp_path: Path):
    content = "prompt,model,quality,cost_usd\na,small,1,0.1\na,large,1,\nb,small,,\nb,large,1,\n"
    assert "line 3, column 'cost_usd' is empty where the model was run (2 such cells)" in refusal(write(tmp_path, content))


def test_a_wrong_line_of_json_is_named_by_its_number(tmp_path: Path):
    file = lines(tmp_path, {}, {"small|quality": "good"})
    file.write_text("\n" + file.read_text().replace("\n", "\n\n"))
    assert "line 4, column 'small|quality': 'good' is not a number" in refusal(file)


# --- headers ---


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "Unnamed: 0.1"])
def test_the_index_column_of_pandas_is_ignored(tmp_path: Path, name: str):
    content = f"{name},prompt,small|quality,small|cost_usd\n0,one,1,1\n1,two,0,1\n"
    assert load_source("table", write(tmp_path, content)).prompts == ["one", "two"]


def test_an_index_in_parquet_is_ignored_where_it_has_no_name(tmp_path: Path):
    """And read where it has one."""
    frame = pd.DataFrame({"prompt": ["one", "two"], "a|quality": [1.0, 0.0], "a|cost_usd": [1.0, 1.0]}, index=pd.Index([5, 9]))
    frame.to_parquet(tmp_path / "mine.parquet")
    assert load_source("table", tmp_path / "mine.parquet").query_ids == ["0", "1"]
    frame.rename_axis("query_id").to_parquet(tmp_path / "mine.parquet")
    assert load_source("table", tmp_path / "mine.parquet").query_ids == ["5", "9"]


def test_an_unknown_column_is_named_beside_what_it_may_mean(tmp_path: Path):
    message = refusal(write(tmp_path, "promt,small|quality,small|cost\nWhat?,1,1\n"))
    assert "unknown columns: promt, small|cost" in message
    assert "perhaps you mean prompt for promt, small|cost_usd for small|cost; rename or remove them" in message


def test_a_thousand_unknown_columns_are_counted(tmp_path: Path):
    message = refusal(write(tmp_path, one_row(**{f"feature {number}": "1" for number in range(1000)})))
    assert "and 988 more" in message and len(message) < 3000


# --- chat messages and arrays ---


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".parquet"])
def test_a_table_may_hold_chat_messages(tmp_path: Path, suffix: str):
    """A single user turn equals the plain prompt; a CSV has the messages as JSON text."""
    chats = [
        [{"role": "user", "content": "What is 2+2?"}],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
    ]
    rows = [{"messages": chat, "small|quality": 1, "small|cost_usd": 1} for chat in chats]
    file = tmp_path / f"mine{suffix}"
    if suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    elif suffix == ".csv":
        pd.DataFrame([row | {"messages": json.dumps(row["messages"])} for row in rows]).to_csv(file)
    else:
        file.write_text(json.dumps(rows) if suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows))
    assert load_source("table", file).prompts == ["What is 2+2?", "system: Be brief.\n\nuser: Why?"]


def test_a_long_file_tells_chats_apart_by_their_text(tmp_path: Path):
    """Equal conversations are one query, however their JSON is written."""
    rest = '"quality": 1, "cost_usd": 2}'
    rows = [
        '{"prompt": [{"role": "user", "content": "Hi"}], "model": "small", ' + rest,
        '{"prompt": [{"content": [{"type": "text", "text": "Hi"}], "role": "user"}], "model": "large", ' + rest,
    ]
    table = load_source("table", write(tmp_path, "\n".join(rows), "mine.jsonl"))
    assert (table.prompts, table.quality.tolist()) == (["Hi"], [[1.0, 1.0]])


def test_messages_that_are_no_json_are_refused_with_their_place(tmp_path: Path):
    message = refusal(write(tmp_path, "messages,small|quality,small|cost_usd\nHello,1,1\n"))
    assert "line 2, column 'messages' is not JSON: 'Hello'" in message
