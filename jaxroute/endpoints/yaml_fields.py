"""YAML read field by field: every wrong or unknown key is noted with its place and line, and none is shown in full.

A file of endpoints lies near keys. A value that is wrong may be a key in the wrong place, so messages show little of it.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import yaml

from jaxroute.errors import EndpointError, listed, shortened

MOST_BYTES = 4_000_000
MOST_WRONG = 12
MOST_SHOWN = 12
"""Characters of a wrong value: enough to find it, and no key."""
QUOTED = re.compile(r"'[^']{4,}'?")
KINDS = {yaml.ScalarNode: "a single value", yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping"}


class Problems(list[tuple[int, str]]):
    """What is wrong with a file, and in which line, to be raised as one message."""

    def raise_any(self, path: Path) -> None:
        """Raise `EndpointError` with all of them in the order of the file, bounded, where there are any."""
        if self:
            # Several models that merge the same mapping have the same problem in the same line.
            ordered = list(dict.fromkeys(sorted(self, key=lambda one: one[0])))
            more = f"; and {len(ordered) - MOST_WRONG:,} more" if len(ordered) > MOST_WRONG else ""
            raise EndpointError(f"{path}: {'; '.join(f'line {line}: {what}' for line, what in ordered[:MOST_WRONG])}{more}")


class Section:
    """A mapping of the file; each getter notes what is wrong and returns None (or what stands for it) instead."""

    def __init__(self, node: yaml.Node, place: str, problems: Problems, known: Collection[str] | None = None) -> None:
        self.place, self.problems, self.line = place, problems, node.start_mark.line + 1
        self.nodes: dict[str, yaml.Node] = {}
        if not isinstance(node, yaml.MappingNode):
            self.wrong("", f"must be a mapping, not {_kind(node)}")
            return
        self._note_twice(node)
        try:
            # `<<: *other` takes what another mapping has.
            yaml.constructor.SafeConstructor().flatten_mapping(node)
        except yaml.YAMLError:
            self.wrong("", "merges with << what is no mapping")
        for key, value in node.value:
            name = _scalar(key)
            line = key.start_mark.line + 1
            if not isinstance(name, str) or not name:
                self.problems.append((line, f"{self._path('')} has the key {_shown(name)}, which is not a name"))
            elif known is not None and name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]}?" if near else f"known are {listed(known, 20)}"
                self.problems.append((line, f"{self._path(_bare(name))} is unknown; {hint}"))
            else:
                self.nodes[name] = value

    def text(self, key: str) -> str | None:
        """A text that is not empty; numbers are read as they are written, as names of models may look like some."""
        node = self.nodes.get(key)
        if node is None:
            return None
        if not isinstance(node, yaml.ScalarNode) or not node.value.strip() or _scalar(node) is None:
            self.wrong(key, f"must be a text, not {_kind(node)}")
            return None
        return node.value

    def number(self, key: str, least: float, most: float, *, whole: bool = False) -> float | None:
        """A number from `least` to `most`."""
        node = self.nodes.get(key)
        if node is None:
            return None
        value = _scalar(node)
        if isinstance(value, str):
            try:
                # YAML 1.1 reads 1e-3 as a text.
                value = float(value)
            except ValueError:
                pass
        what = "whole number" if whole else "number"
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.wrong(key, f"must be a {what}, not {_shown(value) if isinstance(node, yaml.ScalarNode) else _kind(node)}")
        elif not least <= value <= most or (whole and value != int(value)):
            self.wrong(key, f"is {value:g} and must be a {what} from {least:,} to {most:,}")
        else:
            return value
        return None

    def whole(self, key: str, least: int, most: int) -> int | None:
        """A whole number from `least` to `most`."""
        value = self.number(key, least, most, whole=True)
        return None if value is None else int(value)

    def flag(self, key: str) -> bool:
        """true or false, and false where it is missing."""
        node = self.nodes.get(key)
        value = False if node is None else _scalar(node)
        if not isinstance(value, bool):
            self.wrong(key, "must be true or false")
        return value is True

    def words(self, key: str, known: Sequence[str]) -> tuple[str, ...]:
        """A list of some of `known`."""
        node = self.nodes.get(key)
        if node is None:
            return ()
        if not isinstance(node, yaml.SequenceNode):
            self.wrong(key, f"must be a list of some of {listed(known)}")
            return ()
        found = [_scalar(one) for one in node.value]
        if strange := [one for one in found if one not in known]:
            self.wrong(key, f"holds {_shown(strange[0])}; known are {listed(known)}")
        return tuple(one for one in known if one in found)

    def section(self, key: str, known: Collection[str] | None) -> Section | None:
        """A mapping inside this one."""
        node = self.nodes.get(key)
        return None if node is None else Section(node, f"{self._path(key)}", self.problems, known)

    def wrong(self, key: str, what: str) -> None:
        """Note that the field is wrong; with "" that this mapping is."""
        node = self.nodes.get(key)
        line = self.line if node is None else node.start_mark.line + 1
        self.problems.append((line, f"{self._path(key)} {what}"))

    def _path(self, key: str) -> str:
        return ".".join(part for part in (self.place, key) if part) or "the file"

    def _note_twice(self, node: yaml.MappingNode) -> None:
        """Of a key that is there twice YAML would keep the last value and say nothing."""
        seen: set[object] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name in seen and name is not None:
                self.problems.append((key.start_mark.line + 1, f"{self._path(_bare(name))} is there twice"))
            seen.add(name)


def read_yaml(path: Path) -> yaml.Node:
    """The root of a file's nodes. Raises `EndpointError` where it cannot be read or is no YAML."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise EndpointError(f"{path} has more than {MOST_BYTES:,} bytes, which no file of endpoints has")
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise EndpointError(f"{path} cannot be read: {reason}") from error
    except RecursionError as error:
        raise EndpointError(f"{path} is nested too deeply") from error
    except yaml.YAMLError as error:
        # What the error says of the file's content may hold a key: it is left out, and so is the chain.
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        said = QUOTED.sub("...", shortened(getattr(error, "problem", None) or "not valid", quoted=False))
        raise EndpointError(f"{path} is not YAML: {where}{said}") from None
    if root is None:
        raise EndpointError(f"{path} is empty")
    return root


def _scalar(node: yaml.Node) -> object:
    """The value of a single one as YAML reads it (1, true, a text), None where there is none."""
    if not isinstance(node, yaml.ScalarNode):
        return None
    try:
        return yaml.constructor.SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError):
        return node.value


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode) and _scalar(node) in (None, ""):
        return "empty"
    return next((name for kind, name in KINDS.items() if isinstance(node, kind)), "something else")


def _shown(value: object) -> str:
    return shortened(value, MOST_SHOWN)


def _bare(name: str) -> str:
    """A key of the file, which may be a secret that is in the wrong place."""
    return shortened(name, 2 * MOST_SHOWN, quoted=False)
