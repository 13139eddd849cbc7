"""Conversations remembered: however a text was cut into turns, and whatever was forgotten, features are those of the whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxroute.encoders import load_encoder
from jaxroute.encoders.features import FeatureConfig
from jaxroute.encoders.live import LiveConfig, LiveEncoder
from jaxroute.encoders.live_turns import Conversations
from tests.encoders.test_live import compilations

CONFIG = LiveConfig(
    longest=256, lengths=(64, 256), rows=(1,), chunks=(16, 32), slots=(32, 96, 256), memory_mb=1.0, dtype="float32"
)


@pytest.fixture(scope="module", params=["mean", pytest.param("last", marks=pytest.mark.slow)])
def live(request: pytest.FixtureRequest, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> LiveEncoder:
    folder = tmp_path_factory.mktemp("longer") / "encoder"
    shutil.copytree(tiny_encoder, folder)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": CONFIG.longest}))
    return LiveEncoder(load_encoder(str(folder)), FeatureConfig(layers=(1, 2), pooling=request.param), CONFIG)


@pytest.fixture(scope="module")
def compiled(live: LiveEncoder) -> Conversations:
    conversations = Conversations(live)
    live.warm()
    conversations.warm()
    return conversations


def empty(compiled: Conversations, memory_mb: float = 1.0) -> Conversations:
    """The same programs, nothing remembered, and so much memory."""
    compiled._kept.clear()
    compiled.hits = compiled.forgotten = 0
    compiled.config = LiveConfig(**{**vars(CONFIG), "memory_mb": memory_mb})
    return compiled


def read(conversations: Conversations, ids: np.ndarray) -> np.ndarray | None:
    """Features; None where there is no room to remember a text."""
    turn = conversations.begin(ids)
    while turn is not None:
        if (found := turn.step()) is not None:
            return found
    return None


def tokens(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 300, length).astype(np.int32)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 200), st.integers(1, 60), st.integers(0, 5)), min_size=1, max_size=6),
    st.sampled_from([0.05, 0.12, 1.0]),
)
def test_any_texts_that_share_beginnings_are_read_as_whole(
    live: LiveEncoder, compiled: Conversations, turns: list[tuple[int, int, int, int]], memory_mb: float
):
    conversations = empty(compiled, memory_mb)
    texts = [tokens(0)]
    for of, kept, more, seed in turns:
        # Each text keeps some of an earlier one, and goes on in its own way.
        texts.append(np.concatenate([texts[of % len(texts)][:kept], tokens(more, seed)])[:230])
        ids = texts[-1]
        found = read(conversations, ids)
        assert found is not None or memory_mb < 1
        if found is not None:
            np.testing.assert_allclose(found, live.read([ids])[0], rtol=1e-4, atol=1e-5)
        assert conversations.bytes_used <= memory_mb * 2**20 and not conversations.reading_bytes


def test_a_turn_reads_its_new_tokens_only(compiled: Conversations):
    conversations, text = empty(compiled), tokens(100)
    read(conversations, text[:60])
    assert conversations.new_tokens(text) == 40
    read(conversations, text)
    assert conversations.hits == 60 and len(conversations) == 1
    assert conversations.new_tokens(text) == 100 - 96, "the last token is read again, from the mark before it"


def test_another_end_leaves_the_first_as_it_was(compiled: Conversations):
    conversations, text = empty(compiled), tokens(100)
    read(conversations, text)
    other = np.concatenate([text[:70], tokens(20, seed=9)])
    read(conversations, other)
    assert conversations.hits == 64 and len(conversations) == 2
    assert conversations.new_tokens(np.append(text, 1)) == 1


def test_what_is_forgotten_is_read_again(live: LiveEncoder, compiled: Conversations):
    conversations, text = empty(compiled, 0.12), tokens(80)
    read(conversations, text)
    for seed in (1, 2, 3):
        read(conversations, tokens(80, seed))
    assert conversations.forgotten and conversations.new_tokens(text) == 80
    found = read(conversations, text)
    assert found is not None
    np.testing.assert_allclose(found, live.read([text])[0], rtol=1e-4, atol=1e-5)


def test_no_turn_compiles_anything(compiled: Conversations):
    conversations, text = empty(compiled, 0.3), tokens(230)
    with compilations() as found:
        for end in (5, 40, 41, 90, 91, 150, 230):
            read(conversations, text[:end])
        read(conversations, np.concatenate([text[:200], tokens(25, 3)]))
    assert not found


def test_what_has_no_room_is_not_remembered(compiled: Conversations):
    conversations = empty(compiled, 0.0)
    assert conversations.begin(tokens(10)) is None
    assert empty(compiled).begin(tokens(257)) is None


def test_narrow_turns_are_read_as_the_whole_text(tiny_encoder: Path):
    config = LiveConfig(longest=64, lengths=(64,), rows=(1,), chunks=(16,), slots=(96,), memory_mb=1.0, dtype="bfloat16")
    live = LiveEncoder(load_encoder(str(tiny_encoder)), FeatureConfig(layers=(2,)), config)
    conversations, text = Conversations(live), tokens(60)
    read(conversations, text[:40])
    found, expected = read(conversations, text), live.read([text])[0]
    assert found is not None and conversations.hits == 40
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)
