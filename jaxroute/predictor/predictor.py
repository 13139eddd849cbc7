"""The predictor: prompts in, an estimate of every model's quality out, before any model runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, Int

from jaxroute.encoders import Encoder
from jaxroute.encoders.features import FeatureConfig, prompt_features
from jaxroute.predictor.heads import AnyArray, Head, argmax_level, expected_level

KINDS = {"expected": expected_level, "argmax": argmax_level}


@dataclass(frozen=True)
class Estimates:
    """`values` is `(queries, models)` in [0, 1]; `cut` counts prompts that were longer than the encoder reads."""

    values: Float[np.ndarray, "queries models"]
    cut: int
    features: Float[np.ndarray, "queries features"]
    """What the head read, for other heads."""


@dataclass(frozen=True)
class Predictor:
    """A frozen encoder, how its states become features, and the trained head."""

    encoder: Encoder
    features: FeatureConfig
    head: Head
    models: list[str]
    levels: int

    def estimate(self, prompts: list[str], *, kind: str = "expected") -> Estimates:
        """Estimated quality of every model on every prompt.

        `kind` is `expected` (the mean over the levels) or `argmax` (the likeliest level, as Routoo publishes). Raises
        `PromptError` for an empty batch or an empty prompt.
        """
        features = prompt_features(self.encoder, prompts, self.features)
        values = head_estimates(self.head, features.values, kind=kind)
        return Estimates(values=values, cut=features.cut, features=features.values)

    def count_tokens(self, prompts: list[str]) -> Int[np.ndarray, " queries"]:
        """Tokens of every prompt, however long, as the encoder counts them."""
        return self.encoder.count_tokens(prompts)


def head_estimates(
    head: Head, features: Float[np.ndarray, "queries features"], *, kind: str = "expected"
) -> Float[np.ndarray, "queries models"]:
    """The head's estimates in float64, for features that are at hand."""
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(KINDS)}")
    return np.asarray(KINDS[kind](_logits(*nnx.split(head), features)), np.float64)


@partial(jax.jit, static_argnames="graph")
def _logits(graph: nnx.GraphDef, state: nnx.State, features: Float[AnyArray, "queries features"]):
    return nnx.merge(graph, state)(features)
