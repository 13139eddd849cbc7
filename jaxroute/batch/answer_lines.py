"""A batch's answers as lines of a file, in the order of its prompts: the rows with their answers, or OpenAI's batch output."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxroute.endpoints import StoredAnswer
from jaxroute.storage.files import replacing
from jaxroute.storage.json_lines import json_line

BATCH = "openai-batch"
FIELDS = (
    "model",
    "answer",
    "finish_reason",
    "estimate",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "tries",
    "spent_usd",
    "error",
)
"""What each line holds beside the fields of its row."""
FURTHER = ("refusal", "tool_calls")
"""And where the answer has them."""


@dataclass(frozen=True, eq=False)
class Lines:
    """What the lines say beside the answers."""

    fields: Sequence[dict[str, Any]]
    """Of the input's rows."""
    models: Sequence[str]
    quality: Float[np.ndarray, "queries models"]
    errors: dict[int, str]
    """Why these rows have no answer."""


@dataclass(frozen=True)
class _Found:
    """What is stored of one row."""

    answer: StoredAnswer | None
    tries: int
    spent_usd: float


def write_answers(path: Path, format: str, lines: Lines, answers: Iterable[StoredAnswer]) -> None:
    """Write one line per row; `answers` are ordered by row, with several of one row where models failed before."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        for row, found in enumerate(_by_row(len(lines.fields), answers)):
            line = (_batch_line if format == BATCH else _line)(lines, row, found)
            file.write(json_line(line))


def _by_row(rows: int, answers: Iterable[StoredAnswer]) -> Iterator[_Found]:
    """All rows, those of which nothing is stored too."""
    stored = (one for one in answers if not one.purpose and one.query_id.isdigit())
    one = next(stored, None)
    for row in range(rows):
        answer, tries, spent = None, 0, 0.0
        while one is not None and int(one.query_id) == row:
            answer = one if one.answered else answer
            tries, spent = tries + one.tries + one.killed, spent + one.spent_usd
            one = next(stored, None)
        yield _Found(answer, tries, spent)


def _line(lines: Lines, row: int, found: _Found) -> dict[str, Any]:
    # A row may itself be a line of an earlier run.
    given = {name: value for name, value in lines.fields[row].items() if name not in (*FIELDS, *FURTHER)}
    answer, money = found.answer, {"tries": found.tries, "spent_usd": found.spent_usd}
    line = given | dict.fromkeys(FIELDS) | money
    if answer is None:
        return line | {"error": lines.errors.get(row, "")}
    usage = answer.usage
    line |= {
        "model": answer.model,
        "answer": answer.text,
        "finish_reason": answer.finish_reason,
        "estimate": _estimate(lines, row, answer),
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cost_usd": answer.cost_usd,
    }
    if answer.refused:
        line["refusal"] = answer.refusal
    if answer.message.get("tool_calls"):
        line["tool_calls"] = answer.message["tool_calls"]
    return line


def _batch_line(lines: Lines, row: int, found: _Found) -> dict[str, Any]:
    answer, custom_id = found.answer, lines.fields[row].get("custom_id")
    line = {"id": f"batch_req_{row:09d}", "custom_id": custom_id}
    if answer is None:
        code, _, message = lines.errors.get(row, "").partition(": ")
        return line | {"response": None, "error": {"code": code, "message": message or code}}
    usage = answer.usage
    into, out = usage.prompt_tokens or 0, usage.completion_tokens or 0
    body = {
        "id": f"chatcmpl-{row:09d}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": answer.model,
        "choices": [
            {"index": 0, "message": _message(answer), "logprobs": None, "finish_reason": answer.finish_reason or "stop"}
        ],
        "usage": {"prompt_tokens": into, "completion_tokens": out, "total_tokens": into + out},
        "jaxroute": {
            "estimate": _estimate(lines, row, answer),
            "cost_usd": answer.cost_usd,
            "spent_usd": found.spent_usd,
            "tries": found.tries,
        },
    }
    return line | {"response": {"status_code": 200, "request_id": f"{row:09d}", "body": body}, "error": None}


def _message(answer: StoredAnswer) -> dict[str, Any]:
    return {"role": "assistant", "content": answer.text, "refusal": answer.refusal} | dict(answer.message)


def _estimate(lines: Lines, row: int, answer: StoredAnswer) -> float | None:
    if answer.model not in lines.models:
        return None
    return round(float(lines.quality[row, lines.models.index(answer.model)]), 6)
