"""GGUF files: converted once to what their Hugging Face folders hold, or refused with everything that is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from safetensors.numpy import load_file

from jaxroute import EncoderError
from jaxroute.encoders import load_encoder
from jaxroute.encoders.networks.configuration import read_config
from jaxroute.encoders.networks.rotary import Rope, frequencies
from jaxroute.encoders.weights.gguf import LAYER_NAMES, WHOLE
from jaxroute.encoders.weights.weight_names import DECODER
from tests.encoders.folders import states, write_folder


@pytest.mark.parametrize("family", ["llama", "llama with biases", "qwen2", "qwen3"])
def test_a_gguf_file_gives_what_its_hugging_face_folder_gives(
    family: str, tmp_path: Path, fresh_cache: Path, tiny_parts
) -> None:
    """llama.cpp stores the rows of q and k in another order, for llama only; reading must undo it."""
    config, weights = tiny_parts
    weights = weights | extra_weights(family, config)
    biased, family = "biases" in family, family.split()[0]
    folder = write_folder(tmp_path / "folder", config, weights, model_type=family, attention_bias=biased)
    path = write_gguf(tmp_path / "tiny.gguf", config, weights, architecture=family)
    encoder = load_encoder(str(path))
    assert encoder.config == read_config(folder)
    np.testing.assert_array_equal(states(encoder.folder), states(folder))
    assert encoder.folder.is_relative_to(fresh_cache)
    assert not list(fresh_cache.rglob(".partial-*"))


def test_llama_3s_stretched_positions_are_recognised_in_a_gguf(tmp_path: Path, fresh_cache: Path, tiny_parts) -> None:
    config, weights = tiny_parts
    rope = Rope(1e4, "llama3", 32.0, 8192)
    divisors = (frequencies(Rope(1e4), config["head_dim"]) / frequencies(rope, config["head_dim"])).astype(np.float32)
    path = write_gguf(tmp_path / "stretched.gguf", config, weights, extra={"rope_freqs.weight": divisors})
    assert load_encoder(str(path)).config.rope == rope
    path = write_gguf(tmp_path / "other.gguf", config, weights, extra={"rope_freqs.weight": divisors + 0.5})
    with pytest.raises(
        EncoderError, match=r"rope_freqs\.weight divides the rotary frequencies by other numbers than Llama 3's"
    ):
        load_encoder(str(path))


def test_a_gguf_that_computes_something_else_is_refused_by_name(tmp_path: Path, fresh_cache: Path, tiny_parts) -> None:
    path = write_gguf(tmp_path / "foreign.gguf", *tiny_parts, architecture="gemma")
    with pytest.raises(EncoderError, match="'gemma'; only 'llama', 'qwen2', 'qwen3' are supported"):
        load_encoder(str(path))
    (tmp_path / "broken.gguf").write_bytes(b"not GGUF at all, but long enough to be looked at")
    with pytest.raises(EncoderError, match="cannot be read as GGUF"):
        load_encoder(str(tmp_path / "broken.gguf"))
    experts = {"blk.0.ffn_gate_exps.weight": np.zeros((2, 3), np.float32)}
    with pytest.raises(EncoderError, match=r"unknown weight 'blk\.0\.ffn_gate_exps\.weight'"):
        load_encoder(str(write_gguf(tmp_path / "experts.gguf", *tiny_parts, extra=experts)))
    with pytest.raises(
        EncoderError, match="'gpt2' with pre-tokenizer 'falcon'; only 'llama', and 'gpt2' with 'gpt-2', 'smollm'"
    ):
        load_encoder(str(write_gguf(tmp_path / "words.gguf", *tiny_parts, words="falcon")))
    assert not list((fresh_cache / "encoders").glob("*"))


def test_a_bias_that_is_not_there_is_zero(tmp_path: Path, fresh_cache: Path, tiny_parts) -> None:
    config, weights = tiny_parts
    biases = extra_weights("llama with biases", config)
    path = write_gguf(tmp_path / "some.gguf", config, weights | {n: v for n, v in biases.items() if "o_proj" not in n})
    zeroed = weights | {name: value * ("o_proj" not in name) for name, value in biases.items()}
    folder = write_folder(tmp_path / "zeroed", config, zeroed, attention_bias=True)
    np.testing.assert_array_equal(states(load_encoder(str(path)).folder), states(folder))


def test_a_window_makes_a_llama_file_a_mistral(tmp_path: Path, fresh_cache: Path, tiny_parts) -> None:
    """Both are called llama there; a window as wide as the context hides nothing."""
    narrow = write_gguf(tmp_path / "narrow.gguf", *tiny_parts, stated={"attention.sliding_window": 3})
    folder = write_folder(tmp_path / "folder", *tiny_parts, model_type="mistral", sliding_window=3)
    encoder = load_encoder(str(narrow))
    assert encoder.config == read_config(folder) and encoder.config.windows == (3, 3)
    np.testing.assert_array_equal(states(encoder.folder), states(folder))
    wide = write_gguf(tmp_path / "wide.gguf", *tiny_parts, stated={"attention.sliding_window": 64})
    assert load_encoder(str(wide)).config.windows == ()
    config, weights = tiny_parts
    qwen = write_gguf(
        tmp_path / "qwen.gguf",
        config,
        weights | extra_weights("qwen2", config),
        architecture="qwen2",
        stated={"attention.sliding_window": 3},
    )
    with pytest.raises(EncoderError, match=r"qwen2\.attention\.sliding_window=3 does not say in which layers"):
        load_encoder(str(qwen))


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, Rope(1e4)),
        ({"rope.scaling.factor": 4.0}, Rope(1e4, "linear", 4.0)),
        ({"rope.scale_linear": 2.0}, Rope(1e4, "linear", 2.0)),
        ({"rope.scaling.type": "linear"}, Rope(1e4)),
        (
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 16},
            Rope(1e4, "yarn", 4.0, 16, attention_factor=0.1 * np.log(4.0) + 1),
        ),
        (
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.yarn_beta_fast": 16.0},
            Rope(1e4, "yarn", 4.0, 64, beta_fast=16.0, attention_factor=0.1 * np.log(4.0) + 1),
        ),
    ],
)
def test_stretched_positions_mean_what_llama_cpp_makes_of_them(
    stated: dict, expected: Rope, tmp_path: Path, fresh_cache: Path, tiny_parts
) -> None:
    """A factor without a type is linear there."""
    assert load_encoder(str(write_gguf(tmp_path / "rope.gguf", *tiny_parts, stated=stated))).config.rope == expected


def test_everything_unknown_or_missing_stands_in_one_message(tmp_path: Path, fresh_cache: Path, tiny_parts) -> None:
    stated = {"expert_count": 8, "attention.scale": 0.5, "rope.scaling.attn_factor": 2.0, "feed_forward_length": "80"}
    path = write_gguf(tmp_path / "foreign.gguf", *tiny_parts, stated=stated, left_out=("context_length", "block_count"))
    with pytest.raises(EncoderError) as caught:
        load_encoder(str(path))
    for part in (
        "llama.expert_count=8 is not supported (only 0)",
        "llama.attention.scale=0.5 is not known",
        "llama.rope.scaling.attn_factor=2.0 is not supported",
        "llama.context_length is missing",
        "llama.block_count is missing",
        "llama.feed_forward_length='80' must be a number",
    ):
        assert part in str(caught.value)


def test_weights_that_do_not_fit_are_named_before_anything_is_converted(tmp_path: Path, fresh_cache: Path, tiny_parts) -> None:
    config, weights = tiny_parts
    weights["model.layers.1.mlp.up_proj.weight"] = np.zeros((3, 48), np.float32)
    del weights["model.layers.0.self_attn.v_proj.weight"]
    with pytest.raises(EncoderError) as caught:
        load_encoder(str(write_gguf(tmp_path / "wrong.gguf", config, weights)))
    for part in ("missing weight 'blk.0.attn_v.weight'", "'blk.1.ffn_up.weight' has shape (3, 48), its sizes say (80, 48)"):
        assert part in str(caught.value)
    assert not list(fresh_cache.rglob("*.safetensors"))


def test_a_big_file_is_converted_to_shards(
    tmp_path: Path, fresh_cache: Path, tiny_parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, weights = tiny_parts
    monkeypatch.setattr("jaxroute.encoders.weights.gguf.SHARD_BYTES", 60_000)
    encoder = load_encoder(str(write_gguf(tmp_path / "big.gguf", config, weights)))
    shards = sorted(encoder.folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    whole = {name: value for shard in shards for name, value in load_file(shard).items()}
    assert whole.keys() == weights.keys()
    np.testing.assert_array_equal(states(encoder.folder), states(write_folder(tmp_path / "folder", config, weights)))


def test_a_spoiled_file_is_refused_or_read_but_never_crashes(tmp_path: Path, fresh_cache: Path, tiny_parts) -> None:
    """Cut off anywhere, or with a few bytes changed in its header."""
    content = write_gguf(tmp_path / "whole.gguf", *tiny_parts).read_bytes()
    generator = np.random.default_rng(0)
    spoiled = [content[: int(at)] for at in generator.integers(0, len(content), 12)]
    for _ in range(40):
        changed = bytearray(content)
        for at in generator.integers(0, 1200, 2):
            changed[at] = generator.integers(0, 256)
        spoiled.append(bytes(changed))
    refused = 0
    for number, one in enumerate(spoiled):
        path = tmp_path / f"{number}.gguf"
        path.write_bytes(one)
        try:
            load_encoder(str(path))
        except EncoderError as error:
            refused += 1
            assert path.name in str(error)
    assert refused >= 30
    assert not list(fresh_cache.rglob(".partial-*"))


def extra_weights(family: str, config: dict) -> dict[str, np.ndarray]:
    """What a family has beside the tiny Llama's weights."""
    generator = np.random.default_rng(5)
    sizes = {"q": config["num_attention_heads"], "k": config["num_key_value_heads"], "v": config["num_key_value_heads"]}
    names: dict[str, int] = {}
    if family in ("qwen2", "llama with biases"):
        names = {f"{letter}_proj.bias": count * config["head_dim"] for letter, count in sizes.items()}
    if family == "llama with biases":
        names["o_proj.bias"] = config["hidden_size"]
    if family == "qwen3":
        names = {"q_norm.weight": config["head_dim"], "k_norm.weight": config["head_dim"]}
    return {
        f"model.layers.{layer}.self_attn.{name}": generator.normal(0.5, 0.3, size).astype(np.float32)
        for layer in range(config["num_hidden_layers"])
        for name, size in names.items()
    }


def write_gguf(
    path: Path,
    config: dict,
    weights: dict[str, np.ndarray],
    *,
    architecture: str = "llama",
    words: str = "smollm",
    stated: dict[str, int | float | str] | None = None,
    extra: dict[str, np.ndarray] | None = None,
    left_out: tuple[str, ...] = (),
) -> Path:
    """The weights as llama.cpp would store them, in float32, with a byte-level vocabulary."""
    writer = GGUFWriter(path, architecture)
    facts: dict[str, int | float | str] = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": config["head_dim"],
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 1e4,
        **(stated or {}),
    }
    adders = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for name, fact in facts.items():
        if name not in left_out:
            adders[type(fact)](f"{architecture}.{name}", fact)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words)
    tokens = ["t", "o", "to", *(f"token{number}" for number in range(3, config["vocab_size"]))]
    writer.add_token_list(tokens)
    writer.add_token_types([1] * config["vocab_size"])
    writer.add_token_merges(["t o"])
    stored_names = {stored: LAYER_NAMES[name] for name, (stored, _) in DECODER.layers.items()}
    heads = {"self_attn.q_proj.weight": "num_attention_heads", "self_attn.k_proj.weight": "num_key_value_heads"}
    for name, value in weights.items():
        if whole := [stored for stored, there in WHOLE.values() if name == f"model.{there}"]:
            writer.add_tensor(whole[0], value)
            continue
        _, _, layer, rest = name.split(".", 3)
        kind = rest.replace("bias", "weight")
        if kind in heads and architecture == "llama":
            count = config[heads[kind]]
            value = value.reshape(count, 2, len(value) // count // 2, -1).swapaxes(1, 2).reshape(value.shape)
        writer.add_tensor(f"blk.{layer}.{stored_names[rest]}", np.ascontiguousarray(value))
    for name, value in (extra or {}).items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
