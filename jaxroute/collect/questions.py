"""What is asked: the prompts of a file with their references, each checked against the grader before anything is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxroute.collect.graders import Grader
from jaxroute.data.messages import prompt_field
from jaxroute.data.prompts import read_prompts
from jaxroute.endpoints.requests import Prompt
from jaxroute.errors import GraderError, PromptError, listed, shortened

REFERENCE = "reference"
OPTIONS = ("choices", "options")
"""Fields that hold a list, which a CSV has as JSON text."""
OF_A_REQUEST = ("tools", "tool_choice", "response_format")
"""Fields that change what is asked; a collection has them for all of its questions or for none."""
SHOWN = 20


@dataclass(frozen=True)
class Question:
    """One prompt, and what its answers are graded with."""

    query_id: str
    """As in the file; the row's number where it has none."""
    text: str
    """The prompt as a table of outcomes has it; chat messages are rendered."""
    prompt: Prompt
    """As it is asked: the text, or chat messages."""
    domain: str
    """Empty where unknown."""
    fields: dict[str, Any]
    """All that the row holds."""

    @property
    def reference(self) -> Any:
        """What a right answer is; None where the row has none."""
        return self.fields.get(REFERENCE)

    @property
    def for_grader(self) -> dict[str, Any]:
        """The row as graders take it."""
        return self.fields | {"prompt": self.text}


def read_questions(path: Path) -> tuple[list[Question], int]:
    """The questions of a file, and how many rows only repeat another. Raises `PromptError` for everything that is wrong."""
    prompts = read_prompts(path)
    found: dict[str, tuple[Question, str]] = {}
    _check_requests(path, prompts.fields, prompts.places)
    conflicts, repeated = [], 0
    rows = zip(prompts.texts, prompts.domains, prompts.fields, prompts.ids, prompts.places, strict=True)
    for number, (text, domain, fields, given, place) in enumerate(rows):
        one = Question(str(number) if given is None else given, text, _asked(fields, text), domain, _with_lists(fields))
        before = found.setdefault(one.query_id, (one, place))
        if before[0] is one:
            continue
        if before[0] == one:
            repeated += 1
        else:
            differs = "another prompt" if before[0].prompt != one.prompt else "other fields"
            conflicts.append(f"{place}: the id {shortened(one.query_id)} has {differs} in {before[1]}")
    if conflicts:
        more = f"\n  - and {len(conflicts) - SHOWN:,} more" if len(conflicts) > SHOWN else ""
        raise PromptError(
            f"prompts={str(path)!r}: ids must be distinct; give these rows other ids:"
            + "".join(f"\n  - {one}" for one in conflicts[:SHOWN])
            + more
        )
    return [question for question, _ in found.values()], repeated


def check_questions(path: Path, questions: list[Question], grader: Grader) -> None:
    """Raise `GraderError` naming the questions whose answers could not be graded."""
    wrong = []
    for question in questions:
        try:
            grader.check(question.reference, question.for_grader, where=f"the question {shortened(question.query_id)}")
        except GraderError as error:
            wrong.append(str(error))
    if not wrong:
        return
    has = f"; its rows have {listed(questions[0].fields)}" if REFERENCE not in questions[0].fields else ""
    more = f"\n  - and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
    raise GraderError(
        f"prompts={str(path)!r}: {len(wrong):,} of {len(questions):,} questions could not be graded{has}:"
        + "".join(f"\n  - {one}" for one in wrong[:SHOWN])
        + more
    )


def _check_requests(path: Path, rows: Sequence[Mapping[str, Any]], places: Sequence[str]) -> None:
    """Raise `PromptError` for rows that are requests of their own: their answers would be those to another request."""
    wrong = []
    for fields, place in zip(rows, places, strict=True):
        body = fields.get("body")
        inner = body if isinstance(body, Mapping) else {}
        given = [name for name in OF_A_REQUEST if fields.get(name) is not None or inner.get(name) is not None]
        if given:
            wrong.append(f"{place} has {listed(given)}")
    if wrong:
        more = f"; and {len(wrong) - SHOWN:,} more rows" if len(wrong) > SHOWN else ""
        raise PromptError(
            f"prompts={str(path)!r}: {'; '.join(wrong[:SHOWN])}{more}. A collection asks all questions alike: give these "
            "fields for all of them as --request name=value, and leave them out of the rows"
        )


def _asked(fields: Mapping[str, Any], text: str) -> Prompt:
    """The chat messages of a row as they are; the text of one that has none."""
    value = fields.get(prompt_field(fields))
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{") and prompt_field(fields) != "prompt":
        value = json.loads(value)
    if isinstance(value, Mapping):
        value = next((value[name] for name in ("messages", "input", "prompt") if value.get(name)), None)
    return value if isinstance(value, list) else text


def _with_lists(fields: dict[str, Any]) -> dict[str, Any]:
    """The same with the options of a question as a list, where a CSV has them as JSON text."""
    found = dict(fields)
    for name in OPTIONS:
        if isinstance(given := found.get(name), str) and given.lstrip()[:1] in ("[", "{"):
            try:
                found[name] = json.loads(given)
            except ValueError:
                continue
    return found
