"""Adapters in PEFT's format, for others to use and from others: adapter_config.json and adapter_model.safetensors."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from jaxroute.encoders.decoder import DecoderConfig
from jaxroute.encoders.lora import PROJECTIONS, Adapters, LoraConfig
from jaxroute.errors import EncoderError
from jaxroute.files import replacing_folder

MODULES = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}
PARTS = {"down": "lora_A", "up": "lora_B"}
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
KEY = re.compile(r"^(?:base_model\.model\.)?(?:model\.)?layers\.(\d+)\.self_attn\.(q|k|v)_proj\.lora_(A|B)\.weight$")


def save_adapters(folder: Path | str, adapters: Adapters, config: LoraConfig, *, base: str, layers: int) -> None:
    """Write what `PeftModel.from_pretrained(AutoModelForCausalLM, folder)` reads; whole, or not at all.

    `base` names the model that the adapters belong to, which has `layers` layers; they may cover the first of these only.
    """
    depth = len(next(iter(adapters.values()))["down"])
    tensors = {
        f"base_model.model.model.layers.{layer}.self_attn.{MODULES[name]}.{PARTS[part]}.weight": np.ascontiguousarray(
            np.asarray(array[layer], np.float32).T
        )
        for name, pair in adapters.items()
        for part, array in pair.items()
        for layer in range(depth)
    }
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": [MODULES[name] for name in config.projections],
        "layers_to_transform": None if depth == layers else list(range(depth)),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    with replacing_folder(folder) as partial:
        (partial / "adapter_config.json").write_text(json.dumps(described, indent=2) + "\n")
        save_file(tensors, partial / "adapter_model.safetensors", metadata={"format": "pt"})


def load_adapters(folder: Path | str, decoder: DecoderConfig) -> tuple[Adapters, LoraConfig]:
    """Adapters, on the host, for the layers of `decoder`; layers that the file does not correct get none (zeros).

    Raises `EncoderError`, with everything that is wrong in one message, for adapters that compute something else.
    """
    folder = Path(folder)
    config = _read_config(folder)
    try:
        tensors = load_file(folder / "adapter_model.safetensors")
    except (OSError, SafetensorError) as error:
        raise EncoderError(f"{folder}/adapter_model.safetensors cannot be read: {error}") from error
    adapters: Adapters = {
        name: {
            "down": np.zeros((decoder.layers, decoder.hidden_size, config.rank), np.float32),  # type: ignore[dict-item]
            "up": np.zeros((decoder.layers, config.rank, decoder.projection_size(name)), np.float32),
        }
        for name in config.projections
    }
    problems, seen = [], set()
    for key, tensor in tensors.items():
        found = KEY.match(key)
        name = next((name for name in PROJECTIONS if found and MODULES[name].startswith(found[2])), None)
        if found is None or name not in adapters:
            problems.append(f"unknown weight {key!r}")
            continue
        layer, part = int(found[1]), "down" if found[3] == "A" else "up"
        if layer >= decoder.layers:
            if tensor.any():
                problems.append(f"{key!r} corrects a layer beyond the {decoder.layers} in use")
            continue
        target = adapters[name][part][layer]
        if tensor.T.shape != target.shape:
            problems.append(f"{key!r} has shape {tensor.shape}, expected {target.shape[::-1]}")
            continue
        target[...] = tensor.T
        seen.add((layer, name, part))
    layers = {layer for layer, _, _ in seen}
    problems += [
        f"missing {PARTS[part]} of {MODULES[name]} in layer {layer}"
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


def _read_config(folder: Path) -> LoraConfig:
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
    names = {module: name for name, module in MODULES.items()}
    unknown = [module for module in modules if module not in names] if isinstance(modules, list) else [modules]
    if unknown:
        problems.append(f"target_modules {', '.join(map(str, unknown))} not supported (only {', '.join(names)})")
    if problems:
        raise EncoderError(f"{path}: " + "; ".join(problems))
    try:
        projections = tuple(name for name in PROJECTIONS if MODULES[name] in modules)
        config = LoraConfig(fields["r"], float(fields["lora_alpha"]), float(fields.get("lora_dropout") or 0.0), projections)
    except (TypeError, ValueError) as error:
        raise EncoderError(f"{path}: {error}") from error
    # PEFT's rank-stabilised variant divides by the root of the rank; the same as another alpha.
    return replace(config, alpha=config.alpha * math.sqrt(config.rank)) if fields.get("use_rslora") else config
