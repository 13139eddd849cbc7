"""GGUF in, a Hugging Face folder out: converted once, then read like any other encoder.

Reading GGUF takes seconds and dequantising more; the converted folder (`config.json`, `model.safetensors` in float32,
`tokenizer.json`) lies in the cache under the content hash of the GGUF file.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tqdm.auto import tqdm

from jaxroute.encoders.huggingface import LAYER_WEIGHTS
from jaxroute.errors import EncoderError
from jaxroute.files import umask

# llama.cpp's names of what LAYER_WEIGHTS names.
LAYER_NAMES = {
    "attention_norm": "attn_norm",
    "query": "attn_q",
    "key": "attn_k",
    "value": "attn_v",
    "output": "attn_output",
    "mlp_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}
CONTROL_TOKEN = 3  # gguf's tokenizer.ggml.token_type of special tokens


def convert_gguf(path: Path, folder: Path) -> Path:
    """Write `path` as a Hugging Face folder to `folder`, unless it is there already; returns `folder`.

    Raises `EncoderError` for a file that is not GGUF, not of the llama layout, or whose tokenizer is unknown.
    """
    if (folder / "config.json").exists():
        return folder
    reader = _open(path)
    facts = {name: field.contents() for name, field in reader.fields.items()}
    config = _config(path, facts)
    tokenizer = _tokenizer(path, facts)
    weights = _weights(reader, config["num_attention_heads"], config["num_key_value_heads"])
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


def _config(path: Path, facts: dict[str, Any]) -> dict[str, Any]:
    if facts.get("general.architecture") != "llama":
        raise EncoderError(f"{path} has architecture {facts.get('general.architecture')!r}; only 'llama' is supported")
    scaled = [name for name in facts if name.startswith("llama.rope.scaling")]
    if scaled:
        raise EncoderError(f"{path} scales its rotary positions ({', '.join(scaled)}), which is not supported")
    heads = int(facts["llama.attention.head_count"])
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": len(facts["tokenizer.ggml.tokens"]),
        "hidden_size": int(facts["llama.embedding_length"]),
        "intermediate_size": int(facts["llama.feed_forward_length"]),
        "num_hidden_layers": int(facts["llama.block_count"]),
        "num_attention_heads": heads,
        "num_key_value_heads": int(facts.get("llama.attention.head_count_kv", heads)),
        "head_dim": int(facts.get("llama.rope.dimension_count", int(facts["llama.embedding_length"]) // heads)),
        "rope_theta": _decimal(facts.get("llama.rope.freq_base", 10_000.0)),
        "rms_norm_eps": _decimal(facts["llama.attention.layer_norm_rms_epsilon"]),
        "max_position_embeddings": int(facts["llama.context_length"]),
        "tie_word_embeddings": True,
    }


def _decimal(number: float) -> float:
    """GGUF keeps single precision; the shortest decimal that rounds to it is what was meant."""
    return float(str(np.float32(number)))


def _weights(reader: Any, heads: int, key_value_heads: int) -> dict[str, np.ndarray]:
    from gguf import dequantize

    names = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    weights = {}
    for tensor in tqdm(reader.tensors, desc="converting GGUF, once", unit=" weights", delay=1):
        kind = tensor.name.split(".")[2] if tensor.name.startswith("blk.") else ""
        array = np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        if kind == "attn_q":
            array = _unpermute(array, heads)
        elif kind == "attn_k":
            array = _unpermute(array, key_value_heads)
        if kind:
            here = next((name for name, stored in LAYER_NAMES.items() if stored == kind), None)
            stored = LAYER_WEIGHTS[here][0] if here else f"{kind}.weight"
            weights[f"model.layers.{tensor.name.split('.')[1]}.{stored}"] = np.ascontiguousarray(array)
        elif tensor.name not in ("output.weight", "rope_freqs.weight"):
            weights[names.get(tensor.name, tensor.name)] = np.ascontiguousarray(array)
    return weights


def _unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp turns neighbouring dimensions (2k, 2k+1), Hugging Face (k, k + half): reorder the rows of each head."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _tokenizer(path: Path, facts: dict[str, Any]) -> Tokenizer:
    """Byte-level BPE from the file's own vocabulary and merges."""
    kind = facts.get("tokenizer.ggml.model"), facts.get("tokenizer.ggml.pre")
    if kind != ("gpt2", "smollm"):
        raise EncoderError(
            f"{path} has tokenizer {kind[0]!r} with pre-tokenizer {kind[1]!r}; only 'gpt2' with 'smollm' can be "
            "converted: use the model's Hugging Face folder instead"
        )
    tokens = facts["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    # llama.cpp's "smollm": every digit a token of its own, then GPT-2's byte-level words.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, facts["tokenizer.ggml.token_type"], strict=True)
            if kind == CONTROL_TOKEN
        ]
    )
    return tokenizer
