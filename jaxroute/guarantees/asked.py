"""What a promise is asked to say: its confidence, and the quality or the cost that is promised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from jaxroute.errors import GuaranteeError


@dataclass(frozen=True)
class Asked:
    """What is to be promised, of the mean over prompts like the calibration rows. Give at least one of the first three."""

    within: float | None = None
    """Quality at most this far below the reference's: 0.02 is two points."""
    at_least: float | None = None
    """Quality of at least this, whatever other models achieve."""
    spend_at_most_usd: float | None = None
    """Dollars per prompt of at most this. With a quality, the promise is of both."""
    reference: str | None = None
    """The model that --within compares with, a column of the table. Default: the best single model, whichever it is: the
    comparison then holds against every one of them."""
    confidence: float = 0.9
    """1 - the probability that the calibration rows mislead and the promise is wrong."""
    per_domain: bool = False
    """A price for every domain, so that the promise holds in each of them and not only on average. Needs rows of each."""
    most_usd: float | None = None
    """For --spend-at-most-usd: the most that one answer can cost; what costs more counts as this. Default: the most that one
    of the calibration rows has cost."""
    missing: Literal["drop", "worst"] = "drop"
    """Rows on which a model was not run: drop them, which assumes that they are like the others, or count them at the worst
    (router 0, reference 1, an answer's most dollars), which assumes nothing."""
    bound: Literal["auto", "exact", "betting"] = "auto"
    """exact needs outcomes of 0 and 1 and is the sharper one, betting takes any in [0, 1]; auto: exact where all are 0 or 1."""

    def __post_init__(self) -> None:
        problems = []
        if self.within is None and self.at_least is None and self.spend_at_most_usd is None:
            problems.append("within, at_least and spend_at_most_usd are all left out: give at least one of them")
        for name in ("within", "at_least"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                problems.append(f"{name}={value} must lie between 0 and 1: two points are 0.02")
        for name in ("spend_at_most_usd", "most_usd"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                problems.append(f"{name}={value} must be a number of dollars above 0")
        if not 0.5 <= self.confidence < 1:
            problems.append(f"confidence={self.confidence} must be from 0.5 to below 1: 0.9 is 90 percent; none can be certain")
        if self.reference is not None and self.within is None:
            problems.append(f"reference={self.reference!r} goes with within")
        if self.most_usd is not None and self.spend_at_most_usd is None:
            problems.append(f"most_usd={self.most_usd} goes with spend_at_most_usd")
        if self.per_domain and self.spend_at_most_usd is not None:
            problems.append("per_domain and spend_at_most_usd: costs are promised over all domains together, leave one out")
        if problems:
            raise GuaranteeError("; ".join(problems))

    @property
    def error(self) -> float:
        """The probability that is allowed to the promise being wrong."""
        return 1 - self.confidence

    @property
    def of_quality(self) -> bool:
        """Whether it says something of quality."""
        return self.within is not None or self.at_least is not None

    def in_words(self) -> str:
        """`mean quality at most 2 points below gpt-4's and at least 70 points`."""
        parts = []
        if self.within is not None:
            whose = "the best single model's, whichever it is" if self.reference is None else f"{self.reference}'s"
            parts.append(f"mean quality at most {100 * self.within:g} points below {whose}")
        if self.at_least is not None:
            parts.append(f"mean quality at least {100 * self.at_least:g} points")
        if self.spend_at_most_usd is not None:
            parts.append(f"mean cost at most {self.spend_at_most_usd:g} dollars per prompt")
        return ", and ".join(parts) + (", in every domain listed" if self.per_domain else "")
