"""Files of prompts: every command reads every format, and gets the same prompts, ids, domains and fields from each."""

from __future__ import annotations

import csv
import datetime
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from jaxroute.data.prompts import SUFFIXES, check_prompt_file, read_prompts, read_rows
from jaxroute.errors import PromptError

ROWS = [
    {"id": 7, "prompt": "What is 2+2?", "domain": "sums", "note": "easy"},
    {"id": 8, "prompt": "Name three rivers,\nin order.", "domain": "", "note": "a, b"},
]
CHAT = [{"role": "user", "content": "What is 2+2?"}]


def write(path: Path, rows: list[dict]) -> Path:
    """The rows in the format of the suffix."""
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def refusal(path: Path) -> str:
    """The same from both readers."""
    said = []
    for read in (read_prompts, check_prompt_file):
        with pytest.raises(PromptError) as caught:
            read(path)
        said.append(str(caught.value))
    assert said[0] == said[1]
    return said[0]


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".txt"])
def test_every_format_gives_the_same_prompts(tmp_path: Path, suffix: str):
    """Ids of a CSV are texts, as all its cells."""
    path = write(tmp_path / f"prompts{suffix}", ROWS)
    found = read_prompts(path)
    assert found.texts == [row["prompt"] for row in ROWS]
    assert found.domains == found.queries.domains == ["sums", ""]
    expected = [row | {"id": str(row["id"])} for row in ROWS] if suffix == ".csv" else ROWS
    assert found.fields == expected
    checked = check_prompt_file(path)
    assert (checked.rows, checked.id_field) == (2, "id")
    assert [row.prompt for row in checked.read()] == found.texts
    assert [row.id for row in checked.read(skip=1)] == ["8" if suffix == ".csv" else 8]


def test_a_text_file_has_a_prompt_per_line(tmp_path: Path):
    path = tmp_path / "prompts.txt"
    path.write_text("one\n\n two \n")
    assert read_prompts(path).fields == [{"prompt": "one"}, {"prompt": " two "}]


@pytest.mark.parametrize(
    "row",
    [{"prompt": CHAT}, {"messages": CHAT}, {"custom_id": "r1", "method": "POST", "body": {"model": "m", "messages": CHAT}}],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_chat_messages_are_prompts_wherever_they_stand(tmp_path: Path, suffix: str, row: dict):
    """And are written back as they were."""
    found = read_prompts(write(tmp_path / f"prompts{suffix}", [row]))
    assert found.texts == ["What is 2+2?"]
    assert found.fields == [row]


def test_a_csv_holds_messages_as_json_text(tmp_path: Path):
    path = write(tmp_path / "prompts.csv", [{"custom_id": "r1", "messages": json.dumps(CHAT)}])
    assert read_prompts(path).texts == ["What is 2+2?"]
    assert check_prompt_file(path).id_field == "custom_id"


def test_a_custom_id_is_the_id(tmp_path: Path):
    path = write(tmp_path / "batch.jsonl", [{"custom_id": f"r{row}", "body": {"messages": CHAT}} for row in range(3)])
    assert [row.id for row in check_prompt_file(path).read()] == ["r0", "r1", "r2"]


def test_bytes_of_parquet_are_text(tmp_path: Path):
    path = write(tmp_path / "prompts.parquet", [{"query_id": b"a", "prompt": "größer".encode(), "domain": b"law"}])
    found = read_prompts(path)
    assert (found.texts, found.domains) == (["größer"], ["law"])
    assert found.fields == [{"query_id": "a", "prompt": "größer", "domain": "law"}]
    assert next(check_prompt_file(path).read()).id == "a"


def test_further_fields_can_be_written_as_json(tmp_path: Path):
    """Dates, bytes and numbers that JSON lacks become texts or null."""
    row = {"prompt": "Hi", "day": datetime.date(2026, 1, 2), "raw": b"\xff", "score": float("nan"), "list": [1, None]}
    found = read_prompts(write(tmp_path / "prompts.parquet", [row])).fields[0]
    assert found == {"prompt": "Hi", "day": "2026-01-02", "raw": "\\xff", "score": None, "list": [1, None]}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_index_that_pandas_writes_is_no_field(tmp_path: Path):
    path = tmp_path / "prompts.csv"
    path.write_text(",prompt\n0,one\n1,two\n")
    assert read_prompts(path).fields == [{"prompt": "one"}, {"prompt": "two"}]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_files_are_read_from_any_row_on(tmp_path: Path, suffix: str):
    path = write(tmp_path / f"prompts{suffix}", [{"prompt": f"prompt {number}"} for number in range(1100)])
    rows = list(read_rows(path))
    for skip in (0, 1, 1024, 1099, 1100):
        assert list(read_rows(path, skip=skip)) == rows[skip:]


# --- what is wrong ---


def test_a_wrong_row_of_a_csv_is_named_by_the_line_where_it_begins(tmp_path: Path):
    """Quoted newlines and blank lines count, as in a text editor."""
    path = tmp_path / "prompts.csv"
    path.write_text('id,prompt\n1,"one\ntwo\nthree"\n\n2, \n3,"fine\nagain"\n4\n')
    message = refusal(path)
    assert "2 of 4 rows" in message
    assert "line 6: prompt is empty" in message and "line 9: has 1 cells, the header 2" in message


def test_a_wrong_row_of_an_array_is_named_by_the_line_where_it_begins(tmp_path: Path):
    path = tmp_path / "prompts.json"
    path.write_text('[\n {"prompt": "one"},\n {\n  "prompt": 7\n },\n "two"\n]\n')
    message = refusal(path)
    assert "line 3: prompt is neither a text nor a list of chat messages: 7" in message
    assert "line 6: is not a JSON object: 'two'" in message


def test_a_wrong_row_of_parquet_is_named_by_its_number(tmp_path: Path):
    path = write(tmp_path / "prompts.parquet", [{"prompt": text} for text in ("one", None, "three", " ")])
    message = refusal(path)
    assert "row 1 (the first is 0): prompt is empty" in message and "row 3 (the first is 0)" in message


@pytest.mark.parametrize("prompt", [7, 2.5, True, None, ["a"], {"a": 1}, [{"role": "nobody", "content": "x"}]])
def test_a_cell_that_is_no_text_is_no_prompt(tmp_path: Path, prompt: object):
    assert "line 2: prompt " in refusal(write(tmp_path / "prompts.jsonl", [{"prompt": "fine"}, {"prompt": prompt}]))


@pytest.mark.parametrize(
    ("field", "cell"),
    [("id", True), ("id", 2.5), ("query_id", ["a"]), ("custom_id", {"a": 1}), ("domain", 7), ("domain", True)],
)
def test_an_id_is_a_text_or_a_whole_number_and_a_domain_a_text(tmp_path: Path, field: str, cell: object):
    message = refusal(write(tmp_path / "prompts.jsonl", [{"prompt": "fine", field: cell}]))
    assert f"line 1: {field}={cell!r} is n" in message


def test_a_million_wrong_rows_are_counted_and_not_all_printed(tmp_path: Path):
    message = refusal(write(tmp_path / "prompts.jsonl", [{"prompt": "", "id": number} for number in range(3000)]))
    assert "3,000 of 3,000 rows" in message and "and 2,980 more" in message
    assert len(message.splitlines()) < 30


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_without_a_column_of_prompts_says_which_it_has(tmp_path: Path, suffix: str):
    assert "no column 'prompt' or 'messages'; it has id, question" in refusal(
        write(tmp_path / f"prompts{suffix}", [{"id": 1, "question": "why?"}])
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.csv", b"", "it is empty"),
        ("empty.json", b"[]", "holds no prompt"),
        ("header.csv", b"prompt\n", "holds no prompt"),
        ("latin.csv", "prompt\ncafé\n".encode("latin-1"), "not UTF-8"),
        ("torn.csv", b'prompt\n"one', "line 2: it cannot be read as CSV"),
        ("torn.json", b'[{"prompt": "one"},\n{"prom', "the entry that begins in line 2 is not JSON"),
        ("open.json", b'[{"prompt": "one"}\n', "followed by neither a comma nor ]"),
        ("torn.parquet", b"PAR1", "cannot be read as Parquet"),
        ("twice.csv", b"prompt,prompt\na,b\n", "columns that appear twice: prompt"),
        ("prompts.xlsx", b"PK", "must end in one of .jsonl"),
    ],
)
def test_files_that_hold_no_prompts(tmp_path: Path, name: str, content: bytes, said: str):
    (tmp_path / name).write_bytes(content)
    message = refusal(tmp_path / name)
    assert said in message and name in message


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path):
    assert "no such file" in refusal(tmp_path / "nowhere.jsonl")
    assert "folder" in refusal(tmp_path)
