"""What was asked and answered, where that is wanted: one SQLite file, which `train` reads once it is written as a table.

    none     nothing is kept
    hash     the SHA-256 of every prompt: enough to join with prompts that are kept elsewhere
    full     the prompts themselves

A quality comes later, by `POST /v1/feedback`. `write_outcomes` writes the rows that have one in the long form of a table of
outcomes, one row per prompt and model; what was asked more than once is averaged.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
import warnings
from pathlib import Path
from typing import Literal

from jaxroute.errors import JaxrouteWarning, OutputError, counted, shortened
from jaxroute.serve.finished import Finished
from jaxroute.storage.files import replacing

Kept = Literal["none", "hash", "full"]
SCHEMA = """
CREATE TABLE IF NOT EXISTS serve_requests (
    id TEXT PRIMARY KEY, made REAL NOT NULL, client TEXT, prompt_sha256 TEXT NOT NULL, prompt TEXT, model TEXT NOT NULL,
    expected_quality REAL, cost_usd REAL, input_tokens INTEGER, output_tokens INTEGER, latency_seconds REAL, quality REAL
)
"""
INSERT = "INSERT OR REPLACE INTO serve_requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)"
OUTCOMES = """
SELECT prompt_sha256, max(prompt), model, avg(quality), avg(cost_usd), avg(input_tokens), avg(output_tokens),
    avg(latency_seconds)
FROM serve_requests WHERE quality IS NOT NULL AND cost_usd IS NOT NULL
GROUP BY prompt_sha256, model ORDER BY min(made), model
"""
COLUMNS = ("query_id", "prompt", "model", "quality", "cost_usd", "input_tokens", "output_tokens", "latency_seconds")


class Records:
    """The file `path`, which is made where there is none. Raises `OutputError` where it cannot be."""

    def __init__(self, path: Path, kept: Kept) -> None:
        self.path, self.kept = path, kept
        self._connection = _connected(path)

    def add(self, finished: Finished, prompt: str) -> None:
        """An answer that has come to its end; others have no outcome."""
        if finished.model is None or finished.reason or finished.status != 200:
            return
        usage = finished.usage
        row = (
            finished.id,
            time.time(),
            finished.client,
            hashlib.sha256(prompt.encode(errors="surrogatepass")).hexdigest(),
            prompt.encode(errors="replace").decode() if self.kept == "full" else None,
            finished.model,
            finished.quality,
            finished.cost_usd,
            usage.prompt_tokens,
            usage.completion_tokens,
            finished.total_seconds,
        )
        self._connection.execute(INSERT, row)

    def rate(self, number: str, quality: float) -> bool:
        """Note how good an answer was, in [0, 1]; False where it is not known here."""
        return bool(self._connection.execute("UPDATE serve_requests SET quality = ? WHERE id = ?", (quality, number)).rowcount)

    def owner(self, number: str) -> tuple[bool, str | None]:
        """Whether an answer is known here, and whose it is."""
        row = self._connection.execute("SELECT client FROM serve_requests WHERE id = ?", (number,)).fetchone()
        return (False, None) if row is None else (True, row[0])

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def write_outcomes(record: Path, output: Path) -> int:
    """The outcomes of a record as JSON lines, for `jaxroute train --table`; returns their number. Raises `OutputError`.

    Warns where prompts were kept as hashes, which `train` would take for texts.
    """
    if not record.is_file():
        raise OutputError(f"record_file={str(record)!r} is not there")
    connection = _connected(record)
    try:
        rows = connection.execute(OUTCOMES).fetchall()
    except sqlite3.Error as error:
        raise OutputError(f"record_file={str(record)!r} is no record: {shortened(str(error), quoted=False)}") from error
    finally:
        connection.close()
    with replacing(output) as partial, partial.open("w", encoding="utf-8") as lines:
        for number, prompt, *rest in rows:
            values = dict(zip(COLUMNS, (number, prompt or f"sha256:{number}", *rest), strict=True))
            lines.write(json.dumps({name: value for name, value in values.items() if value is not None}) + "\n")
    if hashes := sum(row[1] is None for row in rows):
        warnings.warn(
            f"of {counted(len(rows), 'outcome')} {hashes:,} have sha256:... in place of a prompt: put the prompts there before "
            "you train on them",
            JaxrouteWarning,
            stacklevel=2,
        )
    return len(rows)


def _connected(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(SCHEMA)
    except sqlite3.Error as error:
        raise OutputError(f"record_file={str(path)!r} cannot be used: {shortened(str(error), quoted=False)}") from error
    return connection
