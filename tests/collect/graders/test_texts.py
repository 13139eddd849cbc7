"""Exact, contains, regex and schema."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from jaxroute.collect.graders import find_grader
from jaxroute.collect.graders.reading import boxed, stated
from jaxroute.errors import GraderError


def score(spec: str, answer: str, reference: Any) -> float:
    return find_grader(spec).grade(answer, reference).score


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("London.", "london", 1),
        ("  New \n York  City", "New_York_City", 1),
        ("\\boxed{Os Lus\u00edadas}", "Os_Lus\u00edadas", 1),
        (r"\boxed{Paris} or \boxed{\textbf{Rome}}", "Rome", 1),
        (r"\boxed{Paris}. The answer is Rome", "Rome", 0),
        ("The final answer is: **Rome**.", "Rome", 1),
        ("Rome is a city", "Rome", 0),
        ("Rome", ["Paris", "Rome"], 1),
        ("", "Rome", 0),
        ("3", 3, 1),
    ],
)
def test_exact(answer: str, reference: Any, right: int):
    assert score("exact", answer, reference) == right


def test_exact_by_case_and_whole():
    assert score("exact:ignore_case=false", "london", "London") == 0
    assert score("exact:whole=true", r"\boxed{Rome}", "Rome") == 0


def test_boxes_may_nest_and_be_cut_off():
    assert boxed(r"\boxed{\frac{1}{2}} and \boxed{cut") == r"\frac{1}{2}"
    assert boxed("none") is None and stated("none") is None
    assert stated("The answer here is 5\nAnswer: 6\n") == "6"


@settings(max_examples=30, deadline=None)
@given(text=some.text(alphabet="a{}", max_size=30), inner=some.text(alphabet="ab ", max_size=5))
def test_the_last_box_that_closes_counts(text: str, inner: str):
    answer = text + r"\boxed{" + inner + "}"
    assert boxed(answer) == inner.strip() and boxed(answer + r" \boxed{" + text.replace("}", "")) == inner.strip()


def test_an_answer_that_opens_boxes_without_end_is_read_at_once():
    started = time.process_time()
    for grader in ("exact", "numeric", "choice"):
        assert score(grader, r"\boxed{" * 20_000, "5") == 0
    assert time.process_time() - started < 1, "in minutes, if every box is followed to the end"


def test_contains_whole_words():
    assert score("contains", "It is New  York, I think", "new york") == 1
    assert score("contains", "It is in Romeo", "Rome") == 0
    assert score("contains", "Rome and Paris", ["Paris", "Berlin"]) == 1
    assert score("contains:share=true", "Rome and Paris", ["Paris", "Berlin"]) == 0.5
    with pytest.raises(GraderError, match="has no words"):
        find_grader("contains").check(" . ")


def test_regex_finds_the_reference_or_is_the_reference():
    assert score(r"regex:pattern=answer: (\w+)", "Answer: 4, no, answer: 5", "5") == 1
    assert score(r"regex:pattern=answer: (\w+)", "Answer: 5, no, answer: 4", "5") == 0
    assert score("regex", "it is 2024-05-01", r"\d{4}-\d\d-\d\d") == 1 and score("regex", "it is", r"\d") == 0
    with pytest.raises(GraderError, match="is no regular expression"):
        find_grader("regex").check("(")


SCHEMA = {
    "type": "object",
    "required": ["name", "tags"],
    "properties": {
        "name": {"type": "string"},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
        "n": {"type": "integer"},
    },
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("answer", "reference", "said"),
    [
        ('{"a": 1}', None, ""),
        ("```json\n[1]\n```", None, ""),
        ("{a: 1}", None, "it is not JSON"),
        ("NaN", None, "NaN is no JSON"),
        ("[" * 100_000, None, "it is not JSON"),
        ('{"a": 1}', ["a", "b"], "the JSON lacks b"),
        ('["a"]', ["a"], "the JSON is ['a'], not of type object"),
        ('{"name": "x", "tags": ["a"], "n": 2.0}', SCHEMA, ""),
        ('{"name": "x", "tags": ["a"], "n": true}', json.dumps(SCHEMA), "n is True, not of type integer"),
        ('{"name": "x", "tags": ["a", "c"]}', SCHEMA, "tags[1] is 'c', none of 'a', 'b'"),
        ('{"name": 1, "tags": []}', SCHEMA, "name is 1, not of type string"),
        ('{"name": "x", "tags": [], "more": 1}', SCHEMA, "the JSON has more, which is not asked for"),
    ],
)
def test_schema(answer: str, reference: Any, said: str):
    find_grader("schema").check(reference)
    grade = find_grader("schema").grade(answer, reference)
    assert grade.score == float(not said) and said in grade.reason


def test_json_in_a_block_may_be_refused():
    assert score("schema:fenced=false", "```json\n[1]\n```", None) == 0


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("{", "is no JSON"),
        ([1], "neither a list of keys nor a JSON Schema"),
        ({"minimum": 3}, "the schema has minimum, which is not checked"),
        ({"properties": {"a": {"items": {"type": "text"}}}}, "the schema of a[] has the type 'text'"),
        ({"properties": {"a": 3}}, "the schema of a is 3, not an object"),
    ],
)
def test_a_schema_that_cannot_be_checked_is_refused(reference: Any, said: str):
    with pytest.raises(GraderError) as caught:
        find_grader("schema").check(reference)
    assert said in str(caught.value)
