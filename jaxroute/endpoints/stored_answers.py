"""One stored answer, or the reason why there is none, and its row in the file of an `AnswerStore`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxroute.endpoints.answers import REASONS, Answer, CallFailed
from jaxroute.endpoints.money import dollars, picodollars
from jaxroute.endpoints.usage import Usage

UNFINISHED = "unfinished"
"""The reason of a call that was under way when its process ended, or was cancelled."""
STORED_REASONS = {**REASONS, UNFINISHED: "its process ended before the answer was stored"}
ASKED_AGAIN = (UNFINISHED, "budget", "unauthorized")
"""Reasons that say nothing of the model: such cells are always asked again."""
TRUNCATED, FILTERED = "length", "content_filter"
PLAIN = {"role", "content", "refusal"}
"""Fields of a message that have columns of their own, or are always the same."""

COLUMNS = (
    "query_id",
    "model",
    "purpose",
    "reason",
    "detail",
    "text",
    "finish_reason",
    "refusal",
    "message",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "latency_seconds",
    "first_byte_seconds",
    "log_probability",
    "cost_pico",
    "spent_pico",
    "killed",
    "killed_pico",
    "tries",
)
SCHEMA = """
CREATE TABLE IF NOT EXISTS answer_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answer_models (model TEXT PRIMARY KEY, identity TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answer_queries (query_id TEXT PRIMARY KEY, digest TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answer_cells (
    query_id TEXT NOT NULL, model TEXT NOT NULL, purpose TEXT NOT NULL,
    reason TEXT NOT NULL, detail TEXT NOT NULL DEFAULT '',
    text TEXT NOT NULL DEFAULT '', finish_reason TEXT, refusal TEXT, message TEXT,
    prompt_tokens INTEGER, cached_tokens INTEGER, completion_tokens INTEGER, reasoning_tokens INTEGER,
    latency_seconds REAL, first_byte_seconds REAL, log_probability REAL,
    cost_pico INTEGER, spent_pico INTEGER NOT NULL, killed INTEGER NOT NULL DEFAULT 0, killed_pico INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (query_id, model, purpose)
);
"""
# A cell's money and tries add up over all runs; the rest is that of the last one.
ADDED = ("spent_pico", "killed", "killed_pico", "tries")


@dataclass(frozen=True)
class StoredAnswer:
    """What one model has answered to one query."""

    query_id: str
    model: str
    purpose: str
    """Empty for the answer itself; what else was asked about the query, such as a judge's question, says what it is."""
    reason: str
    """Why there is no answer, one of STORED_REASONS; empty where there is one."""
    detail: str
    """What the endpoint said about it."""
    text: str
    """The content of the message."""
    finish_reason: str | None
    """As the endpoint says: `stop`, `length`, `content_filter`, `tool_calls`."""
    refusal: str | None
    """What the model says in place of an answer, where the endpoint marks that."""
    message: Mapping[str, Any]
    """The assistant's message in OpenAI's form."""
    usage: Usage
    """Tokens, None where the endpoint has not counted them."""
    latency_seconds: float | None
    first_byte_seconds: float | None
    log_probability: float | None
    """Mean over the tokens of the text, in nats; None where it was not offered."""
    cost_usd: float | None
    """True dollars of the answer; None where there is none, or its tokens were not counted credibly."""
    spent_usd: float
    """What the ledger was charged for the cell: all tries of all runs, and worst cases of those that were killed."""
    killed: int
    """How many of its calls were under way when a process was killed."""
    killed_usd: float
    """The part of `spent_usd` that is their worst cases."""
    tries: int
    """Requests of all runs, without those that were killed."""

    @property
    def answered(self) -> bool:
        """Whether there is an answer, be it a refusal or a truncated one."""
        return self.reason == ""

    @property
    def refused(self) -> bool:
        """Whether the endpoint marks it as a refusal, or has filtered it."""
        return self.refusal is not None or self.finish_reason == FILTERED

    @property
    def truncated(self) -> bool:
        """Whether it reached the limit of its length."""
        return self.finish_reason == TRUNCATED

    @property
    def is_final(self) -> bool:
        """Whether it is returned without being asked again: an answer, or a failure that the model or endpoint caused."""
        return self.reason not in ASKED_AGAIN


def read_cell(row: Sequence[Any]) -> StoredAnswer:
    """A row of COLUMNS."""
    one = dict(zip(COLUMNS, row, strict=True))
    plain = {"role": "assistant", "content": one["text"]} | ({"refusal": one["refusal"]} if one["refusal"] else {})
    return StoredAnswer(
        **{name: one[name] for name in ("query_id", "model", "purpose", "reason", "detail", "text", "finish_reason")},
        refusal=one["refusal"],
        message=json.loads(one["message"]) if one["message"] else plain,
        usage=Usage(one["prompt_tokens"], one["cached_tokens"], one["completion_tokens"], one["reasoning_tokens"]),
        **{name: one[name] for name in ("latency_seconds", "first_byte_seconds", "log_probability", "killed", "tries")},
        cost_usd=None if one["cost_pico"] is None else dollars(one["cost_pico"]),
        spent_usd=dollars(one["spent_pico"]),
        killed_usd=dollars(one["killed_pico"]),
    )


def answer_columns(answer: Answer) -> dict[str, Any]:
    """What is stored of an answer. The money of its tries is booked try by try."""
    further = {name for name, value in answer.message.items() if value is not None} - PLAIN
    whole = bool(further) or not isinstance(answer.message.get("content"), str | None)
    return {
        "reason": "",
        "detail": "",
        "text": clean(answer.text),
        "finish_reason": None if answer.finish_reason is None else clean(answer.finish_reason),
        "refusal": None if answer.refusal is None else clean(answer.refusal),
        "message": json.dumps(answer.message) if whole else None,
        "prompt_tokens": answer.usage.prompt_tokens,
        "cached_tokens": answer.usage.cached_tokens,
        "completion_tokens": answer.usage.completion_tokens,
        "reasoning_tokens": answer.usage.reasoning_tokens,
        "latency_seconds": answer.latency_seconds,
        "first_byte_seconds": answer.first_byte_seconds,
        "log_probability": statistics.fmean(answer.log_probabilities) if answer.log_probabilities else None,
        "cost_pico": None if answer.cost_usd is None else picodollars("cost_usd", answer.cost_usd),
        "tries": len(answer.tries),
    }


def failure_columns(failed: CallFailed) -> dict[str, Any]:
    """What is stored of a call without an answer."""
    return {"reason": failed.reason, "detail": clean(failed.detail), "tries": len(failed.tries)}


def upsert(columns: Mapping[str, Any]) -> str:
    """The statement that writes these columns of a cell, by name; money and tries are added to what is there."""
    names = list(columns)
    changes = [
        f"{name} = {name} + excluded.{name}" if name in ADDED else f"{name} = excluded.{name}"
        for name in names
        if name not in ("query_id", "model", "purpose")
    ]
    return (
        f"INSERT INTO answer_cells ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)}) "
        f"ON CONFLICT (query_id, model, purpose) DO UPDATE SET {', '.join(changes)}"
    )


def clean(text: str) -> str:
    """The text without halves of surrogate pairs, which no file can hold; they become question marks."""
    return text.encode("utf-8", "replace").decode()
