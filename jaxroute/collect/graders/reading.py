"""What an answer says in the end: the box, the stated answer, its words without case, spaces and marks."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|[{}]")
"""What opens a box, and all other braces."""
STATED = re.compile(r"(?:\banswer\b(?:\s+\w+){0,3}?\s*(?:\*\*)?\s*(?:is\b\s*:?|[:=])|####)\s*(?P<said>[^\n]+)", re.IGNORECASE)
"""The answer is 5; Final answer: 5; the correct answer here is 5; #### 5."""
WRAPPED = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|operatorname)\s*\{([^{}]*)\}")
MARKS = " \t\n.,;:!?\"'`*$_\u201c\u201d\u2018\u2019\u00ab\u00bb"


def boxed(answer: str) -> str | None:
    r"""What the last complete `\boxed{...}` holds; None where there is none."""
    opened: list[int | None] = []
    found = (-1, -1)
    # In one pass, since a looping model may open thousands of boxes and close none.
    for brace in BRACES.finditer(answer):
        if brace[0] != "}":
            opened.append(brace.end() if len(brace[0]) > 1 else None)
        elif opened and (start := opened.pop()) is not None:
            found = max(found, (start, brace.start()))
    return unwrapped(answer[slice(*found)]) if found[0] >= 0 else None


def stated(answer: str) -> str | None:
    """The rest of the line after the last `the answer is`, `Answer:` or `####`; None where there is none."""
    found = list(STATED.finditer(answer))
    return unwrapped(found[-1]["said"]) if found else None


def unwrapped(text: str) -> str:
    r"""Without LaTeX's text commands, outer braces and dollars: `{{\text{B}}}` is `B`."""
    while (plain := WRAPPED.sub(r"\1", text)) != text:
        text = plain
    text = text.strip().strip("$").strip()
    while text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    return text


def plain(text: str, *, ignore_case: bool = True) -> str:
    """The words alone: one space between them (an underscore is one), no marks around, by default no case."""
    text = unicodedata.normalize("NFKC", text).replace("_", " ")
    text = " ".join(text.split()).strip(MARKS)
    return text.casefold() if ignore_case else text


def references(reference: Any) -> list[str]:
    """A reference, or a list of those of which any is right, as texts."""
    many = reference if isinstance(reference, list | tuple) else [reference]
    return [one if isinstance(one, str) else str(one) for one in many]


def has_words(text: str, words: str) -> bool:
    """Whether the text holds the words as they are, not inside longer ones."""
    return bool(words) and re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text) is not None


def first_match(candidates: Iterable[str | None], wanted: Iterable[str]) -> str | None:
    """The first candidate that is one of the wanted."""
    known = set(wanted)
    return next((one for one in candidates if one is not None and one in known), None)
