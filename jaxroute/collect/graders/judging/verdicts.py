"""What a judge's reply says: the level or the better answer, in the form that was asked for, and nothing else.

As text the verdict is the last line that begins with `VERDICT:`; a judge that quotes such a line of the answer before ends with
its own. A verdict that is out of range, has words around it, or is missing, is none: it is never guessed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from jaxroute.collect.graders.judging.prompts import PAIR_VERDICTS
from jaxroute.errors import shortened

LINE = re.compile(r"^[ \t*_`#>]*verdict[*_`]*[ \t]*:[ \t]*(?P<said>[^\n]*)$", re.IGNORECASE | re.MULTILINE)
WRAPPING = "*_`\"'[](). \t\r"
FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL | re.IGNORECASE)
MOST_REASON = 200


@dataclass(frozen=True)
class Verdict:
    """What was read in a reply."""

    value: str
    """A level in digits, or A, B or TIE; empty where the reply is unreadable."""
    reason: str
    """The judge's, where it gives one in its form; of an unreadable reply, what is wrong with it."""

    @property
    def readable(self) -> bool:
        return bool(self.value)


def read_verdict(text: str, finish_reason: str | None, *, levels: int | None, as_json: bool) -> Verdict:
    """The verdict of a reply: a level below `levels`, or, where that is None, which of two answers is better."""
    if finish_reason not in (None, "stop"):
        # What a cut reply states last may be a quotation.
        return Verdict("", f"the judge's reply ended with {shortened(finish_reason)}")
    allowed = PAIR_VERDICTS if levels is None else [str(level) for level in range(levels)]
    said, reason = _of_json(text) if as_json else _of_text(text)
    if said is None:
        return Verdict("", reason)
    value = said.upper()
    if value not in allowed:
        return Verdict(
            "", f"the judge's verdict is {shortened(said)}, not {'A, B or TIE' if levels is None else f'0 to {levels - 1}'}"
        )
    return Verdict(value, shortened(reason.strip(), MOST_REASON, quoted=False))


def _of_text(text: str) -> tuple[str | None, str]:
    lines = LINE.findall(text)
    if not lines:
        return None, f"the judge's reply has no verdict: {shortened(text.strip()[-MOST_REASON:])}"
    return lines[-1].strip(WRAPPING), ""


def _of_json(text: str) -> tuple[str | None, str]:
    fenced = FENCED.fullmatch(text)
    try:
        found: Any = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None, f"the judge's reply is not JSON: {shortened(text.strip())}"
    verdict = found.get("verdict") if isinstance(found, dict) else None
    if isinstance(verdict, bool) or not isinstance(verdict, int | str):
        return None, f"the judge's reply has no verdict: {shortened(text.strip())}"
    reason = found.get("reason")
    return str(verdict).strip(), reason if isinstance(reason, str) else ""
