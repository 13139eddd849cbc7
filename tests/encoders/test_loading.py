"""Weights and configurations: read whole, from both formats, or refused with everything that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxroute import EncoderError, PromptError
from jaxroute.encoders import load_encoder
from jaxroute.encoders.networks.configuration import read_config
from jaxroute.encoders.weights.huggingface import load_network
from tests.encoders.folders import states, write_folder


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
        load_network(sharded)


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
        load_network(write_folder(tmp_path / "wrong", config, weights))
    for part in ("missing weight 'model.layers.1.mlp.up_proj.weight'", "unknown weight 'model.layers.0.extra.weight'", "(7,)"):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/hosts", "", "..", 3, None, {}, "a\0b"])
def test_an_index_that_leaves_its_folder_is_refused(name: object, tmp_path: Path, tiny_parts) -> None:
    folder = write_folder(tmp_path / "index", *tiny_parts)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"model.norm.weight": name}}))
    with pytest.raises(EncoderError, match=r"index\.json"):
        load_network(folder)


def test_a_weight_in_two_shards_is_refused(tmp_path: Path, tiny_parts) -> None:
    """Which of the two is meant, nothing says."""
    config, weights = tiny_parts
    folder = write_folder(tmp_path / "twice", config, weights)
    save_file({"model.norm.weight": weights["model.norm.weight"] + 1}, folder / "other.safetensors")
    index = dict.fromkeys(weights, "model.safetensors") | {"model.norm.weight": "other.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    with pytest.raises(EncoderError, match=r"'model\.norm\.weight' appears twice, in model\.safetensors and in other\.safe"):
        load_network(folder)


def test_quantised_weights_are_refused_by_name(tmp_path: Path, tiny_parts) -> None:
    config, weights = tiny_parts
    weights["model.norm.weight"] = np.ones(config["hidden_size"], np.int8)
    with pytest.raises(EncoderError, match=r"'model\.norm\.weight' is stored as I8, not as one of F32"):
        load_network(write_folder(tmp_path / "quantised", config, weights))


def test_sizes_that_no_memory_holds_are_refused_before_it_is_taken(tmp_path: Path, tiny_parts) -> None:
    with pytest.raises(
        EncoderError, match=r"embed_tokens\.weight' has shape \(600, 48\), the configuration says \(1000000000, 48\)"
    ):
        load_network(write_folder(tmp_path / "huge", *tiny_parts, vocab_size=10**9))


def test_a_cut_off_weight_file_is_refused(tmp_path: Path, tiny_parts) -> None:
    folder = write_folder(tmp_path / "cut", *tiny_parts)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(EncoderError, match="not a whole safetensors file"):
        load_network(folder)


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
    with pytest.raises(EncoderError, match=r"give 'smollm2', 'minilm', the path of a \.gguf file, or a Hugging Face folder"):
        load_encoder(str(tmp_path / "nowhere"))


def test_the_identity_follows_the_content(tmp_path: Path, tiny_parts) -> None:
    config, weights = tiny_parts
    one = load_encoder(str(write_folder(tmp_path / "one", config, weights)))
    same = load_encoder(str(write_folder(tmp_path / "same", config, weights)))
    weights["model.norm.weight"] = weights["model.norm.weight"] + 1e-3
    other = load_encoder(str(write_folder(tmp_path / "other", config, weights)))
    assert one.identity == same.identity != other.identity
