"""A user's own wording has the places that a judge needs, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaxroute.collect.graders.judging.templates import default_template, read_template
from jaxroute.errors import GraderError


def test_values_are_put_into_their_places_and_nothing_into_values(tmp_path: Path):
    path = tmp_path / "mine.txt"
    path.write_text('Like {"level": 1} or \\frac{1}{ 2 }:\n{question}|{answer}|{question}', encoding="utf-8")
    template = read_template(path, pairs=False, reference=False)
    filled = template.filled({"question": "{answer}", "answer": "{question} {reference} {0}"})
    assert filled == 'Like {"level": 1} or \\frac{1}{ 2 }:\n{answer}|{question} {reference} {0}|{answer}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{question} {answer}", r"lacks the place {reference}: .*reference=false"),
        ("{question} {reference}", r"lacks the place {answer}"),
        ("{question} {reference} {answer} {grade}", r"the place {grade}, which is unknown here; its places are {question}"),
        ("{question} {reference} {answer} {answer_a}", r"the place {answer_a}, which is unknown"),
        ("", r"lacks the place {question}, {answer}, {reference}"),
    ],
)
def test_missing_and_unknown_places_are_rejected(tmp_path: Path, text: str, said: str):
    path = tmp_path / "mine.txt"
    path.write_text(text)
    with pytest.raises(GraderError, match=said):
        read_template(path, pairs=False, reference=True)


def test_a_file_that_is_no_text_is_rejected(tmp_path: Path):
    path = tmp_path / "mine.txt"
    path.write_bytes(b"\xff\xfe{question}")
    for wrong in (path, tmp_path, tmp_path / "nowhere"):
        with pytest.raises(GraderError, match="cannot be read"):
            read_template(wrong, pairs=False, reference=True)
    path.write_bytes(b"x" * 1_000_001)
    with pytest.raises(GraderError, match=r"more than 1,000,000 bytes"):
        read_template(path, pairs=False, reference=True)


def test_our_own_wording_has_all_places():
    for pairs in (False, True):
        for reference in (False, True):
            text = default_template(pairs=pairs, reference=reference).text
            assert ("{reference}" in text) == reference and ("{answer_a}" in text) == pairs
