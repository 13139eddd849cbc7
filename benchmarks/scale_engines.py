"""Does Ray write what the plain engine writes, how much faster are two workers, and what do kills lose?

    uv run --extra scale python -m benchmarks.scale --only engines [--small]

Prompts of the simulated pool through MiniLM, each run a process of its own, in turns, at a rate taken over the shards after
the first ones, so that neither starts nor compilation count. The plain engine is held to the same cores as the workers, and two
processes of it, each with a core of its own, show how far two cores are from twice one. Then the same command is killed by
SIGKILL, now a worker and now the process that was started, and started again where it is the latter.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from benchmarks.processes import Process, descendants, still_there
from jaxroute import Checkpoint, Predictor, load_source, save_checkpoint
from jaxroute.batch import shards
from jaxroute.batch.assigning import AssignShards, assign_shards
from jaxroute.batch.score_config import ScoreConfig
from jaxroute.batch.windows import Window
from jaxroute.batch.workers import EngineConfig, connected, cores_here
from jaxroute.cli import main
from jaxroute.data.estimates import Estimates, Estimator
from jaxroute.encoders import load_encoder
from jaxroute.encoders.features import FeatureConfig
from jaxroute.predictor.heads import Head
from jaxroute.predictor.pricing import Pricing
from jaxroute.storage.files import LOCK

Figures = dict[str, float | str | bool]
LINE = "from jaxroute.cli import run; run()"
MODELS = [f"model_{number}" for number in range(11)]
FILES = 4
WORKER = "ray::Worker"
"""How Ray names the process of a worker."""
MOMENTS = ["worker"] * 10 + ["driver"] * 7 + ["start"] * 3
"""Whom a kill hits: a worker, the process that was started while workers live, or that one while it starts."""
LONGEST_SECONDS = 600.0


def engines(small: bool, scratch: Path) -> Figures:
    """Bytes, rates and kills of `score` with and without Ray, and bytes of `assign`."""
    if importlib.util.find_spec("ray") is None:
        return {"identical_engines": "not measured: Ray is not installed (extra: scale)"}
    shards_of_run, rows, rounds = (4, 24, 1) if small else (24, 200, 3)
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch) as name:
        folder, cores = Path(name).absolute(), sorted(os.sched_getaffinity(0))[: 2 if cores_here() > 1 else 1]
        with _cluster(cores) as address:
            # Ray is started before JAX computes anything.
            given = [*_prepared(folder, shards_of_run * rows), "--rows-per-shard", str(rows)]
            found = _rates(folder, given, address, cores, rounds, here=small)
            same = _same_assignments(next(folder.glob("plain_one_core-*")), folder, address)
        found["identical_engines"] = found["identical_scores"] and same
        found |= _driver_rate(folder, 5_000 if small else 200_000)
        # What a small run takes are mostly imports: it starts as few processes as it can.
        if small:
            return found | _killed(folder, [*given, "--workers", "1"], ["worker", "driver"], longest_wait=1.0)
        return found | _killed(folder, given, MOMENTS)


@contextmanager
def _cluster(cores: list[int]) -> Iterator[str]:
    """Ray on these cores; yields its address."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        with connected(EngineConfig("ray")) as ray:
            assert ray is not None
            os.sched_setaffinity(0, before)
            yield ray.get_runtime_context().gcs_address
    finally:
        os.sched_setaffinity(0, before)


def _prepared(folder: Path, prompts: int) -> list[str]:
    """A checkpoint, and prompts in several files; returns the options that name them."""
    encoder, features = load_encoder("minilm"), FeatureConfig()
    head = Head(encoder.config.hidden_size * len(features.of(encoder).stated), len(MODELS), 2)
    predictor = Predictor(encoder=encoder, features=features.of(encoder), head=head, models=MODELS, levels=2)
    prices = np.geomspace(0.0001, 0.01, len(MODELS)).tolist()
    save_checkpoint(folder / "checkpoint", Checkpoint(predictor, Pricing(models=MODELS, mean_cost_usd=prices), {}))
    _write_prompts(folder / "prompts", list(load_source("simulated", queries=prompts, seed=0).prompts))
    return ["--checkpoint", str(folder / "checkpoint"), "--prompts", str(folder / "prompts")]


def _write_prompts(folder: Path, texts: list[str]) -> None:
    folder.mkdir()
    for number, part in enumerate(np.array_split(np.arange(len(texts)), FILES)):
        lines = [json.dumps({"id": int(row), "prompt": texts[row]}) + "\n" for row in part]
        (folder / f"part-{number}.jsonl").write_text("".join(lines))


def _rates(folder: Path, given: list[str], address: str, cores: list[int], rounds: int, *, here: bool) -> Figures:
    """Prompts per second of every way, in turns, and whether all wrote the same; `here`: the plain engine in this process."""
    ray = ["--engine", "ray", "--address", address, "--workers"]
    # Processes that run at once, each with its cores and options.
    ways: dict[str, list[tuple[list[int], list[str]]]] = {
        "plain_one_core": [(cores[:1], [])],
        "ray_one_worker": [(cores, [*ray, "1"])],
        "ray_two_workers": [(cores, [*ray, str(len(cores))])],
        "plain_two_cores": [(cores, [])],
        # What the machine can give at most: nothing is shared but memory, caches and power.
        "plain_two_processes": [([core], []) for core in cores],
    }
    if rounds == 1:
        del ways["plain_two_cores"], ways["plain_two_processes"]
    rates: dict[str, list[float]] = {name: [] for name in ways}
    contents = set[frozenset[tuple[str, bytes]]]()
    size = 0.0
    for turn in range(rounds):
        for name, processes in ways.items():
            outputs = [folder / f"{name}-{turn}-{number}" for number in range(len(processes))]
            commands = [
                (["score", *given, "--output", str(output), *options], allowed)
                for output, (allowed, options) in zip(outputs, processes, strict=True)
            ]
            if here and name == "plain_one_core":
                main(commands[0][0])
            else:
                _run(*commands)
            rates[name].append(sum(map(_rate, outputs)))
            for output in outputs:
                found = _contents(output)
                contents.add(frozenset(found.items()))
                size = sum(len(content) for name, content in found.items() if name.startswith("shard-")) / _rows(found).total()
    result: Figures = {f"{name}_prompts_per_second": float(np.median(found)) for name, found in rates.items()}
    result |= {
        "identical_scores": len(contents) == 1,
        "scored_bytes_per_row": size,
        "ray_two_workers_ratio": _ratio(rates["ray_two_workers"], rates["ray_one_worker"]),
        "ray_overhead_one_core": _ratio(rates["plain_one_core"], rates["ray_one_worker"]) - 1,
    }
    if plain := rates.get("plain_two_cores"):
        result["ray_overhead_two_cores"] = _ratio(plain, rates["ray_two_workers"]) - 1
        result["plain_two_processes_ratio"] = _ratio(rates["plain_two_processes"], rates["plain_one_core"])
    return result


def _ratio(above: list[float], below: list[float]) -> float:
    return float(np.median(np.divide(above, below)))


def _run(*commands: tuple[list[str], list[int]]) -> None:
    """Commands of jaxroute, all at once, each held to its cores; raises where one fails."""
    running: list[subprocess.Popen[bytes]] = []
    for command, cores in commands:
        program = f"import os; os.sched_setaffinity(0, {cores}); {LINE}"
        running.append(
            subprocess.Popen([sys.executable, "-c", program, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        )
    try:
        for one, (command, _) in zip(running, commands, strict=True):
            said = one.communicate(timeout=LONGEST_SECONDS)[1].decode()
            if one.returncode:
                raise RuntimeError(f"ended with {one.returncode}: {' '.join(command)}\n{said[-2000:]}")
    finally:
        for one in running:
            one.kill()


def _rate(output: Path) -> float:
    """Prompts per second: the slope of what is done over time, by least squares, after the first quarter of the shards.

    Each process compiles in its first windows, or loads, a program for every shape of a batch: two workers do so twice, in half
    the time.
    """
    import pyarrow.parquet

    paths = sorted(output.glob("shard-*"), key=lambda path: path.stat().st_mtime_ns)
    times = np.array([path.stat().st_mtime_ns * 1e-9 for path in paths])
    rows = np.cumsum([pyarrow.parquet.read_metadata(path).num_rows for path in paths])
    first = max(2, len(paths) // 4)
    return float(np.polyfit(times[first:] - times[0], rows[first:], 1)[0])


def _same_assignments(scored: Path, folder: Path, address: str) -> bool:
    """Whether the shards of assignments have the same bytes, with and without Ray."""
    queries = _rows(_contents(scored)).total()
    budget, ray = 0.002 * queries, ["--engine", "ray", "--address", address, "--solver", "shards"]
    assign_shards(AssignShards(scored, None, folder / "assigned", budget_usd=budget))
    command = ["assign", "--estimates", str(scored), "--budget-usd", repr(budget), "--output", str(folder / "assigned-ray")]
    _run(([*command, *ray], sorted(os.sched_getaffinity(0))))
    return _contents(folder / "assigned") == _contents(folder / "assigned-ray")


def _driver_rate(folder: Path, prompts: int) -> Figures:
    """What the process that reads prompts and writes shards does by itself: with workers that answer at once."""
    texts = list(load_source("simulated", queries=1_000, seed=1).prompts)
    _write_prompts(folder / "many", [f"{number} {texts[number % len(texts)]}" for number in range(prompts)])
    config = ScoreConfig(folder / "checkpoint", folder / "many", folder / "driven", rows_per_shard=prompts // 10)
    generator, estimator = np.random.default_rng(0), shards.load_estimator(config)

    def answer(config: ScoreConfig, estimator: Estimator, windows: Iterator[Window], bar: tqdm) -> shards.Found:
        for window in windows:
            shape = len(window.queries), len(MODELS)
            quality, cost = generator.random(shape, np.float32), generator.random(shape)
            yield window, Estimates(MODELS, quality, cost, "drawn", np.zeros(shape[0], bool))

    run: Callable[..., Any] = answer
    started = time.perf_counter()
    files = shards.check_prompt_files(config.prompts)
    config.output.mkdir()
    shards._score(config, estimator, files, run)  # pyright: ignore[reportPrivateUsage]
    seconds = time.perf_counter() - started
    text = sum(path.stat().st_size for path in config.prompts.iterdir())
    return {"driver_prompts_per_second": prompts / seconds, "prompt_bytes_per_row": text / prompts}


def _killed(folder: Path, given: list[str], moments: list[str], longest_wait: float = 5.0) -> Figures:
    """What is in the shards of runs that were killed, against an unbroken one."""
    expected, dice = _contents(next(folder.glob("plain_one_core-*"))), random.Random(0)
    rows, lost, twice, same, kills, runs = _rows(expected), 0, 0, True, Counter[str](), 0
    # The first is a worker's, so that even a few moments hit one in the midst of its work.
    waiting, seen = [moments[0], *dice.sample(moments[1:], len(moments) - 1)], set[Process]()
    while waiting:
        output = folder / f"killed-{runs}"
        runs += 1
        _kill_until_done(
            ["score", *given, "--output", str(output), "--engine", "ray"], waiting, kills, seen, dice, longest_wait
        )
        found = _contents(output)
        counts = _rows(found)
        lost += (rows - counts).total()
        twice += (counts - rows).total()
        same &= found == expected
    return {
        "killed_workers": float(kills["worker"]),
        "killed_drivers": float(kills["driver"] + kills["start"]),
        "killed_rows_lost": float(lost),
        "killed_rows_twice": float(twice),
        "killed_same_bytes": same,
        "killed_processes_left": float(len(still_there(seen, seconds=60))),
    }


def _kill_until_done(
    command: list[str],
    waiting: list[str],
    kills: Counter[str],
    seen: set[Process],
    dice: random.Random,
    longest_wait: float,
) -> None:
    """Kill whom the moments name, each after a wait in seconds, until none is left or the run is done; start again after a
    driver."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while True:
        driver = subprocess.Popen(
            [sys.executable, "-c", LINE, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        at = 0.0
        while driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.25)
            below = list(descendants(driver.pid))
            seen |= {one for one in below if one.command.startswith(WORKER) or "gcs_server" in one.command}
            workers = [one for one in below if one.command.startswith(WORKER)]
            if not waiting or (waiting[0] != "start" and not workers):
                continue
            at = at or time.monotonic() + dice.uniform(0, longest_wait)
            if time.monotonic() < at:
                continue
            victim = dice.choice(workers).pid if waiting[0] == "worker" else driver.pid
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                kills[waiting.pop(0)] += 1
            at = 0.0
        if driver.poll() is None:
            driver.kill()
            raise TimeoutError(f"not done within {LONGEST_SECONDS:.0f} s: {' '.join(command)}")
        said = driver.communicate()[1].decode()
        if driver.returncode == 0:
            return
        if driver.returncode != -signal.SIGKILL:
            raise RuntimeError(f"ended with {driver.returncode}: {said[-2000:]}")


def _contents(output: Path) -> dict[str, bytes]:
    """The shards and what is said of them; a lock is nobody's result."""
    return {path.name: path.read_bytes() for path in output.iterdir() if path.is_file() and path.name != LOCK}


def _rows(contents: Mapping[str, bytes]) -> Counter[int]:
    import pyarrow
    import pyarrow.parquet

    shards = [content for name, content in contents.items() if name.startswith("shard-")]
    return Counter(
        row for shard in shards for row in pyarrow.parquet.read_table(pyarrow.BufferReader(shard))["row"].to_pylist()
    )
