"""Batches hold every prompt once, and neither batch-mates, windows nor devices change an estimate beyond rounding."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxroute import EncoderError, PromptError, estimate_stream
from jaxroute.encoders import load_encoder
from jaxroute.encoders.batching import BatchEncoder, ScoringConfig, batch_rows, bucket_length, encode, plan
from jaxroute.encoders.features import FeatureConfig
from jaxroute.encoders.packing import pack
from tests.batch.scored import random_predictor

TAPS = ((1, "mean"), (1, "last"), (2, "mean"), (2, "last"))


def token_ids(*lengths: int, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 600, length).astype(np.int32) for length in lengths]


def encoded(decoder, ids: list[np.ndarray], config: ScoringConfig | None = None) -> np.ndarray:
    found = np.full((len(ids), len(TAPS), 48), np.nan, np.float32)
    for positions, pooled in encode(decoder, ids, taps=TAPS, config=config):
        found[positions] = pooled
    return found


def in_rows(decoder, ids: list[np.ndarray]) -> np.ndarray:
    """All prompts in one batch, padded on the right."""
    tokens = np.zeros((len(ids), max(map(len, ids))), np.int32)
    for row, one in enumerate(ids):
        tokens[row, : len(one)] = one
    return np.asarray(decoder(tokens, np.array([len(one) for one in ids]), taps=TAPS))


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    error = np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert error.max() < 1e-5


@given(
    lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=60),
    tokens=st.sampled_from([64, 1024]),
    devices=st.integers(1, 3),
)
def test_every_prompt_lies_in_one_batch_that_holds_it(lengths: list[int], tokens: int, devices: int) -> None:
    seen = []
    for group in plan(lengths, tokens, devices):
        assert len(group.batches) == devices
        assert group.tokens <= max(tokens, group.length)
        for batch in group.batches:
            flat, real, packing = pack(
                [np.ones(lengths[position], np.int32) for position in batch],
                tokens=group.tokens,
                rows=group.rows,
                length=group.length,
            )
            assert list(real[: len(batch)]) == [lengths[position] for position in batch]
            assert flat.sum() == sum(lengths[position] for position in batch)
            # Every token is where its place says.
            np.testing.assert_array_equal(packing.place.ravel()[packing.back[: flat.sum()]], np.arange(flat.sum()))
            seen += list(batch)
    assert sorted(seen) == list(range(len(lengths)))


@given(st.integers(1, 10**6))
def test_a_bucket_wastes_less_than_half(length: int) -> None:
    size = bucket_length(length)
    assert length <= size <= max(16, 1.5 * length + 1)


def test_batches_of_many_like_prompts_are_nearly_full() -> None:
    lengths = list(np.random.default_rng(0).integers(20, 400, 2000))
    groups = list(plan(lengths, 1024))
    assert sum(lengths) > 0.95 * sum(group.tokens for group in groups)
    assert len({(group.tokens, group.rows, group.length) for group in groups}) <= 12
    assert all(batch_rows(group.tokens, group.length) == group.rows for group in groups)


def test_packed_prompts_have_the_states_that_they_have_in_rows_of_their_own(tiny_encoder: Path) -> None:
    decoder = load_encoder(str(tiny_encoder)).network()
    ids = token_ids(1, 2, 17, 40, 3, 64, 64, 5, 30, 29, 28)
    beside = in_rows(decoder, ids)
    for tokens in (16, 1024):
        assert_same(encoded(decoder, ids, ScoringConfig(tokens_per_batch=tokens)), beside)


@pytest.mark.slow
def test_packed_prompts_longer_than_a_chunk_of_attention_and_than_a_batch(tiny_encoder: Path) -> None:
    decoder = load_encoder(str(tiny_encoder)).network()
    ids = token_ids(700, 300, 20)
    beside = in_rows(decoder, ids)
    assert_same(encoded(decoder, ids, ScoringConfig(tokens_per_batch=512)), beside)


def test_a_stream_is_read_a_window_at_a_time(tiny_encoder: Path, fresh_cache: Path) -> None:
    read = 0

    def prompts() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield f"What is {read} plus {read % 3}?"

    windows = estimate_stream(random_predictor(tiny_encoder), prompts(), window=7)
    first, second = next(windows), next(windows)
    assert read == 14
    assert first.prompts[0] == "What is 1 plus 1?" and second.prompts[0] == "What is 8 plus 2?"
    assert not (fresh_cache / "features").exists()


def test_a_stream_gives_what_a_list_gives_in_its_order(tiny_encoder: Path, fresh_cache: Path) -> None:
    predictor = random_predictor(tiny_encoder)
    prompts = [f"{'word ' * (number % 11)}{number % 13}" for number in range(50)]
    windows = list(estimate_stream(predictor, iter(prompts), window=20))
    assert [len(window.values) for window in windows] == [20, 20, 10]
    expected = predictor.estimate(prompts)
    np.testing.assert_allclose(np.concatenate([window.values for window in windows]), expected.quality, rtol=1e-5)
    assert np.ptp(expected.quality) > 0.1


def test_equal_prompts_of_a_window_are_computed_once(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    real = BatchEncoder.encode

    def counting(self, token_ids, *, taps):
        counted.append(len(token_ids))
        return real(self, token_ids, taps=taps)

    monkeypatch.setattr(BatchEncoder, "encode", counting)
    done = []
    prompts = ["What is 1 plus 1?", "What is 2 plus 2?"] * 5
    (window,) = estimate_stream(random_predictor(tiny_encoder), prompts, progress=done.append)
    assert counted == [2]
    assert sum(done) == 10
    np.testing.assert_array_equal(window.values[0::2], np.tile(window.values[0], (5, 1)))


@pytest.mark.parametrize("side", ["left", "right"])
def test_cut_prompts_are_reported_and_keep_the_right_end(tiny_encoder: Path, side: str) -> None:
    predictor = random_predictor(tiny_encoder, FeatureConfig(layers=(1,), max_tokens=4, truncation_side=side))
    numbers = " ".join(map(str, range(40)))
    same_start, same_end = numbers + " apples", "pears " + numbers
    (window,) = estimate_stream(predictor, [numbers, same_start, same_end, "2"])
    assert list(window.cut) == [True, True, True, False]
    start_alike, end_alike = (np.array_equal(window.values[0], window.values[row]) for row in (1, 2))
    assert (start_alike, end_alike) == ((False, True) if side == "left" else (True, False))


@pytest.mark.slow
def test_devices_share_the_work_and_agree(tiny_encoder: Path) -> None:
    """In a process that has four, since devices are counted once."""
    program = f"""
import numpy as np, jax
from pathlib import Path
from jaxroute import ScoringConfig, estimate_stream
from tests.batch.scored import random_predictor
assert jax.local_device_count() == 4
predictor = random_predictor(Path({str(tiny_encoder)!r}))
prompts = [f"{{'word ' * (number % 17)}}{{number}}" for number in range(70)]
one, four = (
    next(estimate_stream(predictor, prompts, config=ScoringConfig(tokens_per_batch=128, devices=devices))).values
    for devices in (1, None)
)
np.testing.assert_allclose(four, one, rtol=1e-5)
from jaxroute.encoders.batching import BatchEncoder
print(BatchEncoder(predictor.encoder.network(1), ScoringConfig()).devices, "devices agree")
"""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=300)
    assert done.stdout == "4 devices agree\n", done.stderr


def test_bad_settings_are_named(tiny_encoder: Path) -> None:
    wrong = r"tokens_per_batch=0 must be at least 1; dispatch_threads=-1.*dtype=.int8. must be one of"
    with pytest.raises(EncoderError, match=wrong):
        ScoringConfig(tokens_per_batch=0, dispatch_threads=-1, dtype="int8")  # pyright: ignore[reportArgumentType]
    decoder = load_encoder(str(tiny_encoder)).network()
    with pytest.raises(EncoderError, match="devices=999: there are only"):
        BatchEncoder(decoder, ScoringConfig(devices=999))
    predictor = random_predictor(tiny_encoder)
    with pytest.raises(PromptError, match="at position 1"):
        next(estimate_stream(predictor, ["fine", " "]))
    with pytest.raises(ValueError, match="window=0"):
        next(estimate_stream(predictor, ["fine"], window=0))
