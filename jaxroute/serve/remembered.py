"""The latest entries of something, of a bounded number."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """At most `most` entries: what has not been used for longest is forgotten."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._entries: OrderedDict[K, V] = OrderedDict()

    def put(self, key: K, value: V) -> None:
        """Remember it."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self.most:
            self._entries.popitem(last=False)

    def get(self, key: K) -> V | None:
        """None where it is not known, or not any more."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key]

    def several(self, keys: Sequence[K]) -> dict[K, V]:
        """Those of these keys that are known."""
        return {key: found for key in keys if (found := self.get(key)) is not None}

    def first(self, keys: Sequence[K], fits: Callable[[V], bool]) -> V | None:
        """The value of the first of these keys that is known and fits; None where none is."""
        return next((found for key in keys if (found := self.get(key)) is not None and fits(found)), None)

    def __len__(self) -> int:
        return len(self._entries)
