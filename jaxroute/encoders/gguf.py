"""GGUF in, a Hugging Face folder out: converted once, then read like any other encoder.

Reading GGUF takes seconds and dequantising more; the converted folder (`config.json`, `model.safetensors` in float32,
`tokenizer.json`) lies in the cache under the content hash of the GGUF file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tqdm.auto import tqdm

from jaxroute.encoders.gguf_tokenizer import gguf_tokenizer
from jaxroute.encoders.huggingface import LAYER_WEIGHTS
from jaxroute.encoders.rotary import Rope, frequencies
from jaxroute.errors import EncoderError
from jaxroute.files import umask

# llama.cpp's names, within a block, of what LAYER_WEIGHTS names.
LAYER_NAMES = {
    "attention_norm": "attn_norm.weight",
    "query": "attn_q.weight",
    "query_bias": "attn_q.bias",
    "query_norm": "attn_q_norm.weight",
    "key": "attn_k.weight",
    "key_bias": "attn_k.bias",
    "key_norm": "attn_k_norm.weight",
    "value": "attn_v.weight",
    "value_bias": "attn_v.bias",
    "output": "attn_output.weight",
    "output_bias": "attn_output.bias",
    "mlp_norm": "ffn_norm.weight",
    "gate": "ffn_gate.weight",
    "up": "ffn_up.weight",
    "down": "ffn_down.weight",
}
WHOLE = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
UNUSED = ("output.weight", "rope_freqs.weight")
"""The language-model head, and a scaling of rotary positions that `_rope` reads."""
ARCHITECTURES = ("llama", "qwen2", "qwen3")
# The published scalings that rope_freqs.weight stands for (Llama 3.1, Llama 3.2).
LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
LLAMA3_FACTORS = (8.0, 32.0)


def convert_gguf(path: Path, folder: Path) -> Path:
    """Write `path` as a Hugging Face folder to `folder`, unless it is there already; returns `folder`.

    Raises `EncoderError` for a file that is not GGUF, not of the llama or qwen layout, or whose tokenizer is unknown.
    """
    if (folder / "config.json").exists():
        return folder
    reader = _open(path)
    facts = {name: field.contents() for name, field in reader.fields.items()}
    config = _config(path, facts, {tensor.name: tensor for tensor in reader.tensors})
    tokenizer = gguf_tokenizer(path, facts)
    weights = _weights(path, reader, config)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
    try:
        save_file(weights, partial / "model.safetensors")
        tokenizer.save(str(partial / "tokenizer.json"))
        (partial / "config.json").write_text(json.dumps(config, indent=2))
        partial.chmod(0o777 & ~umask())
        try:
            os.replace(partial, folder)
        except OSError:
            # Another process may have finished the same conversion meanwhile; its result is as good as ours.
            if not (folder / "config.json").exists():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _open(path: Path):
    from gguf import GGUFReader

    try:
        return GGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise EncoderError(f"{path} cannot be read as GGUF: {error}") from error


def _config(path: Path, facts: dict[str, Any], tensors: dict[str, Any]) -> dict[str, Any]:
    """config.json as Hugging Face would write it. Raises `EncoderError` naming what is missing or computed differently."""
    family = facts.get("general.architecture")
    if family not in ARCHITECTURES:
        raise EncoderError(f"{path} has architecture {family!r}; only {', '.join(map(repr, ARCHITECTURES))} are supported")
    sizes = {
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "num_hidden_layers": "block_count",
        "num_attention_heads": "attention.head_count",
        "rms_norm_eps": "attention.layer_norm_rms_epsilon",
        "max_position_embeddings": "context_length",
    }
    named = [f"{family}.{name}" for name in sizes.values()]
    named += [f"tokenizer.ggml.{name}" for name in ("tokens", "token_type", "merges")]
    missing = [name for name in named if name not in facts]
    if missing and facts.get("tokenizer.ggml.model") == "gpt2":
        raise EncoderError(f"{path} lacks {', '.join(missing)}")
    fields: dict[str, Any] = {name: facts[f"{family}.{stored}"] for name, stored in sizes.items()}
    heads = fields["num_attention_heads"]
    head_size = int(facts.get(f"{family}.attention.key_length", fields["hidden_size"] // heads))
    problems = [
        f"{family}.{name}={facts[f'{family}.{name}']} (the head size is {head_size})"
        for name in ("rope.dimension_count", "attention.value_length")
        if facts.get(f"{family}.{name}", head_size) != head_size
    ]
    window = facts.get(f"{family}.attention.sliding_window")
    if window and window < fields["max_position_embeddings"]:
        problems.append(f"{family}.attention.sliding_window={window}")
    rope = _rope(family, facts, tensors, head_size, problems)
    if problems:
        raise EncoderError(
            f"{path} computes something that is not supported: {'; '.join(problems)}: use the model's Hugging Face folder"
        )
    return fields | {
        "model_type": family,
        "hidden_act": "silu",
        "vocab_size": int(tensors["token_embd.weight"].shape[-1]) if "token_embd.weight" in tensors else 0,
        "num_key_value_heads": int(facts.get(f"{family}.attention.head_count_kv", heads)),
        "head_dim": head_size,
        "rms_norm_eps": _decimal(fields["rms_norm_eps"]),
        "rope_parameters": rope,
        "attention_bias": family != "qwen2" and "blk.0.attn_q.bias" in tensors,
        "tie_word_embeddings": "output.weight" not in tensors,
    }


def _rope(family: str, facts: dict[str, Any], tensors: dict[str, Any], head_size: int, problems: list[str]) -> dict[str, Any]:
    """rope_parameters; Llama 3's scaling is recognised by the divisors of its frequencies."""
    theta = {"rope_theta": _decimal(facts.get(f"{family}.rope.freq_base", 10_000.0))}
    prefix = f"{family}.rope.scaling."
    scaling = {name.removeprefix(prefix): value for name, value in facts.items() if name.startswith(prefix)}
    kind = scaling.pop("type", "none")
    scaling.pop("finetuned", None)
    if "rope_freqs.weight" in tensors:
        divisors = np.asarray(tensors["rope_freqs.weight"].data, np.float32)
        for factor in LLAMA3_FACTORS:
            stretched = {**LLAMA3, **theta, "factor": factor}
            rope = Rope(theta["rope_theta"], "llama3", factor, LLAMA3["original_max_position_embeddings"])
            expected = frequencies(Rope(theta["rope_theta"]), head_size) / frequencies(rope, head_size)
            if divisors.shape == expected.shape and np.allclose(divisors, expected, rtol=1e-4):
                return stretched
        problems.append("rope_freqs.weight, whose divisors are not Llama 3's")
    factor = scaling.pop("factor", None)
    original = scaling.pop("original_context_length", None)
    if scaling:
        problems += [f"{prefix}{name}={value}" for name, value in scaling.items()]
    if kind == "none":
        return {"rope_type": "default", **theta}
    if kind == "linear" and factor:
        return {"rope_type": "linear", "factor": _decimal(factor), **theta}
    if kind == "yarn" and factor and original:
        return {"rope_type": "yarn", "factor": _decimal(factor), "original_max_position_embeddings": int(original), **theta}
    problems.append(f"{prefix}type={kind!r} with factor {factor} and original_context_length {original}")
    return theta


def _decimal(number: float) -> float:
    """GGUF keeps single precision; the shortest decimal that rounds to it is what was meant."""
    return float(str(np.float32(number)))


def _weights(path: Path, reader: Any, config: dict[str, Any]) -> dict[str, np.ndarray]:
    """Every weight in float32 under Hugging Face's name. Raises `EncoderError` naming those that have none."""
    from gguf import dequantize

    stored_names = {stored: f"model.layers.{{}}.{LAYER_WEIGHTS[name][0]}" for name, stored in LAYER_NAMES.items()}
    block = re.compile(r"blk\.(\d+)\.(.+)")
    weights, unknown = {}, []
    for tensor in tqdm(reader.tensors, desc="converting GGUF, once", unit=" weights", delay=1):
        found = block.fullmatch(tensor.name)
        stored = found[2] if found else tensor.name
        name = stored_names.get(stored, "").format(found[1]) if found else WHOLE.get(stored)
        if not name:
            unknown += [tensor.name] if tensor.name not in UNUSED else []
            continue
        array = np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        # llama.cpp reorders these rows for the llama layout only.
        if config["model_type"] == "llama" and stored.startswith("attn_q."):
            array = _unpermute(array, config["num_attention_heads"])
        elif config["model_type"] == "llama" and stored.startswith("attn_k."):
            array = _unpermute(array, config["num_key_value_heads"])
        weights[name] = np.ascontiguousarray(array)
    if unknown:
        shown = ", ".join(unknown[:20]) + (", ..." if len(unknown) > 20 else "")
        raise EncoderError(f"{path} holds weights that have no place in this decoder: {shown}")
    return weights


def _unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp turns neighbouring dimensions (2k, 2k+1), Hugging Face (k, k + half): reorder the rows of each head."""
    rows = len(weight)
    return weight.reshape(heads, rows // heads // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)
