"""Does everything that computes on a device run on the one that JAX finds, with the CPU's numbers, and how fast?

    uv run python -m benchmarks.accelerator [--small]

Encoders in float32 and bfloat16 against the CPU in float32; prompts per second, and what share that is of the device's own
speed with large products of matrices; a step of LoRA; `fit_linear`; and the search for the multiplier over 10^7 x 11 estimates,
by bisection on the device. Against torch on the same device where torch has it. Needs no network. Seen on a CPU that
another job used too: 2 minutes 40 seconds, features in bfloat16 at most 2.2 percent apart, the multiplier 8e-8. No accelerator
has been tried.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx

from benchmarks.lora_step import Config as LoraStep
from benchmarks.lora_step import ours as lora
from benchmarks.scoring import Torch, ours
from benchmarks.start import processor
from jaxroute import load_source
from jaxroute.encoders import load_encoder
from jaxroute.encoders.batching import ScoringConfig
from jaxroute.predictor.regression import Penalties, fit_linear, rotation
from jaxroute.storage.files import write_json
from solvers import Problem, lagrangian

Result = dict[str, float | str]
DTYPES = ("float32", "bfloat16")
BISECTIONS = 60


@dataclass(frozen=True)
class Config:
    """Every part on the device that JAX finds; `--small` shows that all of them run."""

    output: Path = Path("runs/benchmarks/accelerator")
    """Folder for result.json."""
    small: bool = False
    """Few prompts and few queries; its figures say nothing."""
    encoders: tuple[str, ...] = ("minilm", "smollm2")
    """Compared with the CPU, and measured."""
    prompts: int = 96
    """Through each encoder, in each type of number."""
    queries: int = 10_000_000
    """Of the assignment."""
    models: int = 11
    """Of the assignment."""
    tokens_per_batch: int | None = None
    """At once through the encoder; default: 1,024 on a CPU and 16,384 elsewhere."""


def main(config: Config) -> Result:
    """Run them all; returns what is also written to result.json. Raises at the end where a part has failed."""
    device = jax.devices()[0]
    print(f"results go to {config.output}/")
    result: Result = {"small": str(config.small), "platform": device.platform, "device": device.device_kind}
    result |= {"devices": float(jax.device_count()), "processor": processor()}
    if device.platform == "cpu":
        result["accelerator"] = "none was found: everything ran on the CPU, and no accelerator was tried"
        print(result["accelerator"])
    parts: dict[str, Callable[[], Result]] = {"peak": partial(peak, config)}
    parts |= {name: partial(encoder_speed, config, name, device, result) for name in config.encoders}
    parts |= {"lora": partial(lora_steps, config), "fit_linear": partial(fitted, config)}
    parts |= {"assignment": partial(assigned, config, device)}
    failed: list[Exception] = []
    for name, part in parts.items():
        started = time.perf_counter()
        try:
            found = part()
        except (RuntimeError, ValueError, NotImplementedError) as error:
            # The other parts still say something about the device.
            error.add_note(f"in the part {name!r}")
            failed.append(error)
            print(f"{name} failed: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr, flush=True)
            continue
        result |= found | {f"{name}_part_seconds": time.perf_counter() - started}
        for key, value in found.items():
            print(f"{key:<44} {value if isinstance(value, str) else f'{value:.4g}'}", flush=True)
    write_json(config.output / "result.json", result)
    if failed:
        raise ExceptionGroup("result.json holds the figures of the other parts only", failed)
    return result


def peak(config: Config) -> Result:
    """Gigaflops of large products, which shares are of."""
    return {f"product_{dtype}_gflops": product_gflops(dtype, 1024 if config.small else 4096) for dtype in DTYPES}


def encoder_speed(config: Config, name: str, device: Any, known: Result) -> Result:
    """Difference from the CPU in float32, prompts per second and share of the device's speed, per type of number."""
    count = 8 if config.small else config.prompts
    prompts, result = load_source("simulated", queries=count).prompts, Result()
    size = config.tokens_per_batch or (1024 if device.platform == "cpu" else 16_384)
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        expected = ours(load_encoder(name), prompts, ScoringConfig(devices=1))
    for dtype in DTYPES:
        encoder = load_encoder(name, dtype=dtype)
        run = partial(ours, encoder, prompts, ScoringConfig(tokens_per_batch=size))
        found, key = run(), f"{name}_{dtype}"
        seconds = _seconds(run, 1 if config.small else 3)
        off = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
        # Two operations per weight and token (Kaplan et al. 2020, section 2.1); attention is not counted.
        weights = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(encoder.network().layers)))
        gflops = 2e-9 * weights * float(np.sum(encoder.count_tokens(prompts))) / seconds
        result |= {f"{key}_largest_difference": float(off.max()), f"{key}_prompts_per_second": count / seconds}
        result |= {f"{key}_gflops": gflops}
        if isinstance(reached := known.get(f"product_{dtype}_gflops"), float):
            result |= {f"{key}_share_of_peak": gflops / reached}
    return result | torch_prompts_per_second(name, prompts, device)


def product_gflops(dtype: str, size: int) -> float:
    """What the device does in products of square matrices, the fastest of five: its peak as programs can reach it."""
    left = jnp.full((size, size), 1.0 / size, dtype)
    product = jax.jit(jnp.matmul)
    product(left, left).block_until_ready()
    return 2e-9 * size**3 / min(_seconds(lambda: product(left, left).block_until_ready(), 1) for _ in range(5))


def torch_prompts_per_second(name: str, prompts: list[str], device: Any) -> Result:
    """Torch's on the same device, in batches of 16, float32; says why where it cannot."""
    key = f"{name}_torch_prompts_per_second"
    if importlib.util.find_spec("torch") is None:
        return {key: "skipped: torch is not installed"}
    if device.platform != "cpu":
        import torch

        if not torch.cuda.is_available():
            return {key: f"skipped: this torch does not know the {device.platform}"}
        # The tokens of `Torch.run` are made on torch's default device.
        torch.set_default_device("cuda")
    peer = Torch(load_encoder(name))
    peer.run(prompts[:16], 16)
    return {key: len(prompts) / _seconds(lambda: peer.run(prompts, 16), 1)}


def lora_steps(config: Config) -> Result:
    """Seconds of a step of LoRA on SmolLM2, see lora_step.py."""
    step = lora(LoraStep(rows=2, length=32) if config.small else LoraStep())
    first = step()
    seconds = _seconds(step, 1 if config.small else 3)
    loss = step()
    return {
        "lora_step_seconds": seconds,
        "lora_first_loss": first,
        "lora_last_loss": loss,
        "lora_falls": str(loss < first).lower(),
    }


def fitted(config: Config) -> Result:
    """Seconds of `fit_linear` for nine models on 2,000 queries with 576 features."""
    queries, width, models = (200, 32, 3) if config.small else (2000, 576, 9)
    generator = np.random.default_rng(0)
    features = generator.normal(size=(queries, width))
    basis, curvature = rotation(features)
    right = (generator.uniform(size=(queries, models)) < 0.6).astype(np.float64)
    target, observed = np.stack([1 - right, right], axis=-1), np.ones((1, queries, models))
    penalties = Penalties(1.0, np.ones(models))
    return {"fit_linear_seconds": _seconds(lambda: fit_linear(features @ basis, target, observed, penalties, curvature), 1)}


def assigned(config: Config, device: Any) -> Result:
    """The multiplier by bisection on the device, in float32, against `lagrangian` on the host in float64."""
    queries = 100_000 if config.small else config.queries
    generator = np.random.default_rng(0)
    cost = np.geomspace(1e-5, 1e-2, config.models)
    value = generator.random((queries, config.models), np.float32) + np.linspace(0, 0.5, config.models, dtype=np.float32)
    budget = queries * 1e-3
    started = time.perf_counter()
    values, costs = jax.device_put(value, device), jax.device_put(cost.astype(np.float32), device)
    values.block_until_ready()
    placed = time.perf_counter() - started
    multiplier = _search(values, costs, budget).block_until_ready()
    seconds = _seconds(lambda: _search(values, costs, budget).block_until_ready(), 1)
    started = time.perf_counter()
    found = lagrangian(Problem(value, cost, budget_usd=budget))
    host = time.perf_counter() - started
    return {
        "multiplier_search_seconds": seconds,
        "multiplier_search_transfer_seconds": placed,
        "lagrangian_host_seconds": host,
        "multiplier_relative_difference": abs(float(multiplier) - found.multiplier) / found.multiplier,
    }


@jax.jit
def _search(value: Any, cost: Any, budget: Any) -> Any:
    """The least multiplier at which the choices cost no more than the budget."""

    def halved(_: int, ends: Any) -> Any:
        low, high = ends
        middle = jnp.exp((jnp.log(low) + jnp.log(high)) / 2)
        # Dollars as counts of each choice: a sum of ten million small floats in single precision would not be one.
        counts = jnp.bincount(jnp.argmax(value - middle * cost, axis=1), length=cost.shape[0])
        over = jnp.dot(counts.astype(jnp.float32), cost) > budget
        return jnp.where(over, middle, low), jnp.where(over, high, middle)

    return jax.lax.fori_loop(0, BISECTIONS, halved, (jnp.float32(1e-6), jnp.float32(1e6)))[1]


def _seconds(call: Callable[[], Any], times: int) -> float:
    """The median of so many calls."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return float(np.median(found))


if __name__ == "__main__":
    main(tyro.cli(Config))
