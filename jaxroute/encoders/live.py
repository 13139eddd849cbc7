"""Prompts as they come: one program per shape for any layer, few shapes, and all of them compiled before the first prompt.

A program for the whole network would copy every layer's weights out of their stack at each call, which takes longer than
computing a short prompt with them. Here every layer's weights are arrays of their own, and one program is called for every
layer. What remembers conversations is in live_turns.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int

from jaxroute.encoders import Bert, Encoder
from jaxroute.encoders.features import FeatureConfig, Features, check_finite
from jaxroute.encoders.narrowing import narrowed, stated_dtype
from jaxroute.encoders.networks.attention import cached_attention, causal_attention, whole_attention
from jaxroute.encoders.networks.decoder import NO_WINDOW, rms_norm
from jaxroute.encoders.networks.rotary import rotary_tables
from jaxroute.encoders.scoring_config import DTYPES, Dtype
from jaxroute.errors import EncoderError

MEBIBYTE = 2**20


@dataclass(frozen=True)
class LiveConfig:
    """Shapes, and what a prompt may take of time and memory; decides the speed, and of features only what `longest` says."""

    longest: int = 512
    """Tokens of a prompt that are read at once; of a longer one, the first and the last half of as many."""
    lengths: tuple[int, ...] = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
    """Tokens of a row; a prompt takes the shortest that holds it."""
    rows: tuple[int, ...] = (1, 2, 4, 8)
    """Prompts beside each other."""
    tokens_at_once: int = 128
    """Rows are beside each other only up to so many tokens: more of them keep a CPU's cores no busier, and all wait for all."""
    chunks: tuple[int, ...] = (8, 24, 40, 64, 128)
    """New tokens of a conversation that are read at once."""
    slots: tuple[int, ...] = (128, 512, 1024, 2048, 4096)
    """Tokens of a conversation that are remembered; a longer one is not."""
    memory_mb: float = 512.0
    """Mebibytes for conversations together; 0 remembers none."""
    dtype: Dtype = "auto"
    """Of the weights, and of what is multiplied by them; sums are float32. `bfloat16` nearly halves the time on a processor
    that computes in it, and moves estimates in the third digit. `auto` is `bfloat16` on such a processor, else `float32`."""

    def __post_init__(self) -> None:
        problems = []
        for name in ("lengths", "rows", "chunks", "slots"):
            sizes = tuple(getattr(self, name))
            object.__setattr__(self, name, sizes)
            if not sizes or list(sizes) != sorted(set(sizes)) or sizes[0] < 1:
                problems.append(f"{name}={sizes} must be whole numbers from 1 on, rising")
        if self.longest < 2:
            problems.append(f"longest={self.longest} must be at least 2 tokens")
        if self.tokens_at_once < 1:
            problems.append(f"tokens_at_once={self.tokens_at_once} must be at least 1")
        if not 0 <= self.memory_mb < 1e9:
            problems.append(f"memory_mb={self.memory_mb} must be a number of mebibytes, 0 or more")
        if self.dtype not in DTYPES:
            problems.append(f"dtype={self.dtype!r} must be one of {', '.join(DTYPES)}")
        if problems:
            raise EncoderError("; ".join(problems))

    def row_lengths(self) -> list[int]:
        """The lengths that are used: up to the first that holds the longest prompt."""
        return [*(length for length in self.lengths if length < self.longest), self.longest]

    def rows_of(self, length: int) -> list[int]:
        """The numbers of rows of that length."""
        return [rows for rows in self.rows if rows == 1 or rows * length <= self.tokens_at_once]


class LiveEncoder:
    """An encoder for single prompts and small batches; use it from one thread at a time.

    `read` gives the features of `prompt_features` for prompts of up to `config.longest` tokens. Nothing compiles after `warm`.
    """

    def __init__(self, encoder: Encoder, features: FeatureConfig, config: LiveConfig | None = None) -> None:
        config = config or LiveConfig()
        # No prompt has more tokens than the network's context, and every shape is compiled.
        longest = min(config.longest, encoder.config.context_length)
        config = replace(config, longest=longest, dtype=stated_dtype(config.dtype))
        self.encoder, self.features, self.config = encoder, features.of(encoder), config
        self.taps = tuple((layer, self.features.pooling) for layer in self.features.stated)
        self.depth = max(self.features.stated)
        network = encoder.read_network(self.depth)
        self.network = network.config
        graph, stacked = nnx.split(network.layers)
        leaves, self._tree = jax.tree.flatten(narrowed(stacked, config.dtype))
        host = [np.asarray(leaf) for leaf in leaves]
        self.layers: list[list[jax.Array]] = [
            [jax.device_put(np.ascontiguousarray(leaf[layer])) for leaf in host] for layer in range(self.depth)
        ]
        """Every layer's weights."""
        del network.layers, stacked, leaves, host
        self._graph = graph
        self.is_causal = not isinstance(network, Bert)
        """Whether what is said of a token does not depend on those after it, so that it can be remembered."""
        self._run = jax.jit(self._decoder_layer if self.is_causal else self._bert_layer)
        if isinstance(network, Bert):
            outer, state = nnx.split(network)
            self._outer = state
            self._embed = jax.jit(lambda state, tokens: nnx.merge(outer, state).embed(tokens, jnp.arange(tokens.shape[1])))
        else:
            self._table = np.asarray(network.embedding[...])
            rotary = partial(rotary_tables, rope=network.config.rope, head_size=network.config.head_size)
            most = max([self.config.longest, *self.config.lengths, *self.config.slots])
            self._rotation = tuple(np.asarray(table) for table in rotary(jnp.arange(most)))
            norm = network.norm[...] if network.config.final_norm and self.depth == network.config.layers else None
            epsilon = network.config.norm_epsilon
            self._final = None if norm is None else jax.jit(lambda hidden: rms_norm(hidden, norm, epsilon))

    def warm(self) -> float:
        """Compile every shape; returns the seconds that it took."""
        begun = perf_counter()
        # The tokenizer is read when it is needed first.
        self.token_ids(["What is 12 plus 30?"])
        for length in self.config.row_lengths():
            for rows in self.config.rows_of(length):
                self.read([np.zeros(length, np.int32)] * rows)
        return perf_counter() - begun

    def token_ids(self, prompts: list[str]) -> tuple[list[np.ndarray], list[int], list[bool]]:
        """Of every prompt: the tokens that its features are of, how many it has in all, and whether it was cut."""
        whole = self.encoder.encode(prompts)
        counts = [len(ids) for ids in whole]
        config = self.features
        kept, cut = self.encoder.cut(whole, max_tokens=config.max_tokens, truncation_side=config.truncation_side)
        return kept, counts, [row in cut for row in range(len(prompts))]

    def head_and_tail(self, ids: Int[np.ndarray, " tokens"]) -> Int[np.ndarray, " tokens"]:
        """The first and last half of `longest` tokens; shorter ones as they are. Tokens around every prompt stay."""
        most = self.config.longest
        return ids if len(ids) <= most else np.concatenate([ids[: most - most // 2], ids[len(ids) - most // 2 :]])

    def row_length(self, tokens: int) -> int:
        """Of the row that holds so many tokens, up to `longest`."""
        return next(length for length in self.config.row_lengths() if length >= tokens)

    def read(self, token_ids: Sequence[Int[np.ndarray, " tokens"]]) -> Float[np.ndarray, "prompts features"]:
        """Features of prompts of up to `longest` tokens, as many as have room beside each other.

        Raises `EncoderError` for states that are not finite.
        """
        length = self.row_length(max(len(ids) for ids in token_ids))
        rows = next(rows for rows in self.config.rows_of(length) if rows >= len(token_ids))
        tokens, lengths = np.zeros((rows, length), np.int32), np.ones(rows, np.int32)
        for row, ids in enumerate(token_ids):
            tokens[row, : len(ids)], lengths[row] = ids, len(ids)
        if not self.is_causal:
            hidden = self._embed(self._outer, tokens)
            given: list[tuple[Any, ...]] = [(lengths,)] * self.depth
        else:
            hidden = self.embedded(tokens)
            rotation = self.rotation(0, length)
            given = [(rotation, self.window(layer)) for layer in range(self.depth)]
        states: dict[int, Any] = {}
        for layer, weights in enumerate(self.layers):
            hidden = self._run(weights, hidden, *given[layer])
            if layer + 1 in self.features.stated:
                states[layer + 1] = hidden
        count = len(token_ids)
        pooled = np.stack([self._pooled(self.tapped(layer, states[layer])[:count], lengths) for layer, _ in self.taps], axis=1)
        check_finite(self.encoder, pooled, self.taps, [""] * count)
        return pooled.reshape(count, -1)

    # The parts, for live_turns.py

    def embedded(self, tokens: Int[np.ndarray, "rows length"]) -> np.ndarray:
        """What a decoder's first layer reads."""
        return self._table[tokens]

    def rotation(self, start: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Of a decoder's positions from `start` on."""
        cos, sin = self._rotation
        return cos[start : start + length], sin[start : start + length]

    def window(self, layer: int) -> np.ndarray | None:
        """How many positions a decoder's layer sees; None where none sees less than all."""
        windows = self.network.windows if self.is_causal else ()  # pyright: ignore[reportAttributeAccessIssue]
        return np.array(windows[layer] or NO_WINDOW) if any(windows) else None

    def tapped(self, layer: int, hidden: Any) -> np.ndarray:
        """A layer's states on the host, as they are pooled: a decoder's last are normed."""
        final = None if not self.is_causal or layer < self.depth else self._final
        return np.asarray(hidden if final is None else final(hidden))

    def cached_layer(self, weights, hidden, rotation, window, keys, values, start):
        """A decoder's layer, traced: its states, and the slots with the keys and values of these tokens."""
        kept = []

        def attend(query, key, value):
            mixed, *slots = cached_attention(query, key, value, keys=keys, values=values, start=start, window=window)
            kept.extend(slots)
            return mixed

        return self._layer(weights)(hidden, rotation, attend), *kept

    def _layer(self, weights) -> Any:
        return nnx.merge(self._graph, jax.tree.unflatten(self._tree, weights))

    def _decoder_layer(self, weights, hidden, rotation, window):
        return self._layer(weights)(hidden, rotation, partial(causal_attention, window=window))

    def _bert_layer(self, weights, hidden, lengths):
        return self._layer(weights)(hidden, partial(whole_attention, lengths=lengths))

    def _pooled(self, states: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        rows = [row[:length].astype(np.float32) for row, length in zip(states, lengths, strict=False)]
        if self.features.pooling == "mean":
            return np.stack([row.mean(axis=0) for row in rows])
        return np.stack([row[-1 if self.features.pooling == "last" else 0] for row in rows])


class LiveFeatures:
    """A `Reader` for estimators that read prompts in their own ways; it remembers nothing of them, and compiles when an encoder
    comes for the first time."""

    def __init__(self, config: LiveConfig | None = None) -> None:
        self.config = config
        self._live: dict[tuple[str, FeatureConfig], LiveEncoder] = {}

    def __call__(self, encoder: Encoder, prompts: list[str], config: FeatureConfig) -> Features:
        key = encoder.features_identity, config.of(encoder)
        if key not in self._live:
            self._live[key] = LiveEncoder(encoder, config, self.config)
            self._live[key].warm()
        live = self._live[key]
        token_ids, _, cut = live.token_ids(prompts)
        values = np.concatenate([live.read([live.head_and_tail(ids)]) for ids in token_ids])
        return Features(values, np.array(cut))
