"""Adapters in PEFT's format, for others to use and from others: adapter_config.json and adapter_model.safetensors."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from jaxroute.encoders.networks.bert import BertConfig
from jaxroute.encoders.networks.build import EncoderConfig
from jaxroute.encoders.networks.correction import PROJECTIONS
from jaxroute.encoders.networks.lora import Adapters, LoraConfig
from jaxroute.errors import EncoderError
from jaxroute.storage.files import replacing_folder

PARTS = {"down": "lora_A", "up": "lora_B"}


@dataclass(frozen=True)
class Names:
    """What PEFT calls the projections of one kind of network."""

    modules: dict[str, str]
    attention: str
    """Before a module's name, with the layer's number in place of {}."""
    prefixes: tuple[str, ...]
    """Before that; the first is written, each is read, and so is none."""
    task: str

    def key(self, layer: int, name: str, part: str) -> str:
        return f"{self.prefixes[0]}{self.attention.format(layer)}{self.modules[name]}.{PARTS[part]}.weight"

    def read(self, key: str) -> tuple[int, str, str] | None:
        """Layer, projection and part of a key; None where it is no such key."""
        inner = key.removeprefix(max((prefix for prefix in self.prefixes if key.startswith(prefix)), key=len, default=""))
        attention = re.escape(self.attention).replace(r"\{\}", r"(\d+)")
        found = re.fullmatch(rf"{attention}(\w+)\.lora_(A|B)\.weight", inner)
        name = next((name for name, module in self.modules.items() if found and found[2] == module), None)
        return (int(found[1]), name, "down" if found[3] == "A" else "up") if found and name else None


DECODER = Names(
    modules={"query": "q_proj", "key": "k_proj", "value": "v_proj"},
    attention="layers.{}.self_attn.",
    prefixes=("base_model.model.model.", "base_model.model.", "model."),
    task="CAUSAL_LM",
)
BERT = Names(
    modules={"query": "query", "key": "key", "value": "value"},
    attention="encoder.layer.{}.attention.self.",
    prefixes=("base_model.model.", "base_model.model.bert.", "bert."),
    task="FEATURE_EXTRACTION",
)
# Fields that would change the arithmetic -> values that do not.
FIXED: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (False,),
    "fan_in_fan_out": (False,),
    "lora_bias": (False,),
    "rank_pattern": ({},),
    "alpha_pattern": ({},),
    "modules_to_save": ([],),
    "layer_replication": ([],),
    "trainable_token_indices": ([],),
    "target_parameters": ([],),
    "use_qalora": (False,),
}


def save_adapters(folder: Path | str, adapters: Adapters, config: LoraConfig, *, base: str, network: EncoderConfig) -> None:
    """Write what `PeftModel.from_pretrained(model, folder)` reads; whole, or not at all.

    The model is an AutoModelForCausalLM, or an AutoModel for BERT. `base` names it and `network` describes it; the adapters
    may cover the first of its layers only.
    """
    names = names_of(network)
    depth = len(next(iter(adapters.values()))["down"])
    tensors = {
        names.key(layer, name, part): np.ascontiguousarray(np.asarray(array[layer], np.float32).T)
        for name, pair in adapters.items()
        for part, array in pair.items()
        for layer in range(depth)
    }
    described = {
        "peft_type": "LORA",
        "task_type": names.task,
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": [names.modules[name] for name in config.projections],
        "layers_to_transform": None if depth == network.layers else list(range(depth)),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    with replacing_folder(folder) as partial:
        (partial / "adapter_config.json").write_text(json.dumps(described, indent=2) + "\n")
        save_file(tensors, partial / "adapter_model.safetensors", metadata={"format": "pt"})


def load_adapters(folder: Path | str, network: EncoderConfig) -> tuple[Adapters, LoraConfig]:
    """Adapters, on the host, for the layers of `network`; layers that the file does not correct get none (zeros).

    Raises `EncoderError`, with everything that is wrong in one message, for adapters that compute something else.
    """
    folder = Path(folder)
    names = names_of(network)
    config = _read_config(folder, names)
    try:
        tensors = load_file(folder / "adapter_model.safetensors")
    except (OSError, SafetensorError) as error:
        raise EncoderError(f"{folder}/adapter_model.safetensors cannot be read: {error}") from error
    adapters: Adapters = {
        name: {
            "down": np.zeros((network.layers, network.hidden_size, config.rank), np.float32),  # type: ignore[dict-item]
            "up": np.zeros((network.layers, config.rank, network.projection_size(name)), np.float32),
        }
        for name in config.projections
    }
    problems, seen = [], set()
    for key, tensor in tensors.items():
        found = names.read(key)
        if found is None or found[1] not in adapters:
            problems.append(f"unknown weight {key!r}")
            continue
        layer, name, part = found
        if layer >= network.layers:
            if tensor.any():
                problems.append(f"{key!r} corrects a layer beyond the {network.layers} in use")
            continue
        target = adapters[name][part][layer]
        if tensor.T.shape != target.shape:
            problems.append(f"{key!r} has shape {tensor.shape}, expected {target.shape[::-1]}")
            continue
        target[...] = tensor.T
        seen.add((layer, name, part))
    layers = {layer for layer, _, _ in seen}
    problems += [
        f"missing {PARTS[part]} of {names.modules[name]} in layer {layer}"
        for layer in sorted(layers)
        for name in config.projections
        for part in PARTS
        if (layer, name, part) not in seen
    ]
    if not seen:
        problems.append("it corrects no layer")
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise EncoderError(f"the adapter in {folder} does not fit: {shown}")
    return adapters, config


def names_of(network: EncoderConfig) -> Names:
    return BERT if isinstance(network, BertConfig) else DECODER


def _read_config(folder: Path, known: Names) -> LoraConfig:
    path = folder / "adapter_config.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(fields, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path} cannot be read as a PEFT adapter: {error}") from error
    problems = [
        f"{name}={fields[name]!r} is not supported (only {allowed[0]!r})"
        for name, allowed in FIXED.items()
        if fields.get(name) and fields[name] not in allowed
    ]
    problems += [f"{name} is missing" for name in ("peft_type", "r", "lora_alpha", "target_modules") if not fields.get(name)]
    modules = fields.get("target_modules") or []
    names = {module: name for name, module in known.modules.items()}
    unknown = [module for module in modules if module not in names] if isinstance(modules, list) else [modules]
    if unknown:
        problems.append(f"target_modules {', '.join(map(str, unknown))} not supported (only {', '.join(names)})")
    if problems:
        raise EncoderError(f"{path}: " + "; ".join(problems))
    try:
        projections = tuple(name for name in PROJECTIONS if known.modules[name] in modules)
        config = LoraConfig(fields["r"], float(fields["lora_alpha"]), float(fields.get("lora_dropout") or 0.0), projections)
    except (TypeError, ValueError) as error:
        raise EncoderError(f"{path}: {error}") from error
    # PEFT's rank-stabilised variant divides by the root of the rank; the same as another alpha.
    return replace(config, alpha=config.alpha * math.sqrt(config.rank)) if fields.get("use_rslora") else config
