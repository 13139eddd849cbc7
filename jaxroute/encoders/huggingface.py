"""A decoder's weights from a Hugging Face folder: safetensors, single or sharded, without torch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array
from safetensors import SafetensorError, safe_open

from jaxroute.encoders.configuration import read_config
from jaxroute.encoders.decoder import Decoder, DecoderConfig
from jaxroute.errors import EncoderError

# name here -> (name in the file, whether the file stores it as (outputs, inputs))
LAYER_WEIGHTS = {
    "attention_norm": ("input_layernorm.weight", False),
    "query": ("self_attn.q_proj.weight", True),
    "query_bias": ("self_attn.q_proj.bias", False),
    "query_norm": ("self_attn.q_norm.weight", False),
    "key": ("self_attn.k_proj.weight", True),
    "key_bias": ("self_attn.k_proj.bias", False),
    "key_norm": ("self_attn.k_norm.weight", False),
    "value": ("self_attn.v_proj.weight", True),
    "value_bias": ("self_attn.v_proj.bias", False),
    "output": ("self_attn.o_proj.weight", True),
    "output_bias": ("self_attn.o_proj.bias", False),
    "mlp_norm": ("post_attention_layernorm.weight", False),
    "gate": ("mlp.gate_proj.weight", True),
    "up": ("mlp.up_proj.weight", True),
    "down": ("mlp.down_proj.weight", True),
}
# Present in checkpoints, not needed for hidden states.
UNUSED_WEIGHTS = ("lm_head.weight", "rotary_emb.inv_freq")

Place = Callable[[str, np.ndarray], Array]
"""Puts the weight of a name, (layers, inputs, outputs) where it is stacked, on its device or devices."""


def load_decoder(
    folder: Path, *, dtype: jnp.dtype = jnp.float32, depth: int | None = None, place: Place | None = None
) -> Decoder:
    """Build the decoder that `folder` describes and fill in every weight, of all layers or of the first `depth`.

    `place` decides where each weight lives; by default on JAX's default device. Raises `EncoderError`, with everything that
    is wrong in one message, for a configuration that this decoder would compute differently and for missing, unknown or
    misshapen weights.
    """
    config = read_config(folder)
    shallow = config.up_to(depth or config.layers)
    graph, state = nnx.split(abstract_decoder(shallow, dtype=dtype))
    wanted = {"/".join(map(str, path)): leaf.get_value() for path, leaf in nnx.to_flat_state(state)}
    weights = _read_weights(folder, config, {name: leaf.shape for name, leaf in wanted.items()}, np.dtype(dtype))
    put = place or (lambda _, array: jnp.asarray(array))
    for path, leaf in nnx.to_flat_state(state):
        name = "/".join(map(str, path))
        leaf.set_value(put(name, weights.pop(name)))
    return nnx.merge(graph, state)


def abstract_decoder(config: DecoderConfig, *, dtype: jnp.dtype = jnp.float32) -> Decoder:
    """Its structure with shapes and dtypes in place of weights; nothing is allocated."""
    return nnx.eval_shape(lambda: Decoder(config, dtype=dtype, rngs=nnx.Rngs(0)))


def parameter_bytes(decoder: Decoder) -> int:
    """Memory of the weights, also of an abstract decoder."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(nnx.state(decoder)))


def _read_weights(
    folder: Path, config: DecoderConfig, shapes: dict[str, tuple[int, ...]], dtype: np.dtype
) -> dict[str, np.ndarray]:
    """Every weight as one array under its name here; the layers of a kind stacked on axis 0."""
    weights = {name: np.empty(shape, dtype) for name, shape in shapes.items()}
    depth = shapes["layers/query"][0]
    places: dict[str, tuple[str, int | None, bool]] = {"embed_tokens.weight": ("embedding", None, False)}
    if "norm" in shapes:
        places["norm.weight"] = ("norm", None, False)
    for name, (stored, transposed) in LAYER_WEIGHTS.items():
        if f"layers/{name}" in shapes:
            for index in range(depth):
                places[f"layers.{index}.{stored}"] = (f"layers/{name}", index, transposed)
    problems, seen = [], set()
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="flax") as file:
                for key in file.keys():  # noqa: SIM118 - it is no dict
                    stored = key.removeprefix("model.")
                    if stored.endswith(UNUSED_WEIGHTS) or _above(stored, depth, config, shapes):
                        continue
                    if stored not in places:
                        problems.append(f"unknown weight {key!r}")
                        continue
                    seen.add(stored)
                    name, index, transposed = places[stored]
                    array = np.asarray(file.get_tensor(key))
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


def _above(stored: str, depth: int, config: DecoderConfig, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a weight belongs to what a shallow decoder leaves out: layers from `depth` on, and the final norm."""
    if stored == "norm.weight":
        return "norm" not in shapes
    layer = re.match(r"layers\.(\d+)\.", stored)
    return bool(layer) and depth <= int(layer[1]) < config.layers


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of `folder`: one, or the shards that its index names."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise EncoderError(f"{index} cannot be read as an index of shards: {error!r}") from error
        missing = [name for name in names if not (folder / name).exists()]
        if missing:
            raise EncoderError(f"{index} names shards that are not there: {', '.join(missing)}")
        return [folder / name for name in names]
    single = folder / "model.safetensors"
    if not single.exists():
        raise EncoderError(f"{folder} holds no model.safetensors and no model.safetensors.index.json")
    return [single]
