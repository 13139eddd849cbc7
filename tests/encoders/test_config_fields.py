"""Every field of config.json that changes the arithmetic is computed as torch transformers does, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxroute import EncoderError
from jaxroute.encoders.networks.configuration import read_config
from jaxroute.encoders.weights.huggingface import load_network

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
DECODER = SIZES | {"num_key_value_heads": 2, "rms_norm_eps": 1e-5, "hidden_act": "silu"}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": DECODER,
    "mistral": DECODER | {"head_dim": 8, "sliding_window": 9},
    "qwen2": DECODER | {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
    "qwen3": DECODER | {"head_dim": 8, "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
    "bert": SIZES,
}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}

# name of a flip -> the fields that it changes; the first of them is the one that it is about.
Flips = dict[str, dict[str, Any]]
SHAPES: Flips = {
    "sizes": {
        "vocab_size": 60,
        "hidden_size": 48,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "max_position_embeddings": 100,
    },
}
DECODERS: Flips = SHAPES | {
    "num_key_value_heads": {"num_key_value_heads": 4},
    "head_dim": {"head_dim": 12},
    "rms_norm_eps": {"rms_norm_eps": 0.3},
    "rope_theta": {"rope_theta": 50.0},
    "rope_parameters": {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}},
    "linear": {"rope_parameters": {"rope_type": "linear", "factor": 4.0}},
    "rope_scaling": {"rope_scaling": {"type": "llama3", **LLAMA3}},
    "yarn": {"rope_parameters": YARN},
    "beta_fast": {"rope_parameters": YARN | {"beta_fast": 8.0}},
    "beta_slow": {"rope_parameters": YARN | {"beta_slow": 2.0}},
    "truncate": {"rope_parameters": YARN | {"truncate": False}},
    "attention_factor": {"rope_parameters": YARN | {"attention_factor": 1.7}},
    "mscale": {"rope_parameters": YARN | {"mscale": 2.0, "mscale_all_dim": 0.5}},
    "original_max_position_embeddings": {"original_max_position_embeddings": 32, "rope_parameters": YARN},
}
# Transformers refuses null for a Mistral.
NO_COUNT: Flips = {"as many key-value heads as heads": {"num_key_value_heads": None}}
WINDOWS: Flips = {
    "sliding_window": {"sliding_window": 4},
    "no window": {"sliding_window": None},
    "layer_types": {"layer_types": ["full_attention"] * 3},
    "some layers with a window": {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
}
UPPER_WINDOWS: Flips = WINDOWS | {
    "use_sliding_window": {"use_sliding_window": False},
    "max_window_layers": {"max_window_layers": 2},
    "window in no layer": {"max_window_layers": 7},
}
HONOURED: dict[str, Flips] = {
    "llama": DECODERS | NO_COUNT | {"attention_bias": {"attention_bias": True}},
    "mistral": DECODERS | WINDOWS,
    "qwen2": DECODERS | NO_COUNT | UPPER_WINDOWS,
    "qwen3": DECODERS | NO_COUNT | UPPER_WINDOWS | {"attention_bias": {"attention_bias": True}},
    "bert": SHAPES
    | {
        "hidden_act": {"hidden_act": "relu"},
        "layer_norm_eps": {"layer_norm_eps": 0.3},
        "type_vocab_size": {"type_vocab_size": 5},
    },
}
EVERYWHERE: Flips = {
    "per_layer_config": {"per_layer_config": {"0": {"intermediate_size": 16}}},
    "quantization_config": {"quantization_config": {"bits": 4}},
}
NOT_DECODERS: Flips = EVERYWHERE | {
    "hidden_act": {"hidden_act": "gelu"},
    "is_causal": {"is_causal": False},
    "partial_rotary_factor": {"partial_rotary_factor": 0.5},
    "partial_rotary_factor of the rotary positions": {"rope_parameters": {"partial_rotary_factor": 0.5}},
    "dynamic": {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
    "longrope": {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}},
    "positions per kind of layer": {"rope_parameters": {"full_attention": {"rope_theta": 50.0}}},
    "too few layer_types": {"layer_types": ["full_attention"]},
    "unknown layer_types": {"layer_types": ["linear_attention"] * 3},
}
NO_WINDOW: Flips = {"layer_types without a window": {"layer_types": ["sliding_attention"] * 3, "sliding_window": None}}
UNUSED: Flips = {
    "layer_types with a window not in use": {"layer_types": ["sliding_attention"] * 3, "use_sliding_window": False}
}
REFUSED: dict[str, Flips] = {
    "llama": NOT_DECODERS
    | NO_WINDOW
    | {
        "mlp_bias": {"mlp_bias": True},
        "pretraining_tp": {"pretraining_tp": 2},
        "a window that Llama does not compute": {"layer_types": ["sliding_attention"] * 3, "sliding_window": 9},
    },
    "mistral": NOT_DECODERS | NO_WINDOW,
    "qwen2": NOT_DECODERS | NO_WINDOW | UNUSED,
    "qwen3": NOT_DECODERS | NO_WINDOW | UNUSED,
    "bert": EVERYWHERE
    | {
        "hidden_act": {"hidden_act": "silu"},
        "position_embedding_type": {"position_embedding_type": "relative_key"},
        "is_decoder": {"is_decoder": True},
        "add_cross_attention": {"add_cross_attention": True},
    },
}
# Of training, of the language-model head and of generation: no hidden state of a prompt depends on them.
NEUTRAL: dict[str, Any] = {
    "initializer_range": 0.5,
    "use_cache": False,
    "pad_token_id": 3,
    "bos_token_id": 4,
    "eos_token_id": 5,
    "tie_word_embeddings": True,
    "attention_dropout": 0.4,
    "hidden_dropout_prob": 0.4,
    "attention_probs_dropout_prob": 0.4,
    "classifier_dropout": 0.4,
}
OTHER_WEIGHTS = (*SHAPES, *NO_COUNT, "num_key_value_heads", "head_dim", "attention_bias", "type_vocab_size")
TOKENS = np.random.default_rng(0).integers(0, 50, (2, 40)).astype(np.int32)


def of_every_family(table: dict[str, Flips]) -> list:
    return [pytest.param(family, flip, id=f"{family}, {flip}") for family, flips in table.items() for flip in flips]


def write_config(folder: Path, family: str, changes: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps({"model_type": family} | FAMILIES[family] | changes))
    return folder


def reference(folder: Path) -> np.ndarray:
    """Fill `folder` with random weights for its config.json; every layer's states of TOKENS by torch, (layers, batch, length,
    hidden)."""
    torch = pytest.importorskip("torch", reason="torch, the reference, is not installed")
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    model: Any = AutoModel.from_config(AutoConfig.from_pretrained(folder)).eval()
    for weight in model.parameters():
        if weight.ndim == 1:
            torch.nn.init.normal_(weight, 0.5, 0.3)
        else:
            torch.nn.init.normal_(weight, 0, weight.shape[1] ** -0.5)
    save_file(model.state_dict(), folder / "model.safetensors")
    with torch.inference_mode():
        states = model(torch.tensor(TOKENS.astype(np.int64)), output_hidden_states=True).hidden_states
    return np.stack([state.numpy() for state in states[1:]])


def ours(folder: Path) -> np.ndarray:
    """The mean over the tokens at every layer, (layers, batch, hidden)."""
    network = load_network(folder)
    taps = tuple((layer, "mean") for layer in range(1, network.config.layers + 1))
    with jax.disable_jit():  # Quicker than a compilation for every row of the table.
        return np.asarray(network(TOKENS, np.array([40, 40]), taps=taps)).swapaxes(0, 1)


def error(found: np.ndarray, expected: np.ndarray) -> float:
    return float((np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)).max())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """States of every family without a change."""
    states = {}
    for family in FAMILIES:
        states[family] = reference(write_config(tmp_path_factory.mktemp(family), family, {})).mean(axis=2)
    return states


@pytest.mark.slow
@pytest.mark.parametrize(("family", "flip"), of_every_family(HONOURED))
def test_a_field_is_computed_as_torch_does(family: str, flip: str, tmp_path: Path, plain: dict[str, np.ndarray]) -> None:
    folder = write_config(tmp_path, family, HONOURED[family][flip])
    expected = reference(folder).mean(axis=2)
    assert error(ours(folder), expected) < 1e-5
    if flip not in OTHER_WEIGHTS:
        assert error(expected, plain[family]) > 1e-4, "the flip changes nothing, so the test could not fail"


@pytest.mark.parametrize(("family", "flip"), of_every_family(REFUSED))
def test_a_field_is_refused_by_name(family: str, flip: str, tmp_path: Path) -> None:
    changes = REFUSED[family][flip]
    with pytest.raises(EncoderError) as caught:
        read_config(write_config(tmp_path, family, changes))
    field = next(iter(changes))
    assert (field if not field.startswith("rope_") else "rope") in str(caught.value) or "rotary" in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_fields_without_arithmetic_change_nothing(family: str, tmp_path: Path, plain: dict[str, np.ndarray]) -> None:
    folder = write_config(tmp_path, family, NEUTRAL)
    assert error(reference(folder).mean(axis=2), plain[family]) < 1e-6
    assert error(ours(folder), plain[family]) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tables_hold_every_field_that_transformers_knows(family: str) -> None:
    from transformers import AutoConfig

    known = set(type(AutoConfig.for_model(family)).__annotations__) - {"model_type"}
    flipped = {field for flips in (HONOURED[family], REFUSED[family]) for changes in flips.values() for field in changes}
    assert known - flipped - set(NEUTRAL) == set()


def test_layer_types_of_a_mistral_decide_which_layers_have_windows(tmp_path: Path) -> None:
    """A published kind of file that once was computed with windows everywhere."""
    config = read_config(
        write_config(tmp_path, "mistral", {"layer_types": ["full_attention", "sliding_attention", "full_attention"]})
    )
    assert config.windows == (None, 9, None)
    assert read_config(write_config(tmp_path, "mistral", {"layer_types": ["full_attention"] * 3})).windows == ()
    assert read_config(write_config(tmp_path, "mistral", {"layer_types": None})).windows == (9, 9, 9)
