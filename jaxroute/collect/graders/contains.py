"""The answer contains the reference, as whole words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxroute.collect.graders.grade import Grade
from jaxroute.collect.graders.reading import has_words, plain, references
from jaxroute.errors import listed


@dataclass(frozen=True)
class Config:
    """How many references must be there, and whether case counts."""

    ignore_case: bool = True
    """Whether `london` is `London`."""
    share: bool = False
    """Of a list of references the share that is there; else any of them gives 1."""


def grade(answer: str, reference: Any, question: Any, config: Config) -> Grade:
    """1 where any reference is in the answer, else 0; with `share` the share of the references that are."""
    text, wanted = plain(answer, ignore_case=config.ignore_case), references(reference)
    there = [one for one in wanted if has_words(text, plain(one, ignore_case=config.ignore_case))]
    score = len(there) / max(len(wanted), 1) if config.share else float(bool(there))
    return Grade(score, f"it contains {listed(there, 4) or 'none of the references'}")


def problem(reference: Any, question: Any, config: Config) -> str:
    """A reference without words is contained nowhere."""
    return "" if all(plain(one) for one in references(reference)) else f"the reference {reference!r} has no words"
