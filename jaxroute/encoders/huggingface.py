"""A decoder from a Hugging Face folder: `config.json` and safetensors, without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open

from jaxroute.encoders.decoder import Decoder, DecoderConfig
from jaxroute.errors import EncoderError

# name here -> (name in the file, whether the file stores it as (outputs, inputs))
LAYER_WEIGHTS = {
    "attention_norm": ("input_layernorm.weight", False),
    "query": ("self_attn.q_proj.weight", True),
    "key": ("self_attn.k_proj.weight", True),
    "value": ("self_attn.v_proj.weight", True),
    "output": ("self_attn.o_proj.weight", True),
    "mlp_norm": ("post_attention_layernorm.weight", False),
    "gate": ("mlp.gate_proj.weight", True),
    "up": ("mlp.up_proj.weight", True),
    "down": ("mlp.down_proj.weight", True),
}
# Present in checkpoints, not needed for hidden states.
UNUSED_WEIGHTS = ("lm_head.weight", "rotary_emb.inv_freq")


def load_decoder(folder: Path, *, dtype: jnp.dtype = jnp.float32) -> Decoder:
    """Build the decoder that `folder` describes and fill in every weight.

    Raises `EncoderError`, with everything that is wrong in one message, for a configuration that this decoder would
    compute differently and for missing, unknown or misshapen weights.
    """
    config = read_config(folder)
    # No memory is spent on random weights that would be thrown away at once.
    decoder = nnx.eval_shape(lambda: Decoder(config, dtype=dtype, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(decoder)
    wanted = {"/".join(map(str, path)): leaf.get_value() for path, leaf in nnx.to_flat_state(state)}
    weights = _read_weights(folder, config, {name: leaf.shape for name, leaf in wanted.items()})
    for path, leaf in nnx.to_flat_state(state):
        leaf.set_value(jnp.asarray(weights.pop("/".join(map(str, path))), dtype))
    return nnx.merge(graph, state)


def read_config(folder: Path) -> DecoderConfig:
    """The arithmetic of `config.json`; refuses by name what this decoder does not compute."""
    path = folder / "config.json"
    try:
        fields = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise EncoderError(f"{path} cannot be read as the configuration of an encoder: {error}") from error
    problems = [
        f"{name}={fields[name]!r} is not supported (only {expected!r})"
        for name, expected in {
            "model_type": "llama",
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "partial_rotary_factor": 1.0,
        }.items()
        if name in fields and fields[name] != expected
    ]
    # transformers 5 writes rope_parameters; before, rope_theta and rope_scaling stood beside each other.
    rope: dict[str, Any] = fields.get("rope_parameters") or {}
    scaling = fields.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type", rope.get("rope_type", "default")))
    if kind != "default":
        problems.append(f"rope type {kind!r} is not supported (only 'default')")
    needed = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "rms_norm_eps",
    )
    problems += [f"{name} is missing" for name in ("model_type", *needed) if name not in fields]
    if problems:
        raise EncoderError(f"{path} describes an encoder that jaxroute cannot compute: " + "; ".join(problems))
    heads = fields["num_attention_heads"]
    return DecoderConfig(
        vocabulary_size=fields["vocab_size"],
        hidden_size=fields["hidden_size"],
        intermediate_size=fields["intermediate_size"],
        layers=fields["num_hidden_layers"],
        heads=heads,
        key_value_heads=fields.get("num_key_value_heads") or heads,
        head_size=fields.get("head_dim") or fields["hidden_size"] // heads,
        rope_theta=float(rope.get("rope_theta", fields.get("rope_theta", 10_000.0))),
        norm_epsilon=float(fields["rms_norm_eps"]),
        context_length=int(fields.get("max_position_embeddings", 2048)),
    )


def _read_weights(folder: Path, config: DecoderConfig, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Every weight as one array under its name here; the layers of a kind stacked on axis 0."""
    weights = {name: np.empty(shape, np.float32) for name, shape in shapes.items()}
    places: dict[str, tuple[str, int | None, bool]] = {
        "embed_tokens.weight": ("embedding", None, False),
        "norm.weight": ("norm", None, False),
    }
    for name, (stored, transposed) in LAYER_WEIGHTS.items():
        for index in range(config.layers):
            places[f"layers.{index}.{stored}"] = (f"layers/{name}", index, transposed)
    problems, seen = [], set()
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="flax") as file:
                for key in file.keys():  # noqa: SIM118 - it is no dict
                    stored = key.removeprefix("model.")
                    if stored.endswith(UNUSED_WEIGHTS):
                        continue
                    if stored not in places:
                        problems.append(f"unknown weight {key!r}")
                        continue
                    seen.add(stored)
                    name, index, transposed = places[stored]
                    array = np.asarray(file.get_tensor(key)).astype(np.float32)
                    array = array.T if transposed else array
                    target = weights[name] if index is None else weights[name][index]
                    if array.shape != target.shape:
                        problems.append(f"{key!r} has shape {array.shape}, the configuration says {target.shape}")
                        continue
                    target[...] = array
        except SafetensorError as error:
            problems.append(f"{path.name} is not a whole safetensors file ({error})")
    problems += [f"missing weight 'model.{name}'" for name in places if name not in seen]
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise EncoderError(f"the weights in {folder} do not fit its config.json: {shown}")
    return weights


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of `folder`: one, or the shards that its index names."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        missing = [name for name in names if not (folder / name).exists()]
        if missing:
            raise EncoderError(f"{index} names shards that are not there: {', '.join(missing)}")
        return [folder / name for name in names]
    single = folder / "model.safetensors"
    if not single.exists():
        raise EncoderError(f"{folder} holds no model.safetensors and no model.safetensors.index.json")
    return [single]
