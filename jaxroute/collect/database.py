"""The file of a collection: questions, models, answers with their money, and grades."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxroute.collect.graders import Grade, Grader
from jaxroute.collect.questions import Question
from jaxroute.data.collected import SCHEMA
from jaxroute.endpoints import AnswerStore, Endpoint
from jaxroute.endpoints.money import PICO, naming_budget

KIND = "collection"
WAITING = """SELECT cell.query_id, cell.model, cell.text FROM answer_cells AS cell
    LEFT JOIN collect_grades AS grade ON grade.query_id = cell.query_id AND grade.model = cell.model
    WHERE cell.purpose = '' AND cell.reason = '' AND grade.score IS NULL AND cell.rowid > ? ORDER BY cell.rowid LIMIT ?"""
STATE = """SELECT cell.query_id, cell.model, cell.reason, cell.cost_pico, grade.score FROM answer_cells AS cell
    LEFT JOIN collect_grades AS grade ON grade.query_id = cell.query_id AND grade.model = cell.model WHERE cell.purpose = ''"""


@dataclass(frozen=True)
class Ungraded:
    """A stored answer without a grade."""

    query_id: str
    model: str
    text: str


@dataclass(frozen=True)
class State:
    """What there is of every cell; arrays are (queries, models)."""

    quality: np.ndarray
    cost_usd: np.ndarray
    reason: np.ndarray
    """Why there is no answer, texts; empty where there is one, None where the cell was never asked."""


class Collection:
    """A collection in the file `path`; opened, it is known to be about these questions, models and options.

    Raises what `AnswerStore` raises, before anything is changed. Grades by another grader, or of questions whose other fields
    have changed, are forgotten.
    """

    def __init__(
        self,
        path: Path,
        budget_usd: float,
        *,
        questions: Sequence[Question],
        models: Mapping[str, Endpoint],
        grader: Grader,
        request: Mapping[str, Any],
    ) -> None:
        self.questions, self.models = list(questions), list(models)
        self._rows = {one.query_id: row for row, one in enumerate(questions)}
        self._columns = {name: column for column, name in enumerate(self.models)}
        with naming_budget():
            self.store = AnswerStore(
                path,
                budget_usd,
                about={"kind": KIND, **request},
                models=models,
                queries={one.query_id: one.prompt for one in questions},
            )
        try:
            self.graded_again = self._begin(grader)
            """How many grades were forgotten, because the grader or a question's fields have changed."""
        except BaseException:
            self.store.close()
            raise

    def put_grades(self, graded: Iterable[tuple[Ungraded, Grade]]) -> None:
        """Store grades; one that is NaN is missing, with its reason."""
        rows = [
            (one.query_id, one.model, None if math.isnan(grade.score) else float(grade.score), _writable(grade.reason))
            for one, grade in graded
        ]
        with self.store.ledger.transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO collect_grades VALUES (?, ?, ?, ?)", rows)

    def ungraded(self, most: int = 1000) -> Iterator[list[Ungraded]]:
        """The answers to these questions that have no grade, in pieces."""
        last = 0
        statement = WAITING.replace("SELECT ", "SELECT cell.rowid, ", 1)
        while True:
            with self.store.ledger.reading() as connection:
                rows = connection.execute(statement, (last, most)).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            found = [Ungraded(*row) for _, *row in rows]
            yield [one for one in found if one.query_id in self._rows and one.model in self._columns]

    def grades(self, grader: Grader) -> list[Grade]:
        """What a grader has said of all answers, for its own summary; none where it has no summary."""
        if not hasattr(grader.module, "summary"):
            return []
        with self.store.ledger.reading() as connection:
            rows = connection.execute("SELECT score, reason FROM collect_grades ORDER BY query_id, model").fetchall()
        return [Grade(math.nan if score is None else score, reason) for score, reason in rows]

    def state(self) -> State:
        """What there is of every cell of these questions and models."""
        shape = (len(self.questions), len(self.models))
        state = State(np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, None, object))
        same: dict[str, str] = {}
        with self.store.ledger.reading() as connection:
            for query_id, model, reason, cost, score in connection.execute(STATE):
                row, column = self._rows.get(query_id), self._columns.get(model)
                if row is None or column is None:
                    continue
                # One text for all cells with that reason.
                state.reason[row, column] = same.setdefault(reason, reason)
                if reason == "" and cost is not None:
                    state.cost_usd[row, column] = cost / PICO
                if reason == "" and score is not None:
                    state.quality[row, column] = score
        return state

    def question(self, query_id: str) -> Question:
        """The question of that id."""
        return self.questions[self._rows[query_id]]

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _begin(self, grader: Grader) -> int:
        """Write what is new, in one transaction; returns how many grades were forgotten."""
        with self.store.ledger.transaction() as connection:
            for statement in filter(str.strip, SCHEMA.split(";")):
                connection.execute(statement)
            forgotten = 0
            known = dict(connection.execute("SELECT query_id, fields FROM collect_questions"))
            position = len(known)
            for one in self.questions:
                fields = json.dumps(one.fields, sort_keys=True)
                messages = None if isinstance(one.prompt, str) else json.dumps(one.prompt)
                if one.query_id not in known:
                    row = (one.query_id, position, one.text, messages, _writable(one.domain), fields)
                    connection.execute("INSERT INTO collect_questions VALUES (?, ?, ?, ?, ?, ?)", row)
                    position += 1
                elif known[one.query_id] != fields:
                    changed = (fields, _writable(one.domain), one.query_id)
                    connection.execute("UPDATE collect_questions SET fields = ?, domain = ? WHERE query_id = ?", changed)
                    forgotten += connection.execute("DELETE FROM collect_grades WHERE query_id = ?", (one.query_id,)).rowcount
            names = {name for (name,) in connection.execute("SELECT model FROM collect_models")}
            new = [name for name in self.models if name not in names]
            connection.executemany(
                "INSERT INTO collect_models VALUES (?, ?)", [(name, len(names) + place) for place, name in enumerate(new)]
            )
            row = connection.execute("SELECT identity FROM collect_grader").fetchone()
            if row is None or row[0] != grader.identity:
                forgotten += connection.execute("DELETE FROM collect_grades").rowcount
                connection.execute("INSERT OR REPLACE INTO collect_grader VALUES (1, ?, ?)", (grader.spec, grader.identity))
            return forgotten


def _writable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
