"""A request's JSON as it was sent: its top level is read, and single values are replaced in its bytes.

Nothing is written anew. Fields that are unknown here, the order of keys, white space and the digits of numbers arrive as they
were sent. Only UTF-8 is read, as RFC 8259 asks for (section 8.1); a key of the top level that is there twice is rejected, since
two readers might take different ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from jaxroute.errors import shortened

SPACE = re.compile(r"[ \t\n\r]*")


class BadBody(ValueError):
    """Not a JSON object; the message says where."""


@dataclass(frozen=True)
class Member:
    """One key's value, and the characters from `start` to `stop` in which it is written."""

    value: Any
    start: int
    stop: int


class Body:
    """A JSON object; `members` are those of its top level. Raises `BadBody`."""

    def __init__(self, data: bytes) -> None:
        try:
            self.text = data.decode()
        except UnicodeDecodeError as error:
            raise BadBody(f"it is not UTF-8 at byte {error.start:,}") from None
        self.size = len(data)
        start = _space(self.text, 0)
        self.members, stop = _members(self.text, start)
        if _space(self.text, stop) != len(self.text):
            raise BadBody(f"something follows its end at character {stop:,}")
        self._last = stop - 1

    def get(self, key: str) -> Any:
        """The value, None where the key is missing."""
        member = self.members.get(key)
        return None if member is None else member.value

    def written(self, changes: Mapping[str, str]) -> bytes:
        """The bytes with the values of some keys replaced by the given JSON texts; keys that are missing are appended."""
        edits = [(self.members[key].start, self.members[key].stop, new) for key, new in changes.items() if key in self.members]
        added = [f"{json.dumps(key)}:{new}" for key, new in changes.items() if key not in self.members]
        if added:
            edits.append((self._last, self._last, ("," if self.members else "") + ",".join(added)))
        return _edited(self.text, edits).encode()

    def with_member(self, key: str, inner: str, new: str) -> str:
        """The text of `key`'s value, an object (or null, or missing), in which `inner` has the JSON text `new`."""
        member = self.members.get(key)
        if member is None or member.value is None:
            return f"{{{json.dumps(inner)}:{new}}}"
        return Body(self.text[member.start : member.stop].encode()).written({inner: new}).decode()


def _members(text: str, start: int) -> tuple[dict[str, Member], int]:
    """The members of the object that begins there, and where it ends; each value is read by the standard library's scanner."""
    if text[start : start + 1] != "{":
        raise BadBody("it is no JSON object")
    members: dict[str, Member] = {}
    place = _space(text, start + 1)
    if text[place : place + 1] == "}":
        return members, place + 1
    while True:
        key, place = _value(text, place)
        if not isinstance(key, str):
            raise BadBody(f"no key at character {place:,}")
        place = _after(text, place, ":")
        value, stop = _value(text, place)
        if key in members:
            raise BadBody(f"the key {shortened(key)} is there twice")
        members[key] = Member(value, place, stop)
        place = _space(text, stop)
        if text[place : place + 1] == "}":
            return members, place + 1
        place = _after(text, place, ",")


def _value(text: str, place: int) -> tuple[Any, int]:
    try:
        return DECODER.raw_decode(text, place)
    except RecursionError:
        raise BadBody("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise BadBody(f"{error.msg} at character {error.pos:,}") from None
    except ValueError as error:
        raise BadBody(shortened(str(error), 200, quoted=False)) from None


def _after(text: str, place: int, mark: str) -> int:
    """Where what follows the mark begins."""
    place = _space(text, place)
    if text[place : place + 1] != mark:
        raise BadBody(f"no {mark!r} at character {place:,}")
    return _space(text, place + 1)


def _space(text: str, place: int) -> int:
    found = SPACE.match(text, place)
    return place if found is None else found.end()


def _edited(text: str, edits: Iterable[tuple[int, int, str]]) -> str:
    pieces, at = [], 0
    for start, stop, new in sorted(edits):
        pieces += [text[at:start], new]
        at = stop
    return "".join([*pieces, text[at:]])


def _no_number(name: str) -> NoReturn:
    raise BadBody(f"{name} is no JSON")


DECODER = json.JSONDecoder(parse_constant=_no_number)
