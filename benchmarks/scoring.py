"""How fast are prompts encoded, and against whom? How long does a second start take?

    JAXROUTE_DATA=... uv run --group benchmarks python -m benchmarks.scoring [--small]

160 prompts of MMLU's training part through all 30 layers of SmolLM2, tokenizing included, in turns in one process: ours in
float32 and in bfloat16; torch transformers in both (sdpa, inference mode, prompts sorted by length, batches padded to their
longest, the best of several batch sizes); and ours in float32 with every prompt padded to the longest, on a part of them, since
it is slow. Then the same with MiniLM, and a step of LoRA, rank 16, on 8 x 128 tokens against torch with PEFT.

12 minutes on 2 cores. Seen on an AMD EPYC with avx512_bf16, on which short trials ran at times: SmolLM2 7.4 prompts per second,
168 gigaflops, 1.27 times torch in batches of 4; padded to the longest 5.5 times slower; in bfloat16 11.2, 1.52 times our
float32, 1.93 and 1.22 times torch in float32 and bfloat16. MiniLM 60.2, 1.05 times torch; in bfloat16 78.6, 1.31 times our
float32, 1.38 and 0.84 times torch's. A step of LoRA 3.3 s, torch 3.5 (1.01 times); peak memory 1.9 and 3.0 GB. On cores with
AVX-512 whose name was not recorded, with version 0.1.0: 15.6 prompts per second, 344 gigaflops, 2.15 times torch; LoRA 1.15.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from flax import nnx
from jaxtyping import Float, Int

from benchmarks.lora_step import lora_step
from benchmarks.start import processor
from jaxroute import Checkpoint, Predictor, load_source, save_checkpoint
from jaxroute.encoders import Encoder, load_encoder
from jaxroute.encoders.batching import ScoringConfig, encode
from jaxroute.encoders.features import FeatureConfig
from jaxroute.predictor.heads import Head
from jaxroute.predictor.pricing import Pricing
from jaxroute.storage.files import write_json

Result = dict[str, float | str]
VARIABLE = "JAXROUTE_DATA"
PADDED_ROWS = 8
"""Prompts at once in the padded run: with more, scores of attention no longer fit into the caches and it gets slower."""


@dataclass(frozen=True)
class Config:
    """Prompts through the encoder; `--small` shows that everything runs."""

    output: Path = Path("runs/benchmarks/scoring")
    """Folder for result.json."""
    small: bool = False
    """8 prompts and one round; its figures say nothing."""
    encoder: str = "smollm2"
    """`smollm2`, a .gguf file, or a Hugging Face folder."""
    other_encoders: tuple[str, ...] = ("minilm",)
    """Measured beside it, also against torch; their figures begin with their name."""
    prompts: int = 160
    """How many; of MMLU where JAXROUTE_DATA names the published outcomes, else of the simulated pool."""
    padded_prompts: int = 24
    """How many of them, evenly over their lengths, are padded to the longest of all."""
    rounds: int = 3
    """Turns, of which ratios and speeds are medians."""
    torch_batches: tuple[int, ...] = (1, 4, 8, 16)
    """Batch sizes that are tried for torch, once each on a quarter of the prompts; the fastest takes part."""
    seed: int = 0
    """Of the sample of prompts."""
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    narrow_tokens_per_batch: int = 1024
    """Tokens that are computed at once in bfloat16."""


def main(config: Config) -> Result:
    """Run them all; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    result: Result = {"small": str(config.small)}
    result["processor"] = processor()
    for part in (second_start, every_encoder, lora):
        found = part(config)
        result |= found
        for name, value in found.items():
            print(f"{name:<44} {value if isinstance(value, str) else f'{value:.4g}'}", flush=True)
    write_json(config.output / "result.json", result)
    return result


def every_encoder(config: Config) -> Result:
    """Prompts per second of each, and how many times as fast as the first the others are."""
    result = prompts_per_second(config, config.encoder)
    for name in config.other_encoders:
        found = prompts_per_second(config, name)
        result |= {f"{name}_{key}": value for key, value in found.items() if key != "prompts"}
        speeds = float(found["ours_prompts_per_second"]), float(result["ours_prompts_per_second"])
        result[f"{name}_vs_{config.encoder}"] = speeds[0] / speeds[1]
    return result


def prompts_per_second(config: Config, name: str) -> Result:
    """Ours, torch and padding to the longest, in turns."""
    encoder = load_encoder(name)
    prompts, source = _prompts(config)
    lengths = np.minimum(encoder.count_tokens(prompts), encoder.config.context_length)
    result: Result = {"prompts": source, "prompts_tokens": float(lengths.sum()), "prompts_longest": float(lengths.max())}
    sample = _spread(prompts, lengths, config.padded_prompts)
    quarter = _spread(prompts, lengths, -(-len(prompts) // 4))
    narrow = replace(config.scoring, dtype="bfloat16", tokens_per_batch=config.narrow_tokens_per_batch)
    contestants: dict[str, Callable[[], Any]] = {
        "ours": lambda: ours(encoder, prompts, config.scoring),
        "ours_bfloat16": lambda: ours(encoder, prompts, narrow),
        "pad_to_longest": lambda: padded_to_longest(encoder, sample, int(lengths.max())),
    }
    counts = dict.fromkeys(("ours", "ours_bfloat16", "torch", "torch_bfloat16"), len(prompts)) | {"pad_to_longest": len(sample)}
    expected = ours(encoder, prompts, config.scoring)
    result["ours_bfloat16_relative_difference"] = _difference(ours(encoder, prompts, narrow), expected)
    padded_to_longest(encoder, sample, int(lengths.max()))
    if importlib.util.find_spec("torch"):
        for dtype, prefix in (("float32", "torch"), ("bfloat16", "torch_bfloat16")):
            peer = Torch(encoder, dtype)
            contestants[prefix], found = _best_of_torch(peer, prompts, quarter, config.torch_batches, prefix)
            result |= found | {f"{prefix}_relative_difference": _difference(contestants[prefix](), expected)}
    else:
        result["prompts_per_second_vs_torch"] = "skipped: torch is not installed"
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(1 if config.small else config.rounds):
        for name, run in contestants.items():
            speeds[name].append(counts[name] / _seconds(run))
    result |= {f"{name}_prompts_per_second": float(np.median(each)) for name, each in speeds.items()}
    for name in set(contestants) - {"ours"}:
        result[f"prompts_per_second_vs_{name}"] = float(np.median(np.divide(speeds["ours"], speeds[name])))
    for name in set(contestants) - {"ours_bfloat16", "pad_to_longest"}:
        result[f"bfloat16_prompts_per_second_vs_{name}"] = float(np.median(np.divide(speeds["ours_bfloat16"], speeds[name])))
    # Each layer multiplies by every weight once per token, two operations each (Kaplan et al. 2020, section 2.1).
    weights = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(encoder.network().layers)))
    return result | {"ours_gflops": 2e-9 * weights * lengths.sum() / len(prompts) * float(result["ours_prompts_per_second"])}


def lora(config: Config) -> Result:
    """One step of training, see lora_step.py."""
    return lora_step(rounds=1 if config.small else 2 * config.rounds + 1)


def ours(encoder: Encoder, prompts: list[str], config: ScoringConfig) -> Float[np.ndarray, "queries hidden"]:
    token_ids, _ = encoder.tokenize(prompts)
    states = np.empty((len(prompts), encoder.config.hidden_size), np.float32)
    taps = ((encoder.config.layers, "mean"),)
    for positions, pooled in encode(encoder.network(dtype=config.dtype), token_ids, taps=taps, config=config):
        states[positions] = pooled[:, 0]
    return states


def padded_to_longest(encoder: Encoder, prompts: list[str], length: int) -> Float[np.ndarray, "queries hidden"]:
    """The same decoder on rows of the longest prompt's length, in the order given."""
    token_ids, _ = encoder.tokenize(prompts)
    graph, state = nnx.split(encoder.network())
    states = []
    for start in range(0, len(prompts), PADDED_ROWS):
        batch = token_ids[start : start + PADDED_ROWS]
        tokens, lengths = np.zeros((len(batch), length), np.int32), np.array([len(ids) for ids in batch])
        for row, ids in enumerate(batch):
            tokens[row, : len(ids)] = ids
        states.append(np.asarray(_padded(graph, state, tokens, lengths)))
    return np.concatenate(states)


@partial(jax.jit, static_argnums=0)
def _padded(graph, state, tokens, lengths):
    decoder = nnx.merge(graph, state)
    return decoder(tokens, lengths, taps=((decoder.config.layers, "mean"),))[:, 0]


class Torch:
    """transformers' own model of the same folder."""

    def __init__(self, encoder: Encoder, dtype: str = "float32"):
        import torch
        from transformers import AutoModel

        self.torch, self.encoder = torch, encoder
        loaded = AutoModel.from_pretrained(encoder.folder, dtype=getattr(torch, dtype), attn_implementation="sdpa")
        self.model: Any = loaded.eval()

    def run(self, prompts: list[str], batch: int) -> Float[np.ndarray, "queries hidden"]:
        """The mean over the tokens of the last layer's states."""
        torch = self.torch
        token_ids, _ = self.encoder.tokenize(prompts)
        order = np.argsort([len(ids) for ids in token_ids], kind="stable")
        states = np.empty((len(prompts), self.encoder.config.hidden_size), np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                tokens = torch.zeros((len(rows), max(len(token_ids[row]) for row in rows)), dtype=torch.long)
                mask = torch.zeros_like(tokens)
                for place, row in enumerate(rows):
                    tokens[place, : len(token_ids[row])] = torch.from_numpy(token_ids[row].astype(np.int64))
                    mask[place, : len(token_ids[row])] = 1
                hidden = self.model(input_ids=tokens, attention_mask=mask, use_cache=False).last_hidden_state.float()
                real = mask[..., None].to(hidden.dtype)
                states[rows] = ((hidden * real).sum(1) / real.sum(1)).numpy()
        return states


def _best_of_torch(
    peer: Torch, prompts: list[str], tried_on: list[str], batches: tuple[int, ...], prefix: str
) -> tuple[Callable[[], Float[np.ndarray, "queries hidden"]], Result]:
    """Torch in the batch size that is fastest, and what was tried; the first run of all is not counted."""
    peer.run(prompts[:8], batches[0])
    tried = {batch: len(tried_on) / _seconds(lambda batch=batch: peer.run(tried_on, batch)) for batch in batches}
    best = max(tried, key=lambda batch: tried[batch])
    result: Result = {f"{prefix}_batch_{batch}_prompts_per_second": speed for batch, speed in tried.items()}
    return lambda: peer.run(prompts, best), result | {f"{prefix}_batch": float(best)}


def second_start(config: Config) -> Result:
    """A process of its own, twice, from its first moment to the first estimate of a prompt that it has not seen."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint"
        encoder, models = load_encoder(config.encoder), ["small", "large"]
        features = FeatureConfig().of(encoder)
        head = Head(encoder.config.hidden_size * len(features.stated), len(models), 2)
        predictor = Predictor(encoder=encoder, features=features, head=head, models=models, levels=2)
        save_checkpoint(checkpoint, Checkpoint(predictor, Pricing(models=models, mean_cost_usd=[0.1, 1.0]), {}))
        printed = [_first_estimate(checkpoint) for _ in ("first", "second")][-1]
    names = ("imports", "checkpoint", "weights", "estimate")
    seconds = dict(zip(names, map(float, printed.split()), strict=True))
    parts = {f"second_start_{name}_seconds": value for name, value in seconds.items()}
    return {"second_start_seconds": sum(seconds.values())} | parts


def _first_estimate(checkpoint: Path) -> str:
    """What a process of its own prints: the seconds of each part."""
    arguments = [sys.executable, "-c", FIRST_ESTIMATE, str(checkpoint), repr(time.time())]
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout


FIRST_ESTIMATE = """
import sys, time
from jaxroute import Router
from jaxroute.storage.cache import keep_compiled
keep_compiled()
times = [float(sys.argv[2]), time.time()]
router = Router.load(sys.argv[1])
predictor = router.estimator
times.append(time.time())
predictor.encoder.network(max(predictor.features.stated))
times.append(time.time())
router.estimate([f"What is {time.time_ns()} plus 4? Explain every step."])
times.append(time.time())
print(*(after - before for before, after in zip(times, times[1:])))
"""


def _prompts(config: Config) -> tuple[list[str], str]:
    count = 8 if config.small else config.prompts
    if os.environ.get(VARIABLE):
        path = Path(os.environ[VARIABLE]) / "routerdc" / "mmlu_train.json"
        name, all_prompts = "MMLU", load_source("routerdc", path, binary=True).prompts
    else:
        print(f"{VARIABLE} is not set: the prompts are made up, and their lengths with them")
        name, all_prompts = "simulated", load_source("simulated", queries=2 * count).prompts
    chosen = np.random.default_rng(config.seed).choice(len(all_prompts), count, replace=False)
    return [all_prompts[row] for row in chosen], name


def _spread(prompts: list[str], lengths: Int[np.ndarray, " queries"], count: int) -> list[str]:
    """`count` prompts, evenly over the lengths."""
    places = np.linspace(0, len(prompts) - 1, min(count, len(prompts))).round().astype(int)
    return [prompts[row] for row in np.argsort(lengths, kind="stable")[places]]


def _difference(found: Float[np.ndarray, "queries hidden"], expected: Float[np.ndarray, "queries hidden"]) -> float:
    """The largest relative difference of a prompt's states."""
    return float(np.max(np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)))


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main(tyro.cli(Config))
