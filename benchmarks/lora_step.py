"""How fast is one LoRA step, against torch with PEFT, and how much memory does it take?

Rank 16 on query, key and value of all layers of SmolLM2, 8 prompts of 128 tokens, mean pooling, a linear head for nine models,
AdamW; float32, dropout 0.05. Run by `python -m benchmarks.scoring`; the memory of each is measured in a process of its own:

    uv run python -m benchmarks.lora_step --which ours
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
import tyro
from flax import nnx

from benchmarks.memory import peak_gigabytes
from jaxroute.encoders import load_encoder
from jaxroute.encoders.networks.lora import LoraConfig, new_adapters
from jaxroute.predictor.heads import Head
from jaxroute.predictor.tuning import MeshConfig, TuneConfig
from jaxroute.predictor.tuning.batches import MicroBatch
from jaxroute.predictor.tuning.mesh import devices
from jaxroute.predictor.tuning.steps import Network, accumulate, no_sums, optimizer, update

MODELS, RATE = 9, 1e-4


@dataclass(frozen=True)
class Config:
    """One side alone, for its memory."""

    which: str = "ours"
    """`ours` or `torch`."""
    rows: int = 8
    """Prompts in a step."""
    length: int = 128
    """Tokens of each."""
    rank: int = 16
    """Of the adapters."""
    steps: int = 3
    """How many, after a first one that compiles."""


def lora_step(*, rounds: int, config: Config | None = None) -> dict[str, float | str]:
    """Seconds of a step of ours and of torch's, in turns, and the peak memory of either alone."""
    config = config or Config()
    contestants = {"ours": ours(config)}
    if importlib.util.find_spec("torch") and importlib.util.find_spec("peft"):
        contestants["torch"] = torchs(config)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for step in contestants.values():
        step()
    for _ in range(rounds):
        for name, step in contestants.items():
            seconds[name].append(_timed(step))
    result: dict[str, float | str] = {f"lora_step_{name}_seconds": float(np.median(each)) for name, each in seconds.items()}
    result["lora_step_vs_torch"] = "skipped: torch or PEFT is not installed"
    if "torch" in seconds:
        result["lora_step_vs_torch"] = float(np.median(np.divide(seconds["torch"], seconds["ours"])))
    for name in contestants:
        command = [sys.executable, "-m", "benchmarks.lora_step", "--which", name]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        result[f"lora_step_{name}_peak_gb"] = float(printed.split()[-1])
    return result


def ours(config: Config) -> Callable[[], float]:
    """A step of jaxroute's; returns the loss."""
    tune = TuneConfig(mode="lora", lora=LoraConfig(rank=config.rank), encoder_learning_rate=RATE, head_learning_rate=RATE)
    decoder = load_encoder().network()
    graph, weights = nnx.split(decoder)
    head_graph, head, rest = nnx.split(Head(decoder.config.hidden_size, MODELS, 2), nnx.Param, ...)
    taps = ((decoder.config.layers, "mean"),)
    network = Network(graph, head_graph, taps, tune, 100, devices(MeshConfig()))
    trainable = {
        "encoder": new_adapters(tune.lora, decoder.config, jax.random.key(0)),
        "head": nnx.to_pure_dict(head),
    }
    frozen = {
        "encoder": nnx.to_pure_dict(weights),
        "head": nnx.to_pure_dict(rest),
        "penalty": np.float32(0.0),
        "penalties": np.zeros(MODELS, np.float32),
    }
    tokens, right = _batch(config)
    observed = np.ones((config.rows, MODELS), np.float32)
    batch = MicroBatch(tokens, np.full(config.rows, config.length, np.int32), np.stack([1 - right, right], axis=-1), observed)
    held = [trainable, optimizer(network).init(trainable), 0]

    def step() -> float:
        trainable, state, number = held
        draw = np.array([0, number, 0], np.uint32)
        sums = accumulate(network, trainable, frozen, no_sums(network, trainable), batch, draw)
        trainable, state, seen = update(network, trainable, frozen, state, sums)
        held[:] = trainable, state, number + 1
        return float(seen["loss"])

    return step


def torchs(config: Config) -> Callable[[], float]:
    """The same of PEFT's, on transformers' model (sdpa)."""
    import peft
    import torch
    from transformers import AutoModel

    base = AutoModel.from_pretrained(load_encoder().folder, dtype=torch.float32, attn_implementation="sdpa")
    described = peft.LoraConfig(r=config.rank, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "k_proj", "v_proj"])
    model = peft.get_peft_model(base, described).train()
    head = torch.nn.Linear(base.config.hidden_size, MODELS * 2)
    trained = [*(weight for weight in model.parameters() if weight.requires_grad), *head.parameters()]
    adam = torch.optim.AdamW(trained, lr=RATE)
    tokens, right = (torch.from_numpy(array) for array in _batch(config))

    def step() -> float:
        hidden = model(input_ids=tokens.long(), use_cache=False).last_hidden_state.mean(dim=1)
        logits = head(hidden).reshape(config.rows, MODELS, 2)
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, 2), right.long().reshape(-1))
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        adam.step()
        return float(loss.detach())

    return step


def _batch(config: Config) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    tokens = generator.integers(3, 49_000, (config.rows, config.length)).astype(np.int32)
    return tokens, generator.integers(0, 2, (config.rows, MODELS)).astype(np.float32)


def _timed(step: Callable[[], float]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def main(config: Config) -> None:
    """Run the steps and print the loss, seconds per step and peak memory in GB."""
    step = {"ours": ours, "torch": torchs}[config.which](config)
    step()
    seconds = [_timed(step) for _ in range(config.steps)]
    loss = step()
    print(f"{config.which}: loss {loss:.4f}, {np.median(seconds):.3f} s per step, peak memory in GB {peak_gigabytes():.2f}")


if __name__ == "__main__":
    main(tyro.cli(Config))
