"""Which model can be asked which question: what it accepts beside text, and what fits into its context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from jaxroute.collect.asking import AskingConfig
from jaxroute.collect.questions import Question
from jaxroute.endpoints import Endpoint, build_request, needs
from jaxroute.endpoints.requests import exceeds_context, longest_body
from jaxroute.errors import EndpointError, counted, shortened

BYTES_IN_JSON = 6
"""At most, of one byte of text: a control character is written as \\u001f."""


@dataclass(frozen=True)
class Askable:
    """The cells that can be asked."""

    cells: Bool[np.ndarray, "queries models"]
    notes: tuple[str, ...]
    """For every model that cannot be asked all of the questions, how many, and why the first of them."""


def askable(questions: Sequence[Question], endpoints: Mapping[str, Endpoint], config: AskingConfig) -> Askable:
    """Which questions each of the endpoints can be asked.

    Raises `EndpointError` where a question can be asked of no model, or a model none of the questions.
    """
    cells = np.ones((len(questions), len(endpoints)), bool)
    reasons: dict[tuple[int, int], str] = {}
    # Requests of plain texts differ in their lengths alone, so of those only the first and the long ones are built.
    alike = np.array([isinstance(one.prompt, str) and not needs(one.prompt, config.options) for one in questions])
    sizes = np.array([len(one.text.encode()) for one in questions])
    for column, endpoint in enumerate(endpoints.values()):
        first, reason = _tried(endpoint, questions[0], config)
        if reason:
            cells[0, column], reasons[0, column] = False, reason
        built = ~alike
        if first and (most := longest_body(endpoint, config.output_tokens)) is not None:
            built = built | (first + BYTES_IN_JSON * sizes > most)
        for row in np.flatnonzero(built if first else built | True).tolist():
            if row and (reason := _tried(endpoint, questions[row], config)[1]):
                cells[row, column], reasons[row, column] = False, reason
    names = list(endpoints)
    for row in np.flatnonzero(~cells.any(axis=1))[:1].tolist():
        raise EndpointError(f"the question {shortened(questions[row].query_id)}: {reasons[row, 0]}")
    for column in np.flatnonzero(~cells.any(axis=0))[:1].tolist():
        raise EndpointError(f"{names[column]} can be asked none of the questions: {reasons[0, column]}")
    notes = []
    for column, name in enumerate(names):
        if len(rows := np.flatnonzero(~cells[:, column]).tolist()):
            example = f"such as {shortened(questions[rows[0]].query_id)}: {reasons[rows[0], column]}"
            notes.append(f"{name} was not asked {counted(len(rows), 'question')}, {example}")
    return Askable(cells, tuple(notes))


def _tried(endpoint: Endpoint, question: Question, config: AskingConfig) -> tuple[int, str]:
    """The bytes of the request, 0 where there is none, and why it cannot be sent; empty where it can."""
    try:
        request = build_request(endpoint, question.prompt, output_tokens=config.output_tokens, options=config.options)
    except EndpointError as error:
        return 0, str(error)
    return len(request.body), exceeds_context(request, question.prompt)
