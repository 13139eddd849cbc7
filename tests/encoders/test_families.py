"""Every family computes what torch transformers computes, at every layer, and configurations are read or refused."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from jaxroute import EncoderError
from jaxroute.encoders.networks.configuration import COUNTS, NUMBERS, TRUTHS, read_config
from jaxroute.encoders.networks.lora import LoraConfig, merge_adapters, new_adapters, scaled
from jaxroute.encoders.networks.rotary import KINDS
from jaxroute.encoders.weights.huggingface import abstract_network, load_network, parameter_bytes

SIZES = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
ALTERNATING = ["full_attention", "sliding_attention"] * 2
VARIANTS: dict[str, tuple[str, dict]] = {
    "llama, stretched as Llama 3": ("llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, **LLAMA3}}),
    "llama, linear": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}),
    "llama, yarn": (
        "llama",
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 128}},
    ),
    "llama, biases": ("llama", {"attention_bias": True}),
    "mistral, window 16": ("mistral", {"sliding_window": 16, "head_dim": 24}),
    "mistral, no window": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen2, upper layers with a window": ("qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2}),
    "qwen3": ("qwen3", {"head_dim": 24}),
    "qwen3, some layers with a window": (
        "qwen3",
        {"head_dim": 24, "use_sliding_window": True, "sliding_window": 20, "layer_types": ALTERNATING},
    ),
}
TAPS = tuple((layer, pooling) for layer in range(1, 5) for pooling in ("mean", "last"))


def write_model(folder: Path, family: str, changes: dict) -> tuple[Path, object]:
    """A small model of `family` with random weights, norms and biases, as transformers saves it."""
    torch = pytest.importorskip("torch", reason="torch, the reference, is not installed")
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(family, **(SIZES | changes))).eval()
    for weight in model.parameters():
        if weight.ndim == 1:
            torch.nn.init.normal_(weight, 0.5, 0.3)
        else:
            torch.nn.init.normal_(weight, 0, weight.shape[1] ** -0.5)
    model.save_pretrained(folder)
    return folder, model


def torch_states(model, tokens: np.ndarray) -> np.ndarray:
    """Pooled as TAPS, (batch, taps, hidden)."""
    import torch

    with torch.inference_mode():
        states = model(torch.tensor(tokens.astype(np.int64)), output_hidden_states=True).hidden_states
    pooled = [one for layer in range(1, 5) for one in (states[layer].mean(dim=1), states[layer][:, -1])]
    return np.stack([one.numpy() for one in pooled], axis=1)


def relative_errors(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_family_agrees_with_torch(name: str, tmp_path: Path) -> None:
    """Prompts of 300 tokens: longer than every window, than the stretched context, and than attention's chunks."""
    folder, model = write_model(tmp_path, *VARIANTS[name])
    tokens = np.random.default_rng(0).integers(0, 300, (2, 300)).astype(np.int32)
    found = np.asarray(load_network(folder)(tokens, np.array([300, 300]), taps=TAPS))
    assert relative_errors(found, torch_states(model, tokens)).max() < 1e-5


def test_padding_and_batch_mates_change_nothing_within_a_window(tmp_path: Path) -> None:
    folder, _ = write_model(tmp_path, *VARIANTS["mistral, window 16"])
    decoder = load_network(folder)
    tokens = np.random.default_rng(1).integers(0, 300, (3, 64)).astype(np.int32)
    lengths = np.array([64, 30, 5])
    together = np.asarray(decoder(tokens, lengths, taps=TAPS))
    for row, length in enumerate(lengths):
        alone = np.asarray(decoder(tokens[row : row + 1, :length], lengths[row : row + 1], taps=TAPS))
        assert relative_errors(together[row], alone[0]).max() < 1e-5


def test_old_and_new_names_of_stretched_positions_mean_the_same(tmp_path: Path) -> None:
    folder, _ = write_model(tmp_path, *VARIANTS["llama, stretched as Llama 3"])
    new = read_config(folder)
    fields = json.loads((folder / "config.json").read_text())
    del fields["rope_parameters"]
    fields |= {"rope_theta": 1e4, "rope_scaling": {"type": "llama3", **LLAMA3}}
    (folder / "config.json").write_text(json.dumps(fields))
    assert read_config(folder) == new
    assert new.rope.kind == "llama3" and new.rope.original_context_length == 64


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_files_are_read_as_the_numbers_they_hold(dtype: str, tmp_path: Path) -> None:
    folder, _ = write_model(tmp_path / "whole", *VARIANTS["qwen2"])
    weights = load_file(folder / "model.safetensors")
    half = {name: np.asarray(jnp.asarray(value).astype(dtype)) for name, value in weights.items()}
    tokens = np.arange(20, dtype=np.int32)[None]
    found = []
    for name, content in (("half", half), ("rounded", {key: value.astype(np.float32) for key, value in half.items()})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text((folder / "config.json").read_text())
        save_file(content, tmp_path / name / "model.safetensors")
        found.append(np.asarray(load_network(tmp_path / name)(tokens, np.array([20]), taps=TAPS)))
    np.testing.assert_array_equal(*found)


def test_a_shallow_decoder_is_the_lower_part_of_the_whole(tmp_path: Path) -> None:
    folder, _ = write_model(tmp_path, *VARIANTS["qwen2, upper layers with a window"])
    whole, shallow = load_network(folder), load_network(folder, depth=3)
    tokens = np.random.default_rng(2).integers(0, 300, (1, 50)).astype(np.int32)
    taps = ((1, "last"), (3, "mean"))
    np.testing.assert_array_equal(
        np.asarray(shallow(tokens, np.array([50]), taps=taps)), np.asarray(whole(tokens, np.array([50]), taps=taps))
    )
    assert parameter_bytes(shallow) < parameter_bytes(whole)
    assert not hasattr(shallow, "norm")


def test_merged_adapters_compute_what_adapters_beside_the_weights_do(tmp_path: Path) -> None:
    folder, _ = write_model(tmp_path, *VARIANTS["qwen3"])
    decoder, config = load_network(folder), LoraConfig(rank=4, alpha=2.0)
    tokens, lengths = np.random.default_rng(3).integers(0, 300, (2, 24)).astype(np.int32), np.array([24, 9])
    fresh = new_adapters(config, decoder.config, jax.random.key(0))
    plain = np.asarray(decoder(tokens, lengths, taps=TAPS))
    np.testing.assert_array_equal(np.asarray(decoder(tokens, lengths, taps=TAPS, adapters=scaled(fresh, config))), plain)
    trained = jax.tree.map(lambda leaf: 0.2 * jax.random.normal(jax.random.key(1), leaf.shape), fresh)
    beside = np.asarray(decoder(tokens, lengths, taps=TAPS, adapters=scaled(trained, config)))
    merged = np.asarray(merge_adapters(decoder, trained, config)(tokens, lengths, taps=TAPS))
    assert relative_errors(beside, plain).min() > 1e-2
    assert relative_errors(merged, beside).max() < 1e-5
    np.testing.assert_array_equal(np.asarray(decoder(tokens, lengths, taps=TAPS)), plain)


def test_the_abstract_build_shows_mistrals_shapes_and_memory(tmp_path: Path) -> None:
    """Mistral-7B-v0.1 as its config.json describes it; nothing is allocated. Its file holds 14.48 GB, 0.26 of them lm_head."""
    described = {
        "model_type": "mistral",
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
        "max_position_embeddings": 32768,
    }
    (tmp_path / "config.json").write_text(json.dumps(described))
    config = read_config(tmp_path)
    assert config.windows == (4096,) * 32
    decoder = abstract_network(config, dtype=jnp.bfloat16)
    assert decoder.layers.key.get_value().shape == (32, 4096, 1024)
    assert parameter_bytes(decoder) == 2 * (7_241_732_096 - 32000 * 4096)


def write_config(folder: Path, **changes: object) -> Path:
    fields = {"model_type": "llama", "rms_norm_eps": 1e-5, **SIZES, **changes}
    (folder / "config.json").write_text(json.dumps({name: value for name, value in fields.items() if value != "absent"}))
    return folder


def test_all_that_would_change_the_arithmetic_stands_in_one_message(tmp_path: Path) -> None:
    changes: dict[str, object] = {
        "hidden_act": "gelu",
        "mlp_bias": True,
        "partial_rotary_factor": 0.5,
        "quantization_config": {"bits": 4},
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "base": 3},
    }
    with pytest.raises(EncoderError) as caught:
        read_config(write_config(tmp_path, **changes))
    for part in (*changes, "lacks low_freq_factor, high_freq_factor", "rope field base=3"):
        assert part.replace("rope_scaling", "rope") in str(caught.value)
    with pytest.raises(EncoderError) as caught:
        read_config(write_config(tmp_path, model_type="gemma3", rms_norm_eps="absent", vocab_size=None))
    for part in ("model_type='gemma3'", "rms_norm_eps is missing", "vocab_size is missing"):
        assert part in str(caught.value)


NAMES = [*COUNTS, *NUMBERS, *TRUTHS, "rope_scaling", "rope_parameters", "layer_types", "max_window_layers", "hidden_act"]
ODD = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=3), st.lists(st.integers()))
ROPES = st.dictionaries(st.sampled_from(["type", "rope_type", "rope_theta", *NUMBERS]), ODD | st.sampled_from(KINDS))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(["llama", "mistral", "qwen2", "qwen3"]),
    st.dictionaries(st.sampled_from(NAMES), ODD | ROPES, max_size=3),
)
def test_a_spoiled_configuration_is_read_or_refused_but_never_crashes(tmp_path: Path, family: str, changes: dict) -> None:
    try:
        config = read_config(write_config(tmp_path, model_type=family, **changes))
    except EncoderError as error:
        assert "config.json" in str(error)
    else:
        sizes = (
            config.layers,
            config.heads,
            config.key_value_heads,
            config.head_size,
            config.hidden_size,
            config.context_length,
        )
        assert all(isinstance(size, int) and size > 0 for size in sizes)
