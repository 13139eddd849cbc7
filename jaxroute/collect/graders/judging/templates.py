"""The wording around the texts that a judge compares: ours, or a file of the user's with named places.

A place is a name in braces, `{question}`, `{reference}`, `{answer}`; of two answers `{answer_a}` and `{answer_b}`. Other braces
are left as they are, so `{ x }` with blanks is no place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxroute.errors import GraderError, listed, shortened

PLACE = re.compile(r"\{([A-Za-z_]\w*)\}")
MOST_BYTES = 1_000_000
LEVELS = """Question:
{question}

Reference answer:
{reference}

Answer to be graded:
{answer}
"""
PAIRS = """Question:
{question}

Reference answer:
{reference}

Answer A:
{answer_a}

Answer B:
{answer_b}
"""
NO_REFERENCE = "\nReference answer:\n{reference}\n"
"""The part of ours that is left out where no reference is shown."""


@dataclass(frozen=True)
class Template:
    """A text with places."""

    text: str

    def filled(self, values: Mapping[str, str]) -> str:
        """The text with the values in their places; places inside of values stay as they are."""
        return PLACE.sub(lambda place: values[place[1]], self.text)


def default_template(*, pairs: bool, reference: bool) -> Template:
    """Our own wording."""
    text = PAIRS if pairs else LEVELS
    return Template(text if reference else text.replace(NO_REFERENCE, ""))


def read_template(path: Path, *, pairs: bool, reference: bool) -> Template:
    """The user's wording. Raises `GraderError` where the file cannot be read, or lacks a place or has an unknown one."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror or str(error)
        raise GraderError(f"template={shortened(str(path))} cannot be read: {why}") from None
    if len(content) > MOST_BYTES:
        raise GraderError(f"template={shortened(str(path))} has more than {MOST_BYTES:,} bytes: is it the right file?")
    wanted = [*places(pairs=pairs), *(["reference"] if reference else [])]
    found = PLACE.findall(text)
    if unknown := sorted({one for one in found if one not in wanted}):
        known = listed("{" + one + "}" for one in wanted)
        raise GraderError(
            f"template={shortened(str(path))} has the place {listed('{' + one + '}' for one in unknown)}, which is unknown "
            f"here; its places are {known}; braces that are no place need blanks inside, as in {{ x }}"
        )
    if missing := [one for one in wanted if one not in found]:
        hint = "; to show no reference, give the option reference=false" if missing == ["reference"] else ""
        raise GraderError(
            f"template={shortened(str(path))} lacks the place {listed('{' + one + '}' for one in missing)}: add it where "
            f"that text is to appear{hint}"
        )
    return Template(text)


def places(*, pairs: bool) -> list[str]:
    """The places that a template must have beside `{reference}`."""
    return ["question", "answer_a", "answer_b"] if pairs else ["question", "answer"]
