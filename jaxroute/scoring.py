"""Prompts through the encoder in batch: length buckets, few compiled shapes, the order kept."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from jaxroute.encoders import Decoder

TOKENS_PER_BATCH = 2048
"""Small enough that two batches at once stay in the caches of a CPU; larger ones bring nothing there."""
DISPATCH_THREADS = 2
"""One batch is prepared and launched while another computes."""


def encode(
    decoder: Decoder, token_ids: list[np.ndarray], *, taps: tuple[tuple[int, str], ...]
) -> Iterator[tuple[np.ndarray, Float[np.ndarray, "batch taps hidden"]]]:
    """Yield (positions in `token_ids`, pooled hidden states) for batches of similar length, with a progress bar.

    Short prompts come first. A caller who keeps what has been yielded can go on where it stopped.
    """
    graph, state = nnx.split(decoder)

    def launch(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tokens, lengths = pad([token_ids[position] for position in positions])
        return positions, np.asarray(_run(graph, state, tokens, lengths, taps))[: len(positions)]

    batches = list(bucket_batches([len(ids) for ids in token_ids]))
    total = sum(len(ids) for ids in token_ids)
    with (
        ThreadPoolExecutor(DISPATCH_THREADS) as pool,
        tqdm(total=total, desc="encoding prompts", unit=" tokens", unit_scale=True, delay=1) as bar,
    ):
        for positions, pooled in pool.map(launch, batches):
            bar.update(sum(len(token_ids[position]) for position in positions))
            yield positions, pooled


@partial(jax.jit, static_argnames=("graph", "taps"))
def _run(
    graph: nnx.GraphDef, state: nnx.State, tokens: Int[np.ndarray, "rows length"], lengths: Int[np.ndarray, " rows"], taps
):
    return nnx.merge(graph, state)(tokens, lengths, taps=taps)


def bucket_batches(lengths: list[int]) -> Iterator[np.ndarray]:
    """Positions of prompts that share a bucket, as many at a time as `TOKENS_PER_BATCH` allows."""
    buckets: dict[int, list[int]] = {}
    for position in np.argsort(lengths, kind="stable"):
        buckets.setdefault(bucket_length(lengths[position]), []).append(int(position))
    for length, positions in buckets.items():
        rows = batch_rows(length)
        for start in range(0, len(positions), rows):
            yield np.array(positions[start : start + rows])


def bucket_length(length: int) -> int:
    """The least of 16, 24, 32, 48, 64, 96, ... (powers of two and their 1.5 multiples) that holds `length` tokens."""
    size = 16
    while size < length:
        size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
    return size


def batch_rows(length: int) -> int:
    return max(1, TOKENS_PER_BATCH // length)


def pad(token_ids: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens padded on the right to their bucket; rows, by fillers of one token, to a full batch or a power of two."""
    length = bucket_length(max(len(ids) for ids in token_ids))
    rows = min(batch_rows(length), 1 << (len(token_ids) - 1).bit_length())
    tokens = np.zeros((rows, length), np.int32)
    lengths = np.ones(rows, np.int32)
    for row, ids in enumerate(token_ids):
        tokens[row, : len(ids)] = ids
        lengths[row] = len(ids)
    return tokens, lengths
