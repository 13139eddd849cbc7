"""Estimates for a stream of prompts that need not fit into memory; nothing is kept in the feature cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, repeat

import numpy as np
from jaxtyping import Bool, Float

from jaxroute.data.estimates import Estimates, Estimator
from jaxroute.data.table import Queries
from jaxroute.encoders import Encoder
from jaxroute.encoders.batching import BatchEncoder, ScoringConfig
from jaxroute.encoders.features import FeatureConfig, Features, check_finite

WINDOW = 10_000


@dataclass(frozen=True)
class Scored:
    """A window of the stream, in its order, with what is expected of every model on every prompt."""

    prompts: list[str]
    estimates: Estimates

    @property
    def values(self) -> Float[np.ndarray, "queries models"]:
        """Expected quality, in [0, 1] where the estimator has probabilities."""
        return self.estimates.quality

    @property
    def cost_usd(self) -> Float[np.ndarray, "queries models"]:
        """Expected dollars of every answer; NaN where nothing is known of costs."""
        return self.estimates.cost_usd

    @property
    def cut(self) -> Bool[np.ndarray, " queries"]:
        """Which prompts were cut because they were too long."""
        return self.estimates.cut


def estimate_stream(
    estimator: Estimator,
    prompts: Iterable[str],
    *,
    domains: Iterable[str] | None = None,
    window: int = WINDOW,
    config: ScoringConfig | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[Scored]:
    """Expected quality and dollars of every model on every prompt, `window` prompts at a time; no more are read from `prompts`.

    Equal prompts within a window are computed once. `domains` are read beside the prompts, empty where unknown. `progress` is
    called with how many more prompts are done. Raises `PromptError` for a prompt without text, with its place in its window.
    """
    if window < 1:
        raise ValueError(f"window={window} must be at least 1")
    estimate = WindowEstimator(estimator, config, progress)
    stream = zip(prompts, repeat("") if domains is None else domains)
    while read := list(islice(stream, window)):
        queries = Queries([prompt for prompt, _ in read], [domain for _, domain in read])
        yield Scored(queries.prompts, estimate(queries))


class WindowEstimator:
    """Estimates of one window after the other; equal prompts within one are computed once."""

    def __init__(
        self,
        estimator: Estimator,
        config: ScoringConfig | None = None,
        progress: Callable[[int], object] | None = None,
    ):
        self._reader = StreamReader(config or ScoringConfig(), progress)
        self._estimator = estimator.reading(self._reader)
        self._progress = progress

    def __call__(self, queries: Queries) -> Estimates:
        """Reports every prompt once, those too for which nothing is encoded."""
        self._reader.reported = 0
        estimates = self._estimator.estimate(queries)
        if self._progress and self._reader.reported < len(queries.prompts):
            self._progress(len(queries.prompts) - self._reader.reported)
        return estimates


class StreamReader:
    """Reads prompts as `prompt_features` does, but remembers nothing on disk; the encoder's weights are placed once."""

    def __init__(self, config: ScoringConfig, progress: Callable[[int], object] | None = None):
        self.config, self.progress, self.reported = config, progress, 0
        self._batches: dict[str, BatchEncoder] = {}

    def __call__(self, encoder: Encoder, prompts: list[str], config: FeatureConfig) -> Features:
        config, times = config.of(encoder), Counter(prompts)
        rows = {prompt: row for row, prompt in enumerate(times)}
        distinct = list(rows)
        token_ids, cut = encoder.tokenize(distinct, max_tokens=config.max_tokens, truncation_side=config.truncation_side)
        taps = tuple((layer, config.pooling) for layer in config.stated)
        hidden = np.empty((len(rows), len(taps) * encoder.config.hidden_size), np.float32)
        counts = list(times.values())
        for positions, pooled in self._of(encoder, config).encode(token_ids, taps=taps):
            check_finite(encoder, pooled, taps, [distinct[position] for position in positions])
            hidden[positions] = pooled.reshape(len(positions), -1)
            self._report(sum(counts[position] for position in positions))
        order = [rows[prompt] for prompt in prompts]
        was_cut = np.zeros(len(rows), bool)
        was_cut[cut] = True
        return Features(hidden[order], was_cut[order])

    def _of(self, encoder: Encoder, config: FeatureConfig) -> BatchEncoder:
        depth = max(config.stated)
        key = f"{encoder.features_identity} {depth}"
        if key not in self._batches:
            self._batches[key] = BatchEncoder(encoder.network(depth, dtype=self.config.dtype), self.config)
        return self._batches[key]

    def _report(self, prompts: int) -> None:
        if self.progress:
            self.progress(prompts)
            self.reported += prompts
