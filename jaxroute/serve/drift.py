"""Drift of the live stream: every rated answer and every routed prompt goes to the tests of `guarantees.drift`, kept in a file.

The file is read and written within one transaction, so that workers share its tests and a restart resumes them. Another
checkpoint has tests of its own, and so has a promise that was made again: an alarm from before says nothing against it. What a
kill loses is at most the last few prompts, which harms no guarantee.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from pathlib import Path
from typing import Any

from jaxroute.data.estimates import Estimator
from jaxroute.errors import OutputError, shortened
from jaxroute.guarantees.drift import Alarm, DriftWatch
from jaxroute.guarantees.promise import Promise
from jaxroute.guarantees.support import against, support_words
from jaxroute.serve.finished import Finished
from jaxroute.serve.state import State

SCHEMA = "CREATE TABLE IF NOT EXISTS drift (checkpoint TEXT PRIMARY KEY, content TEXT NOT NULL)"
UPSERT = "INSERT INTO drift VALUES (?, ?) ON CONFLICT (checkpoint) DO UPDATE SET content = excluded.content"
PROMPTS_AT_ONCE = 16
"""Prompts that are written together."""
MOST_PENDING = 10_000
LOCKED_SECONDS = 0.05
"""How long another process is waited for; after that, what has come is written with what comes next."""


class Drifting:
    """An observer of requests that have ended; `rated` gets every first rating of one. Without a checkpoint it does nothing."""

    def __init__(self, state: State, log: logging.Logger) -> None:
        self.log, self._config = log, state.config
        self._connection: sqlite3.Connection | None = None
        self._pending: list[tuple[str, float, float]] = []
        """Model, quality and estimate of rated answers; an empty name and the p-value of prompts."""
        self._broken = False
        self._chooser: Any = None
        self.watch: DriftWatch | None = None
        self.promise: Promise | None = None
        """What is routed by; an alarm may leave it without support."""
        self._key = ""
        # Without a checkpoint there is nothing to test, now and after every reading of the files.
        if state.config.drift_alpha and state.config.drift_file is not None and state.config.checkpoint is not None:
            self._connection = connected(state.config.drift_file)
        self.follow(state)

    @property
    def alarms(self) -> list[Alarm]:
        """Of this checkpoint, up to now."""
        self.flush()
        return [] if self.watch is None else list(self.watch.alarms.values())

    @property
    def wealth(self) -> dict[str, float]:
        """Of every test, over what raises an alarm: name -> share."""
        if self.watch is None:
            return {}
        self.flush()
        named: dict[str, Any] = {**self.watch.models}
        named |= {} if self.watch.prompts is None else {"prompts": self.watch.prompts}
        return {name: one.value / self.watch.threshold for name, one in named.items()}

    @property
    def unsupported(self) -> str:
        """Why the promise is no longer supported, and what to do; empty where it is, or where nothing is promised."""
        return "" if self.promise is None else support_words(self.promise, self.alarms)

    @property
    def rated_answers(self) -> int:
        """How many have been seen by the tests of models; without any, none of these can raise an alarm."""
        self.flush()
        return 0 if self.watch is None else sum(one.worse.seen for one in self.watch.models.values())

    def follow(self, state: State) -> None:
        """The files have been read again: another checkpoint has tests of its own."""
        chooser = getattr(state.chooser, "chooser", state.chooser)
        if chooser is self._chooser:
            return
        self.flush()
        self._chooser, self.watch, self.promise, config = chooser, None, state.promise, state.config
        estimator: Estimator | None = getattr(chooser, "estimator", None)
        if estimator is None or config.checkpoint is None or not config.drift_alpha:
            return
        familiarity = getattr(estimator, "familiarity", None)
        calibration = None if familiarity is None else len(familiarity.distances)
        self.watch = DriftWatch(estimator.models, calibration, alpha=config.drift_alpha, tolerance=config.drift_tolerance)
        self._key = state.checkpoint_digest
        self.flush(empty=True)
        if words := self.unsupported:
            self.log.warning("%s", words)

    def __call__(self, finished: Finished) -> None:
        """A request has ended."""
        if self._is_of_this(finished) and finished.p_value is not None:
            self._add("", finished.p_value, 0.0)

    def rated(self, finished: Finished, quality: float) -> None:
        """Its answer was rated for the first time."""
        if self._is_of_this(finished) and finished.quality is not None and finished.model is not None:
            self._add(finished.model, quality, finished.quality)
            self.flush()

    def close(self) -> None:
        """Write what has come, and close the file."""
        self.flush()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def flush(self, *, empty: bool = False) -> None:
        """Bring the tests and their file up to now."""
        if self.watch is None or not (self._pending or empty):
            return
        if self._connection is None:
            self._apply()
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            self._note(error)
            return
        try:
            row = self._connection.execute("SELECT content FROM drift WHERE checkpoint = ?", (self._key,)).fetchone()
            if row is not None:
                try:
                    self.watch.restore(json.loads(row[0]))
                except ValueError as error:
                    self.log.error("the state of drift in %s is damaged and begins anew: %s", self._config.drift_file, error)
            self._apply()
            self._connection.execute(UPSERT, (self._key, json.dumps(self.watch.as_json())))
            self._connection.execute("COMMIT")
            self._broken = False
        except sqlite3.Error as error:
            self._note(error)
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _is_of_this(self, finished: Finished) -> bool:
        """Whether it was routed by the estimates that are tested now, not by those of an earlier checkpoint."""
        return finished.routed and finished.checkpoint_digest == self._key

    def _add(self, model: str, value: float, estimate: float) -> None:
        if self.watch is None:
            return
        self._pending.append((model, value, estimate))
        del self._pending[:-MOST_PENDING]
        if len(self._pending) >= PROMPTS_AT_ONCE:
            self.flush()

    def _apply(self) -> None:
        assert self.watch is not None
        for model, value, estimate in self._pending:
            alarm = self.watch.outcome(model, value, estimate) if model else self.watch.prompt(value)
            if alarm is not None:
                self.log.warning("drift: %s", alarm)
                if self.promise is not None and against(self.promise, [alarm]):
                    self.log.warning("%s", support_words(self.promise, [alarm]))
        self._pending.clear()

    def _note(self, error: sqlite3.Error) -> None:
        """Once per trouble: a full disk must not fill the log too."""
        if not self._broken:
            self.log.error("the state of drift is not written for now: %s", error)
        self._broken = True


def connected(path: Path) -> sqlite3.Connection:
    """The file of the tests, which is made where there is none. Raises `OutputError` where it cannot be."""
    try:
        connection = sqlite3.connect(path, timeout=LOCKED_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(SCHEMA)
    except sqlite3.Error as error:
        raise OutputError(f"drift_file={str(path)!r} cannot be used: {shortened(str(error), quoted=False)}") from error
    return connection
