"""What workers of one proxy know of each other: answers that another has given, stored responses, and who is under way.

One SQLite file in a folder that lives as long as the parent. It holds nothing that a single process would not keep in memory,
and no prompt. A power cut takes it along, so nothing waits for the disk.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

LOG = logging.getLogger("jaxroute.serve")
V = TypeVar("V")
BEAT_SECONDS = 1.0
"""Between two signs of life."""
DEAD_SECONDS = 10.0
"""A worker that has given no sign for so long does not count."""
TOLL = "toll/"
"""What the names of figures that are a model's toll begin with."""
TOTAL = "_total"
"""What the names of figures end with that only grow, over all lives of a worker."""
OF_ALL = ("requests_to_come", "kept_usd")
"""Figures of all requests, which every worker knows."""
EVERY = 256
"""Entries after which those above the limit are forgotten."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS remembered (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, made REAL NOT NULL, content TEXT NOT NULL,
    UNIQUE (kind, key) ON CONFLICT REPLACE
);
CREATE INDEX IF NOT EXISTS remembered_kind ON remembered (kind, number);
CREATE TABLE IF NOT EXISTS beats (worker INTEGER PRIMARY KEY, made REAL NOT NULL, figures TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Worker:
    """Which one of how many this process is."""

    number: int
    """From 0."""
    count: int
    folder: Path
    """What they share, and what is gone when the parent ends."""

    def share(self, places: int) -> int:
        """Of so many places those of this worker."""
        return places // self.count + (self.number < places % self.count)


def is_total(name: str) -> bool:
    """Whether a figure of that name only grows."""
    return name.endswith(TOTAL) and not name.startswith(TOLL)


class Shared:
    """The file of one set of workers."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._path = worker.folder / "shared.db"
        self._connection = _connected(self._path)
        for statement in filter(str.strip, SCHEMA.split(";")):
            self._connection.execute(statement)
        row = self._connection.execute("SELECT figures FROM beats WHERE worker = ?", (worker.number,)).fetchone()
        # What the workers before this one have counted, whose place it takes.
        self._before = {} if row is None else {name: value for name, value in json.loads(row[0]).items() if is_total(name)}

    def beat(self, figures: dict[str, float]) -> None:
        """Name -> number of this worker, at this moment."""
        together = {**figures, **{name: before + figures.get(name, 0.0) for name, before in self._before.items()}}
        row = (self.worker.number, time.time(), json.dumps(together))
        self._connection.execute("INSERT OR REPLACE INTO beats VALUES (?, ?, ?)", row)

    def figures(self) -> dict[str, float]:
        """Those of all living workers together: sums, but the largest where a figure is in seconds or of all requests.

        What the dead have counted counts.
        """
        rows = self._connection.execute("SELECT made, figures FROM beats").fetchall()
        alive = [made > time.time() - DEAD_SECONDS for made, _ in rows]
        together: dict[str, float] = {"workers": float(sum(alive))}
        for lives, (_, text) in zip(alive, rows, strict=True):
            for name, value in json.loads(text).items():
                if lives or is_total(name):
                    most = name.endswith("_seconds") or name in OF_ALL or name.startswith(TOLL)
                    before = together.get(name, 0.0)
                    together[name] = max(before, value) if most else before + value
        return together

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def remembered(self, kind: str, most: int, write: Callable[[V], str], read: Callable[[str], V]) -> SharedRemembered[V]:
        """Entries of one kind, of all workers."""
        return SharedRemembered(self._connection, self._path, kind, most, write, read)


class SharedRemembered(Generic[V]):
    """As `Remembered`, for all workers: the latest `most` entries, or a few more.

    It raises nothing: where the file cannot be used, which the log says, nothing is remembered, and requests are answered.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        kind: str,
        most: int,
        write: Callable[[V], str],
        read: Callable[[str], V],
    ) -> None:
        self.most = most
        self._path = path
        self._connection, self._kind, self._write, self._read = connection, kind, write, read
        self._since = 0

    def put(self, key: str, value: V) -> None:
        """Remember it."""
        row = (self._kind, key, time.time(), self._write(value))
        self._done("INSERT INTO remembered (kind, key, made, content) VALUES (?, ?, ?, ?)", row)
        self._since += 1
        if self._since >= EVERY:
            self._since = 0
            oldest = "SELECT number FROM remembered WHERE kind = ? ORDER BY number DESC LIMIT 1 OFFSET ?"
            self._done(f"DELETE FROM remembered WHERE kind = ? AND number <= ({oldest})", (self._kind, self._kind, self.most))

    def get(self, key: str) -> V | None:
        """None where it is not known, or not any more."""
        return self.first([key], lambda _: True)

    def several(self, keys: Sequence[str]) -> dict[str, V]:
        """Those of these keys, a few hundred at most, that are known."""
        return {key: self._read(content) for key, content in self._found(keys).items()}

    def first(self, keys: Sequence[str], fits: Callable[[V], bool]) -> V | None:
        """The value of the first of these keys, a few hundred at most, that is known and fits; None where none is."""
        found = self._found(keys)
        values = (self._read(found[key]) for key in keys if key in found)
        return next((value for value in values if fits(value)), None)

    def latest(self, most: int) -> list[tuple[float, V]]:
        """The newest entries with the time at which they were remembered, oldest first; from any thread."""
        statement = "SELECT made, content FROM remembered WHERE kind = ? ORDER BY number DESC LIMIT ?"
        # Its own connection: what is written on one whose reading in another thread has not ended fails as locked.
        with closing(_connected(self._path)) as connection:
            rows = self._done(statement, (self._kind, most), connection)
        return [(made, self._read(content)) for made, content in reversed(rows)]

    def _found(self, keys: Sequence[str]) -> dict[str, str]:
        marks = ", ".join("?" * len(keys))
        return dict(self._done(f"SELECT key, content FROM remembered WHERE kind = ? AND key IN ({marks})", (self._kind, *keys)))

    def _done(self, statement: str, values: Sequence[object], connection: sqlite3.Connection | None = None) -> list[Any]:
        try:
            return (connection or self._connection).execute(statement, values).fetchall()
        except sqlite3.Error as error:
            LOG.error("what workers know of each other cannot be read or written: %s", error)
            return []


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    return connection
