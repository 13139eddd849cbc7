r"""Numbers in answers: every way to write the same number counts, and no other number does."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as some

from jaxroute.collect.graders import find_grader
from jaxroute.collect.graders.numeric import numbers
from jaxroute.errors import GraderError

NUMERIC = find_grader("numeric")
FRAMES = [
    r"so it is \boxed{{{}}}.",
    r"First \boxed{{1}}, then \boxed{{{{{}}}}}",
    "Step 1 of 9. The answer is {}.",
    "There are 3 ways.\n#### {}",
    "We have 2 + 2, and in the end {}",
    "**Final answer:** {} of 100",
    r"\boxed{{x = {}}}",
]
"""Frames of an answer, with other numbers around it."""


def score(answer: str, reference: str, spec: str = "numeric") -> float:
    return find_grader(spec).grade(answer, reference).score


@settings(max_examples=60, deadline=None)
@given(whole=some.integers(-(10**9), 10**9), cents=some.integers(0, 99), frame=some.sampled_from(FRAMES))
def test_a_number_is_the_same_however_it_is_written(whole: int, cents: int, frame: str):
    value = f"{whole}.{cents:02d}"
    grouped = f"{whole:,}.{cents:02d}"
    for way in (value, grouped, f"${grouped}", grouped.replace(",", "{,}"), grouped.replace("-", "\u2212"), f"{value} apples"):
        assert score(frame.format(way), value) == 1, way
        assert NUMERIC.grade(value, way).score == 1, way


@settings(max_examples=60, deadline=None)
@given(upper=some.integers(-500, 500), lower=some.integers(1, 500), frame=some.sampled_from(FRAMES))
def test_a_fraction_equals_its_decimals(upper: int, lower: int, frame: str):
    value = repr(upper / lower) if upper / lower == 0 or abs(upper / lower) > 1e-3 else "0.5"
    assume(value != "0.5" or upper * 2 == lower)
    for way in (f"{upper}/{lower}", rf"\frac{{{upper}}}{{{lower}}}", rf"\dfrac{{{upper}}}{{{lower}}}"):
        assert score(frame.format(way), value) == 1, way


@settings(max_examples=60, deadline=None)
@given(value=some.fractions(min_value=-1000, max_value=1000, max_denominator=50), change=some.floats(1e-3, 2.0))
def test_another_number_is_wrong_beyond_the_tolerance(value: Fraction, change: float):
    one = float(value)
    other = one + max(abs(one), 1.0) * change
    assert score(f"It is {other:.12f}", f"{one:.12f}") == 0


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("50%", "0.5", 1),
        ("50%", "50", 1),
        (r"\boxed{62\%}", "62%", 1),
        ("50%", "0.5%", 0),
        ("0.5", "50", 0),
        ("2.5 million", "2,500,000", 1),
        ("2.5 million", "2.5 billion", 0),
        ("1 1/2 hours", "1.5", 1),
        (r"1.5 \times 10^{-3}", "0.0015", 1),
        ("2^10", "1024", 1),
        ("3e8", "300000000", 1),
        ("10-12", "12", 1),
        ("10-12", "-12", 0),
        ("0", "0", 1),
        ("about 3.14159", "3.1416", 1),
        ("no idea", "3", 0),
        ("3/0", "3", 0),
        (r"5 is wrong. \boxed{A}", "5", 0),
        ("The answer is 5 because 3 + 2", "5", 1),
        ("The answer is 3 + 2 = 5", "5", 1),
        ("", "5", 0),
        ("9" * 400, "5", 0),
        ("10^999", "5", 0),
    ],
)
def test_readings(answer: str, reference: str, right: int):
    assert score(answer, reference) == right


def test_the_last_number_may_be_asked_for_and_any_of_several_references():
    assert score(r"\boxed{5}, that is 7", "7") == 0 and score(r"\boxed{5}, that is 7", "7", "numeric:last=true") == 1
    assert NUMERIC.grade("7", ["5", 7]).score == 1


@pytest.mark.parametrize("reference", ["Yardley", "17:03", r"\pi", "1e999"])
def test_a_reference_that_is_no_number_is_refused(reference: str):
    with pytest.raises(GraderError, match="is not a number"):
        NUMERIC.check(reference)


def test_a_reference_may_have_a_unit():
    for reference in ("18;", "$5", "62%", "3 apples", 7, [1, "2"]):
        NUMERIC.check(reference)
    assert [one.unit for one in numbers("5% of 2 million, 3 percent")] == ["%", "million", "%"]
