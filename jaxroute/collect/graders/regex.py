"""The answer matches a regular expression."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from jaxroute.collect.graders.grade import Grade
from jaxroute.collect.graders.reading import plain, references
from jaxroute.errors import shortened


@dataclass(frozen=True)
class Config:
    r"""The expression, as in `regex:pattern=answer: (\d+)`."""

    pattern: str = ""
    """What finds the answer: its first group, else all of it, must be the reference; the last match counts. Without a pattern,
    the reference is one, and must be found."""
    ignore_case: bool = True
    """Whether case does not count."""

    def __post_init__(self) -> None:
        if said := _wrong(self.pattern):
            raise ValueError(said)


def grade(answer: str, reference: Any, question: Any, config: Config) -> Grade:
    """1 where what the pattern finds is the reference, or where the reference is a pattern that is found; else 0."""
    flags = re.MULTILINE | (re.IGNORECASE if config.ignore_case else 0)
    if not config.pattern:
        found = next((one for text in references(reference) if (one := re.search(text, answer, flags))), None)
        return Grade(float(found is not None), f"found {shortened(found[0])}" if found else "not found")
    matches = list(re.finditer(config.pattern, answer, flags))
    if not matches:
        return Grade(0.0, "the pattern is not found")
    said = matches[-1][1 if matches[-1].re.groups else 0] or ""
    wanted = [plain(one, ignore_case=config.ignore_case) for one in references(reference)]
    right = plain(said, ignore_case=config.ignore_case) in wanted
    return Grade(float(right), f"{shortened(said)} is {'' if right else 'not '}the reference")


def problem(reference: Any, question: Any, config: Config) -> str:
    """A reference that is to be a pattern must be one."""
    return "" if config.pattern else next((said for one in references(reference) if (said := _wrong(one))), "")


def _wrong(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        return f"the pattern {shortened(pattern)} is no regular expression: {error}"
    return ""
