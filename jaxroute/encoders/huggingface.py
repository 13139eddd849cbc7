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

# As safetensors calls them. Whole numbers would be quantised weights, whose scales stand elsewhere.
DTYPES = ("F32", "F16", "BF16", "F64")

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
    shallow = abstract_decoder(config.up_to(depth or config.layers), dtype=dtype)
    weights = _read_weights(folder, config, weight_shapes(shallow), np.dtype(dtype))
    graph, state = nnx.split(shallow)
    put = place or (lambda _, array: jnp.asarray(array))
    for path, leaf in nnx.to_flat_state(state):
        name = "/".join(map(str, path))
        leaf.set_value(put(name, weights.pop(name)))
    return nnx.merge(graph, state)


def abstract_decoder(config: DecoderConfig, *, dtype: jnp.dtype = jnp.float32) -> Decoder:
    """Its structure with shapes and dtypes in place of weights; nothing is allocated."""
    return nnx.eval_shape(lambda: Decoder(config, dtype=dtype, rngs=nnx.Rngs(0)))


def weight_shapes(decoder: Decoder) -> dict[str, tuple[int, ...]]:
    """Of every weight, under its name here; also of an abstract decoder."""
    return {"/".join(map(str, path)): leaf.get_value().shape for path, leaf in nnx.to_flat_state(nnx.state(decoder))}


def parameter_bytes(decoder: Decoder) -> int:
    """Memory of the weights, also of an abstract decoder."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(nnx.state(decoder)))


def _read_weights(
    folder: Path, config: DecoderConfig, shapes: dict[str, tuple[int, ...]], dtype: np.dtype
) -> dict[str, np.ndarray]:
    """Every weight as one array under its name here; the layers of a kind stacked on axis 0."""
    depth = shapes["layers/query"][0]
    places: dict[str, tuple[str, int | None, bool]] = {"embed_tokens.weight": ("embedding", None, False)}
    if "norm" in shapes:
        places["norm.weight"] = ("norm", None, False)
    for name, (stored, transposed) in LAYER_WEIGHTS.items():
        if f"layers/{name}" in shapes:
            for index in range(depth):
                places[f"layers.{index}.{stored}"] = (f"layers/{name}", index, transposed)
    found = _find_weights(folder, places, shapes, lambda stored: _above(stored, depth, config, shapes))
    weights = {name: np.empty(shape, dtype) for name, shape in shapes.items()}
    for path in sorted({path for path, _ in found.values()}):
        with safe_open(path, framework="flax") as file:
            for stored, (home, key) in found.items():
                if home == path:
                    name, index, transposed = places[stored]
                    array = np.asarray(file.get_tensor(key))
                    weights[name][... if index is None else index] = array.T if transposed else array
    return weights


def _find_weights(
    folder: Path,
    places: dict[str, tuple[str, int | None, bool]],
    shapes: dict[str, tuple[int, ...]],
    unwanted: Callable[[str], bool],
) -> dict[str, tuple[Path, str]]:
    """The file and the name there of everything in `places`, by the files' headers: errors come before memory is taken."""
    problems: list[str] = []
    found: dict[str, tuple[Path, str]] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="flax") as file:
                for key in file.keys():  # noqa: SIM118 - it is no dict
                    stored = key.removeprefix("model.")
                    if stored.endswith(UNUSED_WEIGHTS) or unwanted(stored):
                        continue
                    if stored not in places:
                        problems.append(f"unknown weight {key!r}")
                        continue
                    if stored in found:
                        problems.append(f"{key!r} stands twice, in {found[stored][0].name} and in {path.name}")
                        continue
                    found[stored] = path, key
                    name, index, transposed = places[stored]
                    wanted = shapes[name] if index is None else shapes[name][1:]
                    wanted = wanted[::-1] if transposed else wanted
                    header = file.get_slice(key)
                    if tuple(header.get_shape()) != wanted:
                        problems.append(f"{key!r} has shape {tuple(header.get_shape())}, the configuration says {wanted}")
                    if header.get_dtype() not in DTYPES:
                        problems.append(f"{key!r} is stored as {header.get_dtype()}, not as one of {', '.join(DTYPES)}")
        except (SafetensorError, OSError) as error:
            problems.append(f"{path.name} is not a whole safetensors file ({error})")
    problems += [f"missing weight 'model.{name}'" for name in places if name not in found]
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise EncoderError(f"the weights in {folder} do not fit its config.json: {shown}")
    return found


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
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise EncoderError(f"{index} cannot be read as an index of shards: {error!r}") from error
        odd = [name for name in names if not isinstance(name, str) or Path(name).name != name or not name.strip(". \0")]
        if odd or not names:
            raise EncoderError(f"{index} names {odd or 'no shards'}; a shard is a file in the same folder")
        missing = [name for name in names if not (folder / name).exists()]
        if missing:
            raise EncoderError(f"{index} names shards that are not there: {', '.join(missing)}")
        return [folder / name for name in names]
    single = folder / "model.safetensors"
    if not single.exists():
        raise EncoderError(f"{folder} holds no model.safetensors and no model.safetensors.index.json")
    return [single]
