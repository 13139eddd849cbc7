"""Columns of files that may be wrong: every problem is collected with its place, then reported in one message."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from jaxroute.data.messages import PROMPT_FIELDS, prompt_field, row_prompt
from jaxroute.data.rows import Unreadable, is_index_column, place, read_rows, repeated
from jaxroute.errors import PromptError, SourceError, counted, listed, shortened

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".jsonl", ".json", ".parquet")
SHOWN = 20
MOST_CHARACTERS = 2000
MOST_COMPARED = 1000
EMPTY = {"", "nan", "none", "null"}
TRUTH = {"true": 1.0, "false": 0.0}


class Problems:
    """Everything that is wrong with one file or folder."""

    def __init__(self, path: Path, expected: str):
        self.path, self.expected, self.found = path, expected, []

    def add(self, problem: str) -> None:
        self.found.append(shortened(problem, MOST_CHARACTERS, quoted=False))

    def stop(self) -> None:
        """Raise `SourceError` if anything was added."""
        if self.found:
            shown = "".join(f"\n  - {problem}" for problem in self.found[:SHOWN])
            more = f"\n  - and {len(self.found) - SHOWN:,} more" if len(self.found) > SHOWN else ""
            raise SourceError(f"{self.path} is not {self.expected}:{shown}{more}")


@dataclass(frozen=True)
class Sheet:
    """Cells by column, and where each row is in the file."""

    path: Path
    columns: dict[str, Any]
    """Lists of cells as the file has them, or arrays of numbers; without the index column that pandas writes."""
    numbers: Sequence[int]
    """Of every row: its line, or its row in Parquet."""

    def __len__(self) -> int:
        return len(self.numbers)

    def place(self, row: int) -> str:
        return place(self.path, self.numbers[row])

    def cell(self, row: int, column: str) -> str:
        """Where a cell is, in words."""
        return f"{self.place(row)}, column {column!r}"

    @staticmethod
    def of_frame(path: Path, frame: pd.DataFrame) -> Sheet:
        cells = {str(name): frame[name].astype(object) for name in frame.columns if not is_index_column(name)}
        columns = {name: column.where(column.notna(), None).tolist() for name, column in cells.items()}
        return Sheet(path, columns, range(len(frame)))


def read_sheet(path: Path, problems: Problems) -> Sheet:
    """All of a CSV (cells as texts), JSON lines, JSON or Parquet file; what is wrong goes to `problems`, which then stops."""
    sheet = Sheet(path, {}, [])
    try:
        sheet = _parquet(path) if path.suffix == ".parquet" and path.is_file() else _by_rows(path, problems)
    except Unreadable as error:
        problems.add(str(error))
    if not problems.found and not len(sheet):
        problems.add("it has no rows")
    problems.stop()
    return sheet


def read_json(path: Path, problems: Problems) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        problems.add(f"it cannot be read as JSON: {error}")
        problems.stop()


def numbers(
    sheet: Sheet,
    column: str,
    problems: Problems,
    *,
    lowest: float | None = 0.0,
    highest: float | None = None,
    hint: str = "",
) -> Float[np.ndarray, " queries"]:
    """The column as float64; empty cells are NaN, True and False are 1 and 0, anything else is a problem.

    `hint` says what to do about cells outside the limits.
    """
    cells = sheet.columns[column]
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiub":
        values = cells.astype(np.float64)
    else:
        values = np.array([_number(cell) for cell in cells], dtype=object)
        wrong = [row for row, value in enumerate(values) if value is None]
        if wrong:
            shown = shortened(cells[wrong[0]])
            problems.add(f"{sheet.cell(wrong[0], column)}: {shown} is not a number ({such_cells(len(wrong))})")
            return np.full(len(sheet), np.nan)
        values = values.astype(np.float64)
    for outside, rule in (
        (np.isinf(values), "must be finite"),
        (values < (-np.inf if lowest is None else lowest), f"must be at least {lowest}"),
        (values > (np.inf if highest is None else highest), f"must be at most {highest}"),
    ):
        if outside.any():
            row = int(np.argmax(outside))
            problems.add(f"{sheet.cell(row, column)}: {values[row]} {rule} ({such_cells(int(outside.sum()))}){hint}")
    return values


def texts(sheet: Sheet, column: str, problems: Problems, *, allow_empty: bool = False) -> list[str]:
    """The column as texts, bytes decoded as UTF-8; a cell that is no text, or empty where not allowed, is a problem."""
    return _texts(sheet, column, problems, as_text, "a text", allow_empty)


def names(sheet: Sheet, column: str, problems: Problems) -> list[str]:
    """A column that identifies rows: as `texts`, and whole numbers are names too. An empty cell is a problem."""
    return _texts(sheet, column, problems, as_name, "a text or a whole number", False)


def prompts(sheet: Sheet, problems: Problems) -> list[str]:
    """Every row's prompt, texts or chat messages rendered by `data.messages`, from the column `prompt` or `messages`."""
    columns = {name: sheet.columns[name] for name in PROMPT_FIELDS if name in sheet.columns}
    found, wrong = [], []
    for row in range(len(sheet)):
        cells = {name: column[row] for name, column in columns.items()}
        field = prompt_field(cells)
        try:
            found.append(row_prompt(cells, field))
        except PromptError as error:
            found.append("")
            wrong.append(f"{sheet.cell(row, field)} {error}")
    if wrong:
        problems.add(f"{wrong[0]} ({such_cells(len(wrong))})")
    return found


def as_name(cell: Any) -> str | None:
    """A text, or a whole number as one (also 7.0, what pandas makes of 7 in a column with gaps). None for anything else."""
    if isinstance(cell, int | np.integer) and not isinstance(cell, bool):
        return str(cell)
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return as_text(cell)


def columns_match(sheet: Sheet, problems: Problems, *, required: Iterable[str], optional: Iterable[str] | None = None) -> None:
    """Missing and (where `optional` is given) unknown columns become problems."""
    required, found = list(required), list(sheet.columns)
    missing = [name for name in required if name not in sheet.columns]
    if missing:
        problems.add(f"missing columns: {listed(missing)} (it has: {listed(found)})")
    if optional is None:
        return
    known = dict.fromkeys([*required, *optional])
    unknown = [name for name in found if name not in known]
    if unknown:
        meant_by = missing or list(known)[:MOST_COMPARED]
        nearest = [(name, difflib.get_close_matches(name, meant_by, 1)) for name in unknown[:SHOWN]]
        meant = listed(f"{near[0]} for {name}" for name, near in nearest if near)
        problems.add(
            f"unknown columns: {listed(unknown)} (known: {listed(known)}): "
            + (f"perhaps you mean {meant}; " if meant else "")
            + "rename or remove them"
        )


def _number(cell: Any) -> float | None:
    """None where it is none."""
    if isinstance(cell, bool | int | float | np.number | np.bool_):
        try:
            return float(cell)
        except OverflowError:
            return None
    if cell is None:
        return np.nan
    text = str(cell).strip().casefold()
    if text in EMPTY:
        return np.nan
    try:
        return TRUTH[text] if text in TRUTH else float(text)
    except ValueError:
        return None


def _texts(sheet: Sheet, column: str, problems: Problems, read: Any, expected: str, allow_empty: bool) -> list[str]:
    found, wrong, empty = [], [], []
    for row, cell in enumerate(sheet.columns[column]):
        text = read(cell)
        found.append(text or "")
        if text is None:
            wrong.append(row)
        elif not text.strip():
            empty.append(row)
    if wrong:
        shown = shortened(sheet.columns[column][wrong[0]])
        problems.add(f"{sheet.cell(wrong[0], column)}: {shown} is not {expected} ({such_cells(len(wrong))})")
    if empty and not allow_empty:
        problems.add(f"{sheet.cell(empty[0], column)} is empty ({such_cells(len(empty))})")
    return found


def as_text(cell: Any) -> str | None:
    """None where it is none; an empty cell is the empty text."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bytes):
        try:
            return cell.decode()
        except UnicodeDecodeError:
            return None
    return "" if cell is None or (isinstance(cell, float | np.floating) and np.isnan(cell)) else None


def such_cells(count: int) -> str:
    return counted(count, "such cell")


def _by_rows(path: Path, problems: Problems) -> Sheet:
    rows = []
    for row in read_rows(path, suffixes=SUFFIXES):
        if row.problem:
            problems.add(f"{place(path, row.number)} {row.problem}")
        else:
            rows.append(row)
    columns = dict.fromkeys(name for row in rows for name in row.cells)
    return Sheet(path, {name: [row.cells.get(name) for row in rows] for name in columns}, [row.number for row in rows])


def _parquet(path: Path) -> Sheet:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise Unreadable(f"it cannot be read as Parquet: {shortened(str(error), quoted=False)}") from error
    if twice := repeated([name for name in table.column_names if not is_index_column(name)]):
        raise Unreadable(f"columns that appear twice: {listed(twice)}")
    columns = {}
    for name, column in zip(table.column_names, table.columns):
        if not is_index_column(name):
            # Arrays for measured numbers; whole numbers with gaps would lose digits as floats, and may be ids.
            plain = pyarrow.types.is_floating(column.type) or (pyarrow.types.is_integer(column.type) and not column.null_count)
            columns[name] = column.to_numpy() if plain else column.to_pylist()
    return Sheet(path, columns, range(table.num_rows))
