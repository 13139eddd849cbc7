"""One price for several workers: what each has estimated and paid, and the price that the latest look has found.

Beside the ledger, in its file, in tables with the prefix `pace_`: numbers alone, nothing of what was asked. A worker that looks
for a price says what is new of its own requests and learns what is new of the others'; where another has looked less than a
second and a few requests ago, it takes that price.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxroute.endpoints.ledger import Ledger

SCHEMA = """
CREATE TABLE IF NOT EXISTS pace_price (
    one INTEGER PRIMARY KEY CHECK (one = 1), multiplier REAL NOT NULL, to_come REAL NOT NULL, made REAL NOT NULL,
    ends REAL, reservations INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS pace_workers (worker INTEGER PRIMARY KEY, sums TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS pace_sample (
    number INTEGER PRIMARY KEY AUTOINCREMENT, worker INTEGER NOT NULL, estimates TEXT NOT NULL
);
"""
SAMPLED = "SELECT estimates FROM pace_sample WHERE number > ? AND worker != ? ORDER BY number"
Estimates = dict[str, tuple[float, float]]
"""Quality and expected dollars of one request by model."""


@dataclass(frozen=True)
class Price:
    """What a look has found."""

    multiplier: float
    """Quality per dollar."""
    to_come: float
    """Requests of the rest of the window."""
    made: float
    """When, seconds since 1970."""
    ends: float | None
    """Which window."""
    reservations: int
    """How many the ledger had counted in it."""


@dataclass(frozen=True)
class Others:
    """What is known of the other workers."""

    price: Price | None
    sums: list[dict[str, float]]
    """A mapping of each."""
    rows: list[Estimates]
    """Of their requests since the last time, oldest first."""


class SharedPrice:
    """The tables beside `ledger`, as worker `number` of `count` sees them; at most `rows` estimates are kept."""

    def __init__(self, ledger: Ledger, number: int, count: int, rows: int) -> None:
        self.ledger, self.number, self.rows = ledger, number, rows
        self._seen = 0
        with ledger.transaction() as connection:
            for statement in filter(str.strip, SCHEMA.split(";")):
                connection.execute(statement)
            # Of an earlier life of this worker, and of workers that there are no more.
            connection.execute("DELETE FROM pace_workers WHERE worker = ? OR worker >= ?", (number, count))

    def exchange(self, sums: Mapping[str, float], new: Sequence[Estimates]) -> Others:
        """Say what this worker knows, and learn what the others do."""
        with self.ledger.transaction() as connection:
            text = json.dumps(dict(sums))
            connection.execute("INSERT OR REPLACE INTO pace_workers VALUES (?, ?)", (self.number, text))
            # On its first look a worker learns all that is kept, of an earlier life of its own too.
            known = -1 if not self._seen else self.number
            found = connection.execute(SAMPLED, (self._seen, known)).fetchall()
            rows = [(self.number, json.dumps(one)) for one in new]
            connection.executemany("INSERT INTO pace_sample (worker, estimates) VALUES (?, ?)", rows)
            last = connection.execute("SELECT max(number) FROM pace_sample").fetchone()[0] or 0
            connection.execute("DELETE FROM pace_sample WHERE number <= ?", (last - self.rows,))
            self._seen = max(last, 1)
            others = connection.execute("SELECT sums FROM pace_workers WHERE worker != ?", (self.number,)).fetchall()
            price = connection.execute("SELECT multiplier, to_come, made, ends, reservations FROM pace_price").fetchone()
        estimates = [{model: tuple(pair) for model, pair in json.loads(text).items()} for (text,) in found]
        return Others(None if price is None else Price(*price), [json.loads(text) for (text,) in others], estimates)

    def publish(self, price: Price) -> None:
        """The price that all take from now on."""
        row = (1, price.multiplier, price.to_come, price.made, price.ends, price.reservations)
        with self.ledger.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO pace_price VALUES (?, ?, ?, ?, ?, ?)", row)
