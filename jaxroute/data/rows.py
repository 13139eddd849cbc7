"""The rows of a file, one after the other, each with the place where it begins: every format has one reader, here.

CSV, JSON lines, JSON arrays, Parquet, and plain text with a prompt per line. Only a JSON array is held in memory whole.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxroute.errors import JaxrouteError, listed, shortened
from jaxroute.storage.places import readable

LARGEST_CELL = 2**31 - 1
ROWS_AT_A_TIME = 1024
INDEX_COLUMN = re.compile(r"(Unnamed: \d+(_level_\d+)?(\.\d+)?)?|__index_level_\d+__")
"""What pandas calls an index without a name in a CSV, read back from one, and in Parquet: no column of the user's."""


SEPARATORS = (";", "\t")
"""What some programs write between columns in place of commas."""


class Unreadable(JaxrouteError):
    """A file that has no rows to give; says why, without the file's name."""


class Row(NamedTuple):
    """One row; `problem` says why there are no cells where there are none."""

    number: int
    """Its line as a text editor counts them, or the row of a Parquet file, of which the first is 0."""
    cells: dict[str, Any]
    problem: str = ""


def read_rows(
    path: Path, *, suffixes: Sequence[str], columns: Sequence[str] | None = None, read_as: str | None = None
) -> Iterator[Row]:
    """Every row of `path`, by its suffix, which must be one of `suffixes`. Blank lines are none.

    Of Parquet only `columns` are read where they are given, as far as it has them. `read_as` is the suffix that a file whose
    own is wrong should have. Raises `Unreadable`.
    """
    if not path.is_file():
        raise Unreadable("there is no such file" if not path.exists() else "it is a folder, not a file")
    if path.suffix not in suffixes:
        raise Unreadable(f"its suffix is {path.suffix!r}; it must end in one of {', '.join(suffixes)}")
    try:
        if path.suffix == ".parquet":
            yield from _parquet(path, columns)
        else:
            yield from {".csv": _csv, ".jsonl": _json_lines, ".json": _json, ".txt": _text}[read_as or path.suffix](path)
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not UTF-8 ({error.reason}): save it as UTF-8") from error
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error}") from error


def place(path: Path, number: int) -> str:
    """Where a row is, in words."""
    return f"row {number} (the first is 0)" if path.suffix in (".parquet", ".pkl", ".pickle") else f"line {number}"


def is_index_column(name: object) -> bool:
    return isinstance(name, str) and INDEX_COLUMN.fullmatch(name) is not None


def repeated(names: Sequence[str]) -> list[str]:
    """The names that are there more than once, sorted."""
    seen: set[str] = set()
    return sorted({name for name in names if name in seen or seen.add(name)})


def _csv(path: Path) -> Iterator[Row]:
    # The module refuses long cells by a limit for the whole process; prompts and answers can be long.
    limit = csv.field_size_limit(LARGEST_CELL)
    begins = 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = None
            for cells in reader:
                line, begins = begins, reader.line_num + 1
                if not cells:
                    continue
                if header is None:
                    header = cells
                    if len(cells) == 1 and (other := next((mark for mark in SEPARATORS if mark in cells[0]), None)):
                        raise Unreadable(f"line {line}: its columns are separated by {other!r}: save it with commas")
                    if twice := repeated([name for name in header if not is_index_column(name)]):
                        raise Unreadable(f"columns that appear twice: {listed(twice)}")
                elif len(cells) != len(header):
                    yield Row(line, {}, f"has {len(cells)} cells, the header {len(header)}; is the file cut off?")
                else:
                    yield Row(line, {name: cell for name, cell in zip(header, cells) if not is_index_column(name)})
            if header is None:
                raise Unreadable("it is empty")
    except csv.Error as error:
        raise Unreadable(f"line {begins}: it cannot be read as CSV: {error}; is it cut off?") from error
    finally:
        csv.field_size_limit(limit)


def _json_lines(path: Path) -> Iterator[Row]:
    # Only a newline ends a line: JSON may hold the separators U+2028 and U+0085 as they are.
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield _object(number, json.loads(line))
                except (ValueError, RecursionError) as error:
                    yield Row(number, {}, f"is not JSON: {_reason(error)}")


def _json(path: Path) -> Iterator[Row]:
    """An array of objects; JSON lines under this suffix are read too."""
    text = path.read_text(encoding="utf-8-sig")
    position = _past_space(text, 0)
    if text[position : position + 1] != "[":
        _check_is_no_object(text)
        yield from _json_lines(path)
        return
    decoder, line, counted = json.JSONDecoder(), 1, 0
    position = _past_space(text, position + 1)
    while text[position : position + 1] != "]":
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"the entry that begins in line {line} is not JSON: {_reason(error)}; is it cut off?") from error
        yield _object(line, value)
        position = _past_space(text, position)
        if text[position : position + 1] not in (",", "]"):
            raise Unreadable(f"the entry that begins in line {line} is followed by neither a comma nor ]; is the file cut off?")
        if text[position] == ",":
            position = _past_space(text, position + 1)


def _check_is_no_object(text: str) -> None:
    """Raise `Unreadable` for one object over several lines, which as lines would be a mistake each."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(found, dict) and "\n" in text.strip():
        raise Unreadable(
            f"it is one JSON object with {listed(map(shortened, found), 5)}: expected an array of objects, "
            "[{...}, {...}], or one object per line"
        )


def _past_space(text: str, position: int) -> int:
    """The position of the next character that is no white space by JSON's rule."""
    found = re.compile(r"[ \t\r\n]*").match(text, position)
    return found.end() if found else position


def _reason(error: Exception) -> str:
    """Of a JSON text that cannot be read, without the place, which counts otherwise than the file does."""
    return error.msg if isinstance(error, json.JSONDecodeError) else shortened(str(error), quoted=False)


def _object(number: int, value: Any) -> Row:
    if not isinstance(value, dict):
        return Row(number, {}, f"is not a JSON object: {shortened(value)}")
    return Row(number, {name: cell for name, cell in value.items() if not is_index_column(name)})


def _text(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield Row(number, {"prompt": line.rstrip("\n")})


def _parquet(path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(readable(path)) as file:
            names = [name for name in file.schema_arrow.names if not is_index_column(name)]
            if twice := repeated(names):
                raise Unreadable(f"columns that appear twice: {listed(twice)}")
            kept = names if columns is None else [name for name in names if name in columns]
            number = 0
            for batch in file.iter_batches(ROWS_AT_A_TIME, columns=kept):
                for cells in batch.to_pylist() if kept else [{}] * len(batch):
                    yield Row(number, cells)
                    number += 1
    except pyarrow.ArrowException as error:
        raise Unreadable(f"it cannot be read as Parquet: {shortened(str(error), quoted=False)}") from error
