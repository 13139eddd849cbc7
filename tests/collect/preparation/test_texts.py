"""Texts that differ in case and marks alone are the same; near ones are found as brute force finds them."""

from __future__ import annotations

import numpy as np
import pytest

from jaxroute.collect.preparation.texts import MISSED, PERMUTATIONS, NearTexts, bands_and_rows, jaccard, shingles, whole, words


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("What is 2 + 3?", "what IS  2 + 3", True),
        ("What is 2 + 3?", "What is 2 - 3?", False),
        ("What is 2 - 3?", "What is 2 3?", False),
        ("A well-known word", "a well known word.", True),
        ("\ufb01ne", "fine", True),
        ("\u4f60\u597d\uff1f", "\u4f60\u597d", True),
        ("!!!", "???", False),
        ("caf\u00e9", "cafe\u0301", True),
    ],
)
def test_marks_count_where_they_change_the_question(first: str, second: str, same: bool):
    assert (whole(words(first)) == whole(words(second))) == same


def test_text_without_blanks_has_words_too():
    assert words("\u4e2d\u56fd GPT\u6a21\u578b") == ["\u4e2d", "\u56fd", "gpt", "\u6a21", "\u578b"]


def test_a_short_text_is_one_shingle():
    assert shingles(words("Two words")) == {"two words"} and len(shingles(words("a b c d"))) == 2
    assert jaccard(shingles(words("a b c d")), shingles(words("a b c e"))) == 1 / 3


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_bands_miss_a_pair_at_the_threshold_no_more_often_than_allowed(threshold: float):
    bands, rows = bands_and_rows(threshold)
    assert bands * rows <= PERMUTATIONS and ((1 - threshold**rows) ** bands <= MISSED or rows == 1)


def test_near_texts_are_those_of_brute_force():
    generator = np.random.default_rng(5)
    vocabulary = [f"word{number}" for number in range(30)]
    known = [list(generator.choice(vocabulary, 20)) for _ in range(150)]
    asked = []
    for number in range(300):
        text = list(known[number % 150])
        for place in generator.integers(0, 20, generator.integers(0, 4)):
            text[place] = "new"
        asked.append(text)
    index = NearTexts(0.6)
    sets = [shingles(text) for text in known]
    for one in sets:
        index.add(one)
    assert len(index) == 150
    expected, found = [], []
    for text in asked:
        similarities = [jaccard(shingles(text), one) for one in sets]
        best = int(np.argmax(similarities))
        expected.append((best, similarities[best]) if similarities[best] >= 0.6 else None)
        found.append(index.nearest(shingles(text)))
    assert 30 < sum(one is None for one in expected) < 270
    assert found == expected


def test_an_index_grows_and_an_empty_one_finds_nothing():
    index = NearTexts(1.0)
    assert index.nearest(shingles(["x"])) is None
    for number in range(1100):
        index.add(shingles([f"text {number}"]))
    assert index.nearest(shingles(["text 1099"])) == (1099, 1.0) and index.nearest(shingles(["text"])) is None
