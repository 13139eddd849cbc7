"""Prompts through the encoder in batch: packed end to end, few compiled shapes, on all devices, positions kept."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from jaxroute.encoders import EncoderNetwork
from jaxroute.encoders.narrowing import narrowed
from jaxroute.encoders.packing import pack
from jaxroute.encoders.scoring_config import ScoringConfig
from jaxroute.progress import progress_bar


def encode(
    network: EncoderNetwork,
    token_ids: list[np.ndarray],
    *,
    taps: tuple[tuple[int, str], ...],
    config: ScoringConfig | None = None,
) -> Iterator[tuple[np.ndarray, Float[np.ndarray, "batch taps hidden"]]]:
    """Yield (positions in `token_ids`, pooled hidden states) batch by batch, with a progress bar.

    Long prompts come first. A caller who keeps what has been yielded can go on where it stopped.
    """
    with progress_bar(total=sum(map(len, token_ids)), desc="encoding prompts", unit=" tokens", unit_scale=True, delay=1) as bar:
        for positions, pooled in BatchEncoder(network, config or ScoringConfig()).encode(token_ids, taps=taps):
            bar.update(sum(len(token_ids[position]) for position in positions))
            yield positions, pooled


class BatchEncoder:
    """A network whose weights lie on every device that shares the work."""

    def __init__(self, network: EncoderNetwork, config: ScoringConfig):
        devices = config.local_devices()
        self.config = config
        self.graph, state = nnx.split(network)
        state["layers"] = narrowed(state["layers"], config.dtype)
        self.mesh = Mesh(np.array(devices), ("data",)) if len(devices) > 1 else None
        self.state = state if self.mesh is None else jax.device_put(state, NamedSharding(self.mesh, PartitionSpec()))

    @property
    def devices(self) -> int:
        return 1 if self.mesh is None else self.mesh.size

    def encode(
        self, token_ids: list[np.ndarray], *, taps: tuple[tuple[int, str], ...]
    ) -> Iterator[tuple[np.ndarray, Float[np.ndarray, "batch taps hidden"]]]:
        """The same as the function, without a bar."""

        def launch(group: Group) -> list[tuple[np.ndarray, np.ndarray]]:
            packed = [
                pack([token_ids[position] for position in batch], tokens=group.tokens, rows=group.rows, length=group.length)
                for batch in group.batches
            ]
            arrays = jax.tree.map(lambda *parts: np.stack(parts), *packed)
            pooled = np.asarray(_run(self.graph, self.state, arrays, taps, self.mesh))
            return [(batch, found[: len(batch)]) for batch, found in zip(group.batches, pooled, strict=True) if len(batch)]

        groups = plan([len(ids) for ids in token_ids], self.config.tokens_per_batch, self.devices)
        with ThreadPoolExecutor(self.config.dispatch_threads) as pool:
            for found in pool.map(launch, groups):
                yield from found


@partial(jax.jit, static_argnames=("graph", "taps", "mesh"))
def _run(graph: nnx.GraphDef, state: nnx.State, packed, taps, mesh: Mesh | None) -> Float[Array, "devices rows taps hidden"]:
    """One batch per device; nothing is exchanged between them."""

    def one(state, packed):
        tokens, lengths, packing = jax.tree.map(lambda leaf: leaf[0], packed)
        return nnx.merge(graph, state)(tokens, lengths, packing=packing, taps=taps)[None]

    if mesh is None:
        return one(state, packed)
    data = PartitionSpec("data")
    return jax.shard_map(one, mesh=mesh, in_specs=(PartitionSpec(), data), out_specs=data, check_vma=False)(state, packed)


@dataclass(frozen=True)
class Group:
    """Batches of one shape, one for each device; the last ones may be empty."""

    batches: list[Int[np.ndarray, " prompts"]]
    tokens: int
    rows: int
    length: int


def plan(lengths: list[int], tokens_per_batch: int, devices: int = 1) -> Iterator[Group]:
    """Positions of prompts that are computed together: the longest first, then what fits best beside them.

    Shapes are few: as many tokens as allowed, but for the last batch and for a longer prompt; prompts up to a bucket's length;
    and as many of them as that length makes likely.
    """
    waiting = sorted((length, position) for position, length in enumerate(lengths))
    left = sum(lengths)
    while waiting:
        length = bucket_length(waiting[-1][0])
        tokens = max(length, min(tokens_per_batch, bucket_length(-(-left // devices))))
        rows = batch_rows(tokens, length)
        batches = [_fill(waiting, tokens, rows) for _ in range(devices)]
        left -= sum(lengths[position] for batch in batches for position in batch)
        yield Group(batches, tokens, rows, length)


def bucket_length(length: int) -> int:
    """The least of 16, 24, 32, 48, 64, 96, ... (powers of two and their 1.5 multiples) that holds `length` tokens."""
    size = 16
    while size < length:
        size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
    return size


def batch_rows(tokens: int, length: int) -> int:
    """Prompts beside each other in attention: a quarter more than if all were as long as the longest, rounded up."""
    return -(-5 * tokens // (4 * length))


def _fill(waiting: list[tuple[int, int]], tokens: int, rows: int) -> Int[np.ndarray, " prompts"]:
    """Take from `waiting`, which is sorted, the longest prompt that still fits, and again."""
    taken = []
    while len(taken) < rows and (fitting := bisect_right(waiting, tokens, key=lambda prompt: prompt[0])):
        length, position = waiting.pop(fitting - 1)
        tokens -= length
        taken.append(position)
    return np.array(taken, int)
