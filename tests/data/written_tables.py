"""Small tables of outcomes as files, and what is said of a wrong one."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from jaxroute import SourceError, load_source


def write(folder: Path, content: str, name: str = "mine.csv") -> Path:
    file = folder / name
    file.write_text(content, encoding="utf-8")
    return file


def refusal(file: Path) -> str:
    with pytest.raises(SourceError) as caught:
        load_source("table", file)
    return str(caught.value)


def one_row(**cells: str) -> str:
    """A wide CSV of one model and one row."""
    row = {"prompt": "What?", "small|quality": "1", "small|cost_usd": "0.1"} | cells
    return ",".join(row) + "\n" + ",".join(row.values()) + "\n"


def lines(folder: Path, *rows: dict, suffix: str = ".jsonl") -> Path:
    """Rows of one model, right for a dollar, with what is given changed."""
    whole = [{"prompt": f"q{number}", "small|quality": 1, "small|cost_usd": 1} | row for number, row in enumerate(rows)]
    if suffix == ".parquet":
        file = folder / "mine.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(whole), file)
        return file
    return write(folder, "".join(json.dumps(row) + "\n" for row in whole), "mine.jsonl")
