"""Estimates for a stream of prompts that need not fit into memory; nothing is kept in the feature cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Bool, Float

from jaxroute.encoders.batching import BatchEncoder, ScoringConfig
from jaxroute.encoders.features import check_finite
from jaxroute.predictor.predictor import Predictor, head_estimates
from jaxroute.routers.base import RouterPredictor

WINDOW = 10_000


@dataclass(frozen=True)
class Scored:
    """A window of the stream, in its order: estimates in [0, 1], and which prompts were cut because they were too long."""

    prompts: list[str]
    values: Float[np.ndarray, "queries models"]
    cut: Bool[np.ndarray, " queries"]


def estimate_stream(
    predictor: Predictor,
    prompts: Iterable[str],
    *,
    window: int = WINDOW,
    config: ScoringConfig | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[Scored]:
    """Estimated quality of every model on every prompt, `window` prompts at a time; no more are read from `prompts`.

    Equal prompts within a window are computed once. `progress` is told how many more prompts are done. Raises `PromptError`
    for a prompt without text, with its place in its window.
    """
    if window < 1:
        raise ValueError(f"window={window} must be at least 1")
    encoder = predictor.encoder
    features = predictor.features.of(encoder)
    taps = tuple((layer, features.pooling) for layer in features.stated)
    batches: BatchEncoder | None = None
    stream = iter(prompts)
    while read := list(islice(stream, window)):
        rows = {prompt: row for row, prompt in enumerate(dict.fromkeys(read))}
        distinct = list(rows)
        token_ids, cut = encoder.tokenize(distinct, max_tokens=features.max_tokens, truncation_side=features.truncation_side)
        batches = batches or BatchEncoder(encoder.network(max(features.stated)), config or ScoringConfig())
        times = list(Counter(read).values()) if progress else []
        hidden = np.empty((len(rows), len(taps) * encoder.config.hidden_size), np.float32)
        for positions, pooled in batches.encode(token_ids, taps=taps):
            check_finite(encoder, pooled, taps, [distinct[position] for position in positions])
            hidden[positions] = pooled.reshape(len(positions), -1)
            if progress:
                progress(sum(times[position] for position in positions))
        order = [rows[prompt] for prompt in read]
        was_cut = np.zeros(len(rows), bool)
        was_cut[cut] = True
        yield Scored(prompts=read, values=_estimates(predictor, hidden)[order], cut=was_cut[order])


def router_stream(
    router: RouterPredictor, prompts: Iterable[str], *, window: int = WINDOW, progress: Callable[[int], object] | None = None
) -> Iterator[Scored]:
    """The same for another trained router."""
    stream = iter(prompts)
    while read := list(islice(stream, window)):
        values = router.estimate(read).values
        if progress:
            progress(len(read))
        yield Scored(prompts=read, values=values, cut=np.zeros(len(read), bool))


def _estimates(predictor: Predictor, hidden: Float[np.ndarray, "queries features"]) -> Float[np.ndarray, "queries models"]:
    """The head on a number of rows that is a power of two: windows differ in distinct prompts, and each shape compiles."""
    filled = np.zeros((1 << (len(hidden) - 1).bit_length(), hidden.shape[1]), np.float32)
    filled[: len(hidden)] = hidden
    return head_estimates(predictor.head, filled)[: len(hidden)]
