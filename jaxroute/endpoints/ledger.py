"""The account of money: worst cases are reserved before a call, true costs settled after it, never above a limit.

Kept in an SQLite file (in WAL mode), so that it holds across tasks, threads and processes. What is counted, per window:

    reserved   worst cases of calls that are under way       reserved + settled <= limit, after every transaction
    settled    true costs of calls that have ended            left = limit - reserved - settled

A process that is killed leaves its reservations in the file, where they count as spent. Whoever resumes lists them with
`abandoned` and resolves each: `settle` at the cost that is known, `release` where nothing was asked, or all of them at their
worst cases with `settle_abandoned`.

With `window` the limit holds per window of that many seconds. Windows follow each other from 1 January 1970, 0:00 UTC, on, so
86,400 means a day in UTC; "month" means calendar months in UTC. A call counts in the window in which it was reserved, even
where it ends in a later one.

Every change is one transaction. A kill at any moment loses none that has returned; after a power cut the last ones may be
missing (SQLite's `synchronous=NORMAL`).
"""

from __future__ import annotations

import math
import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal

from jaxroute.endpoints.money import Reservation, Totals, dollars, picodollars
from jaxroute.endpoints.processes import is_running, this_process
from jaxroute.errors import JaxrouteWarning, LedgerError, shortened

WAIT_SECONDS = 60.0
"""How long a change waits for those of other processes, each of which takes well under a millisecond."""
MOST_NOTE = 1_000
MONTH: Literal["month"] = "month"
"""Windows that are calendar months, in UTC."""
Window = float | Literal["month"]
INHERITED: list[sqlite3.Connection | None] = []
"""Connections of a parent process: closing them here would disturb it, and so would their being collected."""
VERSION = 1

# The names have a prefix, so that a ledger may share its file with other tables.
SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger_account (
    one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL, limit_pico INTEGER NOT NULL, window_seconds REAL
);
CREATE TABLE IF NOT EXISTS ledger_windows (
    number INTEGER PRIMARY KEY,
    reserved INTEGER NOT NULL DEFAULT 0, settled INTEGER NOT NULL DEFAULT 0, overrun INTEGER NOT NULL DEFAULT 0,
    reservations INTEGER NOT NULL DEFAULT 0, settlements INTEGER NOT NULL DEFAULT 0, releases INTEGER NOT NULL DEFAULT 0,
    CHECK (reserved >= 0 AND settled >= 0 AND overrun >= 0)
);
CREATE TABLE IF NOT EXISTS ledger_open (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    window INTEGER NOT NULL, worst INTEGER NOT NULL, made REAL NOT NULL, process TEXT NOT NULL, note TEXT NOT NULL
);
"""
TOTALS = "reserved, settled, overrun, reservations, settlements, releases"
RESERVE = """UPDATE ledger_windows SET reserved = reserved + :worst, reservations = reservations + 1
    WHERE number = :window AND reserved + settled + :worst <= (SELECT limit_pico FROM ledger_account)"""
OPEN = "INSERT INTO ledger_open (window, worst, made, process, note) VALUES (:window, :worst, :made, :process, :note)"
CLOSE = "DELETE FROM ledger_open WHERE id = ? RETURNING window, worst"
SETTLE = """UPDATE ledger_windows SET reserved = reserved - :worst, settled = settled + :true,
    overrun = overrun + max(0, :true - :worst), settlements = settlements + 1 WHERE number = :window"""
RELEASE = "UPDATE ledger_windows SET reserved = reserved - :worst, releases = releases + 1 WHERE number = :window"


class Ledger:
    """The account in the file `path`, which is made where there is none; use one object from any number of tasks and threads.

    `limit_usd` holds for everyone who uses the file from now on; None keeps the file's. It cannot be set below what is
    reserved and settled already. `window` (seconds, or "month") divides time into windows with a limit each; None keeps the
    file's, or means one that never ends. Raises `LedgerError` where the file is no ledger or the two contradict it.
    """

    def __init__(
        self,
        path: Path | str,
        limit_usd: float | Decimal | None = None,
        window: Window | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = Path(path)
        self._clock, self._lock = clock, threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._process, self._number_of_process = "", 0
        seconds = isinstance(window, int | float) and math.isfinite(window) and window > 0
        if window is not None and window != MONTH and not seconds:
            raise LedgerError(f"window={shortened(window)} must be a positive number of seconds, or 'month'")
        self._window: Window | None = window
        limit = None if limit_usd is None else picodollars("limit_usd", limit_usd)
        if limit is None and not self.path.exists():
            raise LedgerError(f"{self.path} is not there: give limit_usd to begin a ledger")
        with self.transaction() as connection:
            self._window = self._begin(connection, limit, window)

    def reserve(self, worst_case_usd: float | Decimal, note: str = "") -> Reservation | None:
        """Hold the dollars that a call can cost at most; None where that does not fit, and then nothing changes.

        `note` says which call it is, for whoever finds the reservation after a kill.
        """
        worst = picodollars("worst_case_usd", worst_case_usd)
        if len(note) > MOST_NOTE:
            raise LedgerError(f"note={shortened(note)} has more than {MOST_NOTE:,} characters")
        with self.transaction() as connection:
            made = self._clock()
            values = {"window": self._number(made), "worst": worst, "made": made, "process": self._process, "note": note}
            if not connection.execute(RESERVE, values).rowcount:
                # The first call of a window finds no row yet.
                new = connection.execute("INSERT OR IGNORE INTO ledger_windows (number) VALUES (:window)", values).rowcount
                if not new or not connection.execute(RESERVE, values).rowcount:
                    return None
            number = connection.execute(OPEN, values).lastrowid
        assert number is not None
        return Reservation(number, dollars(worst), made, note, self._process)

    def settle(
        self,
        reservation: Reservation,
        true_usd: float | Decimal,
        *,
        also: Callable[[sqlite3.Connection], None] | None = None,
    ) -> None:
        """Book what the call really cost, in place of what was held for it.

        `also` changes tables of one's own in the same transaction, so that what was paid for is stored exactly when it counts.
        A cost above the worst case is booked too, since it was spent; it counts in `Totals.overrun_usd`, warns, and may
        exceed the limit. Raises `LedgerError` where the reservation was settled or released before.
        """
        true = picodollars("true_usd", true_usd)
        with self.transaction() as connection:
            window, worst = self._close(connection, reservation)
            connection.execute(SETTLE, {"worst": worst, "true": true, "window": window})
            if also is not None:
                also(connection)
        if true > worst:
            warnings.warn(
                f"{self.path}: a call cost {dollars(true):.6g} dollars, more than its worst case of {dollars(worst):.6g} "
                "dollars: is its price right, and its limit of output tokens?",
                JaxrouteWarning,
                stacklevel=2,
            )

    def release(self, reservation: Reservation) -> None:
        """Give back what was held for a call that cost nothing. Raises `LedgerError` where that was done before."""
        with self.transaction() as connection:
            window, worst = self._close(connection, reservation)
            connection.execute(RELEASE, {"worst": worst, "window": window})

    @property
    def left_usd(self) -> float:
        """What can still be reserved, of the present window, dollars."""
        return self.totals().left_usd

    @property
    def next_window(self) -> float | None:
        """When the next window begins, seconds since 1970; None where there is but one."""
        if self._window is None:
            return None
        number = self._number(self._clock()) + 1
        if isinstance(self._window, str):
            return datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC).timestamp()
        return number * self._window

    def totals(self, *, every_window: bool = False) -> Totals:
        """What is booked, of the present window, or of all of them together; the limit is always that of one."""
        sums = ", ".join(f"coalesce(sum({name}), 0)" for name in TOTALS.split(", "))
        where, values = ("", ()) if every_window else ("WHERE number = ?", (self._number(self._clock()),))
        with self.reading() as connection:
            statement = f"SELECT (SELECT limit_pico FROM ledger_account), {sums} FROM ledger_windows {where}"
            limit, reserved, settled, overrun, *counts = connection.execute(statement, values).fetchone()
        amounts = (limit, max(0, limit - reserved - settled), reserved, settled, overrun)
        limit_usd, left_usd, reserved_usd, settled_usd, overrun_usd = map(dollars, amounts)
        return Totals(limit_usd, left_usd, reserved_usd, settled_usd, overrun_usd, *counts)

    def open(self) -> list[Reservation]:
        """The reservations that are neither settled nor released, of all processes and windows, oldest first."""
        with self.reading() as connection:
            rows = connection.execute("SELECT id, worst, made, note, process FROM ledger_open ORDER BY id").fetchall()
        return [Reservation(number, dollars(worst), *rest) for number, worst, *rest in rows]

    def abandoned(self) -> list[Reservation]:
        """The open reservations of processes of this host that are no longer there."""
        return [one for one in self.open() if not is_running(one.process)]

    def settle_abandoned(self) -> list[Reservation]:
        """Settle them at their worst cases, where nothing better is known; returns those that were."""
        done = []
        for one in self.abandoned():
            with self.transaction() as connection:
                if row := connection.execute(CLOSE, (one.id,)).fetchone():
                    window, worst = row
                    connection.execute(SETTLE, {"worst": worst, "true": worst, "window": window})
                    done.append(one)
        return done

    def close(self) -> None:
        """Close the file; open reservations stay open. Another use opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Ledger({str(self.path)!r})"

    def __reduce__(self) -> tuple:
        """In another process it opens the same file."""
        return Ledger, (self.path, None, None)

    def _number(self, now: float) -> int:
        if self._window is None:
            return 0
        if isinstance(self._window, str):
            moment = datetime.fromtimestamp(now, UTC)
            return 12 * moment.year + moment.month - 1
        return math.floor(now / self._window)

    def _begin(self, connection: sqlite3.Connection, limit: int | None, window: Window | None) -> Window | None:
        """Make the tables where there are none, and set the limit; returns the window of the file."""
        # One by one: `executescript` would end the transaction.
        for statement in filter(str.strip, SCHEMA.split(";")):
            connection.execute(statement)
        row = connection.execute("SELECT version, limit_pico, window_seconds FROM ledger_account").fetchone()
        if row is None:
            if limit is None:
                raise LedgerError(f"{self.path} holds no ledger: give limit_usd to begin one")
            connection.execute("INSERT INTO ledger_account VALUES (1, ?, ?, ?)", (VERSION, limit, window))
            return window
        version, before, stored = row
        self._window = stored
        if version != VERSION:
            raise LedgerError(f"{self.path} is a ledger of version {version}; this jaxroute reads version {VERSION}")
        if window is not None and window != stored:
            raise LedgerError(
                f"window={window}, but {self.path} has {_named(stored)}: leave window out, or begin another ledger"
            )
        if limit is not None and limit != before:
            now = self._number(self._clock())
            row = connection.execute("SELECT reserved + settled FROM ledger_windows WHERE number = ?", (now,)).fetchone()
            most = row[0] if row else 0
            if limit < most and limit < before:
                raise LedgerError(
                    f"limit_usd={dollars(limit):g} is below the {dollars(most):.12g} dollars that {self.path} has reserved and "
                    "settled already: give at least as much, or begin another ledger"
                )
            connection.execute("UPDATE ledger_account SET limit_pico = ?", (limit,))
        return stored

    def _close(self, connection: sqlite3.Connection, reservation: Reservation) -> tuple[int, int]:
        row = connection.execute(CLOSE, (reservation.id,)).fetchone()
        if row is None:
            raise LedgerError(f"{self.path}: reservation {reservation.id} is not open: it was settled or released before")
        return row

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One change, alone among all processes; undone where the block raises.

        For tables of one's own in the same file. Inside the block, ask nothing else of this object.
        """
        with self.reading() as connection:
            # Immediately: one that reads first and then writes could find that another has written in between.
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """This process's connection, one thread at a time; what SQLite raises becomes a `LedgerError`."""
        if self._number_of_process != os.getpid():
            # After a fork: neither the parent's connection nor a lock that one of its threads held may be used, nor closed.
            INHERITED.append(self._connection)
            self._lock, self._connection = threading.Lock(), None
            self._process, self._number_of_process = this_process(), os.getpid()
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _connect(self.path)
                yield self._connection
            except sqlite3.Error as error:
                raise LedgerError(
                    f"{self.path} cannot be used as a ledger: {shortened(str(error), 300, quoted=False)}"
                ) from error


def _named(window: Window | None) -> str:
    if isinstance(window, str):
        return "a window per month"
    return "no window" if window is None else f"windows of {window:g} seconds"


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection
