"""Files of prompts read as a stream: JSON lines, plain text or Parquet, of any size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet

from jaxroute.data.table import is_text
from jaxroute.errors import PromptError

ID_FIELDS = ("query_id", "id")
SUFFIXES = (".jsonl", ".json", ".txt", ".parquet")
ROWS_AT_A_TIME = 1024
SHOWN = 20


class PromptRow(NamedTuple):
    """One prompt as the file has it: not checked, and `prompt` None where there is none."""

    place: str
    """Where in the file, in words."""
    prompt: Any
    id: Any
    id_field: str | None
    """One of ID_FIELDS, where the row has an id."""


@dataclass(frozen=True)
class PromptFile:
    """A file that was read once and found good."""

    path: Path
    rows: int
    id_field: str | None
    """`query_id` or `id`, where the file has one."""
    id_kind: str
    """`integer` where every id is one, else `text`."""

    def read(self, skip: int = 0) -> Iterator[PromptRow]:
        """From row `skip` on, with ids of one kind."""
        for row in read_rows(self.path, skip=skip):
            yield row if self.id_kind == "integer" or row.id is None else row._replace(id=_as_text(row.id))


def check_prompt_file(path: Path) -> PromptFile:
    """Read all of `path` once, keeping nothing. Raises `PromptError` naming the rows that hold no prompt."""
    rows, wrong, count, integers, names = 0, [], 0, True, set()
    for row in read_rows(path):
        rows += 1
        if not isinstance(row.prompt, str) or not row.prompt.strip() or not is_text(row.prompt):
            count += 1
            if len(wrong) < SHOWN:
                wrong.append(row.place)
        if row.id is not None:
            names.add(row.id_field)
            integers &= isinstance(row.id, int) and not isinstance(row.id, bool) and abs(row.id) < 2**63
    if wrong:
        shown = ", ".join(wrong) + (", ..." if count > SHOWN else "")
        raise PromptError(
            f'prompts={str(path)!r}: {count} of {rows} rows have no "prompt" that is text and not empty: {shown}; '
            "correct or drop them"
        )
    if not rows:
        raise PromptError(f"prompts={str(path)!r} holds no prompt")
    id_field = next((name for name in ID_FIELDS if name in names), None)
    return PromptFile(path, rows, id_field, "integer" if integers else "text")


def read_rows(path: Path, *, skip: int = 0) -> Iterator[PromptRow]:
    """Every row, checked for nothing but that the file can be read; blank lines are no rows."""
    if path.suffix not in SUFFIXES:
        raise PromptError(f"prompts={str(path)!r} must end in one of {', '.join(SUFFIXES)}")
    try:
        yield from _parquet(path, skip) if path.suffix == ".parquet" else _lines(path, skip)
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise PromptError(f"prompts={str(path)!r} cannot be read: {error}") from error


def _lines(path: Path, skip: int) -> Iterator[PromptRow]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            if skip:
                skip -= 1
                continue
            place = f"line {number}"
            if path.suffix == ".txt":
                yield PromptRow(place, line.rstrip("\n"), None, None)
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            row = row if isinstance(row, dict) else {}
            field = next((name for name in ID_FIELDS if row.get(name) is not None), None)
            yield PromptRow(place, row.get("prompt"), row[field] if field else None, field)


def _parquet(path: Path, skip: int) -> Iterator[PromptRow]:
    with pyarrow.parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if "prompt" not in names:
            raise PromptError(f"prompts={str(path)!r} has no column 'prompt'; it has {', '.join(names)}")
        field = next((name for name in ID_FIELDS if name in names), None)
        number = 0
        for batch in file.iter_batches(ROWS_AT_A_TIME, columns=["prompt", *([field] if field else [])]):
            if number + len(batch) > skip:
                prompts = batch.column("prompt").to_pylist()
                ids = batch.column(field).to_pylist() if field else [None] * len(batch)
                for place, (prompt, one) in enumerate(zip(prompts, ids), start=number):
                    if place >= skip:
                        yield PromptRow(f"row {place} (the first is 0)", prompt, one, field)
            number += len(batch)


def _as_text(one: Any) -> str:
    return one if isinstance(one, str) else json.dumps(one, default=str)
