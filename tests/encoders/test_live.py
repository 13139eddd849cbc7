"""Live reading: features equal those of the batch path, no prompt waits for a compilation, long prompts keep both ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxroute import EncoderError
from jaxroute.encoders import load_encoder
from jaxroute.encoders.features import FeatureConfig, prompt_features
from jaxroute.encoders.live import LiveConfig, LiveEncoder

SMALL = LiveConfig(longest=48, lengths=(16, 32), rows=(1, 2), tokens_at_once=32, dtype="float32")
PROMPTS = ["What is 12 plus 30?", "Name a colour.", "Who wrote the longest of all novels, and how many pages has it?"]


@contextmanager
def compilations() -> Iterator[list[str]]:
    """What JAX compiles, or fetches compiled, meanwhile."""
    found: list[str] = []

    def listen(event: str, duration_secs: float, **_: object) -> None:
        if "compile" in event or "trace" in event:
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize(("layers", "pooling"), [((1, 2), "mean"), pytest.param((1,), "last", marks=pytest.mark.slow)])
def test_features_are_those_of_the_batch_path(tiny_encoder: Path, fresh_cache: Path, layers: tuple[int, ...], pooling: str):
    encoder, features = load_encoder(str(tiny_encoder)), FeatureConfig(layers=layers, pooling=pooling)
    live = LiveEncoder(encoder, features, SMALL)
    token_ids, counts, cut = live.token_ids(PROMPTS)
    found = np.concatenate([live.read([ids]) for ids in token_ids])
    np.testing.assert_allclose(found, prompt_features(encoder, PROMPTS, features).values, rtol=1e-5, atol=1e-6)
    assert counts == encoder.count_tokens(PROMPTS).tolist() and not any(cut)


def test_prompts_side_by_side_are_read_as_alone(tiny_encoder: Path):
    live = LiveEncoder(load_encoder(str(tiny_encoder)), FeatureConfig(layers=(1, 2)), SMALL)
    token_ids, _, _ = live.token_ids(PROMPTS[:2])
    alone = np.concatenate([live.read([ids]) for ids in token_ids])
    np.testing.assert_allclose(live.read(token_ids), alone, rtol=1e-5, atol=1e-6)


def test_nothing_compiles_once_it_is_warm(tiny_encoder: Path):
    live = LiveEncoder(load_encoder(str(tiny_encoder)), FeatureConfig(layers=(2,)), SMALL)
    with compilations() as at_start:
        live.warm()
    with compilations() as later:
        for tokens in range(1, 49):
            live.read([np.arange(tokens, dtype=np.int32)])
        live.read([np.arange(7, dtype=np.int32), np.arange(16, dtype=np.int32)])
    assert at_start and not later


def test_long_prompts_keep_their_head_and_tail(tiny_encoder: Path):
    live = LiveEncoder(load_encoder(str(tiny_encoder)), FeatureConfig(layers=(1,)), LiveConfig(longest=7, lengths=(4,)))
    assert live.head_and_tail(np.arange(20)).tolist() == [0, 1, 2, 3, 17, 18, 19]
    assert live.head_and_tail(np.arange(7)).tolist() == list(range(7))


def test_narrow_weights_move_features_a_little(tiny_encoder: Path):
    encoder = load_encoder(str(tiny_encoder))
    wide, narrow = (
        LiveEncoder(encoder, FeatureConfig(layers=(2,)), LiveConfig(dtype=dtype)) for dtype in ("float32", "bfloat16")
    )
    token_ids, _, _ = wide.token_ids(PROMPTS[:1])
    expected, found = wide.read(token_ids), narrow.read(token_ids)
    assert 0 < np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    "wrong", [{"lengths": ()}, {"rows": (2, 1)}, {"longest": 1}, {"memory_mb": -1.0}, {"dtype": "int8"}, {"tokens_at_once": 0}]
)
def test_wrong_shapes_are_named(wrong: dict):
    with pytest.raises(EncoderError, match=next(iter(wrong))):
        LiveConfig(**wrong)
