"""Does a collection lose, repeat or double anything while its process is killed, and how many cells a second does it take?

    uv run python -m benchmarks.collect_kills [--small]

Two collections of the same questions from ten simulated models, a fifth of whose requests fail: one unbroken, one whose
process is killed by SIGKILL again and again and started anew with the same command. The endpoints run here, and count what they
serve.

    same table       quality and answer of every cell
    asked again      cells that were asked though their answer was stored; must be none
    twice            answers of one cell beyond 1 + how often it was under way at a kill; must be none
    dollars          of each stored answer as the endpoint counts them; all that was served is stored or was under way at a kill
    spend            the ledger's = stored answers + tries without an answer + worst cases of killed calls, to the picodollar

50 seconds on 2 cores, which the endpoints and the collection share. Seen: 10,000 cells, 1,014 per second unbroken, 0.96
milliseconds of the processor per cell; 20 kills with 2,609 calls under way; nothing asked again or answered twice, not a
picodollar off.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tyro

from benchmarks.start import processor
from jaxroute.commands.simulate import models_yaml
from jaxroute.data.sources.simulated import load_simulated
from jaxroute.data.table import RoutingTable
from jaxroute.endpoints import build_request, load_models
from jaxroute.endpoints.money import picodollars
from jaxroute.simulation import Simulation, SimulationConfig, serving_in_thread
from jaxroute.simulation.counts import picodollars as served_picodollars
from jaxroute.storage.files import write_json

LINE = "from jaxroute.cli import run; run()"
LOOK_SECONDS = 0.005
SETTLE_SECONDS = 0.3
"""After a kill, until the endpoints have noticed."""
WITHOUT_ANSWER = ("cut", "malformed", "wrong_usage")
"""Faults whose worst case is spent."""


@dataclass(frozen=True)
class Config:
    """How much is collected, and how often the process is killed."""

    output: Path = Path("runs/benchmarks/collect_kills")
    """Folder for result.json."""
    small: bool = False
    """Few questions and kills; its figures say nothing."""
    questions: int = 1000
    """Of the simulated table."""
    kills: int = 20
    """Spread over the collection."""
    faults: tuple[str, ...] = ("rate_limit=0.06", "server_error=0.06", "cut=0.04", "malformed=0.03", "wrong_usage=0.01")
    """Shares of requests that fail."""
    seed: int = 0
    """Of questions, answers, faults and kills."""


@dataclass
class Account:
    """What was found; `problems` is empty where all is right."""

    cells: int = 0
    kills: int = 0
    killed_calls: int = 0
    """Calls that were under way at a kill."""
    asked_again: int = 0
    twice: int = 0
    unbroken_seconds: float = 0.0
    unbroken_processor_seconds: float = 0.0
    """Of the collecting process."""
    broken_seconds: float = 0.0
    served_pico: int = 0
    """Answers as the endpoints count them, among them those that no process has received because it was killed."""
    stored_pico: int = 0
    """Answers whose tokens were counted."""
    lost_pico: int = 0
    """Worst cases of tries without an answer, or without counted tokens."""
    killed_pico: int = 0
    """Worst cases of calls that were under way at a kill."""
    settled_pico: int = 0
    """What the ledger has spent."""
    problems: list[str] = field(default_factory=list)


def main(config: Config) -> dict[str, float | str]:
    """Collect twice, compare, account; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    with tempfile.TemporaryDirectory() as folder:
        account = run(config, Path(folder))
    result: dict[str, float | str] = {
        "small": str(config.small),
        "processor": processor(),
        "cells": account.cells,
        "cells_per_second": account.cells / account.unbroken_seconds,
        "processor_ms_per_cell": 1000 * account.unbroken_processor_seconds / account.cells,
        "kills": account.kills,
        "killed_calls": account.killed_calls,
        "seconds_with_kills": account.broken_seconds,
        "asked_again": account.asked_again,
        "twice": account.twice,
        "served_usd": account.served_pico / 1e12,
        "stored_usd": account.stored_pico / 1e12,
        "without_answer_usd": account.lost_pico / 1e12,
        "killed_usd": account.killed_pico / 1e12,
        "ledger_minus_sum_pico": account.settled_pico - account.stored_pico - account.lost_pico - account.killed_pico,
        "problems": len(account.problems),
    }
    for name, value in result.items():
        print(f"{name:<44} {value if isinstance(value, str) else f'{value:.6g}'}")
    print(*account.problems, sep="\n", end="\n" * bool(account.problems))
    write_json(config.output / "result.json", result)
    return result


def run(config: Config, folder: Path) -> Account:
    """Both collections and their comparison."""
    questions, kills = (60, 3) if config.small else (config.questions, config.kills)
    table = load_simulated(queries=questions, seed=config.seed)
    behaviour = SimulationConfig(
        seed=config.seed, time_scale=0.0, faults=config.faults, retry_after_seconds=0.001, slow_seconds=0.01
    )
    account = Account(cells=questions * len(table.models))
    with serving_in_thread(behaviour, table) as simulation:
        _write_questions(folder / "questions.jsonl", table, simulation)
        before = os.times()
        started = time.perf_counter()
        _start(folder, simulation, "unbroken").wait()
        account.unbroken_seconds = time.perf_counter() - started
        account.unbroken_processor_seconds = sum(os.times()[2:4]) - sum(before[2:4])
    with serving_in_thread(behaviour, table) as simulation:
        started = time.perf_counter()
        under_way = _broken(folder, simulation, account, kills, random.Random(config.seed))
        account.broken_seconds = time.perf_counter() - started
        _compare(folder, account)
        _check_money(folder, simulation, account, under_way)
    return account


def _start(folder: Path, simulation: Simulation, name: str) -> subprocess.Popen:
    """The command, as a user starts it."""
    models = folder / f"{name}.yaml"
    models.write_text(models_yaml(simulation.base_url))
    options = ["collect", "--grader", "numeric", "--budget-usd", "1000", "--retries", "40", "--backoff-seconds", "0.002"]
    files = ["--prompts", folder / "questions.jsonl", "--models", models, "--output", folder / f"{name}.db"]
    command = [sys.executable, "-c", LINE, *options, *map(str, files)]
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=log, stderr=log)


def _broken(folder: Path, simulation: Simulation, account: Account, kills: int, dice: random.Random) -> Counter[tuple]:
    """Collect with kills; returns how often each cell was under way at one."""
    path, under_way = folder / "broken.db", Counter[tuple]()
    watched: dict[tuple, int] = {}
    process = _start(folder, simulation, "broken")
    while process.poll() is None:
        time.sleep(LOOK_SECONDS)
        threshold = account.cells * (account.kills + dice.uniform(0.5, 1.5)) / (kills + 1)
        if account.kills >= kills or _stored(path) < threshold:
            continue
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(SETTLE_SECONDS)
        account.kills += 1
        with sqlite3.connect(path) as connection:
            notes = [json.loads(note) for (note,) in connection.execute("SELECT note FROM ledger_open")]
            stored = connection.execute("SELECT query_id, model FROM answer_cells WHERE reason = ''").fetchall()
        under_way.update((query_id, model) for query_id, model, _ in notes)
        texts = _prompts(folder)
        for cell in map(tuple, stored):
            watched.setdefault(cell, simulation.counts.tries[cell[1], texts[cell[0]]])
        process = _start(folder, simulation, "broken")
    if process.returncode:
        account.problems.append(f"the collection ended with {process.returncode}: {(folder / 'broken.log').read_text()[-500:]}")
    texts = _prompts(folder)
    account.killed_calls = under_way.total()
    account.asked_again = sum(
        simulation.counts.tries[model, texts[query]] != count for (query, model), count in watched.items()
    )
    if account.asked_again:
        account.problems.append(f"{account.asked_again} cells were asked again though their answers were stored")
    return under_way


def _compare(folder: Path, account: Account) -> None:
    """Quality and answers of both tables."""
    unbroken, broken = (RoutingTable.load(folder / f"{name}.db") for name in ("unbroken", "broken"))
    if (unbroken.query_ids, unbroken.models, unbroken.prompts) != (broken.query_ids, broken.models, broken.prompts):
        account.problems.append("the tables have other queries or models")
        return
    if unbroken.quality.size != account.cells or np.isnan(unbroken.quality).any():
        account.problems.append(f"the unbroken table has {np.sum(~np.isnan(unbroken.quality))} of {account.cells} grades")
    assert unbroken.response is not None and broken.response is not None
    if not np.array_equal(unbroken.quality, broken.quality, equal_nan=True):
        account.problems.append("the grades differ")
    if not np.array_equal(unbroken.response, broken.response):
        account.problems.append("the answers differ")


def _check_money(folder: Path, simulation: Simulation, account: Account, under_way: Counter[tuple]) -> None:
    """Every picodollar, against what the endpoints have counted."""
    counts, texts, endpoints = simulation.counts, _prompts(folder), load_models(folder / "broken.yaml")
    with sqlite3.connect(folder / "broken.db") as connection:
        cells = connection.execute(
            "SELECT query_id, model, cost_pico, spent_pico, killed, killed_pico FROM answer_cells"
        ).fetchall()
        (account.settled_pico,) = connection.execute("SELECT sum(settled) FROM ledger_windows").fetchone()
        (still_open,) = connection.execute("SELECT count(*) FROM ledger_open").fetchone()
    problems, lost_tries, unseen_pico = account.problems, 0, counts.answered_pico
    account.served_pico = counts.answered_pico
    for query_id, model, cost, spent, killed, killed_pico in cells:
        text = texts[query_id]
        outcome = simulation.pool.outcome(model, text)
        true = served_picodollars(model, outcome.prompt_tokens, outcome.completion_tokens)
        worst = picodollars("worst", build_request(endpoints[model], text).worst_case_usd)
        if cost not in (None, true):
            problems.append(f"{query_id} {model}: stored {cost}, the endpoint counts {true} picodollars")
        if killed != under_way[query_id, model] or killed_pico != killed * worst:
            problems.append(f"{query_id} {model}: under way {under_way[query_id, model]} times, {killed} are counted")
        beyond = spent - killed_pico - (cost or 0)
        if beyond % worst:
            problems.append(f"{query_id} {model}: {beyond} picodollars are no number of worst cases of {worst}")
        answers = counts.answers[model, text]
        account.twice += answers > 1 + killed
        # Answers that the endpoint has sent and nobody has stored.
        unseen_pico -= answers * true
        if answers - (cost is not None) > killed:
            problems.append(f"{query_id} {model}: {answers} answers were served, {killed} calls killed")
        lost_tries += beyond // worst
        account.stored_pico += cost or 0
        account.lost_pico += beyond
        account.killed_pico += killed_pico
    faults = sum(counts.faults[kind] for kind in WITHOUT_ANSWER)
    if not faults - account.killed_calls <= lost_tries <= faults:
        problems.append(f"{lost_tries} tries are booked without an answer, {faults} were served")
    if unseen_pico:
        problems.append(f"{unseen_pico} picodollars were served for cells that are not in the table")
    if account.twice:
        problems.append(f"{account.twice} cells were answered more often than they were under way at a kill, and once")
    if still_open:
        problems.append(f"{still_open} reservations are open")
    if account.settled_pico != account.stored_pico + account.lost_pico + account.killed_pico:
        problems.append("the ledger's spend is not the sum of its parts")


def _write_questions(path: Path, table: RoutingTable, simulation: Simulation) -> None:
    rows = [
        {"query_id": query_id, "prompt": prompt, "reference": simulation.pool.reference(prompt), "domain": domain}
        for query_id, prompt, domain in zip(table.query_ids, table.prompts, table.domains, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _prompts(folder: Path) -> dict[str, str]:
    rows = map(json.loads, (folder / "questions.jsonl").read_text().splitlines())
    return {row["query_id"]: row["prompt"] for row in rows}


def _stored(path: Path) -> int:
    """How many answers there are; 0 before there is a table."""
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(path, timeout=5.0) as connection:
            return connection.execute("SELECT count(*) FROM answer_cells WHERE reason = ''").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
