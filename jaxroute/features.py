"""Features of prompts: pooled hidden states of a frozen encoder, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxroute.cache import cache_folder
from jaxroute.encoders import POOLINGS, Encoder, check_prompts
from jaxroute.errors import EncoderError
from jaxroute.scoring import encode

TRUNCATION_SIDES = ("left", "right")


@dataclass(frozen=True)
class FeatureConfig:
    """How a prompt becomes one vector."""

    layers: tuple[int, ...] = (20,)
    """After which layers to read, from 1; several are set side by side. Routoo reads the last layer."""
    pooling: str = "mean"
    """`mean` over the tokens, or `last` token (Routoo's)."""
    max_tokens: int | None = None
    """Cut longer prompts; None = the encoder's context length."""
    truncation_side: str = "left"
    """Which end of a too long prompt is cut: `left` keeps the question that follows few-shot examples."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        problems = []
        if not self.layers or min(self.layers) < 1:
            problems.append(f"layers={self.layers} must name at least one layer, counted from 1")
        if self.pooling not in POOLINGS:
            problems.append(f"pooling={self.pooling!r} must be one of {', '.join(POOLINGS)}")
        if self.max_tokens is not None and self.max_tokens < 1:
            problems.append(f"max_tokens={self.max_tokens} must be at least 1")
        if self.truncation_side not in TRUNCATION_SIDES:
            problems.append(f"truncation_side={self.truncation_side!r} must be one of {', '.join(TRUNCATION_SIDES)}")
        if problems:
            raise EncoderError("; ".join(problems))


@dataclass(frozen=True)
class Features:
    """`values` is `(queries, layers * hidden)` in float32; `cut` counts prompts that were too long."""

    values: Float[np.ndarray, "queries features"]
    cut: int


def prompt_features(encoder: Encoder, prompts: list[str], config: FeatureConfig, *, cache: bool = True) -> Features:
    """Encode `prompts`, reading from and adding to the cache; equal prompts are encoded once, the order is kept.

    An interrupted run goes on where it stopped. Raises `PromptError` for an empty batch or an empty prompt, and
    `EncoderError` for a layer that the encoder does not have.
    """
    check_prompts(prompts)
    if max(config.layers) > encoder.config.layers:
        raise EncoderError(f"layers={config.layers}: encoder {encoder.name!r} has {encoder.config.layers} layers")
    distinct = list(dict.fromkeys(prompts))
    with closing(FeatureCache(encoder, config, on_disk=cache)) as store:
        known = store.read(distinct)
        missing = [prompt for prompt in distinct if prompt not in known]
        limits = {"max_tokens": config.max_tokens, "truncation_side": config.truncation_side}
        if missing:
            token_ids, _ = encoder.tokenize(missing, **limits)
            runs = encode(
                encoder.decoder, token_ids, layers=config.layers, pooling=config.pooling, description="encoding prompts"
            )
            for positions, pooled in runs:
                fresh = {
                    missing[position]: vector.ravel() for position, vector in zip(positions, pooled, strict=True)
                }
                store.add(fresh)
                known.update(fresh)
    _, cut = encoder.tokenize(prompts, **limits)
    return Features(values=np.stack([known[prompt] for prompt in prompts]), cut=cut)


class FeatureCache:
    """One SQLite file per encoder and configuration, one row per prompt; safe to kill and to share."""

    def __init__(self, encoder: Encoder, config: FeatureConfig, *, on_disk: bool):
        path: Path | str = ":memory:"
        if on_disk:
            described = json.dumps([encoder.identity, encoder.dtype, asdict(config)], sort_keys=True)
            name = hashlib.sha256(described.encode()).hexdigest()[:24]
            path = cache_folder() / "features" / f"{name}.sqlite"
            path.parent.mkdir(parents=True, exist_ok=True)
        self.database = sqlite3.connect(path, timeout=60.0)
        self.database.execute("create table if not exists features (prompt blob primary key, vector blob) without rowid")

    def read(self, prompts: Iterable[str]) -> dict[str, np.ndarray]:
        found = {}
        for prompt in prompts:
            row = self.database.execute("select vector from features where prompt = ?", (_key(prompt),)).fetchone()
            if row is not None:
                found[prompt] = np.frombuffer(row[0], np.float32)
        return found

    def add(self, vectors: dict[str, np.ndarray]) -> None:
        rows = [(_key(prompt), vector.astype(np.float32).tobytes()) for prompt, vector in vectors.items()]
        with self.database:
            self.database.executemany("insert or ignore into features values (?, ?)", rows)

    def close(self) -> None:
        self.database.close()


def _key(prompt: str) -> bytes:
    return hashlib.sha256(prompt.encode()).digest()
