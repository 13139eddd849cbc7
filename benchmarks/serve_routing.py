"""How long does a request wait for its estimate, and how well and how surely is a budget spent?

    uv run python -m benchmarks.serve_routing [--small] [--dtype bfloat16]

Prompts arrive at random moments and are ranked by `LiveChooser`, as in the proxy; what is measured is the time from the arrival
to the ranking, the wait for others included. Beside it stand the arithmetic that a prompt needs and what the processor did
of it meanwhile, so that figures of a busy machine can be read: `*_cpu_ms` is the processor's time per prompt, over all cores.
The stream and the adversary are those of pace_simulation.py: virtual time, a real ledger, no HTTP.

Minutes on free cores. Seen on two of an AMD EPYC with avx512_bf16, medians and 99th percentiles: MiniLM 19 and 58 ms (13 for
prompts one after the other, 24 of processor time), SmolLM2 93 and 187 ms (92; 139), a new turn 59 ms (106). A prompt of
SmolLM2 within 50 ms is beyond these two cores. At least 0.994 of hindsight's gain at three budgets.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from jaxroute.storage.cache import keep_compiled

keep_compiled()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from benchmarks.pace_simulation import HOUR, Outcome, Stream, answer, random_stream  # noqa: E402
from benchmarks.start import processor  # noqa: E402
from jaxroute import Predictor  # noqa: E402
from jaxroute.encoders import load_encoder  # noqa: E402
from jaxroute.encoders.features import FeatureConfig  # noqa: E402
from jaxroute.encoders.live import LiveConfig  # noqa: E402
from jaxroute.encoders.narrowing import stated_dtype  # noqa: E402
from jaxroute.endpoints.models import Endpoint  # noqa: E402
from jaxroute.endpoints.prices import TokenPrice  # noqa: E402
from jaxroute.predictor.heads import Head  # noqa: E402
from jaxroute.predictor.pricing import Pricing  # noqa: E402
from jaxroute.serve.asking import Asked  # noqa: E402
from jaxroute.serve.choosing import Candidate  # noqa: E402
from jaxroute.serve.live import LiveChooser  # noqa: E402
from jaxroute.storage.files import write_json  # noqa: E402

Result = dict[str, float | str]
MODELS = ["small", "medium", "large"]
TOKENS = 128
SHORT = 0.1
"""A budget, as a share of what the most expensive model would cost for everybody."""
SEEDS = 6
"""Streams whose beginnings are looked at."""
WORDS = "the of and to in is that it was for on are with as his they be at one have this from by word but what some"


@dataclass(frozen=True)
class Config:
    """Estimates in time, and budgets; `--small` shows that everything runs."""

    output: Path = Path("runs/benchmarks/serve_routing")
    """Folder for result.json."""
    small: bool = False
    """Few requests; its figures say nothing."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the encoders' weights, as `jaxroute serve --encoder-dtype`."""
    parts: tuple[str, ...] = ("minilm", "decoder", "budget", "beginning", "adversary")
    """What is run."""
    seconds: float = 10.0
    """Of arrivals."""
    turns: int = 8
    """Of the conversation."""
    stream: int = 10_000
    """Requests in random order, at three budgets."""
    adversary: int = 100_000
    """Requests that try to overspend; 1,000,000 take about ten times as long."""
    seed: int = 0
    """Of everything random."""


def main(config: Config) -> Result:
    """Run the parts; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    if config.small:
        config = Config(config.output, True, config.dtype, config.parts, 0.5, 2, 500, 500, config.seed)
    parts: dict[str, Callable[[Config], Result]] = {
        "minilm": lambda config: asyncio.run(_arrivals(config, "minilm", 20.0)),
        "decoder": lambda config: asyncio.run(_decoder(config)),
        "budget": _budget,
        "beginning": _beginning,
        "adversary": _adversary,
    }
    if config.dtype == "auto":
        config = replace(config, dtype=stated_dtype("auto"))
    result: Result = {"small": str(config.small), "dtype": config.dtype, "processor": processor()}
    result |= {"load_average_before": os.getloadavg()[0]}
    for name in config.parts:
        found = parts[name](config)
        result |= found
        for figure, value in found.items():
            print(f"{figure:<40} {value if isinstance(value, str) else f'{value:.4g}'}", flush=True)
    result |= {"load_average_after": os.getloadavg()[0]}
    write_json(config.output / "result.json", result)
    return result


async def _decoder(config: Config) -> Result:
    chooser, found = _chooser(config, "smollm2", "decoder")
    found |= await _measured(config, chooser, "decoder", 5.0)
    found |= await _turns(config, chooser)
    chooser.close()
    return found


async def _arrivals(config: Config, encoder: str, per_second: float) -> Result:
    chooser, found = _chooser(config, encoder, encoder)
    found |= await _measured(config, chooser, encoder, per_second)
    chooser.close()
    return found


def _chooser(config: Config, encoder: str, name: str) -> tuple[LiveChooser, Result]:
    """Ready to rank, with a head that says nothing, and how long that took."""
    loaded = load_encoder(encoder)
    features = FeatureConfig().of(loaded)
    head = Head(loaded.config.hidden_size * len(features.stated), len(MODELS), 2)
    pricing = Pricing(models=MODELS, mean_cost_usd=[1e-5, 1e-4, 1e-3])
    predictor = Predictor(encoder=loaded, features=features, head=head, models=MODELS, levels=2, pricing=pricing)
    slots = (128, 512) if config.small else LiveConfig().slots
    chooser = LiveChooser(predictor, _endpoints(), LiveConfig(dtype=config.dtype, slots=slots))
    begun, cpu = time.perf_counter(), time.process_time()
    chooser.warm()
    return chooser, {
        f"{name}_start_seconds": time.perf_counter() - begun,
        f"{name}_start_cpu_seconds": time.process_time() - cpu,
    }


async def _measured(config: Config, chooser: LiveChooser, name: str, per_second: float) -> Result:
    """Milliseconds of prompts that arrive at random moments, and of one after the other."""
    generator = np.random.default_rng(config.seed)
    candidates = [Candidate(endpoint, 1.0) for endpoint in _endpoints().values()]

    async def one(prompt: str) -> float:
        begun = time.perf_counter()
        # Those that are ranked by their length take microseconds, and are counted by themselves.
        if chooser.reader.wait_seconds > chooser.patience_seconds:
            return math.nan
        await chooser.rank(_asked(prompt), candidates, 0.0, None)
        return time.perf_counter() - begun

    prompts = [_prompt(chooser, TOKENS, generator) for _ in range(max(int(per_second * config.seconds), 2))]
    for prompt in prompts[:2]:
        await one(prompt)
    gaps = generator.exponential(1 / per_second, len(prompts))
    tasks, cpu = [], time.process_time()
    due = time.perf_counter()
    for gap, prompt in zip(gaps, prompts, strict=True):
        due += gap
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        tasks.append(asyncio.create_task(one(prompt)))
    seconds = np.array(await asyncio.gather(*tasks))
    cpu = (time.process_time() - cpu) / len(prompts)
    alone = np.array([await one(_prompt(chooser, TOKENS, generator)) for _ in range(2 if config.small else 15)])
    gigaflops = _gigaflops(chooser, TOKENS, TOKENS / 2)
    peak = _peak_gigaflops(config.dtype)
    return {
        f"{name}_p50_ms": float(1e3 * np.nanquantile(seconds, 0.5)),
        f"{name}_p99_ms": float(1e3 * np.nanquantile(seconds, 0.99)),
        f"{name}_alone_ms": float(1e3 * np.median(alone)),
        f"{name}_alone_best_ms": float(1e3 * alone.min()),
        f"{name}_cpu_ms": 1e3 * cpu,
        f"{name}_by_length": float(np.isnan(seconds).sum()),
        f"{name}_gigaflops": gigaflops,
        f"{name}_peak_gigaflops_per_core": peak,
        f"{name}_floor_ms": 1e3 * gigaflops / peak / (os.cpu_count() or 1),
    }


async def _turns(config: Config, chooser: LiveChooser) -> Result:
    """A conversation of nearly 2,000 tokens, and turns of 40."""
    generator = np.random.default_rng(config.seed)
    first = 200 if config.small else 2_000 - 40 * config.turns
    conversations = chooser.reader.conversations
    assert conversations is not None
    text = "system: " + _prompt(chooser, first, generator)
    await asyncio.wrap_future(chooser.reader.submit(text, keeps=True))
    # It was longer than is read at once: the rest is read while nobody waits.
    for _ in range(1_200):
        if len(conversations):
            break
        await asyncio.sleep(0.1)
    seconds, cpu, count = [], time.process_time(), conversations.hits
    for _ in range(config.turns):
        text += "\n\nuser: " + _prompt(chooser, 36, generator)
        begun = time.perf_counter()
        await asyncio.wrap_future(chooser.reader.submit(text, keeps=True))
        seconds.append(time.perf_counter() - begun)
    cpu = (time.process_time() - cpu) / config.turns
    total = int(chooser.predictor.encoder.count_tokens([text])[0])
    gigaflops = _gigaflops(chooser, 40, total)
    peak = _peak_gigaflops(config.dtype)
    return {
        "new_turn_p50_ms": float(1e3 * np.median(seconds)),
        "new_turn_best_ms": float(1e3 * np.min(seconds)),
        "new_turn_cpu_ms": 1e3 * cpu,
        "new_turn_tokens_in_all": float(total),
        "new_turn_tokens_not_read_again": float((conversations.hits - count) / config.turns),
        "new_turn_gigaflops": gigaflops,
        "new_turn_floor_ms": 1e3 * gigaflops / peak / (os.cpu_count() or 1),
    }


def _budget(config: Config) -> Result:
    """The least share of hindsight's gain over three budgets, where every answer costs what is expected; and what is refused at
    a budget that is short, of a load that grows all the time."""
    stream = random_stream(config.stream, seed=config.seed)
    exact = Stream(stream.value, stream.cost_usd, np.ones(config.stream), stream.cap)
    most = float(stream.cost_usd[:, -1].sum())
    each, excess = {}, 0.0
    for part in (0.25, 0.5, 0.75):
        for reserve, name in ((True, ""), (False, "_without_reserve")):
            outcome = answer(exact, part * most, seed=config.seed, reserve=reserve)
            each[f"share_of_offline_optimum_at_{100 * part:.0f}{name}"] = exact.gain(outcome.value, part * most)
            excess = max(excess, outcome.overspend_usd)
    least = min(share for name, share in each.items() if not name.endswith("_without_reserve"))
    for reserve, name in ((True, ""), (False, "_without_reserve")):
        outcome = answer(stream, SHORT * most, seed=config.seed, reserve=reserve, rising=2.0)
        each[f"rising_load_refused_share{name}"] = outcome.refused / config.stream
        excess = max(excess, outcome.overspend_usd)
    return {"share_of_offline_optimum": least, **each, "stream_overspend_usd": excess}


def _beginning(config: Config) -> Result:
    """How far what the first requests of a window cost lies from an even rate, root mean square over SEEDS streams: with the
    estimates of 1,000 training prompts to begin with, and without."""
    requests, windows = 50 if config.small else 500, 20
    found: Result = {}
    for part in (SHORT, 0.5):
        deviations: dict[str, list[float]] = {}
        for seed in range(SEEDS):
            stream = random_stream(requests, seed=config.seed + seed)
            stream = Stream(stream.value, stream.cost_usd, np.ones(requests), stream.cap)
            even = part * random_stream(100_000, seed=config.seed).cost_usd[:, -1].mean()
            for before, name in ((random_stream(1_000, seed=config.seed + 100 + seed), "training"), (None, "nothing")):
                # All of them come in the first part of a longer window.
                outcome = answer(
                    stream,
                    even * windows * requests,
                    seed=config.seed + seed,
                    window=windows * HOUR,
                    expected_requests=windows * requests,
                    before=before,
                )
                for first in (requests // 10, requests):
                    key = f"first_{first}_from_{name}_at_{100 * part:.0f}"
                    deviations.setdefault(key, []).append(float(outcome.each_usd[:first].sum()) / (even * first) - 1)
        found |= {name: float(np.sqrt(np.mean(np.square(values)))) for name, values in deviations.items()}
    return found


def _adversary(config: Config) -> Result:
    """Requests in bursts, 200 in flight, cut, wrong, by name and killed, at a budget that is short."""
    stream = random_stream(config.adversary, seed=config.seed + 1)
    budget = SHORT * float(stream.cost_usd[:, -1].sum())

    def outcome(*, reserve: bool) -> Outcome:
        return answer(stream, budget, seed=config.seed, adversarial=True, at_once=200, reserve=reserve)

    found, without = outcome(reserve=True), outcome(reserve=False)
    return {
        "overspend_usd": max(found.overspend_usd, without.overspend_usd),
        "adversary_requests": float(config.adversary),
        "adversary_budget_usd": budget,
        "adversary_spent_usd": found.spent_usd,
        "adversary_killed": float(found.abandoned),
        "adversary_refused": float(found.refused),
        "adversary_refused_share": found.refused / config.adversary,
        "adversary_refused_share_of_routed": (found.refused - found.refused_by_name) / (config.adversary - found.by_name),
        "adversary_refused_share_by_name": found.refused_by_name / max(found.by_name, 1),
        "adversary_least_refused_share": found.least_refused / config.adversary,
        "adversary_refused_share_without_reserve": without.refused / config.adversary,
        "adversary_mean_quality": found.value / config.adversary,
        "adversary_mean_quality_without_reserve": without.value / config.adversary,
    }


def _asked(prompt: str) -> Asked:
    return Asked.read("chat", json.dumps({"model": "auto", "messages": [{"role": "user", "content": prompt}]}).encode())


def _prompt(chooser: LiveChooser, tokens: int, generator: np.random.Generator) -> str:
    """Words that make so many tokens, with those that the tokenizer puts around them."""
    text = " ".join(generator.choice(WORDS.split(), tokens))
    while int(chooser.predictor.encoder.count_tokens([text])[0]) > tokens:
        text = text.rsplit(" ", 1)[0]
    return text


def _gigaflops(chooser: LiveChooser, tokens: float, seen: float) -> float:
    """Two operations per weight and token, and in attention four per head's element, token and token seen."""
    live = chooser.reader.live
    weights = sum(leaf.size for leaf in live.layers[0])
    config = live.network
    head = config.hidden_size // config.heads
    attention = 4 * config.heads * head * seen * (1 if live.is_causal else 2)
    return 1e-9 * live.depth * tokens * (2 * weights + attention)


def _peak_gigaflops(dtype: str) -> float:
    """What one core does of a product of such matrices, in processor time."""
    generator = np.random.default_rng(0)
    left, right = (jnp.asarray(generator.normal(0, 1, shape), dtype) for shape in ((128, 576), (576, 1536)))
    product = jax.jit(lambda left, right: jnp.matmul(left, right, preferred_element_type=jnp.float32))
    product(left, right).block_until_ready()
    taken = []
    for _ in range(7):
        begun = time.process_time()
        jax.block_until_ready([product(left, right) for _ in range(40)])
        taken.append((time.process_time() - begun) / 40)
    return 2e-9 * 128 * 576 * 1536 / min(taken)


def _endpoints() -> dict[str, Endpoint]:
    return {name: Endpoint(name, "http://127.0.0.1", name, TokenPrice(1.0, 2.0)) for name in MODELS}


if __name__ == "__main__":
    main(tyro.cli(Config))
