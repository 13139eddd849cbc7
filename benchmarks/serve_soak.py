"""Does the proxy answer everything and keep its memory, for as long as it runs at 80 percent of what it can?

    uv run python -m benchmarks.serve --soak MINUTES

The endpoints, the proxy and the load are processes of their own. First requests follow each other as fast as they are
answered, which is the capacity of all three together on this machine; then they arrive at random moments at a share of it:
chats, streams, clients that leave in the middle, completions, responses, embeddings and wrong requests, half of them for
`auto`, while endpoints refuse, fail, cut, are slow and count wrongly. Memory is what Linux says is resident, of the proxy and
its workers.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.endpoints import LINE, simulated_server
from jaxroute.commands.simulate import models_yaml
from jaxroute.data.sources.simulated import load_simulated, simulated_prices
from jaxroute.endpoints.ledger import Ledger
from jaxroute.progress import without_bars
from jaxroute.routers.base import find_router

FAULTS = ("rate_limit=0.02", "server_error=0.02", "cut=0.02", "malformed=0.01", "wrong_usage=0.03", "slow_first_byte=0.005")
SAMPLE_SECONDS = 2.0
MEBIBYTE = 2**20
Result = dict[str, float | str]


@dataclass(frozen=True)
class Soak:
    """How long, and at which load."""

    minutes: float
    share: float = 0.8
    """Of the capacity that is measured first."""
    capacity_seconds: float = 20.0
    """Of that measurement."""
    concurrent: int = 16
    """Requests that follow each other in it."""
    workers: int = 1
    """Of the proxy."""


def soak(config: Soak) -> Result:
    """Measure, then load; raises where the proxy has failed, and prints an example of everything that went wrong."""
    with tempfile.TemporaryDirectory() as name, simulated_server("--slow-seconds", "1", "--faults", *FAULTS) as upstream:
        folder = Path(name)
        (folder / "models.yaml").write_text(models_yaml(upstream))
        with without_bars():
            router = find_router("prompt_length").fit(load_simulated(queries=600, seed=0), prices=simulated_prices())
        router.save(folder / "checkpoint")
        with _proxy(folder, config.workers) as (process, address):
            memory = [(time.monotonic(), resident(process.pid))]
            full = _loaded(address, config.capacity_seconds, memory, process, "--concurrent", str(config.concurrent))
            capacity = full["requests_per_second"]
            print(f"capacity: {capacity:.0f} requests a second; now {100 * config.share:.0f} percent of it", flush=True)
            begun = time.monotonic()
            rate = str(config.share * capacity)
            found = _loaded(address, 60 * config.minutes, memory, process, "--rate", rate, "--seed", "1")
            with urllib.request.urlopen(address.removesuffix("/v1") + "/metrics") as response:
                internal = _internal(response.read().decode())
            process.send_signal(signal.SIGTERM)
            code = process.wait(90)
        with Ledger(folder / "ledger.db") as ledger:
            totals = ledger.totals(every_window=True)
    for outcome, example in found["examples"].items():
        print(f"{outcome}: {example}", flush=True)
    outcomes = {**full["outcomes"]}
    for outcome, count in found["outcomes"].items():
        outcomes[outcome] = outcomes.get(outcome, 0) + count
    own = outcomes.get("error of ours", 0) + outcomes.get("wrong error", 0) + internal
    return {
        "soak_minutes": config.minutes,
        "soak_workers": float(config.workers),
        "soak_capacity_per_second": capacity,
        "soak_requests_per_second": found["requests_per_second"],
        "soak_requests": float(sum(outcomes.values())),
        "soak_answered": float(outcomes.get("answered", 0)),
        "soak_rejected": float(outcomes.get("rejected", 0)),
        "soak_left": float(outcomes.get("left", 0)),
        "soak_endpoint_failed": float(outcomes.get("endpoint failed", 0)),
        "soak_errors_of_ours": float(own),
        "soak_without_answer_or_error": float(outcomes.get("no answer and no error", 0)),
        "soak_slowest_seconds": found["slowest_seconds"],
        "soak_exit_code": float(code),
        "soak_reserved_usd_at_the_end": totals.reserved_usd,
        **_memory(memory, begun),
    }


def _memory(memory: list[tuple[float, float]], begun: float) -> Result:
    """Mebibytes at the start, after the first fifth of the load, and at the end, and the slope in between per hour."""
    seconds, resident_mb = np.array(memory).T
    warm = begun + 0.2 * (seconds[-1] - begun)
    later = seconds >= warm
    slope = np.polyfit(seconds[later] / 3600, resident_mb[later], 1)[0] if later.sum() > 2 else np.nan
    return {
        "soak_memory_at_start_mb": float(resident_mb[0]),
        "soak_memory_warm_mb": float(resident_mb[later][0]),
        "soak_memory_at_end_mb": float(resident_mb[-1]),
        "soak_memory_slope_mb_per_hour": float(slope),
    }


def _loaded(address: str, seconds: float, memory: list[tuple[float, float]], proxy: subprocess.Popen, *options: str) -> Any:
    """What the load has seen; meanwhile the memory of the proxy is noted."""
    command = [sys.executable, "-m", "benchmarks.soak_load", address, str(seconds), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while True:
            try:
                said, _ = process.communicate(timeout=SAMPLE_SECONDS)
                break
            except subprocess.TimeoutExpired:
                assert proxy.poll() is None, f"the proxy has ended: {proxy.returncode}"
                memory.append((time.monotonic(), resident(proxy.pid)))
    assert process.returncode == 0, "the load has failed"
    return json.loads(said)


def resident(number: int) -> float:
    """Mebibytes of a process and its children, from Linux's /proc (proc(5)); elsewhere NaN."""
    try:
        pages = int(Path(f"/proc/{number}/statm").read_text().split()[1])
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
    except (OSError, ValueError):
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / MEBIBYTE + sum(resident(int(child)) for child in children)


def _internal(metrics: str) -> int:
    """Errors of our own that the proxy has counted."""
    found = re.findall(r'^jaxroute_errors_total\{[^}]*reason="internal_error"[^}]*\} (\S+)$', metrics, re.MULTILINE)
    return int(sum(map(float, found)))


@contextmanager
def _proxy(folder: Path, workers: int):
    options = ["--models", str(folder / "models.yaml"), "--checkpoint", str(folder / "checkpoint")]
    options += ["--budget-usd", "1000000", "--per", "hour", "--ledger", str(folder / "ledger.db"), "--workers", str(workers)]
    command = [sys.executable, "-c", LINE, "serve", "--port", "0", *options]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            found = re.search(r"http://[^\s:]+:\d+/v1", process.stdout.readline())
            assert found, f"the proxy has not started: {(folder / 'log').read_text()[-2000:]}"
            yield process, found.group()
        finally:
            if process.poll() is None:
                process.terminate()
