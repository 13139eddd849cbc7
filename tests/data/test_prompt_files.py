"""Several files of prompts are read as one, in the order of their names, and nothing of a folder is left out in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from jaxroute.data.prompt_files import check_prompt_files, prompt_paths
from jaxroute.errors import PromptError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Formats of several kinds, two files of one stem, and what Spark leaves behind."""
    made = tmp_path / "prompts"
    made.mkdir()
    (made / "a.jsonl").write_text("".join(json.dumps({"id": row, "prompt": f"a {row}"}) + "\n" for row in range(3)))
    (made / "a.txt").write_text("text 0\n\ntext 1\n")
    (made / "b.csv").write_text("query_id,prompt\nq7,b 0\n")
    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["c 0", "c 1"]}), made / "c.parquet")
    (made / "_SUCCESS").touch()
    (made / ".c.parquet.crc").touch()
    return made


def test_rows_of_all_files_in_the_order_of_their_names(folder: Path) -> None:
    found = check_prompt_files(folder)
    rows = list(found.read())
    assert [row.prompt for row in rows] == ["a 0", "a 1", "a 2", "text 0", "text 1", "b 0", "c 0", "c 1"]
    assert found.rows == 8 and found.id_field == "query_id"
    assert [row.id for row in rows] == ["0", "1", "2", None, None, "q7", None, None]
    assert rows[3].place == f"{folder}/a.txt, line 1" and rows[7].place == f"{folder}/c.parquet, row 1 (the first is 0)"
    for skip in range(9):
        assert list(found.read(skip)) == rows[skip:]


def test_a_pattern_names_some_of_them(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "d.txt").write_text("deep\n")
    assert [path.name for path in prompt_paths(folder / "*.txt")] == ["a.txt"]
    assert [path.name for path in prompt_paths(folder / "**" / "*.txt")] == ["a.txt", "d.txt"]
    with pytest.raises(PromptError, match="no such file"):
        prompt_paths(folder / "*.json")
    with pytest.raises(PromptError, match=r"not a file of prompts .*: deep\. Name the files"):
        prompt_paths(folder)


def test_a_file_whose_name_holds_a_mark_of_patterns_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "part[1].txt"
    path.write_text("hello\n")
    assert prompt_paths(path) == [path]


def test_what_would_be_left_out_is_named(folder: Path) -> None:
    (folder / "d.jsonl.gz").write_bytes(b"x")
    with pytest.raises(PromptError, match=r"d\.jsonl\.gz"):
        check_prompt_files(folder)


def test_rows_without_a_prompt_are_named_in_every_file(folder: Path) -> None:
    (folder / "b.csv").write_text("query_id,prompt\nq7,\n")
    for name in "defg":
        (folder / f"{name}.jsonl").write_text('{"prompt": "fine"}\n{"prompt": 1}\n')
    with pytest.raises(PromptError, match=r"b\.csv'[^$]*line 2[^$]*d\.jsonl'[^$]*line 2[^$]*e\.jsonl'[^$]*and 2 more files"):
        check_prompt_files(folder)


def test_ids_are_whole_numbers_where_all_are(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "prompt": "one"}\n')
    (tmp_path / "b.jsonl").write_text('{"id": 2, "prompt": "two"}\n')
    found = check_prompt_files(tmp_path)
    assert found.id_kind == "integer" and [row.id for row in found.read()] == [1, 2]
