"""How many requests a second does the client make, against OpenAI's, and how many operations a second does the ledger take?

    uv run python -m benchmarks.endpoints [--small]

The simulated endpoints answer at once, from a process of their own. 64 tasks ask them in turns through our client, through
our client with a ledger, and through `openai.AsyncOpenAI`, all on one model and the same prompts, with their
retries and time-outs at work. The ledger: 10^5 reservations from 8 processes of 16 tasks, 40 of which are killed by SIGKILL
and resumed.

2 minutes on 2 cores. Seen, on cores shared with other jobs: 2,585 requests per second, 1,344 with a ledger, OpenAI's client
315 (6.1 and 3.5 times, medians over 5 turns); 0.24, 0.39 and 1.68 milliseconds of the processor per request. The ledger took
7,674 operations per second while 40 processes were killed; at its highest it held 0.999999 of its limit, and not a picodollar
was lost.
"""

from __future__ import annotations

import asyncio
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.ledger_kills import Plan, run
from benchmarks.start import processor
from jaxroute.endpoints import Client, Ledger
from jaxroute.simulation import simulated_endpoints
from jaxroute.storage.files import write_json

Result = dict[str, float | str]
LINE = "from jaxroute.cli import run; run()"
MODEL = "sim-small"
Ask = Callable[[str], Awaitable[Any]]


@dataclass(frozen=True)
class Config:
    """The client and the ledger; `--small` shows that everything runs."""

    output: Path = Path("runs/benchmarks/endpoints")
    """Folder for result.json."""
    small: bool = False
    """Few requests and operations; its figures say nothing."""
    requests: int = 2000
    """In each turn of each client."""
    concurrent: int = 64
    """Tasks that ask at the same time."""
    rounds: int = 5
    """Turns, of which the figures are medians."""
    plan: Plan = field(default_factory=Plan)
    """Of the ledger."""


def main(config: Config) -> Result:
    """Run them all; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    result: Result = {"small": str(config.small), "processor": processor()}
    for part in (clients, ledger):
        found = part(config)
        result |= found
        for name, value in found.items():
            print(f"{name:<44} {value if isinstance(value, str) else f'{value:.4g}'}", flush=True)
    write_json(config.output / "result.json", result)
    return result


def clients(config: Config) -> Result:
    """Requests per second, and processor seconds of the client's process per request."""
    with simulated_server() as base_url:
        return asyncio.run(_in_turns(config, base_url))


async def _in_turns(config: Config, base_url: str) -> Result:
    requests, rounds = (128, 1) if config.small else (config.requests, config.rounds)
    endpoints = simulated_endpoints(base_url, concurrent_requests=config.concurrent)
    figures: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        paid = Ledger(Path(folder) / "ledger.db", 1000.0)
        async with Client(endpoints) as ours, Client(endpoints, ledger=paid) as with_ledger:
            contestants: dict[str, Ask] = {
                "ours": lambda prompt: ours.ask(MODEL, prompt, output_tokens=256),
                "ours_with_ledger": lambda prompt: with_ledger.ask(MODEL, prompt, output_tokens=256),
            }
            if importlib.util.find_spec("openai"):
                from openai import AsyncOpenAI

                sdk = AsyncOpenAI(base_url=base_url, api_key="none")
                contestants["sdk"] = lambda prompt: sdk.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": prompt}], max_tokens=256
                )
            for turn in range(rounds + 1):
                for name, ask in contestants.items():
                    found = await _timed(ask, requests if turn else config.concurrent, config.concurrent)
                    if turn:
                        figures.setdefault(name, []).append(found)
    result: Result = {}
    for name, turns in figures.items():
        result[f"{name}_requests_per_second"] = float(np.median([rate for rate, _ in turns]))
        result[f"{name}_cpu_seconds_per_request"] = float(np.median([seconds for _, seconds in turns]))
    result["requests_per_second_vs_sdk"] = result["cpu_vs_sdk"] = "skipped: openai is not installed"
    if "sdk" in figures:
        pairs = list(zip(figures["ours"], figures["sdk"], strict=True))
        result["requests_per_second_vs_sdk"] = float(np.median([mine[0] / theirs[0] for mine, theirs in pairs]))
        result["cpu_vs_sdk"] = float(np.median([theirs[1] / mine[1] for mine, theirs in pairs]))
        pairs = list(zip(figures["ours_with_ledger"], figures["sdk"], strict=True))
        result["requests_per_second_with_ledger_vs_sdk"] = float(np.median([mine[0] / theirs[0] for mine, theirs in pairs]))
    return result


async def _timed(ask: Ask, requests: int, concurrent: int) -> tuple[float, float]:
    """Requests per second, and processor seconds of this process per request."""
    numbers = iter(range(requests))

    async def task() -> None:
        for number in numbers:
            await ask(f"What is {number % 100} plus 4?")

    clock, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(task() for _ in range(concurrent)))
    return requests / (time.perf_counter() - clock), (time.process_time() - cpu) / requests


@contextmanager
def simulated_server(*options: str) -> Iterator[str]:
    """`jaxroute simulate` in a process of its own that answers at once; yields its address."""
    command = [sys.executable, "-c", LINE, "simulate", "--port", "0", "--queries", "0", "--time-scale", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            found = re.search(r"http://\S+/v1", process.stdout.readline())
            assert found, "the simulated endpoints have not started"
            yield found.group()
        finally:
            process.terminate()


def ledger(config: Config) -> Result:
    """Operations per second while processes are killed; raises where money was lost or invented."""
    plan = Plan(operations=2000, kills=4, processes=4) if config.small else config.plan
    with tempfile.TemporaryDirectory() as folder:
        account = run(plan, Path(folder))
    assert not account.problems, account.problems
    return {
        "ledger_operations_per_second": account.operations / account.seconds,
        "ledger_operations": float(account.operations),
        "ledger_reservations": float(account.reservations),
        "ledger_refused": float(account.refused),
        "ledger_kills": float(account.kills),
        "ledger_highest_share_of_limit": account.highest_pico / plan.limit_pico,
        "ledger_settled_usd": account.settled_pico / 1e12,
        "ledger_lost_or_invented_usd": abs(account.settled_pico - account.expected_settled_pico) / 1e12,
    }


if __name__ == "__main__":
    main(tyro.cli(Config))
