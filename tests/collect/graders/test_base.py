"""Graders are found by name with options, or in a file of one's own, and give scores in [0, 1]."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaxroute.collect.graders import Grade, find_grader, grader_names
from jaxroute.errors import GraderError

ALL = ["bertsim", "choice", "contains", "exact", "judge", "numeric", "regex", "schema"]


def write(folder: Path, code: str) -> str:
    (folder / "mine.py").write_text(code)
    return str(folder / "mine.py")


def test_every_grader_has_a_name_and_a_caption():
    assert [name for name in grader_names() if name in ALL] == ALL
    assert all(text.endswith(".") for text in grader_names().values())


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("exactly", "grader='exactly' is unknown; known are bertsim, choice"),
        ("numeric:tol=1", "'tol=1' is none of its options, which are tolerance, last"),
        ("numeric:tolerance=2", "tolerance=2.0 must be from 0 to below 1"),
        ("choice:digits=some", "an option's value does not fit"),
        ("regex:pattern=(", "is no regular expression"),
        ("nowhere.py", "there is no such file"),
    ],
)
def test_an_unknown_grader_or_option_is_refused(spec: str, said: str):
    with pytest.raises(GraderError) as caught:
        find_grader(spec)
    assert said in str(caught.value)


def test_a_pattern_may_hold_colons_commas_and_the_word_true():
    assert find_grader(r"regex:pattern=answer: (\d{1,3}):ignore_case=false").config.pattern == r"answer: (\d{1,3})"
    assert find_grader("regex:pattern=true").config.pattern == "true"


def test_a_missing_reference_is_named_with_its_place():
    with pytest.raises(GraderError, match=r"^line 3: grader=exact: the reference is missing$"):
        find_grader("exact").check(None, "What?", where="line 3")
    find_grader("exact").check("x", "What?")
    find_grader("schema").check(None, "What?")


def test_a_file_of_ones_own_may_return_a_number(tmp_path: Path):
    grader = find_grader(write(tmp_path, "def grade(answer, reference, question): return answer == reference"))
    assert grader.grade("a", "a") == Grade(1.0) and grader.grade_many(["a", "b"], ["a", "a"], ["", ""])[1].score == 0


def test_a_file_of_ones_own_has_options_where_it_has_a_config(tmp_path: Path):
    code = "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Config:\n    share: float = 0.5\n"
    path = write(tmp_path, code + "def grade(answer, reference, question, config): return config.share")
    assert find_grader(f"{path}:share=0.25").grade("a").score == 0.25


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1", "must hold grade(answer, reference, question)"),
        ("def grade(answer, reference, question):\n    return 1 / 0", "grade failed in line 2: ZeroDivisionError"),
        ("def grade(answer, reference, question): return 7", "it gave 7.0, not a score in [0, 1]"),
        ("def grade(answer, reference, question): return float('nan')", "it gave nan, not finite"),
        ("def grade(answer, reference, question): return 'good'", "it gave 'good', not a score"),
        ("import nothing_of_that_name", "cannot be imported in line 1"),
    ],
)
def test_what_a_file_of_ones_own_does_wrong_is_named(tmp_path: Path, code: str, said: str):
    with pytest.raises(GraderError) as caught:
        find_grader(write(tmp_path, code)).grade("answer", "reference")
    assert said in str(caught.value)


def test_the_identity_changes_with_code_and_options(tmp_path: Path):
    assert find_grader("numeric").identity == find_grader("numeric:last=false").identity
    assert find_grader("numeric").identity != find_grader("numeric:last=true").identity
    first = find_grader(write(tmp_path, "def grade(answer, reference, question): return 1")).identity
    assert first != find_grader(write(tmp_path, "def grade(answer, reference, question): return 0")).identity
    with pytest.raises(GraderError, match="no options"):
        find_grader(f"{tmp_path / 'mine.py'}:x=1")
