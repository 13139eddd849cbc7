r"""Options chosen by letter or text, wherever the answer says so."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from jaxroute.collect.graders import find_grader
from jaxroute.collect.graders.choice import options_of
from jaxroute.errors import GraderError

PROMPT = """Question: 1?
A. no
B. yes

Question: Which is large?

Options:
A. a mouse
B. the house
C. the house of cards
D. 10"""
CHOICE = find_grader("choice")
WAYS = [
    r"\boxed{{{letter}}}",
    r"It may be \boxed{{A}}, no: $\boxed{{\text{{{letter}}}}}$",
    r"\boxed{{{letter}. {text}}}",
    r"\boxed{{{text}}}",
    "{letter}",
    "({letter})",
    "{letter}. {text}",
    "{letter}) because it is so",
    "The answer is {letter}.",
    "I weighed them. The correct answer is **{letter}**. Others are smaller.",
    "Answer: ({letter}) {text}",
    "Answer: {text}",
    "{text}",
    "After some thought I choose option ({letter})",
    "Of these, **{letter}** it is",
]


def score(answer: str, reference: Any, question: Any = PROMPT, spec: str = "choice") -> float:
    return find_grader(spec).grade(answer, reference, question).score


@settings(max_examples=80, deadline=None)
@given(way=some.sampled_from(WAYS), place=some.integers(0, 3), reference=some.integers(0, 3))
def test_every_way_to_choose_is_read(way: str, place: int, reference: int):
    texts = ["a mouse", "the house", "the house of cards", "10"]
    answer = way.format(letter="ABCD"[place], text=texts[place])
    for wanted in ("ABCD"[reference], "abcd"[reference], str(reference), reference, texts[reference], f"{reference}.0"):
        assert score(answer, wanted, spec="choice:digits=index" if wanted != "10" else "choice") == float(place == reference), (
            answer
        )


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("A house is larger than a mouse, so B", "B"),
        ("I think it is C", "C"),
        ("Surely the house of cards, it is the largest", "C"),
        ("a mouse is small", "A"),
        ("", None),
        ("All of them", None),
        (r"\boxed{E}", None),
    ],
)
def test_a_word_is_no_letter(answer: str, letter: str | None):
    grade = CHOICE.grade(answer, "B", PROMPT)
    assert grade.reason == (f"it chooses {letter}" if letter else "it chooses no option")


def test_options_are_the_choices_or_the_last_lettered_lines():
    assert options_of(PROMPT) == {"A": "a mouse", "B": "the house", "C": "the house of cards", "D": "10"}
    assert options_of({"prompt": PROMPT, "choices": ["x", "y"]}) == {"A": "x", "B": "y"}
    assert options_of({"prompt": "?", "options": {"a": "x", "b": 2}}) == {"A": "x", "B": "2"}
    assert options_of("(a) x\n(b) y") == {"A": "x", "B": "y"} and options_of("What is 2?") == {}


def test_without_options_a_letter_is_compared():
    assert score("The answer is (C).", "C", "Which?") == 1 and score("The answer is (C).", "D", "Which?") == 0


def test_a_reference_in_a_list_or_from_one_on():
    assert score("B", ["A", "B"]) == 1
    assert score("B", 2, spec="choice:first=1") == 1


def test_a_number_that_is_an_index_and_another_options_text_is_refused_until_it_is_said():
    question = {"prompt": "How many?", "choices": ["3", "1", "2", "0"]}
    with pytest.raises(
        GraderError,
        match="is the index of B and the text of B|is the index of C and the text of B"
        if False
        else "give digits=index or digits=text",
    ):
        CHOICE.check("3", question)
    assert score("A", "3", question, "choice:digits=text") == 1 and score("D", "3", question, "choice:digits=index") == 1
    CHOICE.check("1", question)


@pytest.mark.parametrize("reference", ["E", "a cat", 9])
def test_a_reference_that_is_no_option_is_refused(reference: Any):
    with pytest.raises(GraderError, match=r"is no option: the options are A. a mouse, B. the house"):
        CHOICE.check(reference, PROMPT)
