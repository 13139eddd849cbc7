"""Weights and configurations: read whole, from both formats, or refused with everything that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from safetensors.numpy import save_file

from jaxroute import EncoderError, PromptError
from jaxroute.encoders import load_encoder
from jaxroute.encoders.configuration import read_config
from jaxroute.encoders.gguf import LAYER_NAMES
from jaxroute.encoders.huggingface import LAYER_WEIGHTS, load_decoder


def write_folder(folder: Path, config: dict, weights: dict[str, np.ndarray], **changes: object) -> Path:
    folder.mkdir(exist_ok=True)
    stated = config | {"model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 1e4} | changes
    (folder / "config.json").write_text(json.dumps(stated))
    save_file(weights, folder / "model.safetensors")
    return folder


def states(folder: Path) -> np.ndarray:
    tokens = np.arange(12, dtype=np.int32).reshape(2, 6)
    return np.asarray(load_decoder(folder)(tokens, np.array([6, 4]), taps=((1, "mean"), (2, "last"))))


def test_shards_give_what_one_file_gives(tmp_path: Path, tiny_parts) -> None:
    config, weights = tiny_parts
    whole = write_folder(tmp_path / "whole", config, weights)
    sharded = write_folder(tmp_path / "sharded", config, weights)
    (sharded / "model.safetensors").unlink()
    names = sorted(weights)
    index = {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = f"model-{number}.safetensors"
        save_file({name: weights[name] for name in part}, sharded / file)
        index |= dict.fromkeys(part, file)
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    np.testing.assert_array_equal(states(whole), states(sharded))
    (sharded / "model-1.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"shards that are not there: model-1\.safetensors"):
        load_decoder(sharded)


def test_half_precision_weights_and_an_unused_output_layer_are_read(tmp_path: Path, tiny_parts) -> None:
    config, weights = tiny_parts
    half = {name: value.astype(np.float16) for name, value in weights.items()}
    rounded = write_folder(tmp_path / "rounded", config, {name: value.astype(np.float32) for name, value in half.items()})
    stored = write_folder(tmp_path / "half", config, half | {"lm_head.weight": half["model.embed_tokens.weight"]})
    np.testing.assert_array_equal(states(rounded), states(stored))


def test_the_new_and_the_old_way_to_state_rotary_positions_agree(tmp_path: Path, tiny_parts) -> None:
    config, weights = tiny_parts
    old = write_folder(tmp_path / "old", config, weights, rope_theta=5e4)
    new = write_folder(tmp_path / "new", config, weights, rope_parameters={"rope_theta": 5e4, "rope_type": "default"})
    assert read_config(old) == read_config(new)
    assert read_config(old).rope.theta == 5e4


def test_all_wrong_weights_stand_in_one_message(tmp_path: Path, tiny_parts) -> None:
    config, weights = tiny_parts
    del weights["model.layers.1.mlp.up_proj.weight"]
    weights["model.layers.0.extra.weight"] = np.zeros(3, np.float32)
    weights["model.norm.weight"] = np.zeros(7, np.float32)
    with pytest.raises(EncoderError) as caught:
        load_decoder(write_folder(tmp_path / "wrong", config, weights))
    for part in ("missing weight 'model.layers.1.mlp.up_proj.weight'", "unknown weight 'model.layers.0.extra.weight'", "(7,)"):
        assert part in str(caught.value)


def test_a_cut_off_weight_file_is_refused(tmp_path: Path, tiny_parts) -> None:
    folder = write_folder(tmp_path / "cut", *tiny_parts)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(EncoderError, match="not a whole safetensors file"):
        load_decoder(folder)


def test_arithmetic_that_is_not_computed_here_is_refused_by_name(tmp_path: Path, tiny_parts) -> None:
    folder = write_folder(
        tmp_path / "foreign",
        *tiny_parts,
        hidden_act="gelu",
        mlp_bias=True,
        rope_scaling={"rope_type": "dynamic", "factor": 8.0},
    )
    with pytest.raises(EncoderError) as caught:
        read_config(folder)
    for part in ("hidden_act='gelu'", "mlp_bias=True", "rope type 'dynamic'"):
        assert part in str(caught.value)


def test_a_gguf_file_gives_what_its_hugging_face_folder_gives(tmp_path: Path, fresh_cache: Path, tiny_parts) -> None:
    """llama.cpp stores the rows of q and k in another order; reading must undo it."""
    config, weights = tiny_parts
    folder = write_folder(tmp_path / "folder", config, weights)
    path = write_gguf(tmp_path / "tiny.gguf", config, weights)
    encoder = load_encoder(str(path))
    assert encoder.config == read_config(folder)
    np.testing.assert_array_equal(states(encoder.folder), states(folder))
    assert encoder.folder.is_relative_to(fresh_cache)
    assert not list(fresh_cache.rglob(".partial-*"))


def test_a_gguf_of_another_architecture_or_a_broken_one_is_refused(tmp_path: Path, fresh_cache: Path, tiny_parts) -> None:
    path = write_gguf(tmp_path / "foreign.gguf", *tiny_parts, architecture="gemma")
    with pytest.raises(EncoderError, match="'gemma'; only 'llama' is supported"):
        load_encoder(str(path))
    (tmp_path / "broken.gguf").write_bytes(b"not GGUF at all, but long enough to be looked at")
    with pytest.raises(EncoderError, match="cannot be read as GGUF"):
        load_encoder(str(tmp_path / "broken.gguf"))


def test_the_packaged_tokenizer_splits_digits_and_loses_nothing() -> None:
    tokenizer = load_encoder("smollm2").tokenizer
    text = "Über 2024 prompts:\n\tA) naïve  B) 日本"
    encoded = tokenizer.encode(text)
    assert [token for token in encoded.tokens if token.isdigit()] == ["2", "0", "2", "4"]
    assert tokenizer.decode(encoded.ids) == text
    assert tokenizer.encode("<|im_start|>").ids == [1]


def test_a_prompt_longer_than_the_context_is_cut_and_counted(tiny_encoder: Path) -> None:
    encoder = load_encoder(str(tiny_encoder))
    long = " ".join(str(number) for number in range(500))
    whole = encoder.tokenizer.encode(long).ids
    for side, kept in (("left", whole[-64:]), ("right", whole[:64])):
        token_ids, cut = encoder.tokenize(["short", long], truncation_side=side)
        assert cut == [1]
        assert token_ids[1].tolist() == kept


def test_no_prompts_and_empty_prompts_are_refused_with_their_positions(tiny_encoder: Path) -> None:
    encoder = load_encoder(str(tiny_encoder))
    with pytest.raises(PromptError, match="prompts is empty"):
        encoder.tokenize([])
    with pytest.raises(PromptError, match="2 of 3 prompts are empty or not text, at position 0, 2"):
        encoder.tokenize(["", "fine", " \n"])


def test_an_encoder_that_is_not_there_says_what_would_be(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"give 'smollm2', the path of a \.gguf file, or a Hugging Face folder"):
        load_encoder(str(tmp_path / "nowhere"))


def test_the_identity_follows_the_content(tmp_path: Path, tiny_parts) -> None:
    config, weights = tiny_parts
    one = load_encoder(str(write_folder(tmp_path / "one", config, weights)))
    same = load_encoder(str(write_folder(tmp_path / "same", config, weights)))
    weights["model.norm.weight"] = weights["model.norm.weight"] + 1e-3
    other = load_encoder(str(write_folder(tmp_path / "other", config, weights)))
    assert one.identity == same.identity != other.identity


def write_gguf(path: Path, config: dict, weights: dict[str, np.ndarray], architecture: str = "llama") -> Path:
    """The weights as llama.cpp would store them, in float32, with a byte-level vocabulary."""
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(1e4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    tokens = ["t", "o", "to", *(f"token{number}" for number in range(3, config["vocab_size"]))]
    writer.add_token_list(tokens)
    writer.add_token_types([1] * config["vocab_size"])
    writer.add_token_merges(["t o"])
    stored_names = {stored: LAYER_NAMES[name] for name, (stored, _) in LAYER_WEIGHTS.items()}
    for name, value in weights.items():
        if name == "model.embed_tokens.weight":
            writer.add_tensor("token_embd.weight", value)
        elif name == "model.norm.weight":
            writer.add_tensor("output_norm.weight", value)
        else:
            _, _, layer, rest = name.split(".", 3)
            heads = {"self_attn.q_proj.weight": "num_attention_heads", "self_attn.k_proj.weight": "num_key_value_heads"}
            if rest in heads:
                count = config[heads[rest]]
                rows, columns = value.shape
                value = value.reshape(count, 2, rows // count // 2, columns).swapaxes(1, 2).reshape(rows, columns)
            writer.add_tensor(f"blk.{layer}.{stored_names[rest]}.weight", np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
