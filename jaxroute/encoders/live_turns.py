"""Conversations remembered: a decoder's keys and values of what it has read, so that a turn pays for its new tokens only.

What a causal decoder says of a token depends on that token and those before it. So the keys and values of every layer, and the
running sums of the states that are pooled, serve every later text that begins with the same tokens, however the text was cut
into turns. What two texts share is found by comparing tokens; nothing is assumed of how they were rendered.

Slots come in few sizes. When memory is short, what was used longest ago is forgotten, which costs time and nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from time import perf_counter

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxroute.encoders.features import check_finite
from jaxroute.encoders.live import MEBIBYTE, LiveEncoder
from jaxroute.errors import EncoderError

MARK = 16
"""Sums are kept after every so many tokens: a text that departs between two of them reads a few tokens again."""
LEAST_SHARED = 48
"""A text that shares less than this with another's beginning reads it again rather than copy its slots."""

Slots = tuple[list[jax.Array], list[jax.Array]]
"""Keys (groups, size, slots) and values (groups, slots, size) of every layer."""


@dataclass(eq=False)
class Remembered:
    """One conversation, as far as it was read."""

    ids: Int[np.ndarray, " tokens"]
    slots: Slots
    size: int
    """How many slots."""
    marks: dict[int, Float[np.ndarray, "taps hidden"]]
    """Sums over the first so many tokens: after every MARK of them, and at the end."""


class Conversations:
    """Those that a `LiveEncoder` remembers, within `memory_mb`; use it from the encoder's thread."""

    def __init__(self, live: LiveEncoder) -> None:
        if not live.is_causal:
            raise EncoderError(f"encoder {live.encoder.name!r} reads a text both ways: nothing of it can be remembered")
        self.live, self.config = live, live.config
        self._kept: OrderedDict[int, Remembered] = OrderedDict()
        self._number = 0
        network = live.network
        self._shape = network.key_value_heads, network.head_size  # pyright: ignore[reportAttributeAccessIssue]
        self._dtype = jnp.dtype(live.config.dtype)
        self._run = jax.jit(live.cached_layer, donate_argnums=(4, 5))
        self._new = jax.jit(self._empty, static_argnums=0)
        self._copied = jax.jit(self._in_more, static_argnums=1)
        self.reading_bytes = 0
        """Of what is being read."""
        self.hits = 0
        """Tokens that were not read, since they were remembered."""
        self.forgotten = 0
        """Conversations that made room for others."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes_used(self) -> int:
        """Of keys and values, of what is remembered and what is being read."""
        return self.reading_bytes + sum(self.bytes_of(one.size) for one in self._kept.values())

    def bytes_of(self, size: int) -> int:
        """Of a conversation with so many slots."""
        groups, head = self._shape
        return 2 * self.live.depth * groups * head * size * self._dtype.itemsize

    def warm(self) -> float:
        """Compile every shape; returns the seconds that it took."""
        begun = perf_counter()
        sizes = [size for size in self.config.slots if self.bytes_of(size) <= self._most_bytes]
        for size, larger in zip(sizes, [*sizes[1:], 0], strict=True):
            for chunk in self.config.chunks:
                if chunk <= size:
                    self.read(np.zeros(chunk, np.int32), 0, chunk, self._new(size))
            self._copied(self._new(size), size)
            if larger:
                self._copied(self._new(size), larger)
        return perf_counter() - begun

    def new_tokens(self, ids: Int[np.ndarray, " tokens"]) -> int:
        """How many tokens of a text would have to be read."""
        return len(ids) - self._best(ids)[1]

    def begin(self, ids: Int[np.ndarray, " tokens"]) -> Turn | None:
        """The reading of a text; None where it is too long to be remembered, or others that are being read need the memory."""
        size = self._size(len(ids))
        if size is None or self.reading_bytes + self.bytes_of(size) > self._most_bytes:
            return None
        self.reading_bytes += self.bytes_of(size)
        return Turn(self, ids, size)

    # What turns use

    def take(self, ids: Int[np.ndarray, " tokens"], size: int) -> tuple[Remembered, int]:
        """What a text is read into, in so many slots, and how many of its tokens are there already; nobody else finds it while
        it is read."""
        number, start = self._best(ids)
        while not self._fits(len(ids), start, size):
            # The padding of its last chunk has no room, so a few tokens are read again.
            start = (start - 1) // MARK * MARK
        if number is None:
            self._make_room()
            return Remembered(ids[:0], self._new(size), size, {0: self._no_sum()}), 0
        found = self._kept[number]
        self.hits += start
        if start >= len(found.ids) - MARK:
            # It begins where that one ends; whoever asks for that one again finds it within this one.
            del self._kept[number]
            self._make_room()
        else:
            self._kept.move_to_end(number)
            self._make_room()
            found = Remembered(found.ids, self._copied(found.slots, found.size), found.size, dict(found.marks))
        while found.size < size:
            larger = next(one for one in self.config.slots if one > found.size)
            found.slots, found.size = self._copied(found.slots, larger), larger
        found.ids = found.ids[:start]
        found.marks = {at: total for at, total in found.marks.items() if at <= start}
        return found, start

    def put(self, one: Remembered) -> None:
        """Remember it from now on."""
        self._number += 1
        self._kept[self._number] = one
        self._make_room()

    def chunk(self, start: int, left: int, size: int) -> tuple[int, int]:
        """The shape of the next chunk, and how many tokens it reads: as many as fit, with as little padding as there is."""
        fitting = [chunk for chunk in self.config.chunks if start + chunk <= size]
        shape = next((chunk for chunk in fitting if chunk >= left), fitting[-1])
        return shape, min(left, shape)

    def _best(self, ids: Int[np.ndarray, " tokens"]) -> tuple[int | None, int]:
        """Who shares most with a text, and from which token on it has to be read; at least the last is."""
        best: tuple[int | None, int] = (None, 0)
        for number, one in self._kept.items():
            most = min(len(ids), len(one.ids))
            differ = one.ids[:most] != ids[:most]
            shared = int(differ.argmax()) if differ.any() else most
            shared = min(shared, len(ids) - 1)
            start = shared if shared in one.marks else shared - shared % MARK
            whole = start >= len(one.ids) - MARK
            if start > best[1] and (whole or start >= LEAST_SHARED):
                best = number, start
        return best

    def _size(self, tokens: int) -> int | None:
        """The fewest slots that hold a text and the padding of its last chunk; None where there are not so many."""
        fitting = (size for size in self.config.slots if self._fits(tokens, 0, size))
        size = next(fitting, None)
        return None if size is None or self.bytes_of(size) > self._most_bytes else size

    def _fits(self, tokens: int, start: int, size: int) -> bool:
        while start < tokens:
            if start + self.config.chunks[0] > size:
                return False
            start += self.chunk(start, tokens - start, size)[1]
        return True

    @property
    def _most_bytes(self) -> float:
        return self.config.memory_mb * MEBIBYTE

    def _make_room(self) -> None:
        """Forget what was used longest ago until there is room for what is being read."""
        while self._kept and self.bytes_used > self._most_bytes:
            self._kept.popitem(last=False)
            self.forgotten += 1

    def _no_sum(self) -> np.ndarray:
        return np.zeros((len(self.live.taps), self.live.network.hidden_size))

    def _empty(self, size: int) -> Slots:
        groups, head = self._shape
        shapes = (groups, head, size), (groups, size, head)
        keys, values = ([jnp.zeros(shape, self._dtype) for _ in range(self.live.depth)] for shape in shapes)
        return keys, values

    def _in_more(self, slots: Slots, size: int) -> Slots:
        """A copy, with so many slots."""
        keys, values = slots
        more = size - keys[0].shape[2]
        wider = [jnp.pad(key, ((0, 0), (0, 0), (0, more))) if more else jnp.copy(key) for key in keys]
        longer = [jnp.pad(value, ((0, 0), (0, more), (0, 0))) if more else jnp.copy(value) for value in values]
        return wider, longer

    def read(
        self, ids: Int[np.ndarray, " tokens"], start: int, shape: int, slots: Slots
    ) -> tuple[Float[np.ndarray, "taps tokens hidden"], Slots]:
        """Read tokens that follow the first `start`; the slots are given up for those that are returned."""
        live = self.live
        tokens = np.zeros((1, shape), np.int32)
        tokens[0, : len(ids)] = ids
        hidden, rotation, place = live.embedded(tokens), live.rotation(start, shape), np.array(start, np.int32)
        states = {}
        keys, values = slots
        for layer, weights in enumerate(live.layers):
            given = weights, hidden, rotation, live.window(layer), keys[layer], values[layer], place
            hidden, keys[layer], values[layer] = self._run(*given)
            if layer + 1 in live.features.stated:
                states[layer + 1] = hidden
        found = [live.tapped(layer, states[layer])[0, : len(ids)].astype(np.float32) for layer, _ in live.taps]
        return np.stack(found), (keys, values)


class Turn:
    """One text that is being read, chunk by chunk; others may be read in between. Go on until it has ended."""

    def __init__(self, conversations: Conversations, ids: Int[np.ndarray, " tokens"], size: int) -> None:
        self.conversations, self.ids, self._size = conversations, ids, size
        self.read_tokens = 0
        """By the last step."""
        self._one: Remembered | None = None
        self._at = 0
        self._held_bytes = conversations.bytes_of(size)

    def step(self) -> Float[np.ndarray, " features"] | None:
        """Read a chunk; returns the features once the whole text is read. Raises `EncoderError` for states that are not finite,
        and forgets what was read then."""
        try:
            found = self._read()
        except BaseException:
            self._release()
            raise
        if found is not None and self._one is not None:
            self._release()
            self.conversations.put(self._one)
        return found

    def _read(self) -> Float[np.ndarray, " features"] | None:
        conversations, live = self.conversations, self.conversations.live
        if self._one is None:
            self._one, self._at = conversations.take(self.ids, self._size)
            conversations.reading_bytes += conversations.bytes_of(self._one.size) - self._held_bytes
            self._held_bytes = conversations.bytes_of(self._one.size)
        one = self._one
        shape, count = conversations.chunk(self._at, len(self.ids) - self._at, one.size)
        states, one.slots = conversations.read(self.ids[self._at : self._at + count], self._at, shape, one.slots)
        sums = one.marks[self._at] + np.cumsum(states, axis=1, dtype=np.float64).swapaxes(0, 1)
        check_finite(live.encoder, sums[-1:], live.taps, [""])
        end, self.read_tokens = self._at + count, count
        marked = [at for at in range(self._at + 1, end + 1) if at % MARK == 0 or at == end]
        one.marks.update({at: sums[at - self._at - 1] for at in marked})
        self._at, one.ids = end, self.ids[:end]
        if end < len(self.ids):
            return None
        pooled = one.marks[end] / end if live.features.pooling == "mean" else states[:, -1]
        return pooled.astype(np.float32).ravel()

    def _release(self) -> None:
        self.conversations.reading_bytes -= self._held_bytes
        self._held_bytes = 0
