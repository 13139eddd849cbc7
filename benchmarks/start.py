"""How long does it take until the command line answers, and which imports take the time?

    uv run python -m benchmarks.start

Each command runs in processes of its own, in turns: the processor's seconds, user and system, and those on the clock, medians
over the rounds. A first round, in which the files come from the disk and Python may compile them, does not count.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from benchmarks.bytecode import shared_bytecode
from jaxroute.storage.files import write_json

LINE = "from jaxroute.cli import run; run()"
STARTS: dict[str, tuple[str, ...]] = {
    "python": ("pass",),
    "import": ("import jaxroute",),
    "help": (LINE, "--help"),
    "train_help": (LINE, "train", "--help"),
    "route_help": (LINE, "route", "--help"),
    "score_help": (LINE, "score", "--help"),
    "evaluate_help": (LINE, "evaluate", "--help"),
    "run_help": (LINE, "run", "--help"),
    "assign_help": (LINE, "assign", "--help"),
    "sources_help": (LINE, "sources", "--help"),
}
"""Name in result.json -> what python runs, and its arguments; `python` is the interpreter alone."""


@dataclass(frozen=True)
class Config:
    """The start of every kind of command."""

    output: Path = Path("runs/benchmarks/start")
    """Folder for result.json."""
    rounds: int = 5
    """Turns, of which the figures are medians."""


def main(config: Config) -> dict[str, float | str]:
    """Run them all; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in STARTS}
    with shared_bytecode(), tempfile.TemporaryDirectory() as cache:
        for turn in range(config.rounds + 1):
            for name, arguments in STARTS.items():
                found = _start(arguments, cache)
                if turn:
                    seconds[name].append(found)
    result: dict[str, float | str] = {"processor": processor()}
    print(f"{'':<16} {'CPU seconds':>11} {'on the clock':>12}   on {result['processor']}")
    for name, found in seconds.items():
        cpu, wall = np.median(found, axis=0).tolist()
        result |= {f"{name}_cpu_seconds": cpu, f"{name}_seconds": wall}
        print(f"{name:<16} {cpu:>11.2f} {wall:>12.2f}")
    write_json(config.output / "result.json", result)
    return result


def processor() -> str:
    """Its name, as the operating system gives it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def _start(arguments: tuple[str, ...], cache: str) -> tuple[float, float]:
    """Seconds of the processor, and on the clock, of one process from its start to its end."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = os.environ | {"JAXROUTE_CACHE": cache}
    subprocess.run([sys.executable, "-c", *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


if __name__ == "__main__":
    main(tyro.cli(Config))
