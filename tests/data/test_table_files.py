"""Anyone's own outcomes: wide and long files, what they may hold, and what is said of wrong ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxroute import RoutingTable, SourceError, load_source
from jaxroute.data.sources import SCHEMA, SOURCES
from jaxroute.data.table import OPTIONAL
from tests.data.written_tables import one_row, refusal, write

WIDE = """\
query_id,domain,prompt,small|quality,small|cost_usd,large|quality,large|cost_usd,small|output_tokens,large|output_tokens
a,law,"Is it, really?",0.5,0.001,1,0.1,12,80
b,,None,,,0.25,0.2,,90
"""
LONG = """\
model,quality,cost_usd,output_tokens,query_id,prompt,domain
small,0.5,0.001,12,a,"Is it, really?",law
large,1,0.1,80,a,"Is it, really?",law
large,0.25,0.2,90,b,None,
"""


# --- what a file may hold ---


def test_wide_and_long_files_give_the_same_table(tmp_path: Path):
    """A row that the long file leaves out is an empty cell of the wide one: never run, so NaN."""
    wide = load_source("table", write(tmp_path, WIDE, "wide.csv"))
    long = load_source("table", write(tmp_path, LONG, "long.csv"))
    for table in (wide, long):
        assert table.models == ["small", "large"]
        assert table.prompts == ["Is it, really?", "None"]
        assert table.query_ids == ["a", "b"]
        assert table.domains == ["law", ""]
        np.testing.assert_array_equal(table.quality, [[0.5, 1.0], [np.nan, 0.25]])
        np.testing.assert_array_equal(table.cost_usd, [[0.001, 0.1], [np.nan, 0.2]])
        np.testing.assert_array_equal(table.output_tokens, [[12.0, 80.0], [np.nan, 90.0]])
        assert table.latency_seconds is None and table.response is None


def test_a_long_file_without_ids_tells_queries_apart_by_prompt(tmp_path: Path):
    """The order is that of first appearance."""
    content = "prompt,model,quality,cost_usd\nzeta,b,1,1\nalpha,a,0,2\nzeta,a,0.5,3\n"
    table = load_source("table", write(tmp_path, content))
    assert (table.prompts, table.models) == (["zeta", "alpha"], ["b", "a"])
    np.testing.assert_array_equal(table.quality, [[1.0, 0.5], [np.nan, 0.0]])


def test_the_same_prompt_may_be_two_queries_when_ids_say_so(tmp_path: Path):
    content = "query_id,prompt,model,quality,cost_usd\n1,same,a,1,1\n2,same,a,0,1\n"
    table = load_source("table", write(tmp_path, content))
    assert (table.prompts, table.query_ids) == (["same", "same"], ["1", "2"])
    assert table.quality[:, 0].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("True", 1.0), ("FALSE", 0.0), (" true ", 1.0), ("1", 1.0), ("2.5e-1", 0.25), ("", np.nan), ("NaN", np.nan)],
)
def test_a_quality_may_be_written_in_many_ways(tmp_path: Path, cell: str, expected: float):
    table = load_source("table", write(tmp_path, one_row(**{"small|quality": cell})))
    np.testing.assert_array_equal(table.quality, [[expected]])


@pytest.mark.parametrize("prompt", ["None", "nan", "NULL", "true", "007", "1e5"])
def test_a_prompt_stays_text_whatever_it_says(tmp_path: Path, prompt: str):
    assert load_source("table", write(tmp_path, one_row(prompt=prompt))).prompts == [prompt]


def test_json_lines_may_leave_cells_out(tmp_path: Path):
    """Absent, null and NaN are the same; booleans, whole numbers and blank lines are fine."""
    rows = [
        {"prompt": "one", "small|quality": True, "small|cost_usd": 1, "large|quality": 0.5, "large|cost_usd": 2},
        {"prompt": "two", "small|quality": None, "large|quality": 1, "large|cost_usd": 2.5},
        {"prompt": "drei\u2028ß", "small|quality": float("nan"), "large|quality": False, "large|cost_usd": 0},
    ]
    content = "\n\n".join(json.dumps(row, ensure_ascii=True) for row in rows)
    table = load_source("table", write(tmp_path, content, "mine.jsonl"))
    assert table.prompts == ["one", "two", "drei\u2028ß"]
    np.testing.assert_array_equal(table.quality, [[1.0, 0.5], [np.nan, 1.0], [np.nan, 0.0]])
    np.testing.assert_array_equal(table.cost_usd, [[1.0, 2.0], [np.nan, 2.5], [np.nan, 0.0]])


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_a_line_of_json_ends_at_a_newline_only(tmp_path: Path, separator: str):
    """JSON allows these characters inside a text, unescaped; writers that keep unicode leave them there."""
    row = {"prompt": f"one{separator}two", "small|quality": 1, "small|cost_usd": 1}
    file = write(tmp_path, json.dumps(row, ensure_ascii=False) + "\n", "mine.jsonl")
    assert load_source("table", file).prompts == [f"one{separator}two"]


def test_a_file_from_a_spreadsheet_may_begin_with_a_mark(tmp_path: Path):
    """Excel begins UTF-8 files with a byte order mark, ends lines with two characters, and knows true."""
    file = tmp_path / "mine.csv"
    file.write_bytes(b"\xef\xbb\xbf" + one_row(**{"small|quality": "TRUE"}).replace("\n", "\r\n").encode())
    table = load_source("table", file)
    assert (table.prompts, table.quality.tolist()) == (["What?"], [[1.0]])


def test_parquet_of_many_types_is_read(tmp_path: Path):
    """Booleans, integers, small floats and nullable columns all become float64."""
    frame = pd.DataFrame(
        {
            "prompt": ["one", "two"],
            "a|quality": [True, False],
            "a|cost_usd": np.array([1, 2], np.int32),
            "b|quality": pd.array([0.5, None], "Float64"),
            "b|cost_usd": np.array([0.5, np.nan], np.float32),
            "a|response": ["yes", None],
            "b|response": ["no", ""],
        }
    )
    frame.to_parquet(tmp_path / "mine.parquet")
    table = load_source("table", tmp_path / "mine.parquet")
    assert table.quality.dtype == table.cost_usd.dtype == np.float64
    np.testing.assert_array_equal(table.quality, [[1.0, 0.5], [0.0, np.nan]])
    assert table.response is not None and table.response.tolist() == [["yes", "no"], ["", ""]]


def test_a_log_likelihood_may_be_negative_and_a_latency_may_not(tmp_path: Path):
    cells = {"small|log_likelihood": "-3.5", "small|latency_seconds": "2"}
    table = load_source("table", write(tmp_path, one_row(**cells)))
    assert table.log_likelihood is not None and table.log_likelihood.tolist() == [[-3.5]]
    message = refusal(write(tmp_path, one_row(**cells | {"small|latency_seconds": "-2"})))
    assert "'small|latency_seconds'" in message and "at least 0" in message


def test_the_printed_schema_names_every_column():
    """A newcomer who follows what `jaxroute sources` prints misses none of the columns that are read."""
    for name in ("prompt", "model", "query_id", "domain", "quality", "cost_usd", *OPTIONAL):
        assert name in SCHEMA
    assert SOURCES["table"].load is not None


# --- what is refused ---


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "empty"),
        ("prompt,small|quality,small|cost_usd\n", "no rows"),
        ("prompt,answer\nWhat?,B\n", "names no model"),
        ("prompt,small|quality\nWhat?,1\n", "missing columns: small|cost_usd"),
        (one_row(mood="gay"), "unknown columns: mood"),
        (one_row(**{"large|cost_usd": "1"}), "unknown columns: large|cost_usd"),
        (one_row(**{"small|quality": "1.5"}), "must be at most 1"),
        (one_row(**{"small|quality": "-0.1"}), "must be at least 0"),
        (one_row(**{"small|quality": "good"}), "'good' is not a number"),
        (one_row(**{"small|cost_usd": "-1"}), "must be at least 0"),
        (one_row(**{"small|cost_usd": "inf"}), "must be finite"),
        (one_row(**{"small|cost_usd": ""}), "line 2, column 'small|cost_usd' is empty where the model was run"),
        (one_row(prompt=" "), "'prompt' is empty"),
        (one_row() + "Why?,1\n", "line 3 has 2 cells"),
        (one_row() + '"Why?,1,1\n', "cut off"),
        ("prompt,prompt,small|quality,small|cost_usd\na,b,1,1\n", "appear twice: prompt"),
        ("query_id,prompt,s|quality,s|cost_usd\n7,a,1,1\n7,b,1,1\n", "line 3: the query '7' is also in line 2"),
        ("prompt,model,quality\na,small,1\n", "missing columns: cost_usd"),
        ("prompt,model,quality,cost_usd,mood\na,small,1,1,gay\n", "unknown columns: mood"),
        (
            "prompt,model,quality,cost_usd\na,small,1,1\na,small,0,1\n",
            "line 3: model 'small' on the query 'a' is also in line 2",
        ),
        ("query_id,prompt,model,quality,cost_usd\n1,a,s,1,1\n1,b,t,1,1\n", "another prompt"),
        ("prompt,model,quality,cost_usd\na,,1,1\n", "'model' is empty"),
        (WIDE.replace(",large|output_tokens", "").replace(",80", "").replace(",90", ""), "not for large"),
    ],
)
def test_a_file_that_does_not_fit_the_schema_is_refused(tmp_path: Path, content: str, named: str):
    file = write(tmp_path, content)
    message = refusal(file)
    assert str(file) in message
    assert named in message


def test_several_problems_are_reported_in_one_message(tmp_path: Path):
    """Columns first, since cells cannot be judged without them; then every column with a wrong cell."""
    message = refusal(write(tmp_path, "prompt,small|quality,mood\nWhat?,1,gay\n"))
    assert "missing columns: small|cost_usd" in message and "unknown columns: mood" in message
    message = refusal(write(tmp_path, one_row() + "Why?,good,-1\n,2,1\n"))
    for named in ("'good' is not a number", "-1.0 must be at least 0", "line 4, column 'prompt' is empty"):
        assert named in message


def test_every_short_row_is_named(tmp_path: Path):
    message = refusal(write(tmp_path, one_row() + "a,1\nb,1,1\nc\n"))
    assert "line 3 has 2 cells" in message and "line 5 has 1 cells" in message
    assert "line 4" not in message


@pytest.mark.parametrize("content", ['{"prompt": "cut of', "[1, 2]\n", '"text"\n', "prompt,quality\n"])
def test_lines_that_are_no_json_objects_are_refused(tmp_path: Path, content: str):
    """A good line before them does not help; both the line and the reason are reported."""
    good = json.dumps({"prompt": "What?", "small|quality": 1, "small|cost_usd": 1})
    assert "line 2 is not" in refusal(write(tmp_path, f"{good}\n{content}", "mine.jsonl"))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_text_that_is_not_utf8_is_refused(tmp_path: Path, suffix: str):
    """An old editor's file is distinguished from a good one, not read as something else."""
    row = json.dumps({"prompt": "café", "small|quality": 1, "small|cost_usd": 1}, ensure_ascii=False)
    file = tmp_path / f"mine{suffix}"
    file.write_bytes((one_row(prompt="café") if suffix == ".csv" else row).encode("latin-1"))
    assert str(file) in refusal(file)


def test_parquet_that_is_cut_off_or_foreign_is_refused(tmp_path: Path):
    file = tmp_path / "mine.parquet"
    load_source("table", write(tmp_path, WIDE)).save(file)
    whole = file.read_bytes()
    for content in (whole[:-10], whole[: len(whole) // 2], b"", WIDE.encode()):
        file.write_bytes(content)
        assert "cannot be read as Parquet" in refusal(file)


@pytest.mark.parametrize("column", ["prompt", "domain", "small|quality", "small|response"])
def test_a_list_in_a_cell_of_parquet_is_refused(tmp_path: Path, column: str):
    """Lists are no texts, and no chat messages unless they hold objects with role and content."""
    cells = {"prompt": "What?", "domain": "law", "small|quality": 1.0, "small|cost_usd": 1.0, "small|response": "so"}
    pd.DataFrame([cells | {column: ["a", "b"]}]).to_parquet(tmp_path / "mine.parquet")
    assert column in refusal(tmp_path / "mine.parquet")


def test_a_path_that_is_no_file_or_of_no_known_format_is_refused(tmp_path: Path):
    assert "no such file" in refusal(tmp_path / "nowhere.csv")
    assert "folder" in refusal(tmp_path)
    assert ".parquet" in refusal(write(tmp_path, WIDE, "mine.tsv"))


def test_a_source_that_nobody_knows_is_refused_with_the_known_names():
    with pytest.raises(SourceError) as caught:
        load_source("routerbank", "somewhere")
    for name in SOURCES:
        assert name in str(caught.value)


def test_a_source_that_needs_a_path_says_which():
    for name in SOURCES:
        if name == "simulated":
            assert isinstance(load_source(name, queries=3), RoutingTable)
        else:
            with pytest.raises(SourceError, match="needs a path"):
                load_source(name)
