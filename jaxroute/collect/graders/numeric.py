r"""The answer's number is the reference's: the box, the stated answer, else the last number; fractions, percent, thousands."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxroute.collect.graders.grade import Grade
from jaxroute.collect.graders.reading import boxed, references, stated
from jaxroute.errors import shortened

DIGITS = r"(?:\d{1,3}(?:[,\u00a0\u202f']\d{3})+(?!\d)|\d+)"
DECIMAL = rf"(?:{DIGITS}(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
NUMBER = re.compile(
    rf"(?P<sign>(?<![\w.)])-\s?)?(?:(?P<whole>\d+)[ ]+(?P<part>\d+)\s?/\s?(?P<of>\d+)|"
    rf"(?P<upper>{DECIMAL})\s?/\s?(?P<lower>-?{DECIMAL})|"
    rf"(?P<plain>{DECIMAL})(?:\^(?P<exponent>-?\d+)|\s?[x\u00d7*]\s?10\^(?P<power>-?\d+))?)"
    r"\s?(?P<unit>%|percent\b|thousand\b|million\b|billion\b|trillion\b)?"
)
UNITS = {"%": 0.01, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
PLAIN = (
    (r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}", r" \1/\2 "),
    (r"\\[dt]?frac\s*(\d)\s*(\d)", r" \1/\2 "),
    (r"\\(?:times|cdot)(?![a-zA-Z])", "\u00d7"),
    (r"\\%", "%"),
    (r"\{,\}|\\[,;!: ]", ","),
    (r"\\(?:left|right|text\w*|mathrm|mathbf|quad|approx)(?![a-zA-Z])|\\?[$\u20ac\u00a3\u00a5]|[{}]", ""),
    ("[\u2212\u2013]", "-"),
)
"""LaTeX, signs of currencies and kinds of minus, as plain text."""


class Number(NamedTuple):
    """A number as it is written, with its unit of scale where it has one."""

    value: float
    unit: str


@dataclass(frozen=True)
class Config:
    """How near is equal."""

    tolerance: float = 1e-4
    """Relative to the reference: 0.01 accepts 99 for 100."""
    last: bool = False
    r"""Read the last number of the answer, whatever is boxed or stated."""

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"tolerance={self.tolerance} must be from 0 to below 1")


def grade(answer: str, reference: Any, question: Any, config: Config) -> Grade:
    """1 where the answer's number is that of the reference (or of any in a list), else 0.

    `50%` equals 50 and 0.5, `2 million` equals 2 and 2,000,000 where the other has no unit.
    """
    found = said(answer, last=config.last)
    if found is None:
        return Grade(0.0, "it has no number")
    wanted = [number for one in references(reference) for number in numbers(one)[-1:]]
    right = any(equal(found, one, config.tolerance) for one in wanted)
    return Grade(float(right), f"{found.value:g}{found.unit} is {'' if right else 'not '}the reference")


def problem(reference: Any, question: Any, config: Config) -> str:
    """A reference must be a number, with or without a unit."""
    for one in references(reference):
        found = numbers(one)
        if len(found) != 1 or not math.isfinite(found[0].value):
            return f"the reference {shortened(one)} is not a number"
    return ""


def said(answer: str, *, last: bool = False) -> Number | None:
    """The number that the answer gives in the end; None where it has none."""
    if not last and (box := boxed(answer)) is not None:
        return next(reversed(numbers(_result(box))), None)
    statement = None if last else stated(answer)
    if statement is not None and (found := numbers(_result(statement))):
        return found[0]
    found = numbers(answer)
    return found[-1] if found else None


def numbers(text: str) -> list[Number]:
    """All numbers of the text, in order."""
    for pattern, plain in PLAIN:
        text = re.sub(pattern, plain, text)
    return [number for match in NUMBER.finditer(text) if (number := _number(match)) is not None]


def equal(one: Number, other: Number, tolerance: float) -> bool:
    """Whether both are the same number; where just one has a unit, with or without it. `tolerance` is relative to the other."""
    first, second = ({number.value * UNITS.get(number.unit, 1.0)} for number in (one, other))
    if bool(one.unit) != bool(other.unit):
        first, second = first | {one.value}, second | {other.value}
    return any(abs(value - wanted) <= tolerance * abs(wanted) + 1e-12 for value in first for wanted in second)


def _number(match: re.Match[str]) -> Number | None:
    whole, part, of, upper, lower = match.group("whole", "part", "of", "upper", "lower")
    try:
        if whole:
            value = int(whole) + int(part) / int(of)
        elif upper:
            value = _float(upper) / _float(lower)
        else:
            value = _float(match["plain"]) ** int(match["exponent"] or 1) * 10.0 ** int(match["power"] or 0)
    except (ZeroDivisionError, OverflowError):
        return None
    return Number(-value if match["sign"] else value, (match["unit"] or "").replace("percent", "%"))


def _float(text: str) -> float:
    return float(re.sub(r"[,\u00a0\u202f']", "", text))


def _result(text: str) -> str:
    """What follows the last `=`."""
    return text.rpartition("=")[2]
