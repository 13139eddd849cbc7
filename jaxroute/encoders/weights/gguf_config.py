"""What a GGUF file says of its decoder, as config.json would; what is not computed here is refused by name.

llama.cpp's meaning of every key is defined in its src/llama-model.cpp (load_hparams). Mistral's files call themselves `llama`
and leave out the window of its first version, which llama.cpp does not compute either.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxroute.encoders.networks.rotary import Rope, frequencies
from jaxroute.errors import EncoderError

ARCHITECTURES = ("llama", "qwen2", "qwen3")
# config.json's name -> llama.cpp's, behind the architecture's.
NEEDED = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "max_position_embeddings": "context_length",
}
OPTIONAL = (
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.sliding_window",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scale_linear",
    "rope.scaling.original_context_length",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
)
# Change nothing in the hidden states of a prompt.
IGNORED = ("vocab_size", "tensor_data_layout", "pooling_type", "rope.scaling.finetuned")
# Would change them -> the only value that does not.
FIXED = {"expert_count": 0, "expert_used_count": 0, "attention.causal": True, "rope.scaling.attn_factor": 1.0}
# What rope_freqs.weight means in published files: Llama 3.1 and 3.3 (8), Llama 3.2 (32).
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
LLAMA3_FACTORS = (8.0, 32.0)


def describe(path: Path, facts: dict[str, Any], tensors: dict[str, Any]) -> dict[str, Any]:
    """The fields of config.json. Raises `EncoderError` naming everything that is missing or computed differently."""
    family = facts.get("general.architecture")
    if family not in ARCHITECTURES:
        raise EncoderError(f"{path} has architecture {family!r}; only {', '.join(map(repr, ARCHITECTURES))} are supported")
    stated = {name.removeprefix(f"{family}."): _single(fact) for name, fact in facts.items() if name.startswith(f"{family}.")}
    known = (*NEEDED.values(), *OPTIONAL, *IGNORED, *FIXED)
    problems = [f"{family}.{name} is missing" for name in NEEDED.values() if name not in stated]
    problems += [f"{family}.{name}={stated[name]!r} is not known" for name in stated if name not in known]
    problems += [
        f"{family}.{name}={stated[name]!r} is not supported (only {only!r})"
        for name, only in FIXED.items()
        if stated.get(name, only) != only
    ]
    if facts.get("split.count", 0) not in (0, 1):
        problems.append(f"split.count={facts['split.count']!r}: the file is a part of a model; join it by llama-gguf-split")
    if "token_embd.weight" not in tensors:
        problems.append("weight 'token_embd.weight' is missing")
    problems += [
        f"{family}.{name}={stated[name]!r} must be a number"
        for name in (*NEEDED.values(), *OPTIONAL)
        if name != "rope.scaling.type" and name in stated and type(stated[name]) not in (int, float)
    ]
    fields: dict[str, Any] = {}
    if not problems:
        fields = {name: stated[there] for name, there in NEEDED.items()}
        heads = fields["num_attention_heads"]
        head_size = stated.get("attention.key_length", fields["hidden_size"] // (heads or 1))
        problems += [
            f"{family}.{name}={stated[name]!r} is not supported (only the size of a head, {head_size})"
            for name in ("rope.dimension_count", "attention.value_length")
            if stated.get(name, head_size) != head_size
        ]
        rope = _rope(family, stated, tensors, head_size, problems)
        fields |= {
            "vocab_size": int(tensors["token_embd.weight"].shape[-1]),
            "num_key_value_heads": stated.get("attention.head_count_kv", heads),
            "head_dim": head_size,
            "rms_norm_eps": _decimal(fields["rms_norm_eps"]),
            "rope_parameters": rope,
            "hidden_act": "silu",
            "tie_word_embeddings": "output.weight" not in tensors,
            **_family(family, stated, tensors, problems),
        }
    if problems:
        raise EncoderError(
            f"{path} cannot be converted: {'; '.join(problems)}; if the file is whole, use the model's Hugging Face folder"
        )
    return fields


def _family(family: str, stated: dict[str, Any], tensors: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """Which of the families it is, and what only this one has."""
    window = stated.get("attention.sliding_window", 0)
    biased = any(name.endswith(".bias") for name in tensors)
    # A window as wide as the context hides nothing.
    if not window or window >= stated["context_length"]:
        return {"model_type": family, **({"attention_bias": biased} if family == "llama" else {})}
    if family != "llama" or biased:
        problems.append(f"{family}.attention.sliding_window={window!r} does not say in which layers")
    return {"model_type": "mistral", "sliding_window": window}


def _rope(family: str, stated: dict[str, Any], tensors: dict[str, Any], head_size: int, problems: list[str]) -> dict[str, Any]:
    """rope_parameters; llama.cpp takes a factor without a type as linear, and 0 as none."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": _decimal(stated.get("rope.freq_base", 10_000.0))}
    kind = stated.get("rope.scaling.type", "linear")
    factor = _decimal(stated.get("rope.scaling.factor", stated.get("rope.scale_linear", 0.0))) or 1.0
    if kind not in ("none", "linear", "yarn"):
        problems.append(f"{family}.rope.scaling.type={kind!r} is not supported (only none, linear, yarn)")
    if kind == "linear" and factor != 1.0:
        rope |= {"rope_type": "linear", "factor": factor}
    if kind == "yarn":
        original = stated.get("rope.scaling.original_context_length", stated["context_length"])
        rope |= {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
        for name in ("beta_fast", "beta_slow"):
            if f"rope.scaling.yarn_{name}" in stated:
                rope[name] = _decimal(stated[f"rope.scaling.yarn_{name}"])
    if "rope_freqs.weight" in tensors:
        stretched = _llama3(np.asarray(tensors["rope_freqs.weight"].data), rope["rope_theta"], head_size)
        if rope["rope_type"] != "default" or stretched is None:
            problems.append("rope_freqs.weight divides the rotary frequencies by other numbers than Llama 3's")
        else:
            rope |= stretched
    return rope


def _llama3(divisors: np.ndarray, theta: float, head_size: int) -> dict[str, Any] | None:
    """The published scaling whose frequencies are the plain ones over `divisors` (ggml_rope_ext's freq_factors)."""
    for factor in LLAMA3_FACTORS:
        original = LLAMA3["original_max_position_embeddings"]
        rope = Rope(theta, "llama3", factor, original, LLAMA3["low_freq_factor"], LLAMA3["high_freq_factor"])
        expected = frequencies(Rope(theta), head_size) / frequencies(rope, head_size)
        if divisors.shape == expected.shape and np.allclose(divisors, expected, rtol=1e-4):
            return {"rope_type": "llama3", "factor": factor, **LLAMA3}
    return None


def _single(fact: Any) -> Any:
    """Of a list with a value for every layer the one value, where they agree."""
    return fact[0] if isinstance(fact, list) and fact and all(one == fact[0] for one in fact) else fact


def _decimal(number: float) -> float:
    """GGUF keeps single precision; the shortest decimal that rounds to it is what was meant."""
    return float(str(np.float32(number)))
