"""Does the ledger lose or invent money while processes that use it are killed, and how many operations a second does it take?

Processes of several tasks reserve, settle and release until their shares are done. Some are killed by SIGKILL and started
again. Each writes down what it is about to do, so that afterwards every picodollar can be accounted for. Run by `python -m
benchmarks.endpoints`.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from jaxroute.endpoints import Ledger
from jaxroute.endpoints.money import PICO, picodollars

MOST_WORST = 10_000_000_000
"""Picodollars: a cent."""
TRUE_SHARE = 0.5
"""True costs are this share of worst cases at most, a quarter on average."""
RELEASED = 0.1


@dataclass(frozen=True)
class Plan:
    """How much is done, by whom, and how often somebody is killed."""

    operations: int = 100_000
    """Reservations that are tried, in all."""
    processes: int = 8
    """At the same time."""
    tasks: int = 16
    """Of each process."""
    kills: int = 40
    """How many processes are killed, spread over the run."""
    share_of_demand: float = 0.99
    """The limit, as a share of what everything together costs on average; the last reservations then do not fit."""
    seed: int = 0
    """Of amounts and kills."""

    @property
    def limit_pico(self) -> int:
        """The budget in picodollars."""
        mean = MOST_WORST / 2 * TRUE_SHARE / 2 * (1 - RELEASED)
        return int(self.share_of_demand * self.operations * mean)


@dataclass
class Account:
    """What the processes wrote down, and what the ledger says."""

    seconds: float = 0.0
    """Since the first reservation."""
    operations: int = 0
    """Reservations, settlements and releases."""
    refused: int = 0
    kills: int = 0
    looks: int = 0
    highest_pico: int = 0
    expected_settled_pico: int = 0
    settled_pico: int = 0
    reserved_pico: int = 0
    reservations: int = 0
    expected_reservations: int = 0
    problems: list[str] = field(default_factory=list)


def run(plan: Plan, folder: Path) -> Account:
    """Let them work, kill some, resume, and account for everything; `problems` is empty where all is right."""
    path, dice = folder / "ledger.db", random.Random(plan.seed)
    ledger, account = Ledger(path, plan.limit_pico / PICO), Account()
    resolved: dict[int, int] = {}
    unlogged: set[int] = set()

    def start(log: Path, count: int) -> tuple[subprocess.Popen, Path, int]:
        # This file alone: what else the caller has imported would be loaded again.
        numbers = (count, plan.tasks, dice.getrandbits(32))
        command = [sys.executable, "-m", "benchmarks.ledger_kills", str(path), str(log), *map(str, numbers)]
        return subprocess.Popen(command, cwd=Path(__file__).parents[1]), log, count

    logs: list[Path] = []

    def new_log() -> Path:
        logs.append(folder / f"{len(logs)}.log")
        logs[-1].touch()
        return logs[-1]

    running = [start(new_log(), plan.operations // plan.processes) for _ in range(plan.processes)]
    next_kill = plan.operations // (plan.kills + 1)
    started: float | None = None
    while any(process.poll() is None for process, _, _ in running):
        time.sleep(0.02)
        totals = ledger.totals()
        account.looks += 1
        if started is None and totals.reservations:
            started = time.perf_counter()
        account.highest_pico = max(account.highest_pico, round((totals.reserved_usd + totals.settled_usd) * PICO))
        if totals.reservations < next_kill * (account.kills + 1) or account.kills >= plan.kills:
            continue
        place = dice.randrange(len(running))
        process, log, count = running[place]
        if process.poll() is not None:
            continue
        process.send_signal(signal.SIGKILL)
        process.wait()
        account.kills += 1
        _resume(ledger, log, dice, resolved, unlogged)
        running[place] = start(new_log(), count - _tried(log))
    account.seconds = time.perf_counter() - (started or math.nan)
    account.problems += [f"a process ended with {process.returncode}" for process, _, _ in running if process.returncode]
    _resume_all(ledger, resolved, unlogged)
    _check(ledger, plan, account, logs, resolved, unlogged)
    return account


def work(path: Path, log: Path, count: int, tasks: int, seed: int) -> None:
    """One process: `count` reservations, each settled or released after a moment, from `tasks` tasks."""
    ledger, dice = Ledger(path), random.Random(seed)
    numbers = iter(range(count))
    # Written in one piece, and nothing is left in a buffer when the process is killed.
    handle = os.open(log, os.O_WRONLY | os.O_APPEND)

    def write(*words: object) -> None:
        os.write(handle, (" ".join(map(str, words)) + "\n").encode())

    async def task() -> None:
        for _ in numbers:
            worst = dice.randrange(MOST_WORST)
            reservation = ledger.reserve(worst / PICO)
            if reservation is None:
                write("refused")
                await asyncio.sleep(0)
                continue
            write("reserved", reservation.id, worst)
            await asyncio.sleep(dice.random() * 0.005)
            if dice.random() < RELEASED:
                write("releases", reservation.id, 0)
                ledger.release(reservation)
            else:
                true = int(worst * TRUE_SHARE * dice.random())
                write("settles", reservation.id, true)
                ledger.settle(reservation, true / PICO)

    async def everything() -> None:
        await asyncio.gather(*(task() for _ in range(tasks)))

    asyncio.run(everything())


def _lines(log: Path) -> Iterator[list[str]]:
    return (line.split() for line in log.read_text().splitlines())


def _tried(log: Path) -> int:
    return sum(words[0] in ("reserved", "refused") for words in _lines(log))


def _resume(ledger: Ledger, log: Path, dice: random.Random, resolved: dict[int, int], unlogged: set[int]) -> None:
    """Resolve what the killed process left: at the cost that it was about to book, else at the worst case or at nothing."""
    written = list(_lines(log))
    known = {int(words[1]) for words in written if words[0] == "reserved"}
    intended = {int(words[1]): int(words[2]) for words in written if words[0] in ("settles", "releases")}
    for one in ledger.abandoned():
        if one.id not in known:
            unlogged.add(one.id)
        worst = picodollars("worst", one.worst_case_usd)
        cost = intended.get(one.id, worst if dice.random() < 0.5 else 0)
        ledger.settle(one, cost / PICO)
        resolved[one.id] = cost


def _resume_all(ledger: Ledger, resolved: dict[int, int], unlogged: set[int]) -> None:
    """The last ones, if any, at their worst cases."""
    for one in ledger.settle_abandoned():
        resolved[one.id] = picodollars("worst", one.worst_case_usd)
        unlogged.add(one.id)


def _check(
    ledger: Ledger, plan: Plan, account: Account, logs: list[Path], resolved: dict[int, int], unlogged: set[int]
) -> None:
    """Every reservation was settled or released exactly once, and the sums are those of the logs."""
    totals = ledger.totals()
    reserved: set[int] = set()
    costs = dict(resolved)
    for words in (words for log in logs for words in _lines(log)):
        if words[0] == "refused":
            account.refused += 1
        elif words[0] == "reserved":
            if int(words[1]) in reserved:
                account.problems.append(f"reservation {words[1]} was given twice")
            reserved.add(int(words[1]))
        else:
            costs.setdefault(int(words[1]), int(words[2]))
    account.operations = totals.reservations + totals.settlements + totals.releases
    account.reservations, account.expected_reservations = totals.reservations, len(reserved | unlogged)
    account.expected_settled_pico = sum(costs.values())
    account.settled_pico = picodollars("settled", totals.settled_usd)
    account.reserved_pico = picodollars("reserved", totals.reserved_usd)
    if lost := (reserved | unlogged) - set(costs):
        account.problems.append(f"{len(lost)} reservations were neither settled nor released")
    if account.settled_pico != account.expected_settled_pico:
        account.problems.append(f"settled {account.settled_pico}, expected {account.expected_settled_pico} picodollars")
    if account.reservations != account.expected_reservations:
        account.problems.append(f"{account.reservations} reservations, expected {account.expected_reservations}")
    if account.reserved_pico or ledger.open():
        account.problems.append(f"{account.reserved_pico} picodollars are still reserved")
    if account.highest_pico > plan.limit_pico:
        account.problems.append(f"{account.highest_pico} picodollars were booked, {plan.limit_pico} allowed")


if __name__ == "__main__":
    work(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
