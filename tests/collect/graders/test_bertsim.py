"""Cosines of embeddings: equal texts are 1, and a paraphrase is nearer than another subject."""

from __future__ import annotations

import numpy as np
import pytest

from jaxroute.collect.graders import find_grader
from jaxroute.encoders import embedding


def test_the_nearest_reference_counts_and_empty_texts_are_nothing(monkeypatch: pytest.MonkeyPatch):
    asked: list[list[str]] = []

    def embed(texts: list[str], encoder: str) -> np.ndarray:
        asked.append(texts)
        return np.array([{"up": [1.0, 0.0], "down": [-1.0, 0.0], "near": [0.6, 0.8]}[text] for text in texts])

    monkeypatch.setattr(embedding, "embed", embed)
    answers, references = ["up", "near", "down", "", "up"], ["up", ["down", "up"], "up", "up", ""]
    grades = find_grader("bertsim").grade_many(answers, references, [""] * 5)
    assert [one.score for one in grades] == pytest.approx([1.0, 0.6, 0.0, 0.0, 0.0])
    assert asked == [["down", "near", "up"]], "every text is read once, all together"


@pytest.mark.slow
def test_a_paraphrase_is_nearer_than_another_subject():
    grader = find_grader("bertsim")
    near, far = (
        grader.grade(one, "A cat sleeps on the sofa").score for one in ("The cat is napping on the couch", "Rates rose")
    )
    assert near > 0.6 > 0.3 > far
