"""config.json of a Hugging Face folder as a DecoderConfig or a BertConfig; what is not computed here is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jaxroute.encoders.networks.bert_config import bert_config
from jaxroute.encoders.networks.build import EncoderConfig
from jaxroute.encoders.networks.config_fields import misshapen, missing, refusal, short, unsupported
from jaxroute.encoders.networks.decoder import DecoderConfig
from jaxroute.encoders.networks.rotary import KINDS, Rope, yarn_attention_factor
from jaxroute.errors import EncoderError

# What a file of the family means where it says nothing, as transformers reads it.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"num_key_value_heads": 8, "sliding_window": 4096},
    "qwen2": {"num_key_value_heads": 32, "sliding_window": 4096, "max_window_layers": 28},
    "qwen3": {"num_key_value_heads": 32, "sliding_window": 4096, "max_window_layers": 28, "head_dim": 128},
}
BERT = "bert"
# Fields that would change the arithmetic -> the only value that does not.
FIXED = {
    "hidden_act": "silu",
    "mlp_bias": False,
    "partial_rotary_factor": 1.0,
    "pretraining_tp": 1,
    # False makes transformers 5 attend in both directions.
    "is_causal": True,
}
LAYER_TYPES = ("sliding_attention", "full_attention")
NEEDED = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "rms_norm_eps",
    "max_position_embeddings",
)
COUNTS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "sliding_window",
    "max_position_embeddings",
    "original_max_position_embeddings",
)
NUMBERS = ("rms_norm_eps", "rope_theta", "factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow")
NUMBERS += ("attention_factor", "mscale", "mscale_all_dim")
TRUTHS = ("attention_bias", "use_sliding_window", "truncate")
# Without a window; as many as heads. Elsewhere null says as little as an absent field.
NULL_MEANS_SOMETHING = ("sliding_window", "num_key_value_heads")
ROPE_FIELDS = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": (
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "truncate",
    ),
}


def read_config(folder: Path) -> EncoderConfig:
    """The arithmetic of `config.json`; raises `EncoderError` with everything that would be computed differently here."""
    path = folder / "config.json"
    try:
        fields: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EncoderError(f"{path} cannot be read as the configuration of an encoder: {error}") from error
    if not isinstance(fields, dict):
        raise EncoderError(f"{path} cannot be read as the configuration of an encoder: it holds no object")
    return bert_config(fields, path) if fields.get("model_type") == BERT else decoder_config(fields, path)


def decoder_config(fields: dict[str, Any], path: Path) -> DecoderConfig:
    """Of a decoder, for fields that may come from elsewhere; `path` is named in errors."""
    problems = missing(fields, NEEDED)
    family: Any = fields.get("model_type")
    known = isinstance(family, str) and family in FAMILIES
    if family is not None and not known:
        problems.append(f"model_type={short(family)} is not supported (only {', '.join((*FAMILIES, BERT))})")
    problems += unsupported(fields, FIXED)
    wrong = _misshapen(fields)
    problems += wrong
    if not known or wrong or any(fields.get(name) is None for name in NEEDED):
        raise refusal(path, problems)
    fields = FAMILIES[str(family)] | {
        name: int(value) if name in COUNTS and value is not None else value
        for name, value in fields.items()
        if value is not None or name in NULL_MEANS_SOMETHING
    }
    rope, windows = _rope(fields, problems), _windows(fields, problems)
    if problems:
        raise refusal(path, problems)
    heads = fields["num_attention_heads"]
    head_size = fields.get("head_dim") or fields["hidden_size"] // heads
    if not head_size:
        raise refusal(path, [f"hidden_size={fields['hidden_size']} leaves nothing for num_attention_heads={heads} heads"])
    biased = bool(fields.get("attention_bias", False))
    try:
        return DecoderConfig(
            vocabulary_size=fields["vocab_size"],
            hidden_size=fields["hidden_size"],
            intermediate_size=fields["intermediate_size"],
            layers=fields["num_hidden_layers"],
            heads=heads,
            key_value_heads=fields.get("num_key_value_heads") or heads,
            head_size=head_size,
            norm_epsilon=float(fields["rms_norm_eps"]),
            context_length=fields["max_position_embeddings"],
            rope=Rope(**rope),
            input_bias=family == "qwen2" or (biased and family != "mistral"),
            output_bias=biased and family in ("llama", "qwen3"),
            head_norm=family == "qwen3",
            windows=windows,
        )
    except (TypeError, ValueError) as error:
        raise refusal(path, [str(error)]) from error


def _misshapen(fields: dict[str, Any]) -> list[str]:
    """What is not of its kind; null and absent are."""
    problems = []
    nested = [(name, fields[name]) for name in ("rope_scaling", "rope_parameters") if fields.get(name) is not None]
    problems += [f"{name}={short(given)} must be an object" for name, given in nested if not isinstance(given, dict)]
    for place in (fields, *(given for _, given in nested if isinstance(given, dict))):
        problems += misshapen(place, counts=COUNTS, numbers=NUMBERS, truths=TRUTHS)
    kinds, first = fields.get("layer_types"), fields.get("max_window_layers", 0)
    if kinds is not None and not (isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds)):
        problems.append(f"layer_types={short(kinds)} must be a list of texts")
    if first is not None and (not isinstance(first, int) or isinstance(first, bool) or first < 0):
        problems.append(f"max_window_layers={short(first)} must be a whole number, at least 0")
    return problems


def _rope(fields: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """Fields of `Rope`; transformers 5 writes rope_parameters, before it rope_theta and rope_scaling stood side by side."""
    given: dict[str, Any] = dict(fields.get("rope_scaling") or fields.get("rope_parameters") or {})
    old_kind = given.pop("type", "default")
    kind = given.pop("rope_type", old_kind)
    rope: dict[str, Any] = {"theta": float(given.pop("rope_theta", None) or fields.get("rope_theta") or 10_000.0)}
    if not isinstance(kind, str) or kind not in KINDS:
        problems.append(f"rope type {short(kind)} is not supported (only {', '.join(KINDS)})")
        return rope
    if given.pop("partial_rotary_factor", None) not in (None, 1.0):
        problems.append("partial_rotary_factor other than 1.0 is not supported")
    problems += [
        f"rope field {name[:60]}={short(given[name])} is not known for {kind!r}"
        for name in given
        if name not in ROPE_FIELDS[kind]
    ]
    if kind == "default":
        return rope
    given = {name: value for name, value in given.items() if value is not None}
    # A stated top-level length is the weights' own; without any, the context was not stretched beyond what is stated.
    original = fields.get("original_max_position_embeddings") or given.get("original_max_position_embeddings")
    original = int(original or fields["max_position_embeddings"])
    if kind != "linear":
        rope["original_context_length"] = original
    if kind == "yarn" and "factor" not in given:
        given["factor"] = fields["max_position_embeddings"] / original
    missing = [name for name in ROPE_FIELDS[kind][: 3 if kind == "llama3" else 1] if name not in given]
    if missing:
        problems.append(f"rope type {kind!r} lacks {', '.join(missing)}")
        return rope
    rope |= {"kind": kind, "factor": float(given["factor"])}
    if kind == "llama3":
        if given["high_freq_factor"] <= given["low_freq_factor"]:
            problems.append(
                f"high_freq_factor={given['high_freq_factor']} must be above low_freq_factor={given['low_freq_factor']}"
            )
        rope |= {
            "low_frequency_factor": float(given["low_freq_factor"]),
            "high_frequency_factor": float(given["high_freq_factor"]),
        }
    if kind == "yarn":
        if rope["theta"] <= 1:
            problems.append(f"rope_theta={rope['theta']} must be above 1 for rope type 'yarn'")
        named = given.get("attention_factor")
        scales = given.get("mscale"), given.get("mscale_all_dim")
        rope |= {
            "beta_fast": float(given.get("beta_fast") or 32.0),
            "beta_slow": float(given.get("beta_slow") or 1.0),
            "truncate": bool(given.get("truncate", True)),
            "attention_factor": float(named) if named is not None else yarn_attention_factor(rope["factor"], *scales),
        }
    return rope


def _windows(fields: dict[str, Any], problems: list[str]) -> tuple[int | None, ...]:
    """Per layer how many positions are seen; empty where every layer sees all.

    A stated `layer_types` decides, as in transformers 5, which reads a Mistral with them as a Ministral.
    """
    family, layers = fields["model_type"], fields["num_hidden_layers"]
    window, kinds = fields.get("sliding_window"), fields.get("layer_types")
    if family == "llama" or (family.startswith("qwen") and not fields.get("use_sliding_window", False)):
        window = None
    if kinds is None:
        first = fields["max_window_layers"] if family.startswith("qwen") else 0
        return (None,) * min(first, layers) + (window,) * (layers - first) if window and first < layers else ()
    if len(kinds) != layers or not set(kinds) <= set(LAYER_TYPES):
        problems.append(f"layer_types={short(kinds)} must be {layers} times {' or '.join(LAYER_TYPES)}")
    elif "sliding_attention" in kinds and window is None:
        problems.append(
            f"layer_types has {kinds.count('sliding_attention')} times sliding_attention, and no window is in use: "
            f"sliding_window={fields.get('sliding_window')}, use_sliding_window={fields.get('use_sliding_window', False)}, "
            f"model_type={family!r}"
        )
    windows = tuple(window if kind == "sliding_attention" else None for kind in kinds)
    return windows if any(windows) else ()
