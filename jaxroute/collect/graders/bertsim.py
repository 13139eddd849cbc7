"""How near the answer's meaning is to the reference's: the cosine of their sentence embeddings (TensorOpera, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxroute.collect.graders.grade import Grade
from jaxroute.collect.graders.reading import references


@dataclass(frozen=True)
class Config:
    """What reads the texts."""

    encoder: str = "minilm"
    """The encoder of the embeddings; all-MiniLM-L6-v2 is made for this."""


def grade(answer: str, reference: Any, question: Any, config: Config) -> Grade:
    """max(0, cos(answer, reference)); of several references the nearest counts."""
    return grade_many([answer], [reference], [question], config)[0]


def grade_many(answers: Sequence[str], given: Sequence[Any], questions: Sequence[Any], config: Config) -> list[Grade]:
    """The grades of many answers, embedded together."""
    from jaxroute.encoders.embedding import embed

    wanted = [[one for one in references(reference) if one.strip()] for reference in given]
    texts = sorted({one for one in answers if one.strip()} | {one for many in wanted for one in many})
    place = {text: row for row, text in enumerate(texts)}
    vectors = embed(texts, config.encoder) if texts else np.zeros((0, 1))
    grades = []
    for answer, many in zip(answers, wanted, strict=True):
        if not answer.strip() or not many:
            grades.append(Grade(0.0, "there is no text to compare"))
            continue
        nearest = float(max(vectors[place[answer]] @ vectors[place[one]] for one in many))
        grades.append(Grade(float(np.clip(nearest, 0.0, 1.0)), f"cosine {nearest:.3f}"))
    return grades
