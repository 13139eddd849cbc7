"""GGUF in, a Hugging Face folder out: converted once, then read like any other encoder.

Reading GGUF takes seconds and dequantising more; the converted folder (`config.json`, safetensors in float32,
`tokenizer.json`) lies in the cache under the content hash of the GGUF file.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from jaxroute.encoders.networks.configuration import decoder_config
from jaxroute.encoders.weights.gguf_config import describe
from jaxroute.encoders.weights.gguf_tokenizer import gguf_tokenizer
from jaxroute.encoders.weights.huggingface import abstract_network, weight_shapes
from jaxroute.encoders.weights.weight_names import DECODER
from jaxroute.errors import EncoderError
from jaxroute.progress import progress_bar
from jaxroute.storage.files import umask

# llama.cpp's names, within a block, of what weight_names.py names.
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
WHOLE = {"embedding": ("token_embd.weight", "embed_tokens.weight"), "norm": ("output_norm.weight", "norm.weight")}
# The language-model head, and divisors of the rotary frequencies, which `describe` reads.
UNUSED = ("output.weight", "rope_freqs.weight")
SHARD_BYTES = 2 << 30
"""Weights are written in files of about this size, so that converting needs no more memory than that."""


def convert_gguf(path: Path, folder: Path) -> Path:
    """Write `path` as a Hugging Face folder to `folder`, unless it is there already; returns `folder`.

    Raises `EncoderError` for a file that is not GGUF, not of the llama or qwen layout, or whose tokenizer is unknown.
    """
    if (folder / "config.json").exists():
        return folder
    facts, tensors = _read(path)
    fields = describe(path, facts, tensors)
    places = _places(path, fields, tensors)
    tokenizer = gguf_tokenizer(path, facts, fields["vocab_size"])
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
    try:
        _write_weights(partial, _weights(path, fields, tensors, places))
        tokenizer.save(str(partial / "tokenizer.json"))
        (partial / "config.json").write_text(json.dumps(fields, indent=2))
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


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every fact and every tensor of the file, by name."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        return {name: field.contents() for name, field in reader.fields.items()}, {one.name: one for one in reader.tensors}
    except Exception as error:  # what a spoiled file makes gguf raise is not in its contract
        raise EncoderError(f"{path} cannot be read as GGUF: {error!r}") from error


def _places(path: Path, fields: dict[str, Any], tensors: dict[str, Any]) -> dict[str, str]:
    """Name in the file -> Hugging Face's name, for every weight that the decoder has.

    Raises `EncoderError`, with everything that is wrong in one message, for unknown, missing and misshapen weights.
    """
    config = decoder_config(fields, path)
    places, wanted = {}, {}
    for name, shape in weight_shapes(abstract_network(config)).items():
        if name in WHOLE:
            stored, there = WHOLE[name]
            places[stored], wanted[stored] = f"model.{there}", shape
            continue
        name = name.removeprefix("layers/")
        there, transposed = DECODER.layers[name]
        for layer in range(config.layers):
            stored = f"blk.{layer}.{LAYER_NAMES[name]}"
            places[stored], wanted[stored] = f"model.layers.{layer}.{there}", shape[:0:-1] if transposed else shape[1:]
    # A bias that is not there is zero: llama.cpp adds those that are.
    optional = fields["model_type"] == "llama"
    problems = [f"unknown weight {name!r}" for name in tensors if name not in places and name not in UNUSED]
    problems += [
        f"missing weight {name!r}" for name in places if name not in tensors and not (optional and name.endswith(".bias"))
    ]
    for name in places:
        # GGUF counts dimensions from the innermost.
        if name in tensors and (found := tuple(int(size) for size in tensors[name].shape[::-1])) != tuple(wanted[name]):
            problems.append(f"{name!r} has shape {found}, its sizes say {tuple(wanted[name])}")
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise EncoderError(f"the weights in {path} do not fit what it says of itself: {shown}")
    return places


def _weights(
    path: Path, fields: dict[str, Any], tensors: dict[str, Any], places: dict[str, str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Every weight in float32 under Hugging Face's name."""
    from gguf import dequantize

    heads = {"attn_q": fields["num_attention_heads"], "attn_k": fields["num_key_value_heads"]}
    for name, there in progress_bar(places.items(), desc="converting GGUF, once", unit=" weights", delay=1):
        if name not in tensors:
            rows = tensors[name.removesuffix("bias") + "weight"].shape[-1]
            yield there, np.zeros(int(rows), np.float32)
            continue
        tensor = tensors[name]
        try:
            array = np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        except (NotImplementedError, ValueError) as error:
            raise EncoderError(f"{path}: weight {name!r} cannot be read as {tensor.tensor_type.name}: {error}") from error
        kind = name.split(".")[-2]
        # llama.cpp reorders the rows of these for its llama layout only (convert_hf_to_gguf.py, LlamaModel.permute).
        if kind in heads and fields["model_type"] in ("llama", "mistral"):
            array = _unpermute(array, heads[kind])
        yield there, np.ascontiguousarray(array)


def _unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp turns neighbouring dimensions (2k, 2k+1), Hugging Face (k, k + half): reorder the rows of each head."""
    rows = len(weight)
    return weight.reshape(heads, rows // heads // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def _write_weights(folder: Path, weights: Iterator[tuple[str, np.ndarray]]) -> None:
    """One safetensors file, or several and their index."""
    shard: dict[str, np.ndarray] = {}
    index: dict[str, str] = {}

    def write() -> None:
        name = f"model-{len(set(index.values())) + 1:05d}.safetensors"
        save_file(shard, folder / name)
        index.update(dict.fromkeys(shard, name))
        shard.clear()

    for name, weight in weights:
        if shard and sum(one.nbytes for one in shard.values()) + weight.nbytes > SHARD_BYTES:
            write()
        shard[name] = weight
    if index:
        write()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    else:
        save_file(shard, folder / "model.safetensors")
