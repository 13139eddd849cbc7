"""What a grader says of an answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Grade:
    """How good an answer is, and why."""

    score: float
    """In [0, 1]; NaN where a grader that asks a model has got no verdict."""
    reason: str = ""
    """What was read in the answer, for people."""
