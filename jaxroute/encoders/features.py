"""Features of prompts: pooled hidden states of a frozen encoder, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from jaxroute.encoders import POOLINGS, BertConfig, Encoder, EncoderConfig, check_prompts
from jaxroute.encoders.batching import encode
from jaxroute.encoders.narrowing import stated_dtype
from jaxroute.encoders.scoring_config import Dtype, ScoringConfig
from jaxroute.errors import EncoderError
from jaxroute.storage.cache import cache_folder
from jaxroute.storage.digests import text_digest

TRUNCATION_SIDES = ("left", "right")


@dataclass(frozen=True)
class FeatureConfig:
    """How a prompt becomes one vector."""

    layers: tuple[int, ...] | None = None
    """After which layers to read, from 1; several are set side by side; None = what suits the encoder (see `layers_for`).
    Routoo reads the last layer."""
    pooling: str = "mean"
    """`mean` over the tokens, or `last` token (Routoo's)."""
    max_tokens: int | None = None
    """Cut longer prompts; None = the encoder's context length."""
    truncation_side: str = "left"
    """Which end of a too long prompt is cut: `left` keeps the question that follows few-shot examples."""

    def __post_init__(self) -> None:
        problems = []
        if self.layers is not None:
            object.__setattr__(self, "layers", (self.layers,) if isinstance(self.layers, int) else tuple(self.layers))
        if self.layers is not None and (not self.layers or min(self.layers) < 1):
            problems.append(f"layers={self.layers} must name at least one layer, counted from 1")
        if self.pooling not in POOLINGS:
            problems.append(f"pooling={self.pooling!r} must be one of {', '.join(POOLINGS)}")
        if self.max_tokens is not None and self.max_tokens < 1:
            problems.append(f"max_tokens={self.max_tokens} must be at least 1")
        if self.truncation_side not in TRUNCATION_SIDES:
            problems.append(f"truncation_side={self.truncation_side!r} must be one of {', '.join(TRUNCATION_SIDES)}")
        if problems:
            raise EncoderError("; ".join(problems))

    @property
    def stated(self) -> tuple[int, ...]:
        """The layers, once an encoder has filled them in."""
        if self.layers is None:
            raise EncoderError("layers=None: which ones suit the encoder is known once it is loaded, see layers_for")
        return self.layers

    def of(self, encoder: Encoder) -> FeatureConfig:
        """With the layers that suit `encoder` where none are named. Raises `EncoderError` for a layer that it does not have."""
        config = self if self.layers is not None else replace(self, layers=layers_for(encoder.config))
        highest = max(config.stated)
        if highest > encoder.config.layers:
            raise EncoderError(f"layer {highest} was asked for; encoder {encoder.name!r} has {encoder.config.layers} layers")
        return config


def layers_for(network: EncoderConfig) -> tuple[int, ...]:
    """The layers to read where none are named: a decoder's at two thirds of its depth, a BERT's at half and at 5/6.

    That is layer 20 of SmolLM2's 30, and layers 3 and 5 of MiniLM's 6.

    Chosen by held-out log-loss on the MMLU pool's training part (`python -m experiments.encoder_layers`, also with
    `--train.encoder minilm`): a decoder's upper layers turn to the next token, a BERT's last one to what it was trained for.
    """
    if isinstance(network, BertConfig):
        return tuple(sorted({max(1, network.layers // 2), max(1, network.layers * 5 // 6)}))
    return (max(1, network.layers * 2 // 3),)


@dataclass(frozen=True)
class Features:
    """`values` is `(queries, layers * hidden)` in float32; `cut` says which prompts were too long."""

    values: Float[np.ndarray, "queries features"]
    cut: Bool[np.ndarray, " queries"]


Reader = Callable[[Encoder, list[str], FeatureConfig], Features]
"""What reads prompts: `prompt_features`, which remembers them on disk, or a stream's, which does not."""


def prompt_features(
    encoder: Encoder, prompts: list[str], config: FeatureConfig, *, scoring: ScoringConfig | None = None
) -> Features:
    """Encode `prompts`, reading from and adding to the cache; equal prompts are encoded once, the order is kept.

    An interrupted run resumes where it stopped. Raises `PromptError` for an empty batch or an empty prompt, and
    `EncoderError` for a layer that the encoder does not have and for states that are not finite.
    """
    return prompt_features_of_all(encoder, prompts, [config], scoring=scoring)[0]


def prompt_features_of_all(
    encoder: Encoder, prompts: list[str], configs: Sequence[FeatureConfig], *, scoring: ScoringConfig | None = None
) -> list[Features]:
    """The same for several layers or poolings in one pass; they must cut prompts alike."""
    check_prompts(prompts)
    configs = [config.of(encoder) for config in configs]
    scoring = scoring or ScoringConfig()
    if len({(config.max_tokens, config.truncation_side) for config in configs}) > 1:
        raise EncoderError("several feature configurations need the same max_tokens and truncation_side for one pass")
    distinct = list(dict.fromkeys(prompts))
    token_ids, cut = encoder.tokenize(distinct, max_tokens=configs[0].max_tokens, truncation_side=configs[0].truncation_side)
    taps = tuple(dict.fromkeys((layer, config.pooling) for config in configs for layer in config.stated))
    with ExitStack() as stack:
        caches = [stack.enter_context(closing(FeatureCache(encoder, config, scoring.dtype))) for config in configs]
        known = [cache.read(distinct) for cache in caches]
        missing = [row for row, prompt in enumerate(distinct) if not all(prompt in found for found in known)]
        if missing:
            network = encoder.network(max(layer for layer, _ in taps), dtype=scoring.dtype)
            for positions, pooled in encode(network, [token_ids[row] for row in missing], taps=taps, config=scoring):
                check_finite(encoder, pooled, taps, [distinct[missing[position]] for position in positions])
                for config, cache, found in zip(configs, caches, known, strict=True):
                    columns = [taps.index((layer, config.pooling)) for layer in config.stated]
                    fresh = {
                        distinct[missing[position]]: states[columns].ravel()
                        for position, states in zip(positions, pooled, strict=True)
                    }
                    cache.add(fresh)
                    found.update(fresh)
    too_long = {distinct[row] for row in cut}
    was_cut = np.array([prompt in too_long for prompt in prompts])
    return [Features(values=np.stack([found[prompt] for prompt in prompts]), cut=was_cut) for found in known]


def check_finite(
    encoder: Encoder,
    states: Float[np.ndarray, "queries taps hidden"],
    taps: tuple[tuple[int, str], ...],
    prompts: Sequence[str],
) -> None:
    """Raise `EncoderError` where the states of one of `prompts`, a batch, hold NaN or infinity: one weight can do that."""
    if np.isfinite(states).all():
        return
    rows, columns = np.nonzero(~np.isfinite(states).all(axis=2))
    layer = min(taps[column][0] for column in columns)
    first = prompts[rows[0]]
    raise EncoderError(
        f"encoder {encoder.name!r} gives non-finite states after layer {layer}, first on the prompt {first[:60]!r}"
        f"{'...' * (len(first) > 60)}: its weights hold NaN or overflow {encoder.dtype}; check its files, or use another"
    )


class FeatureCache:
    """One SQLite file per encoder, configuration and dtype of its products, one row per prompt; safe to kill and to share."""

    def __init__(self, encoder: Encoder, config: FeatureConfig, dtype: Dtype = "float32"):
        # Features of float32 products lie where they did before there were others.
        narrow = [] if stated_dtype(dtype) == "float32" else [stated_dtype(dtype)]
        described = json.dumps([encoder.features_identity, encoder.dtype, asdict(config), *narrow], sort_keys=True)
        name = text_digest(described)[:24]
        path = cache_folder() / "features" / f"{name}.sqlite"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.database = sqlite3.connect(path, timeout=60.0)
        self.database.execute("create table if not exists features (prompt blob primary key, vector blob) without rowid")

    def read(self, prompts: Iterable[str]) -> dict[str, np.ndarray]:
        found = {}
        for prompt in prompts:
            row = self.database.execute("select vector from features where prompt = ?", (_key(prompt),)).fetchone()
            if row is not None and np.isfinite(vector := np.frombuffer(row[0], np.float32)).all():
                found[prompt] = vector
        return found

    def add(self, vectors: dict[str, np.ndarray]) -> None:
        rows = [(_key(prompt), vector.astype(np.float32).tobytes()) for prompt, vector in vectors.items()]
        with self.database:
            self.database.executemany("insert or ignore into features values (?, ?)", rows)

    def close(self) -> None:
        self.database.close()


def _key(prompt: str) -> bytes:
    return hashlib.sha256(prompt.encode()).digest()
