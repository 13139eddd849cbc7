"""Weights and configurations: read whole, from both formats, or refused with everything that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from jaxroute import EncoderError, PromptError
from jaxroute.encoders import load_encoder
from jaxroute.encoders.configuration import read_config
from jaxroute.encoders.gguf import LAYER_NAMES, WHOLE
from jaxroute.encoders.gguf_tokenizer import WORDS
from jaxroute.encoders.huggingface import LAYER_WEIGHTS, load_decoder
from jaxroute.encoders.rotary import Rope, frequencies


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


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_gguf_file_gives_what_its_hugging_face_folder_gives(
    family: str, tmp_path: Path, fresh_cache: Path, tiny_parts
) -> None:
    """llama.cpp stores the rows of q and k in another order, for llama only; reading must undo it."""
    config, weights = tiny_parts
    weights = weights | extra_weights(family, config)
    folder = write_folder(tmp_path / "folder", config, weights, model_type=family)
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
    with pytest.raises(EncoderError, match=r"rope_freqs\.weight, whose divisors are not Llama 3's"):
        load_encoder(str(path))


def test_a_gguf_that_computes_something_else_is_refused_by_name(tmp_path: Path, fresh_cache: Path, tiny_parts) -> None:
    path = write_gguf(tmp_path / "foreign.gguf", *tiny_parts, architecture="gemma")
    with pytest.raises(EncoderError, match="'gemma'; only 'llama', 'qwen2', 'qwen3' are supported"):
        load_encoder(str(path))
    (tmp_path / "broken.gguf").write_bytes(b"not GGUF at all, but long enough to be looked at")
    with pytest.raises(EncoderError, match="cannot be read as GGUF"):
        load_encoder(str(tmp_path / "broken.gguf"))
    experts = {"blk.0.ffn_gate_exps.weight": np.zeros((2, 3), np.float32)}
    with pytest.raises(EncoderError, match=r"no place in this decoder: blk\.0\.ffn_gate_exps\.weight"):
        load_encoder(str(write_gguf(tmp_path / "experts.gguf", *tiny_parts, extra=experts)))
    with pytest.raises(EncoderError, match=r"sliding_window=16"):
        load_encoder(str(write_gguf(tmp_path / "window.gguf", *tiny_parts, window=16)))
    with pytest.raises(EncoderError, match="'gpt2' with pre-tokenizer 'falcon'; only 'gpt2' with 'gpt-2', 'smollm'"):
        load_encoder(str(write_gguf(tmp_path / "words.gguf", *tiny_parts, words="falcon")))
    assert not list((fresh_cache / "encoders").glob("*"))


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("aZé日'sTr 019²\t\n\r.,!-_\u00a0\u0301"), max_size=20))
def test_words_are_split_as_the_models_own_tokenizers_split_them(text: str) -> None:
    """Against transformers' Llama 3 and Qwen2 expressions, which are those of the published tokenizer.json."""
    from tokenizers import Regex, pre_tokenizers
    from transformers.convert_slow_tokenizer import TikTokenConverter
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    for expression, digits in ((TikTokenConverter().pattern, "{1,3}"), (PRETOKENIZE_REGEX, "")):
        reference = pre_tokenizers.Split(Regex(expression), behavior="isolated")
        ours = pre_tokenizers.Split(Regex(WORDS % digits), behavior="isolated")
        assert ours.pre_tokenize_str(text) == reference.pre_tokenize_str(text)


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


def extra_weights(family: str, config: dict) -> dict[str, np.ndarray]:
    """What a family has beside the tiny Llama's weights."""
    generator = np.random.default_rng(5)
    sizes = {"q": config["num_attention_heads"], "k": config["num_key_value_heads"], "v": config["num_key_value_heads"]}
    names: dict[str, int] = {}
    if family == "qwen2":
        names = {f"{letter}_proj.bias": count * config["head_dim"] for letter, count in sizes.items()}
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
    window: int | None = None,
    extra: dict[str, np.ndarray] | None = None,
) -> Path:
    """The weights as llama.cpp would store them, in float32, with a byte-level vocabulary."""
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_rope_freq_base(1e4)
    writer.add_layer_norm_rms_eps(1e-5)
    if window:
        writer.add_sliding_window(window)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words)
    tokens = ["t", "o", "to", *(f"token{number}" for number in range(3, config["vocab_size"]))]
    writer.add_token_list(tokens)
    writer.add_token_types([1] * config["vocab_size"])
    writer.add_token_merges(["t o"])
    stored_names = {stored: LAYER_NAMES[name] for name, (stored, _) in LAYER_WEIGHTS.items()}
    heads = {"self_attn.q_proj.weight": "num_attention_heads", "self_attn.k_proj.weight": "num_key_value_heads"}
    for name, value in weights.items():
        if name in WHOLE.values():
            writer.add_tensor(next(stored for stored, ours in WHOLE.items() if ours == name), value)
            continue
        _, _, layer, rest = name.split(".", 3)
        if rest in heads and architecture == "llama":
            count = config[heads[rest]]
            rows, columns = value.shape
            value = value.reshape(count, 2, rows // count // 2, columns).swapaxes(1, 2).reshape(rows, columns)
        writer.add_tensor(f"blk.{layer}.{stored_names[rest]}", np.ascontiguousarray(value))
    for name, value in (extra or {}).items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
