"""Files of prompts, one reader for every command: text, JSON lines, a JSON array, CSV, Parquet and OpenAI's batch files.

A row's prompt is in `prompt`, a text or chat messages, in `messages`, or in the `body` of a request; its id in `query_id`, `id`
or a batch file's `custom_id`; its domain, if known, in `domain`. All further fields are the user's own. Only an array is held
in memory whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jaxroute.data.messages import PROMPT_FIELDS, prompt_field, row_prompt
from jaxroute.data.reading import as_name, as_text
from jaxroute.data.rows import Row, Unreadable, place
from jaxroute.data.rows import read_rows as rows_of
from jaxroute.data.table import Queries
from jaxroute.errors import PromptError, listed, shortened

ID_FIELDS = ("query_id", "id", "custom_id")
DOMAIN = "domain"
SUFFIXES = (".jsonl", ".json", ".txt", ".csv", ".parquet")
NAMED_COLUMNS = (".csv", ".parquet")
"""Formats in which all rows have the same fields."""
SHOWN = 20
LARGEST_INTEGER = 2**63
FORMATS = (
    '.jsonl, .json (an array), .csv or .parquet with a "prompt" or chat "messages" each, an OpenAI batch file (.jsonl), or '
    ".txt with a prompt per line; perhaps with an id (query_id, id, custom_id) and a domain"
)
"""For the help of commands."""


class PromptRow(NamedTuple):
    """One prompt; `problem` says what is wrong with the row, in which case `prompt` is empty."""

    place: str
    """Where in the file, in words."""
    prompt: str
    """As text; chat messages are rendered."""
    id: Any
    """A text or a whole number; None where the row has none."""
    id_field: str | None
    """One of ID_FIELDS, where the row has an id."""
    domain: str
    """Empty where unknown."""
    fields: dict[str, Any]
    """All that the row holds; of Parquet, only where it was asked for."""
    problem: str = ""


@dataclass(frozen=True)
class Prompts:
    """All prompts of a file, and what the file says of them."""

    texts: list[str]
    domains: list[str]
    """Empty where unknown."""
    fields: list[dict[str, Any]]
    """Every row as it is in the file, to be written back with more fields; cells that JSON cannot hold are texts."""
    ids: list[str | None]
    """None where a row has none."""
    places: list[str]
    """Where each is in the file, in words."""

    @property
    def queries(self) -> Queries:
        return Queries(self.texts, self.domains)


@dataclass(frozen=True)
class PromptFile:
    """A file that was read once and found good."""

    path: Path
    rows: int
    id_field: str | None
    """`query_id`, `id` or `custom_id`, where the file has one."""
    id_kind: str
    """`integer` where every id is one, else `text`."""

    def read(self, skip: int = 0) -> Iterator[PromptRow]:
        """From row `skip` on, with ids of one kind."""
        for row in read_rows(self.path, skip=skip):
            yield row if self.id_kind == "integer" or row.id is None else row._replace(id=str(row.id))


def read_prompts(path: Path) -> Prompts:
    """Every prompt of `path` with its domain and its further fields. Raises `PromptError` naming all rows that are wrong."""
    found, wrong = [], []
    for row in read_rows(path, all_fields=True):
        (wrong if row.problem else found).append(row)
    _check(path, len(found) + len(wrong), wrong[:SHOWN], len(wrong))
    fields = [{name: _as_json(cell) for name, cell in row.fields.items()} for row in found]
    ids = [None if row.id is None else str(row.id) for row in found]
    return Prompts([row.prompt for row in found], [row.domain for row in found], fields, ids, [row.place for row in found])


def check_prompt_file(path: Path) -> PromptFile:
    """Read all of `path` once, keeping nothing. Raises `PromptError` naming the rows that are wrong."""
    rows, wrong, count, integers, names = 0, [], 0, True, set()
    for row in read_rows(path):
        rows += 1
        if row.problem:
            count += 1
            wrong += [row] * (len(wrong) < SHOWN)
        if row.id is not None:
            names.add(row.id_field)
            integers &= isinstance(row.id, int) and abs(row.id) < LARGEST_INTEGER
    _check(path, rows, wrong, count)
    id_field = next((name for name in ID_FIELDS if name in names), None)
    return PromptFile(path, rows, id_field, "integer" if integers else "text")


def read_rows(path: Path, *, skip: int = 0, all_fields: bool = False) -> Iterator[PromptRow]:
    """Every row from row `skip` on; blank lines are no rows. Raises `PromptError` where the file cannot be read."""
    columns = None if all_fields else (*PROMPT_FIELDS, *ID_FIELDS, DOMAIN)
    try:
        for number, row in enumerate(rows_of(path, suffixes=SUFFIXES, columns=columns)):
            if number == 0 and path.suffix in NAMED_COLUMNS and not row.problem and not set(PROMPT_FIELDS) & set(row.cells):
                names = next(rows_of(path, suffixes=SUFFIXES)).cells
                raise PromptError(f"prompts={str(path)!r} has no column 'prompt' or 'messages'; it has {listed(names)}")
            if number >= skip:
                yield _prompt_row(path, row)
    except Unreadable as error:
        raise PromptError(f"prompts={str(path)!r}: {error}") from error


def _prompt_row(path: Path, row: Row) -> PromptRow:
    where = place(path, row.number)
    if row.problem:
        return PromptRow(where, "", None, None, "", {}, row.problem)
    cells, problems = row.cells, []
    prompt, field = "", prompt_field(cells)
    try:
        prompt = row_prompt(cells, field)
    except PromptError as error:
        problems.append(
            f"{field} {error}" if field in cells else f"has no prompt and no messages, but {listed(cells) or 'nothing'}"
        )
    id_field = next((name for name in ID_FIELDS if as_text(cells.get(name)) != ""), None)
    one = cells[id_field] if id_field else None
    if one is not None and as_name(one) is None:
        problems.append(f"{id_field}={shortened(one)} is neither a text nor a whole number")
    elif isinstance(one, float):
        one = int(one)
    elif isinstance(one, bytes):
        one = as_text(one)
    domain = as_text(cells.get(DOMAIN))
    if domain is None:
        problems.append(f"{DOMAIN}={shortened(cells[DOMAIN])} is not a text")
    return PromptRow(where, prompt, one, id_field, domain or "", cells, "; ".join(problems))


def _check(path: Path, rows: int, wrong: list[PromptRow], count: int) -> None:
    if wrong:
        places = "".join(f"\n  - {row.place}: {row.problem}" for row in wrong)
        more = f"\n  - and {count - len(wrong):,} more" if count > len(wrong) else ""
        raise PromptError(
            f"prompts={str(path)!r}: {count:,} of {rows:,} rows are not prompts; correct or remove them:{places}{more}"
        )
    if not rows:
        raise PromptError(f"prompts={str(path)!r} holds no prompt")


def _as_json(cell: Any) -> Any:
    """What JSON can hold of a cell; other values, such as dates, as texts."""
    if cell is None or isinstance(cell, str | bool | int):
        return cell
    if isinstance(cell, float):
        return cell if cell == cell and abs(cell) != float("inf") else None
    if isinstance(cell, bytes):
        return cell.decode(errors="backslashreplace")
    if isinstance(cell, dict):
        return {str(name): _as_json(value) for name, value in cell.items()}
    return [_as_json(value) for value in cell] if isinstance(cell, list | tuple) else str(cell)
