"""What can go wrong, as a tree: catch `JaxrouteError` for all of it; and how long lists and values appear in a message."""

from __future__ import annotations

from collections.abc import Iterable

MOST_LISTED = 12
MOST_CHARACTERS = 80


class JaxrouteError(ValueError):
    """Bad input; the message names the field, the value and what to do."""


class TableError(JaxrouteError):
    """A table of outcomes that is misshapen, inconsistent or lacks what is asked of it."""


class SourceError(JaxrouteError):
    """A file that is not what its loader expects; the message lists everything that is wrong."""


class EncoderError(JaxrouteError):
    """An encoder that is missing, foreign, or computes something that this code does not."""


class CheckpointError(JaxrouteError):
    """A checkpoint that is missing, incomplete, or does not fit what it is used with."""


class OutputError(JaxrouteError):
    """A place where results cannot be written, or where they would replace something else."""


class PromptError(JaxrouteError):
    """Prompts that cannot be encoded: none at all, or an empty one."""


class RouterError(JaxrouteError):
    """A router that is unknown, has other options, or gives what is not estimates."""


class GuaranteeError(JaxrouteError):
    """A guarantee that cannot be given: too few rows, rows that show the contrary, or another router than it was made for."""


class GraderError(JaxrouteError):
    """A grader that is unknown, has other options, or has a reference that it cannot grade with."""


class CollectError(JaxrouteError):
    """Options of a collection that are wrong, or that contradict each other."""


class PlanError(JaxrouteError):
    """A plan of what to collect that is unknown, has other options, or names cells that are not there."""


class EndpointError(JaxrouteError):
    """Endpoints that are described wrongly, or whose keys are missing; the message names the model and the field."""


class LedgerError(JaxrouteError):
    """A ledger that cannot be read or written, or is asked for what contradicts what is booked."""


class PlaceError(JaxrouteError):
    """A URL that cannot be read or written: a package is missing, or the place is none that is supported."""


class EngineError(JaxrouteError):
    """An engine that is not installed or cannot be reached, or workers that cannot be started or end again and again."""


class JaxrouteWarning(UserWarning):
    """Something that a user should know of, and that stops nothing."""


class FewOutcomes(JaxrouteWarning):
    """Models with so few outcomes that the pool of the others says more about them."""


def listed(names: Iterable[object], most: int = MOST_LISTED) -> str:
    """`a, b, c and 4,866 more`: at most `most` names, each of bounded length, and the number of the others."""
    names = list(names)
    # One name more than allowed is shorter than "and 1 more" and says what it is.
    shown = names if len(names) <= most + 1 else names[:most]
    text = ", ".join(shortened(name, quoted=False) for name in shown)
    return text if len(shown) == len(names) else f"{text} and {len(names) - len(shown):,} more"


def counted(count: int, noun: str) -> str:
    """`1 query`, `1,500 queries`: the number with the noun, which is given in the singular."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def shortened(value: object, most: int = MOST_CHARACTERS, *, quoted: bool = True) -> str:
    """The value as Python writes it (a text without quotes where not `quoted`), cut in the middle past `most` characters."""
    # Of a text of megabytes both ends are enough; it need not be written out to be cut.
    if isinstance(value, str) and len(value) > 2 * most:
        value = value[:most] + value[-most:]
    if isinstance(value, bytes) and len(value) > 2 * most:
        value = value[:most] + value[-most:]
    text = value if isinstance(value, str) and not quoted else repr(value)
    return text if len(text) <= most else f"{text[: most - most // 3]}...{text[-(most // 3) + 3 :]}"
