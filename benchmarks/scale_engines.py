"""Does `score --engine ray` write what the plain engine writes, how much faster are two workers, and what do kills lose?

    uv run --extra scale python -m benchmarks.scale_engines [--small]

Prompts of the simulated pool through MiniLM, each run a process of its own, in turns, at a rate taken over the shards after
the first, so that neither starts nor compilation count. The plain engine is held to the same cores as the workers. Then the
same command is killed by SIGKILL, now a worker and now the process that was started, and started again where it is the latter.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from benchmarks.start import processor
from jaxroute import Checkpoint, Predictor, load_source, save_checkpoint
from jaxroute.batch.workers import cores_here
from jaxroute.encoders import load_encoder
from jaxroute.encoders.features import FeatureConfig
from jaxroute.predictor.heads import Head
from jaxroute.predictor.pricing import Pricing
from jaxroute.storage.files import write_json

Result = dict[str, float | str]
LINE = "from jaxroute.cli import run; run()"
MODELS = ["small", "large"]
FILES = 4
WORKER = "ray::Worker"
"""How Ray names the process of a worker."""
LONGEST_SECONDS = 600.0


@dataclass(frozen=True)
class Config:
    """One worker, two, and none; then kills."""

    output: Path = Path("runs/benchmarks/scale_engines")
    """Folder for result.json."""
    small: bool = False
    """Few prompts, one turn and two kills; its figures say nothing."""
    shards: int = 24
    """Of each run."""
    rows_per_shard: int = 256
    """Prompts of each."""
    rounds: int = 3
    """Turns, of which ratios are medians."""
    kills: int = 20
    """Moments at which a process is killed."""
    encoder: str = "minilm"
    """What the workers keep: `minilm`, `smollm2`, a .gguf file, or a Hugging Face folder."""
    seed: int = 0
    """Of the prompts and of the moments."""


def main(config: Config) -> Result:
    """Run all of it; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    result: Result = {"small": str(config.small), "processor": processor()} | engines(config)
    for name, value in result.items():
        print(f"{name:<32} {value if isinstance(value, str) else f'{value:.4g}'}")
    write_json(config.output / "result.json", result)
    return result


def engines(config: Config) -> Result:
    """Bytes, rates and kills."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards, rows = (8, 32) if config.small else (config.shards, config.rows_per_shard)
        command = [*_prepared(folder, config, shards * rows), "--rows-per-shard", str(rows)]
        return _rates(folder, command, config) | _killed(folder, command, config)


def _prepared(folder: Path, config: Config, prompts: int) -> list[str]:
    """A checkpoint, and prompts in several files; returns the command that scores them."""
    encoder, features = load_encoder(config.encoder), FeatureConfig()
    head = Head(encoder.config.hidden_size * len(features.of(encoder).stated), len(MODELS), 2)
    predictor = Predictor(encoder=encoder, features=features.of(encoder), head=head, models=MODELS, levels=2)
    save_checkpoint(folder / "checkpoint", Checkpoint(predictor, Pricing(models=MODELS, mean_cost_usd=[0.1, 1.0]), {}))
    texts = load_source("simulated", queries=prompts, seed=config.seed).prompts
    (folder / "prompts").mkdir()
    for number, part in enumerate(np.array_split(np.arange(prompts), FILES)):
        lines = [json.dumps({"id": int(row), "prompt": texts[row]}) + "\n" for row in part]
        (folder / "prompts" / f"part-{number}.jsonl").write_text("".join(lines))
    given = ["--checkpoint", str(folder / "checkpoint"), "--prompts", str(folder / "prompts")]
    return [sys.executable, "-c", LINE, "score", *given]


def _rates(folder: Path, command: list[str], config: Config) -> Result:
    cores = sorted(os.sched_getaffinity(0))[: 2 if cores_here() > 1 else 1]
    ways = {
        "plain_one_core": (cores[:1], []),
        "ray_one_worker": (cores, ["--engine", "ray", "--workers", "1"]),
        "plain_two_cores": (cores, []),
        "ray_two_workers": (cores, ["--engine", "ray", "--workers", str(len(cores))]),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    contents = set[frozenset[tuple[str, bytes]]]()
    for turn in range(1 if config.small else config.rounds):
        for name, (allowed, options) in ways.items():
            output, started = folder / f"{name}-{turn}", time.perf_counter()
            _run([*command, "--output", str(output), *options], allowed)
            seconds[name].append(time.perf_counter() - started)
            rates[name].append(_rate(output))
            contents.add(frozenset(_contents(output).items()))
    result: Result = {f"{name}_prompts_per_second": float(np.median(found)) for name, found in rates.items()}
    result |= {f"{name}_seconds": float(np.median(found)) for name, found in seconds.items()}

    def ratio(first: str, second: str) -> float:
        return float(np.median(np.divide(rates[first], rates[second])))

    return result | {
        "identical_engines": str(len(contents) == 1).lower(),
        "ray_two_workers_ratio": ratio("ray_two_workers", "ray_one_worker"),
        "ray_overhead_one_core": 1 / ratio("ray_one_worker", "plain_one_core") - 1,
        "ray_overhead_two_cores": 1 / ratio("ray_two_workers", "plain_two_cores") - 1,
    }


def _run(command: list[str], cores: list[int]) -> None:
    """Held to `cores`; raises where it fails."""
    program = ["import os, sys", f"os.sched_setaffinity(0, {cores})", LINE]
    held = [command[0], "-c", "; ".join(program), *command[3:]]
    subprocess.run(held, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=LONGEST_SECONDS)


def _rate(output: Path) -> float:
    """Prompts per second: the slope of what is done over time, by least squares, from the second shard of each worker on."""
    import pyarrow.parquet

    paths = sorted(output.glob("shard-*"), key=lambda path: path.stat().st_mtime_ns)
    times = np.array([path.stat().st_mtime_ns * 1e-9 for path in paths])
    rows = np.cumsum([pyarrow.parquet.read_metadata(path).num_rows for path in paths])
    return float(np.polyfit(times[2:] - times[0], rows[2:], 1)[0])


def _killed(folder: Path, command: list[str], config: Config) -> Result:
    """What is in the shards of runs that were killed, against an unbroken one."""
    expected, dice = _contents(next(folder.glob("plain_one_core-*"))), random.Random(config.seed)
    rows, lost, twice, same, kills = _rows(expected), 0, 0, True, Counter[str]()
    wanted = 2 if config.small else config.kills
    while sum(kills.values()) < wanted:
        output = folder / f"killed-{sum(kills.values())}"
        _kill_until_done([*command, "--output", str(output), "--engine", "ray"], kills, wanted, dice)
        found = _contents(output)
        counts = _rows(found)
        lost += sum((rows - counts).values())
        twice += sum((counts - rows).values())
        same &= found == expected
    return {
        "killed_workers": float(kills["worker"]),
        "killed_drivers": float(kills["driver"]),
        "killed_rows_lost": float(lost),
        "killed_rows_twice": float(twice),
        "killed_same_bytes": str(same).lower(),
    }


def _kill_until_done(command: list[str], kills: Counter[str], wanted: int, dice: random.Random) -> None:
    """Kill a worker or the driver every few seconds until there were enough or the run is done; start again after a driver."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while True:
        driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        at = time.monotonic() + dice.uniform(2, 12)
        while driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
            if sum(kills.values()) >= wanted or time.monotonic() < at:
                continue
            victims = [pid for pid, name in _descendants(driver.pid) if name.startswith(WORKER)]
            if victims and dice.random() < 0.6:
                os.kill(dice.choice(victims), signal.SIGKILL)
                kills["worker"] += 1
            else:
                driver.send_signal(signal.SIGKILL)
                kills["driver"] += 1
            at = time.monotonic() + dice.uniform(1, 8)
        if driver.poll() is None:
            driver.kill()
            raise TimeoutError(f"not done within {LONGEST_SECONDS:.0f} s: {' '.join(command)}")
        said = driver.communicate()[1].decode()
        if driver.returncode == 0:
            return
        if driver.returncode != -signal.SIGKILL:
            raise RuntimeError(f"ended with {driver.returncode}: {said[-2000:]}")


def _descendants(pid: int) -> Iterator[tuple[int, str]]:
    """(process, its command line) of all below it, as Linux lists them."""
    below: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                names[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            below.setdefault(parent, []).append(int(folder.name))
    waiting = below.get(pid, [])
    while waiting:
        one = waiting.pop()
        yield one, names[one]
        waiting += below.get(one, [])


def _contents(output: Path) -> dict[str, bytes]:
    """The shards and what is said of them; a lock is nobody's result."""
    return {path.name: path.read_bytes() for path in output.iterdir() if path.is_file() and path.name != ".lock"}


def _rows(contents: Mapping[str, bytes]) -> Counter[int]:
    import pyarrow
    import pyarrow.parquet

    shards = [content for name, content in contents.items() if name.startswith("shard-")]
    return Counter(
        row for shard in shards for row in pyarrow.parquet.read_table(pyarrow.BufferReader(shard))["row"].to_pylist()
    )


if __name__ == "__main__":
    main(tyro.cli(Config))
