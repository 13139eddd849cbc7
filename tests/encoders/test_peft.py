"""Adapters travel to PEFT and back; what PEFT computes with them is what the decoder computes."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxroute import EncoderError
from jaxroute.encoders import load_encoder
from jaxroute.encoders.networks.configuration import read_config
from jaxroute.encoders.networks.lora import Adapters, LoraConfig, merge_adapters, new_adapters
from jaxroute.encoders.weights.huggingface import load_network
from jaxroute.encoders.weights.peft import load_adapters, save_adapters

LORA = LoraConfig(rank=3, alpha=6.0, dropout=0.1, projections=("query", "value"))
TOKENS = np.random.default_rng(0).integers(0, 600, (2, 40)).astype(np.int32)
LENGTHS = np.array([40, 25])
TAPS = ((1, "mean"), (2, "last"))


def random_adapters(folder: Path, config: LoraConfig = LORA, depth: int = 2) -> Adapters:
    """As if trained: neither half is zero."""
    shallow = load_encoder(str(folder)).config.up_to(depth)
    drawn = new_adapters(config, shallow, jax.random.key(1))
    generator = np.random.default_rng(2)
    return jax.tree.map(lambda leaf: generator.normal(0, 0.3, leaf.shape).astype(np.float32), drawn)


def test_what_was_written_is_read_back(tiny_encoder: Path, tmp_path: Path) -> None:
    adapters = random_adapters(tiny_encoder)
    save_adapters(tmp_path / "adapter", adapters, LORA, base=str(tiny_encoder), network=read_config(tiny_encoder))
    found, config = load_adapters(tmp_path / "adapter", load_encoder(str(tiny_encoder)).config)
    assert config == LORA
    jax.tree.map(np.testing.assert_array_equal, found, adapters)


def test_peft_computes_what_the_decoder_computes(tiny_encoder: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch, the reference, is not installed")
    peft = pytest.importorskip("peft", reason="PEFT, the reference, is not installed")
    from transformers import AutoModelForCausalLM

    adapters = random_adapters(tiny_encoder)
    save_adapters(tmp_path / "adapter", adapters, LORA, base=str(tiny_encoder), network=read_config(tiny_encoder))
    base = AutoModelForCausalLM.from_pretrained(tiny_encoder, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    with torch.inference_mode():
        states = model(torch.tensor(TOKENS.astype(np.int64)), output_hidden_states=True).hidden_states
    expected = np.stack([states[1].numpy()[1, :25].mean(axis=0), states[2].numpy()[1, 24]])
    found = np.asarray(merge_adapters(load_network(tiny_encoder), adapters, LORA)(TOKENS, LENGTHS, taps=TAPS))[1]
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 1e-5
    plain = np.asarray(load_network(tiny_encoder)(TOKENS, LENGTHS, taps=TAPS))[1]
    assert np.linalg.norm(plain - expected) / np.linalg.norm(expected) > 0.1


@pytest.mark.parametrize("stabilised", [False, True])
def test_adapters_that_peft_made_are_read(stabilised: bool, tiny_encoder: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch, the reference, is not installed")
    peft = pytest.importorskip("peft", reason="PEFT, the reference, is not installed")
    from transformers import AutoModel

    torch.manual_seed(0)
    described = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj"], use_rslora=stabilised)
    model = peft.get_peft_model(AutoModel.from_pretrained(tiny_encoder, dtype=torch.float32), described).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, 0, 0.3)
    model.save_pretrained(tmp_path / "adapter")
    with torch.inference_mode():
        states = model(torch.tensor(TOKENS.astype(np.int64)), output_hidden_states=True).hidden_states
    decoder = load_network(tiny_encoder)
    adapters, config = load_adapters(tmp_path / "adapter", decoder.config)
    found = np.asarray(merge_adapters(decoder, adapters, config)(TOKENS, LENGTHS, taps=((2, "last"),)))[0, 0]
    expected = states[2].numpy()[0, 39]
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 1e-5


def test_adapters_of_the_first_layers_say_so_and_fit_a_whole_decoder(tiny_encoder: Path, tmp_path: Path) -> None:
    adapters = random_adapters(tiny_encoder, depth=1)
    save_adapters(tmp_path / "adapter", adapters, LORA, base="base", network=read_config(tiny_encoder))
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["layers_to_transform"] == [0]
    whole, _ = load_adapters(tmp_path / "adapter", load_encoder(str(tiny_encoder)).config)
    np.testing.assert_array_equal(whole["query"]["down"][0], adapters["query"]["down"][0])
    assert not whole["query"]["up"][1].any()
    decoder = load_network(tiny_encoder)
    first, second = (np.asarray(merge_adapters(decoder, one, LORA)(TOKENS, LENGTHS, taps=TAPS)) for one in (adapters, whole))
    np.testing.assert_array_equal(first, second)


def test_all_that_does_not_fit_stands_in_one_message(tiny_encoder: Path, tmp_path: Path) -> None:
    folder, config = tmp_path / "adapter", load_encoder(str(tiny_encoder)).config
    save_adapters(folder, random_adapters(tiny_encoder), LORA, base="base", network=read_config(tiny_encoder))
    prefix = "base_model.model.model.layers"
    tensors = load_file(folder / "adapter_model.safetensors")
    del tensors[f"{prefix}.1.self_attn.q_proj.lora_B.weight"]
    tensors[f"{prefix}.0.self_attn.v_proj.lora_A.weight"] = np.zeros((3, 5), np.float32)
    tensors[f"{prefix}.0.mlp.up_proj.lora_A.weight"] = np.zeros((3, 48), np.float32)
    tensors[f"{prefix}.7.self_attn.q_proj.lora_A.weight"] = np.ones((3, 48), np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(EncoderError) as caught:
        load_adapters(folder, config)
    for part in ("missing lora_B of q_proj in layer 1", "(3, 5)", "unknown weight", "mlp.up_proj", "beyond the 2 in use"):
        assert part in str(caught.value)


def test_arithmetic_that_is_not_computed_here_is_refused_by_name(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    save_adapters(folder, random_adapters(tiny_encoder), LORA, base="base", network=read_config(tiny_encoder))
    described = json.loads((folder / "adapter_config.json").read_text())
    described |= {"use_dora": True, "bias": "all", "target_modules": ["q_proj", "o_proj"], "rank_pattern": {"q_proj": 8}}
    (folder / "adapter_config.json").write_text(json.dumps(described))
    with pytest.raises(EncoderError) as caught:
        load_adapters(folder, load_encoder(str(tiny_encoder)).config)
    for part in ("use_dora=True", "bias='all'", "o_proj", "rank_pattern"):
        assert part in str(caught.value)
    (folder / "adapter_config.json").write_text("[]")
    with pytest.raises(EncoderError, match="cannot be read as a PEFT adapter"):
        load_adapters(folder, load_encoder(str(tiny_encoder)).config)


def test_sizes_that_cannot_work_are_refused() -> None:
    with pytest.raises(EncoderError) as caught:
        LoraConfig(rank=0, alpha=-1.0, dropout=1.0, projections=("query", "gate"))
    for part in ("rank=0", "alpha=-1.0", "dropout=1.0", "projections=('query', 'gate')"):
        assert part in str(caught.value)
