"""Fine-tuning goes through all queries, in batches of like length, the same way every time; fillers count for nothing."""

from __future__ import annotations

from itertools import islice, pairwise
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxroute.encoders import load_encoder
from jaxroute.routers.learning.classifier import TOGETHER, FineTuning, batches_of_like_length, class_logits, fine_tune

PROMPTS = [f"What is {number} plus {number}?" + " Tell me why." * (number % 2) for number in range(11)]
LABEL = np.eye(3, dtype=np.float32)[np.arange(11) % 3]


def settings(steps: int) -> FineTuning:
    return FineTuning(steps=steps, batch_size=4, learning_rate=1e-2, weight_decay=0.0, max_tokens=64, pooling="mean", seed=0)


def squared(logits, label, weight):
    return jnp.sum(weight[:, None] * (logits - label) ** 2)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(1, 8), st.integers(0, 5))
def test_an_epoch_counts_every_query_once(lengths: list[int], batch_size: int, seed: int) -> None:
    batches = batches_of_like_length(np.array(lengths), batch_size, np.random.default_rng(seed))
    per_epoch = -(-len(lengths) // batch_size)
    for _ in range(2):
        epoch = list(islice(batches, per_epoch))
        counted = np.concatenate([rows[counts > 0] for rows, counts in epoch])
        assert sorted(counted) == list(range(len(lengths)))
        assert all(len(rows) == batch_size for rows, _ in epoch)
        # Sorted together, batches' lengths overlap in no more than one value.
        assert len(lengths) <= TOGETHER * batch_size
        spans = sorted((min(lengths[row] for row in rows), max(lengths[row] for row in rows)) for rows, _ in epoch)
        assert all(last <= first for (_, last), (first, _) in pairwise(spans))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(tiny_encoder: Path) -> None:
    encoder = load_encoder(str(tiny_encoder))
    runs = [fine_tune(encoder, PROMPTS, LABEL, np.ones(11, np.float32), squared, settings(5)) for _ in range(2)]
    for name, value in runs[0].items():
        np.testing.assert_array_equal(value, runs[1][name], err_msg=name)
    logits = class_logits(runs[0], encoder, PROMPTS, settings(5), rows=4)
    for row in (0, 3):
        alone = class_logits(runs[0], encoder, [PROMPTS[row]], settings(5), rows=1)
        np.testing.assert_allclose(logits[row], alone[0], atol=1e-5)


def test_queries_without_weight_teach_nothing(tiny_encoder: Path) -> None:
    encoder = load_encoder(str(tiny_encoder))
    weight = np.array([1.0] * 8 + [0.0] * 3, np.float32)
    other = np.where(weight[:, None] > 0, LABEL, 5.0).astype(np.float32)
    one, two = (fine_tune(encoder, PROMPTS, label, weight, squared, settings(3)) for label in (LABEL, other))
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name], err_msg=name)
