"""The decoder computes what torch transformers computes, whatever stands beside a prompt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from jaxroute.encoders import Decoder, DecoderConfig, load_encoder
from jaxroute.encoders.weights.huggingface import load_network

PROMPTS = [
    "What is the capital of France?",
    "Compute 1234 * 5678 and explain every step, please. " * 3,
    "def add(a, b):\n    return a + b",
    "Ünïcode → 日本語",
]


def torch_states(folder: Path, token_ids: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Per prompt the hidden states after the embedding and every layer, by torch in float32."""
    torch = pytest.importorskip("torch", reason="torch, the reference, is not installed")
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return [
            [
                state[0].numpy()
                for state in model(torch.tensor(ids[None].astype(np.int64)), output_hidden_states=True).hidden_states
            ]
            for ids in token_ids
        ]


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def pooled(decoder: Decoder, token_ids: list[np.ndarray], taps: tuple[tuple[int, str], ...], length: int) -> np.ndarray:
    """All prompts in one batch, padded on the right to `length` with a token that is not zero."""
    tokens = np.full((len(token_ids), length), 7, np.int32)
    for row, ids in enumerate(token_ids):
        tokens[row, : len(ids)] = ids
    return np.asarray(decoder(tokens, np.array([len(ids) for ids in token_ids]), taps=taps))


@pytest.mark.parametrize("name", ["tiny", "smollm2"])
def test_every_layer_agrees_with_torch(name: str, tiny_encoder: Path) -> None:
    encoder = load_encoder(str(tiny_encoder) if name == "tiny" else "smollm2")
    token_ids, _ = encoder.tokenize(PROMPTS)
    layers = range(1, encoder.config.layers + 1)
    taps = tuple((layer, pooling) for layer in layers for pooling in ("mean", "last"))
    found = pooled(encoder.network(), token_ids, taps, length=64)
    for row, states in enumerate(torch_states(encoder.folder, token_ids)):
        for column, (layer, pooling) in enumerate(taps):
            expected = states[layer].mean(axis=0) if pooling == "mean" else states[layer][-1]
            assert relative_error(found[row, column], expected) < 1e-5, (PROMPTS[row], layer, pooling)


def test_padding_and_batch_mates_change_nothing_beyond_rounding(tiny_encoder: Path) -> None:
    encoder = load_encoder(str(tiny_encoder))
    token_ids, _ = encoder.tokenize(PROMPTS[:3])
    taps = ((1, "mean"), (2, "mean"), (2, "last"))
    together = pooled(encoder.network(), token_ids, taps, length=64)
    for row, ids in enumerate(token_ids):
        alone = pooled(encoder.network(), [ids], taps, length=len(ids))[0]
        assert relative_error(together[row], alone) < 1e-5


def test_attention_in_chunks_is_attention(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = load_network(tiny_encoder)
    ids = [np.random.default_rng(length).integers(0, 600, length).astype(np.int32) for length in (600, 300)]
    taps = ((1, "mean"), (2, "last"))
    in_chunks = pooled(decoder, ids, taps, length=600)
    monkeypatch.setattr("jaxroute.encoders.networks.attention.CHUNK", 600)
    whole = pooled(decoder, ids, taps, length=600)
    assert relative_error(in_chunks, whole) < 1e-5


def test_a_tap_does_not_depend_on_which_others_are_asked_for(tiny_encoder: Path) -> None:
    encoder = load_encoder(str(tiny_encoder))
    token_ids, _ = encoder.tokenize(PROMPTS[:2])
    first = pooled(encoder.network(), token_ids, ((1, "last"),), length=64)
    both = pooled(encoder.network(), token_ids, ((2, "mean"), (1, "last")), length=64)
    np.testing.assert_allclose(both[:, 1], first[:, 0], rtol=1e-5, atol=1e-6)


def test_a_layer_in_the_middle_is_read_before_the_final_norm(tiny_encoder: Path) -> None:
    """Layer 1 of 2 stays as it is when the final norm's weights change; layer 2 does not."""
    decoder = load_network(tiny_encoder)
    ids = [np.arange(5, dtype=np.int32)]
    before = pooled(decoder, ids, ((1, "last"), (2, "last")), length=8)
    decoder.norm.set_value(decoder.norm[...] * 2)
    after = pooled(decoder, ids, ((1, "last"), (2, "last")), length=8)
    np.testing.assert_array_equal(before[:, 0], after[:, 0])
    np.testing.assert_allclose(2 * before[:, 1], after[:, 1], rtol=1e-5)


def test_sizes_that_cannot_work_are_refused() -> None:
    sizes = dict(vocabulary_size=8, hidden_size=8, intermediate_size=8, layers=1, norm_epsilon=1e-5)
    with pytest.raises(ValueError, match="heads=3 is not a multiple of key_value_heads=2"):
        DecoderConfig(**sizes, heads=3, key_value_heads=2, head_size=4, context_length=16)
    with pytest.raises(ValueError, match="head_size=3 is odd"):
        DecoderConfig(**sizes, heads=2, key_value_heads=2, head_size=3, context_length=16)


def test_the_abstract_build_allocates_nothing() -> None:
    """Shapes of a 7B decoder come without 28 GB of weights."""
    config = DecoderConfig(
        vocabulary_size=32000,
        hidden_size=4096,
        intermediate_size=14336,
        layers=32,
        heads=32,
        key_value_heads=8,
        head_size=128,
        norm_epsilon=1e-5,
        context_length=4096,
    )
    abstract = nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0)))
    count = sum(int(np.prod(leaf.get_value().shape)) for _, leaf in nnx.to_flat_state(nnx.state(abstract)))
    assert 7.1e9 < count < 7.2e9
