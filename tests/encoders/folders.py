"""Hugging Face folders written by tests, and what the decoder in one computes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from jaxroute.encoders.weights.huggingface import load_network


def write_folder(folder: Path, config: dict, weights: dict[str, np.ndarray], **changes: object) -> Path:
    folder.mkdir(exist_ok=True)
    stated = config | {"model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 1e4} | changes
    (folder / "config.json").write_text(json.dumps(stated))
    save_file(weights, folder / "model.safetensors")
    return folder


def states(folder: Path) -> np.ndarray:
    tokens = np.arange(12, dtype=np.int32).reshape(2, 6)
    return np.asarray(load_network(folder)(tokens, np.array([6, 4]), taps=((1, "mean"), (2, "last"))))
