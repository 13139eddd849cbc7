"""The database that `jaxroute collect` writes, read as a table of outcomes, whole or in the middle of a collection.

Beside the answers and the money (`endpoints.answer_store`) it holds the questions, the order of the models, and the grades. A
cell has a quality only where it was answered and graded; a call that failed is missing, never 0.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from jaxroute.data.table_options import TableOptions
from jaxroute.endpoints.money import PICO
from jaxroute.errors import SourceError, counted, listed, shortened

SCHEMA = """
CREATE TABLE IF NOT EXISTS collect_questions (
    query_id TEXT PRIMARY KEY, position INTEGER NOT NULL, prompt TEXT NOT NULL, messages TEXT, domain TEXT NOT NULL,
    fields TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS collect_models (model TEXT PRIMARY KEY, position INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS collect_grades (
    query_id TEXT NOT NULL, model TEXT NOT NULL, score REAL, reason TEXT NOT NULL, PRIMARY KEY (query_id, model)
);
CREATE TABLE IF NOT EXISTS collect_grader (one INTEGER PRIMARY KEY CHECK (one = 1), spec TEXT NOT NULL, identity TEXT NOT NULL);
"""
"""A score is NULL where a grader that asks a model has given none."""
MAGIC = b"SQLite format 3\0"
CELLS = """SELECT question.rowid, model.position, grade.score, cell.cost_pico, cell.spent_pico - cell.killed_pico,
    cell.prompt_tokens, cell.completion_tokens, cell.latency_seconds, cell.log_probability, cell.text
    FROM collect_grades AS grade
    JOIN answer_cells AS cell ON cell.query_id = grade.query_id AND cell.model = grade.model AND cell.purpose = ''
    JOIN collect_questions AS question ON question.query_id = grade.query_id
    JOIN collect_models AS model ON model.model = grade.model
    WHERE grade.score IS NOT NULL AND cell.reason = ''"""
NUMBERS = ("quality", "cost_usd", "charged", "input_tokens", "output_tokens", "latency_seconds", "log_likelihood")


def is_collection(path: Path) -> bool:
    """Whether the file is an SQLite database."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_collection(path: Path, options: TableOptions | None = None) -> dict[str, Any]:
    """The columns of a collection by the names of `RoutingTable`'s fields.

    Questions and models without any grade are left out, and counted in `note`. An answer whose tokens the endpoint has not
    counted gets the mean dollars of its model's others. `log_likelihood` is the mean over an answer's tokens, in nats. Raises
    `SourceError`.
    """
    if options is not None and (options.scale != 1 or options.clip):
        raise SourceError(f"{path} is a collection, whose grades are in [0, 1]: leave scale and clip out")
    with _reading(path) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if missing := sorted({"collect_grades", "collect_questions", "collect_models", "answer_cells"} - tables):
            raise SourceError(f"{path} is no collection of `jaxroute collect`: it has no {listed(missing)}")
        questions = connection.execute(
            "SELECT rowid, query_id, prompt, domain FROM collect_questions ORDER BY position"
        ).fetchall()
        models = [name for (name,) in connection.execute("SELECT model FROM collect_models ORDER BY position")]
        cells = connection.execute(CELLS).fetchall()
    columns, notes = _arrays(questions, models, cells)
    if not columns["models"]:
        raise SourceError(f"{path} has no graded answer yet: run `jaxroute collect` with it as --output")
    return {"name": path.stem, "note": "; ".join(notes), **columns}


def collected_questions(path: Path) -> list[dict[str, Any]]:
    """The rows of a collection's questions as they were asked, with `query_id`, `domain`, and the rendered `prompt_text`."""
    with _reading(path) as connection:
        found = connection.execute(
            "SELECT query_id, prompt, domain, fields FROM collect_questions ORDER BY position"
        ).fetchall()
    return [
        {"prompt": text, **json.loads(fields), "query_id": name, "domain": domain, "prompt_text": text}
        for name, text, domain, fields in found
    ]


def _arrays(questions: list[tuple], models: list[str], cells: list[tuple]) -> tuple[dict[str, Any], list[str]]:
    rows = {rowid: row for row, (rowid, *_) in enumerate(questions)}
    places = np.array([(rows[rowid], column) for rowid, column, *_ in cells], int).reshape(-1, 2)
    shape = (len(questions), len(models))
    values = {name: np.full(shape, np.nan) for name in NUMBERS}
    for number, name in enumerate(NUMBERS, start=2):
        values[name][places[:, 0], places[:, 1]] = [math.nan if cell[number] is None else cell[number] for cell in cells]
    response = np.full(shape, "", dtype=object)
    response[places[:, 0], places[:, 1]] = [cell[-1] for cell in cells]
    values["cost_usd"], values["charged"] = values["cost_usd"] / PICO, values["charged"] / PICO
    graded = ~np.isnan(values["quality"])
    kept, shown = np.flatnonzero(graded.any(axis=1)), np.flatnonzero(graded.any(axis=0))
    notes = _fill_costs(values, graded)
    notes += [f"{counted(len(questions) - len(kept), 'question')} without any grade left out"] * (len(kept) < len(questions))
    if without := [name for column, name in enumerate(models) if column not in shown]:
        notes.append(f"without any grade and left out: {listed(without)}")
    found: dict[str, Any] = {
        "prompts": [questions[row][2] for row in kept],
        "query_ids": [questions[row][1] for row in kept],
        "domains": [questions[row][3] for row in kept],
        "models": [models[column] for column in shown],
        "response": response[np.ix_(kept, shown)],
    }
    for name in ("quality", "cost_usd", "input_tokens", "output_tokens", "latency_seconds", "log_likelihood"):
        if name in ("quality", "cost_usd") or not np.isnan(values[name]).all():
            found[name] = values[name][np.ix_(kept, shown)]
    return found, notes


def _fill_costs(values: dict[str, np.ndarray], graded: np.ndarray) -> list[str]:
    """Dollars of answers whose tokens were not counted, in place: the mean of their model, else what was charged for them."""
    cost, count = values["cost_usd"], 0
    for column in range(cost.shape[1]):
        lacking = graded[:, column] & np.isnan(cost[:, column])
        known = cost[graded[:, column] & ~lacking, column]
        cost[lacking, column] = math.fsum(known) / len(known) if len(known) else values["charged"][lacking, column]
        count += int(lacking.sum())
    return [f"the dollars of {counted(count, 'answer')} were not counted, their model's mean stands in"] * bool(count)


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing; what SQLite raises becomes a `SourceError`."""
    # In a folder that cannot be written to, SQLite can make no lock; without a log beside it, nobody writes.
    readable_only = not os.access(path.parent, os.W_OK) or not os.access(path, os.W_OK)
    alone = readable_only and not path.with_name(path.name + "-wal").exists()
    mode = "mode=ro&immutable=1" if alone else "mode=ro" if readable_only else "mode=rw"
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True, timeout=60.0)
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise SourceError(f"{path} cannot be read: {shortened(str(error), 300, quoted=False)}") from error
