"""Which queries go into which update: decided by the seed and the update's number alone, so that a run can go on anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxroute.encoders.batching import bucket_length


class MicroBatch(NamedTuple):
    """Queries that pass through the encoder together; rows of length 1 without an observed cell fill it up."""

    tokens: Int[np.ndarray, "rows length"]
    lengths: Int[np.ndarray, " rows"]
    target: Float[np.ndarray, "rows models levels"]
    observed: Float[np.ndarray, "rows models"]


class Examples(NamedTuple):
    """What is learnt from."""

    token_ids: list[np.ndarray]
    target: Float[np.ndarray, "queries models levels"]
    observed: Float[np.ndarray, "queries models"]

    def select(self, rows: Int[np.ndarray, " chosen"]) -> Examples:
        return Examples([self.token_ids[row] for row in rows], self.target[rows], self.observed[rows])


def updates_per_epoch(queries: int, batch_size: int) -> int:
    return -(-queries // batch_size)


def batch_rows(queries: int, batch_size: int, step: int, *, seed: int) -> Int[np.ndarray, " batch"]:
    """The queries of update `step`: every epoch visits all of them once, in an order of its own."""
    epoch, position = divmod(step, updates_per_epoch(queries, batch_size))
    order = np.random.default_rng([seed, epoch]).permutation(queries)
    return order[position * batch_size : (position + 1) * batch_size]


def micro_batches(
    examples: Examples, rows: Int[np.ndarray, " batch"], *, tokens: int, devices: int
) -> Iterator[tuple[Int[np.ndarray, " part"], MicroBatch]]:
    """`rows` from the longest to the shortest, at most `tokens` tokens at a time, but for a longer prompt, padding included.

    A part is padded to the length bucket of its longest prompt and holds as many rows as then fit, a multiple of `devices`:
    one shape per bucket.
    """
    lengths = np.array([len(examples.token_ids[row]) for row in rows])
    order = rows[np.argsort(-lengths, kind="stable")]
    while len(order):
        length = bucket_length(len(examples.token_ids[order[0]]))
        size = max(1, tokens // (length * devices)) * devices
        part, order = order[:size], order[size:]
        yield part, _padded(examples, part, size, length)


def _padded(examples: Examples, part: Int[np.ndarray, " part"], size: int, length: int) -> MicroBatch:
    tokens = np.zeros((size, length), np.int32)
    lengths = np.ones(size, np.int32)
    for place, row in enumerate(part):
        ids = examples.token_ids[row]
        tokens[place, : len(ids)] = ids
        lengths[place] = len(ids)
    target = np.zeros((size, *examples.target.shape[1:]), np.float32)
    observed = np.zeros((size, *examples.observed.shape[1:]), np.float32)
    target[: len(part)], observed[: len(part)] = examples.target[part], examples.observed[part]
    return MicroBatch(tokens, lengths, target, observed)
