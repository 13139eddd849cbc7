"""Reading files that may be wrong: every problem is collected, then told in one message."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from jaxroute.errors import SourceError

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 20
LARGEST_CELL = 2**31 - 1


class Problems:
    """Everything that is wrong with one file or folder."""

    def __init__(self, path: Path, expected: str):
        self.path, self.expected, self.found = path, expected, []

    def add(self, problem: str) -> None:
        self.found.append(problem)

    def stop(self) -> None:
        """Raise `SourceError` if anything was added."""
        if self.found:
            shown = "".join(f"\n  - {problem}" for problem in self.found[:SHOWN])
            more = f"\n  - and {len(self.found) - SHOWN} more" if len(self.found) > SHOWN else ""
            raise SourceError(f"{self.path} is not {self.expected}:{shown}{more}")


def read_frame(path: Path, problems: Problems) -> pd.DataFrame:
    """A CSV (all cells as text), JSON lines or Parquet file; what is wrong goes to `problems`, which then stops."""
    if not path.is_file():
        problems.add("there is no such file" if not path.exists() else "it is a folder, not a file")
        problems.stop()
    readers = {".csv": _read_csv, ".jsonl": _read_json_lines, ".parquet": _read_parquet}
    if path.suffix not in readers:
        problems.add(f"its suffix is {path.suffix!r}; known are {', '.join(readers)}")
        problems.stop()
    frame = readers[path.suffix](path, problems)
    if not problems.found and not len(frame):
        problems.add("it has no rows")
    problems.stop()
    return frame


def read_json(path: Path, problems: Problems) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        problems.add(f"it cannot be read as JSON: {error}")
        problems.stop()


def numbers(
    frame: pd.DataFrame, column: str, problems: Problems, *, lowest: float | None = 0.0, highest: float | None = None
) -> Float[np.ndarray, " queries"]:
    """The column as float64; empty cells are NaN, True and False are 1 and 0, anything else is a problem."""
    import pandas as pd

    words = {"true": 1.0, "false": 0.0, "": np.nan, "nan": np.nan, "none": np.nan, "null": np.nan}
    values = np.full(len(frame), np.nan)
    cells: Any = frame[column]
    if isinstance(cells.dtype, np.dtype) and cells.dtype.kind in "fiub":
        values, cells = cells.to_numpy(np.float64), []
    for row, cell in enumerate(cells):
        if isinstance(cell, float | np.number | np.bool_):
            values[row] = float(cell)
        elif cell is not None and cell is not pd.NA:
            text = str(cell).strip().casefold()
            try:
                values[row] = words[text] if text in words else float(text)
            except (ValueError, OverflowError):
                problems.add(f"row {row + 1}, column {column!r}: {cell!r} is not a number")
                return values
    for wrong, rule in (
        (np.isinf(values), "must be finite"),
        (values < lowest if lowest is not None else np.zeros(len(values), bool), f"must be at least {lowest}"),
        (values > highest if highest is not None else np.zeros(len(values), bool), f"must be at most {highest}"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            problems.add(f"row {row + 1}, column {column!r}: {values[row]} {rule} ({int(wrong.sum())} such cells)")
    return values


def texts(frame: pd.DataFrame, column: str, problems: Problems, *, allow_empty: bool = False) -> list[str]:
    """The column as text; an empty cell is a problem unless allowed."""
    import pandas as pd

    arrays = [row for row, cell in enumerate(frame[column]) if isinstance(cell, np.ndarray | list | dict)]
    if arrays:
        problems.add(f"row {arrays[0] + 1}, column {column!r} holds a list, not a text ({len(arrays)} such cells)")
        return [""] * len(frame)
    cells = ["" if cell is None or cell is pd.NA or cell != cell else str(cell) for cell in frame[column]]
    empty = [row for row, cell in enumerate(cells) if not cell.strip()]
    if empty and not allow_empty:
        problems.add(f"row {empty[0] + 1}, column {column!r} is empty ({len(empty)} such cells)")
    return cells


def columns_match(frame: pd.DataFrame, problems: Problems, *, required: list[str], optional: list[str] | None = None) -> None:
    """Missing and (where `optional` is given) unknown columns become problems."""
    missing = [name for name in required if name not in frame.columns]
    if missing:
        problems.add(f"missing columns: {', '.join(missing)} (it has: {', '.join(map(str, frame.columns[:12]))})")
    if optional is not None:
        unknown = [str(name) for name in frame.columns if name not in required and name not in optional]
        if unknown:
            problems.add(f"unknown columns: {', '.join(unknown)} (known: {', '.join([*required, *optional])})")


def _read_csv(path: Path, problems: Problems) -> pd.DataFrame:
    import pandas as pd

    # The module refuses long cells by a limit for the whole process; prompts and answers can be long.
    limit = csv.field_size_limit(LARGEST_CELL)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file, strict=True) if row]
    except UnicodeDecodeError as error:
        problems.add(f"it is not UTF-8: {error}; save it as UTF-8")
        return pd.DataFrame()
    except csv.Error as error:
        problems.add(f"it cannot be read as CSV: {error}; is it cut off?")
        return pd.DataFrame()
    finally:
        csv.field_size_limit(limit)
    if not rows:
        problems.add("it is empty")
        return pd.DataFrame()
    header, *rows = rows
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            problems.add(f"row {number} has {len(row)} cells, the header {len(header)}; is the file cut off?")
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        problems.add(f"columns that stand twice: {', '.join(repeated)}")
    if problems.found:
        return pd.DataFrame()
    return pd.DataFrame(rows, columns=header, dtype=object)


def _read_json_lines(path: Path, problems: Problems) -> pd.DataFrame:
    import pandas as pd

    rows = []
    try:
        # Not splitlines(): JSON may hold the separators U+2028 and U+0085 as they are.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        problems.add(f"it is not UTF-8: {error}")
        return pd.DataFrame()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.add(f"line {number} is not JSON: {error}")
            continue
        if isinstance(row, dict):
            rows.append(row)
        else:
            problems.add(f"line {number} is not a JSON object")
    return pd.DataFrame(rows, dtype=object)


def _read_parquet(path: Path, problems: Problems) -> pd.DataFrame:
    import pandas as pd
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path).to_pandas()
    except (pyarrow.ArrowException, OSError) as error:
        problems.add(f"it cannot be read as Parquet: {error}")
        return pd.DataFrame()
