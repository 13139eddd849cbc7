"""An encoder's weights from a Hugging Face folder: safetensors, single or sharded, without torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array
from safetensors import SafetensorError, safe_open

from jaxroute.encoders.networks.build import EncoderConfig, EncoderNetwork, build
from jaxroute.encoders.networks.configuration import read_config
from jaxroute.encoders.weights.weight_names import WeightNames, weight_names
from jaxroute.errors import EncoderError

# As safetensors calls them. Whole numbers would be quantised weights, whose scales are elsewhere.
DTYPES = ("F32", "F16", "BF16", "F64")

Place = Callable[[str, np.ndarray], Array]
"""Puts the weight of a name, (layers, inputs, outputs) where it is stacked, on its device or devices."""


def load_network(
    folder: Path, *, dtype: jnp.dtype = jnp.float32, depth: int | None = None, place: Place | None = None
) -> EncoderNetwork:
    """Build the network that `folder` describes and fill in every weight, of all layers or of the first `depth`.

    `place` decides where each weight lives; by default on JAX's default device. Raises `EncoderError`, with everything that
    is wrong in one message, for a configuration that would be computed differently here and for missing, unknown or
    misshapen weights.
    """
    config = read_config(folder)
    shallow = abstract_network(config.up_to(depth or config.layers), dtype=dtype)
    weights = _read_weights(folder, config, weight_shapes(shallow), np.dtype(dtype))
    graph, state = nnx.split(shallow)
    put = place or (lambda _, array: jnp.asarray(array))
    for path, leaf in nnx.to_flat_state(state):
        name = "/".join(map(str, path))
        leaf.set_value(put(name, weights.pop(name)))
    return nnx.merge(graph, state)


def abstract_network(config: EncoderConfig, *, dtype: jnp.dtype = jnp.float32) -> EncoderNetwork:
    """Its structure with shapes and dtypes in place of weights; nothing is allocated."""
    return nnx.eval_shape(lambda: build(config, dtype=dtype, rngs=nnx.Rngs(0)))


def weight_shapes(network: EncoderNetwork) -> dict[str, tuple[int, ...]]:
    """Of every weight, under its name here; also of an abstract network."""
    return {"/".join(map(str, path)): leaf.get_value().shape for path, leaf in nnx.to_flat_state(nnx.state(network))}


def parameter_bytes(network: EncoderNetwork) -> int:
    """Memory of the weights, also of an abstract network."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(nnx.state(network)))


def _read_weights(
    folder: Path, config: EncoderConfig, shapes: dict[str, tuple[int, ...]], dtype: np.dtype
) -> dict[str, np.ndarray]:
    """Every weight as one array under its name here; the layers of a kind stacked on axis 0."""
    names = weight_names(config)
    places = names.places(shapes)
    found = _find_weights(folder, names, places, shapes, config.layers)
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
    names: WeightNames,
    places: dict[str, tuple[str, int | None, bool]],
    shapes: dict[str, tuple[int, ...]],
    layers: int,
) -> dict[str, tuple[Path, str]]:
    """The file and the name there of everything in `places`, by the files' headers: errors come before memory is taken."""
    problems: list[str] = []
    found: dict[str, tuple[Path, str]] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="flax") as file:
                for key in file.keys():  # noqa: SIM118 - it is no dict
                    stored = names.plain(key)
                    if names.unused.match(stored) or _above(stored, names, shapes, layers):
                        continue
                    if stored not in places:
                        problems.append(f"unknown weight {key!r}")
                        continue
                    if stored in found:
                        problems.append(f"{key!r} appears twice, in {found[stored][0].name} and in {path.name}")
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
    problems += [f"missing weight '{names.prefix}{name}'" for name in places if name not in found]
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise EncoderError(f"the weights in {folder} do not fit its config.json: {shown}")
    return found


def _above(stored: str, names: WeightNames, shapes: dict[str, tuple[int, ...]], layers: int) -> bool:
    """Whether a weight belongs to what a shallow network leaves out: layers from its depth on, and a decoder's final norm."""
    if stored == names.whole.get("norm"):
        return "norm" not in shapes
    number = names.layer_number(stored)
    return number is not None and shapes["layers/query"][0] <= number < layers


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
