"""Every answer that was paid for, kept beside the ledger in one SQLite file: asked once, stored with its money in one step.

A cell is a query, a model, and a purpose (empty for the answer itself; a judge's question about it has one of its own).

- A try is settled in the ledger and stored in the same transaction. So at every moment the ledger has spent what the cells have
  together, to the picodollar: sum(answer_cells.spent_pico) = settled.
- A process that is killed leaves reservations of calls that were under way. Whoever opens the file next books each as spent, at
  its worst case, on its cell, and the cell is asked again.
- What is stored is returned and not asked again. A failure that the model caused is stored too; `again=True` asks it once more.
- The file knows what it is about. Other options, another endpoint or price under the same name, or another prompt under the
  same id are rejected before anything is asked or changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout

from jaxroute.endpoints.answers import Answer, CallFailed
from jaxroute.endpoints.client import Client
from jaxroute.endpoints.ledger import Ledger
from jaxroute.endpoints.models import Endpoint
from jaxroute.endpoints.money import picodollars
from jaxroute.endpoints.requests import Prompt
from jaxroute.endpoints.stored_answers import (
    COLUMNS,
    SCHEMA,
    UNFINISHED,
    StoredAnswer,
    answer_columns,
    clean,
    failure_columns,
    read_cell,
    upsert,
)
from jaxroute.errors import EndpointError, OutputError, counted, listed, shortened

VERSION = 1
MOST_NAME = 300
"""Characters of a query's id and of a purpose: a ledger's note has room for both, and for the model."""
LEDGER_TABLES = {"ledger_account", "ledger_windows", "ledger_open"}
MAGIC = b"SQLite format 3\0"
SELECT = f"SELECT {', '.join(COLUMNS)} FROM answer_cells"
CELL = " WHERE query_id = ? AND model = ? AND purpose = ?"


class AnswerStore:
    """The answers in `path`, which is made where there is none; close it, or use it in a `with` block.

    `about` says what decides the answers beside prompts and models, such as the options of requests: plain values that JSON can
    hold. `models` are those that may be asked, `queries` the prompts by id. All three are checked against the file first: what
    it holds must not differ; further models and queries are added. `limit_usd` is the ledger's limit from now on.

    Raises `OutputError` naming what differs, or where the file is something else or another process uses it, and `LedgerError`
    for the ledger's own reasons.
    """

    def __init__(
        self,
        path: Path | str,
        limit_usd: float | None = None,
        *,
        about: Mapping[str, Any],
        models: Mapping[str, Endpoint],
        queries: Mapping[str, Prompt],
    ) -> None:
        self.path = Path(path)
        wanted = _Contents(
            {"version": json.dumps(VERSION)} | {name: _canonical(value) for name, value in about.items()},
            {name: _canonical(identity(endpoint)) for name, endpoint in models.items()},
            {query: _digest(prompt) for query, prompt in queries.items()},
        )
        wanted.check_names()
        self._under_way: dict[tuple[str, str, str], asyncio.Event] = {}
        self._lock = FileLock(f"{self.path}.lock", timeout=0)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise OutputError(f"{self.path}: another process writes there; wait for it or give another file") from error
        try:
            found = _contents(self.path)
            wanted.compare(self.path, found)
            self.ledger = Ledger(self.path, limit_usd)
            with self.ledger.transaction() as connection:
                for statement in filter(str.strip, SCHEMA.split(";")):
                    connection.execute(statement)
                wanted.write(connection)
            resolved = self._resolve()
            self.interrupted: int = len(resolved)
            """How many calls were under way when an earlier process was killed; their worst cases count as spent."""
            self.interrupted_usd: float = math.fsum(resolved)
            """These worst cases together, dollars."""
        except BaseException:
            self._unlock()
            raise

    async def ask(
        self,
        client: Client,
        query_id: str,
        model: str,
        prompt: Prompt,
        *,
        purpose: str = "",
        again: bool = False,
        output_tokens: int | None = None,
        deadline_seconds: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> StoredAnswer:
        """What is stored of the cell, else what the model answers now, stored; a call that fails is returned with its reason.

        With `again` a stored failure is asked once more. A cell that is being asked is waited for. Raises `EndpointError` for a
        request that cannot be sent, and `LedgerError` where nothing can be stored.
        """
        if client.ledger is not self.ledger:
            raise EndpointError("the client pays from another ledger: make it with ledger=store.ledger")
        if len(json.dumps(purpose)) > MOST_NAME:
            raise EndpointError(f"purpose={shortened(purpose)} is too long: at most {MOST_NAME} characters can be stored")
        cell = (query_id, model, purpose)
        while (asked := self._under_way.get(cell)) is not None:
            await asked.wait()
        self._under_way[cell] = asked = asyncio.Event()
        try:
            stored = self.get(*cell)
            if stored is not None and (stored.answered or (stored.is_final and not again)):
                return stored
            await self._ask(client, prompt, cell, output_tokens, deadline_seconds, options)
        finally:
            del self._under_way[cell]
            asked.set()
        stored = self.get(*cell)
        assert stored is not None
        return stored

    async def _ask(
        self,
        client: Client,
        prompt: Prompt,
        cell: tuple[str, str, str],
        output_tokens: int | None,
        deadline_seconds: float | None,
        options: Mapping[str, Any] | None,
    ) -> None:
        """Ask a cell, and store what comes of it."""
        key = dict(zip(("query_id", "model", "purpose"), cell, strict=True))

        def record(connection: sqlite3.Connection, spent_usd: float, answer: Answer | None) -> None:
            spent = {"spent_pico": picodollars("spent_usd", spent_usd)}
            columns = {"reason": UNFINISHED} if answer is None else answer_columns(answer)
            connection.execute(upsert(key | columns | spent), key | columns | spent)

        try:
            await client.ask(
                key["model"],
                prompt,
                output_tokens=output_tokens,
                deadline_seconds=deadline_seconds,
                options=options,
                note=json.dumps(cell),
                record=record,
            )
        except CallFailed as failed:
            columns = key | failure_columns(failed) | {"spent_pico": 0}
            with self.ledger.transaction() as connection:
                connection.execute(upsert(columns), columns)

    def get(self, query_id: str, model: str, purpose: str = "") -> StoredAnswer | None:
        """What is stored of a cell; None where it was never asked."""
        with self.ledger.reading() as connection:
            row = connection.execute(SELECT + CELL, (query_id, model, purpose)).fetchone()
        return None if row is None else read_cell(row)

    def reasons(self, purpose: str = "") -> dict[tuple[str, str], str]:
        """Why there is no answer, by query id and model, of all cells that were asked; empty where there is one."""
        with self.ledger.reading() as connection:
            rows = connection.execute("SELECT query_id, model, reason FROM answer_cells WHERE purpose = ?", (purpose,))
            return {(query, model): reason for query, model, reason in rows}

    def answers(self, purpose: str = "") -> Iterator[StoredAnswer]:
        """All cells that were asked, a thousand of them in memory at a time, ordered by query id and model."""
        last = ("", "")
        while True:
            with self.ledger.reading() as connection:
                statement = f"{SELECT} WHERE purpose = ? AND (query_id, model) > (?, ?) ORDER BY query_id, model LIMIT 1000"
                rows = connection.execute(statement, (purpose, *last)).fetchall()
            if not rows:
                return
            yield from map(read_cell, rows)
            last = rows[-1][:2]

    def close(self) -> None:
        """Close the file, and let others use it."""
        self.ledger.close()
        self._unlock()

    def __enter__(self) -> AnswerStore:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _unlock(self) -> None:
        # While it is held: nobody else then has the file that is removed.
        with suppress(OSError):
            Path(self._lock.lock_file).unlink()
        self._lock.release()

    def _resolve(self) -> list[float]:
        """Book the calls of processes that were killed, at their worst cases, on their cells; returns these, dollars."""
        abandoned = self.ledger.abandoned()
        for one in abandoned:
            worst = picodollars("worst_case_usd", one.worst_case_usd)
            columns = _key(one.note) | {"reason": UNFINISHED, "spent_pico": worst, "killed": 1, "killed_pico": worst}
            self.ledger.settle(one, one.worst_case_usd, also=lambda connection, row=columns: _execute(connection, row))
        return [one.worst_case_usd for one in abandoned]


def identity(endpoint: Endpoint) -> dict[str, Any]:
    """What of an endpoint decides its answers and their dollars; how fast it may be asked does not."""
    price = endpoint.price
    return {
        "base_url": endpoint.base_url,
        "model": endpoint.model,
        "output_tokens": endpoint.output_tokens,
        "price.input": price.input,
        "price.output": price.output,
        "price.cached_input": price.cached_input,
        "price.reasoning": price.reasoning,
    }


class _Contents:
    """What a file is about: options, models with their identities, queries with their digests; all texts."""

    def __init__(self, about: Mapping[str, str], models: Mapping[str, str], queries: Mapping[str, str]) -> None:
        self.about, self.models, self.queries = about, models, queries

    def check_names(self) -> None:
        if long := [name for name in (*self.queries, *self.models) if len(json.dumps(name)) > MOST_NAME]:
            raise OutputError(f"the name {shortened(long[0])} is too long: at most {MOST_NAME} characters can be stored")
        if broken := [name for name in (*self.queries, *self.models) if name != clean(name)]:
            raise OutputError(f"the name {shortened(broken[0])} holds half of a surrogate pair: give another name")

    def compare(self, path: Path, found: _Contents | None) -> None:
        """Raise `OutputError` naming everything in which the file differs."""
        if found is None:
            return
        changed = [
            f"{name} was {_shown(found.about.get(name))} and is {_shown(self.about.get(name))}"
            for name in sorted({*found.about, *self.about})
            if found.about.get(name) != self.about.get(name)
        ]
        for name in (name for name in self.models if name in found.models and found.models[name] != self.models[name]):
            before, now = json.loads(found.models[name]), json.loads(self.models[name])
            changed += [
                f"models.{shortened(name, quoted=False)}.{part} was {_shown(_canonical(before.get(part)))} and is "
                f"{_shown(_canonical(now[part]))}"
                for part in now
                if before.get(part) != now[part]
            ]
        if other := [name for name in self.queries if found.queries.get(name, self.queries[name]) != self.queries[name]]:
            changed.append(f"{counted(len(other), 'query')} had other prompts under the same ids: {listed(other, 5)}")
        elif found.queries and self.queries and not set(found.queries) & set(self.queries):
            changed.append("none of the prompts is among those that it holds")
        if changed:
            raise OutputError(
                f"{path} holds answers of another run: {'; '.join(changed[:12])}{'; and more' * (len(changed) > 12)}. Give "
                "another file, or what that run was started with"
            )

    def write(self, connection: sqlite3.Connection) -> None:
        for table, rows in (("meta", self.about), ("models", self.models), ("queries", self.queries)):
            connection.executemany(f"INSERT OR IGNORE INTO answer_{table} VALUES (?, ?)", rows.items())


def _contents(path: Path) -> _Contents | None:
    """What a file is about, without changing it; None where there is none yet. Raises `OutputError`."""
    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        return None
    if not path.is_file():
        raise OutputError(f"{path} is no file: give the name of a file")
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise OutputError(f"{path} is no SQLite database: it would be lost; give another name")
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=60.0)
        try:
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not names or {name for name in names if not name.startswith("sqlite_")} == LEDGER_TABLES:
                # A run that was killed before it wrote down what it is about.
                return None
            if not {"answer_meta", "answer_models", "answer_queries"} <= names:
                raise OutputError(f"{path} is a database of something else, with the tables {listed(sorted(names))}")
            parts = (dict(connection.execute(f"SELECT * FROM answer_{name}")) for name in ("meta", "models", "queries"))
            return _Contents(*parts)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise OutputError(f"{path} cannot be read: {shortened(str(error), 300, quoted=False)}") from error


def _key(note: str) -> dict[str, str]:
    """The cell that a reservation's note names; a foreign note is kept as a purpose, so that its money is on the books."""
    try:
        query_id, model, purpose = json.loads(note)
    except (ValueError, TypeError):
        query_id, model, purpose = "", "", note
    return {"query_id": str(query_id), "model": str(model), "purpose": str(purpose)}


def _execute(connection: sqlite3.Connection, columns: Mapping[str, Any]) -> None:
    connection.execute(upsert(columns), columns)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _digest(prompt: Prompt) -> str:
    return hashlib.sha256(_canonical(prompt).encode()).hexdigest()


def _shown(text: str | None) -> str:
    return "not there" if text is None else shortened(text, quoted=False)
