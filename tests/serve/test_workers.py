"""Several processes behind one address: one budget, one price, and the end of one loses no more than what it had begun."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from types import SimpleNamespace
from urllib.error import HTTPError, URLError

import pytest

from jaxroute.commands.simulate import models_yaml
from jaxroute.data.sources.simulated import load_simulated, simulated_prices
from jaxroute.endpoints.ledger import Ledger
from jaxroute.errors import EndpointError
from jaxroute.routers.base import find_router
from jaxroute.serve.choosing import Candidate, Ranked
from jaxroute.serve.finished import Finished
from jaxroute.serve.pacing import LedgerPace
from jaxroute.serve.records import write_outcomes
from jaxroute.serve.server import Listening
from jaxroute.serve.service import _written
from jaxroute.serve.shared import Shared, Worker
from jaxroute.serve.shared_price import SharedPrice
from jaxroute.serve.state import ServeConfig, read_state
from jaxroute.serve.worker_process import Place
from jaxroute.serve.workers import Workers, _Running
from jaxroute.simulation import SimulationConfig, serving_in_thread, simulated_endpoints

LINE = "from jaxroute.cli import run; run()"
QUESTION = "What is 12 plus 30?"
CHAT = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 50}


class Clock:
    now = 36_000.0

    def __call__(self) -> float:
        return self.now


def test_workers_take_the_price_that_one_of_them_has_found(tmp_path: Path) -> None:
    clock, models = Clock(), simulated_endpoints("http://127.0.0.1")
    ledgers = [Ledger(tmp_path / "ledger.db", 100.0, 3600.0, clock=clock) for _ in range(2)]
    paces = [
        LedgerPace(ledger, expected_requests=300, shared=SharedPrice(ledger, number, 2, 100), clock=clock)
        for number, ledger in enumerate(ledgers)
    ]
    # Only the first one sees requests, whose better answer is worth more on some than on others.
    for request in range(100):
        quality = {"sim-nano": 0.5, "sim-large": 0.5 + request / 250}
        paces[0].saw(
            [
                Ranked(Candidate(models[name], 1.0), quality[name], cost)
                for name, cost in (("sim-nano", 0.01), ("sim-large", 1.0))
            ]
        )
    prices = [pace.multiplier for pace in paces]
    assert prices[0] == prices[1] > 0
    # What one has paid raises the price of both, to the same.
    for _ in range(60):
        reservation = ledgers[0].reserve(1.0)
        assert reservation is not None
        paces[0].begin(0.5, 1.0)
        ledgers[0].settle(reservation, 1.0)
        paces[0].end(0.5, 1.0, paid_usd=1.0)
    clock.now += 2
    again = [pace.multiplier for pace in paces]
    assert again[0] == again[1] > prices[0]
    # A worker that is started again knows the sample at once.
    late = LedgerPace(ledgers[1], expected_requests=300, shared=SharedPrice(ledgers[1], 1, 2, 100), clock=clock)
    clock.now += 2
    assert late.multiplier > 0
    for ledger in ledgers:
        ledger.close()


def test_what_one_worker_has_answered_another_knows(tmp_path: Path) -> None:
    one, other = (Shared(Worker(number, 2, tmp_path)) for number in range(2))
    answers = [each.remembered("answers", 3, _written, Finished.read) for each in (one, other)]
    answers[0].put("jr-1", Finished(id="jr-1", kind="chat", failures=[("sim-nano", "cut")]))
    found = answers[1].get("jr-1")
    assert found is not None and found.failures == [("sim-nano", "cut")] and answers[1].get("jr-2") is None
    for number in range(600):
        answers[0].put(f"jr-{number}", Finished(id=f"jr-{number}", kind="chat"))
    assert answers[1].get("jr-3") is None and answers[1].latest(1)[0][1].id == "jr-599"
    # The status page reads in a thread while answers are put.
    reading = threading.Thread(target=lambda: [answers[0].latest(600) for _ in range(20)])
    reading.start()
    while reading.is_alive():
        for each in answers:
            each.put("jr-late", Finished(id="jr-late", kind="chat"))
    one.beat({"requests_under_way": 2.0, "reading_wait_seconds": 0.5})
    other.beat({"requests_under_way": 3.0, "reading_wait_seconds": 0.1})
    assert one.figures() == {"workers": 2.0, "requests_under_way": 5.0, "reading_wait_seconds": 0.5}
    # What a worker has counted stays counted where another takes its place.
    one.beat({"requests_under_way": 2.0, "prompts_read_total": 7.0})
    again = Shared(Worker(0, 2, tmp_path))
    assert other.figures()["prompts_read_total"] == 7.0
    again.beat({"requests_under_way": 0.0, "prompts_read_total": 2.0})
    assert other.figures() == {
        "workers": 2.0,
        "requests_under_way": 3.0,
        "reading_wait_seconds": 0.1,
        "prompts_read_total": 9.0,
    }
    again.close(), one.close(), other.close()


def test_workers_share_out_the_places_of_a_model(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(models_yaml("http://127.0.0.1:9/v1") + "    concurrent_requests: 1\n")
    with pytest.raises(EndpointError, match="2 workers share out the concurrent_requests of every model, and sim-"):
        read_state(ServeConfig(tmp_path / "models.yaml", worker=Worker(0, 2, tmp_path)))
    assert [Worker(number, 3, tmp_path).share(8) for number in range(3)] == [3, 3, 2]


def test_a_worker_that_does_not_answer_yet_ends_with_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    with socket.socket() as bound:
        for answers in (True, False):
            parents, own = multiprocessing.Pipe()
            place = Place(Worker(0, 2, tmp_path), bound, own, threading.Event())
            watching = threading.Thread(target=place.end_with_parent)
            watching.start()
            if answers:
                place.ready("hello")
                assert parents.recv() == (True, "hello")
            parents.close()
            watching.join(5)
            assert not watching.is_alive() and ended == [1] * (not answers)


def test_a_worker_that_cannot_start_is_started_more_and_more_seldom() -> None:
    workers = Workers(2, Listening(port=0), print, None)

    def pause(ready: bool | None) -> float:
        ours, theirs = multiprocessing.Pipe()
        if ready is not None:
            theirs.send((ready, "the files are wrong"))
        theirs.close()
        workers._running[1] = _Running(SimpleNamespace(join=lambda: None, exitcode=1), ours, time.monotonic() - 9)
        workers._ended(1, workers._running[1])
        return workers._later[1] - time.monotonic()

    pauses = [pause(False) for _ in range(4)] + [pause(None) for _ in range(6)]
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60, 60], abs=0.5)
    # One that has answered is started at once.
    assert pause(True) <= 0 and pause(False) == pytest.approx(1, abs=0.5)


@pytest.mark.slow
def test_a_worker_that_has_just_been_born_ends_with_its_parent(tmp_path: Path) -> None:
    """Its parent is killed while it has not imported anything yet."""
    started = time.monotonic()
    # The parent's start takes longer than a worker's: it is killed as soon as it has a child.
    with serving_in_thread(SimulationConfig()) as simulation:
        (tmp_path / "models.yaml").write_text(models_yaml(simulation.base_url))
        command = [sys.executable, "-c", LINE, "serve", "--models", "models.yaml", "--workers", "2", "--port", "0"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment) as parent:
            _until(lambda: bool(_workers(parent)))
            [worker] = _workers(parent)
            # As long as its interpreter starts, what it is to do is not read yet.
            imports = time.monotonic() - started
            parent.kill()
            killed = time.monotonic()
            _until(lambda: not Path(f"/proc/{worker}").exists() or b"Z" in _stat(worker))
        # An import of all that a worker needs takes as long as the parent's own; it waits for none.
        assert time.monotonic() - killed < max(0.5, imports / 4)


@pytest.mark.slow
def test_workers_whose_parent_is_killed_answer_what_they_have_begun(tmp_path: Path) -> None:
    with serving_in_thread(SimulationConfig(time_scale=2.0)) as simulation:
        (tmp_path / "models.yaml").write_text(models_yaml(simulation.base_url))
        with _served(tmp_path, 1.0, "--stop-seconds", "30") as (process, address):
            workers, bodies = _workers(process), list[bytes]()
            threads = [threading.Thread(target=lambda: bodies.append(_streamed(address))) for _ in range(6)]
            for thread in threads:
                thread.start()
            with Ledger(tmp_path / "ledger.db") as ledger:
                _until(lambda: len(ledger.open()) == 6, 20)
            process.kill()
            process.wait()
            for thread in threads:
                thread.join()
            _until(lambda: not any(Path(f"/proc/{one}").exists() for one in workers), 10)
        assert [body.endswith(b"data: [DONE]\n\n") for body in bodies] == [True] * 6
        with Ledger(tmp_path / "ledger.db") as ledger:
            totals = ledger.totals()
            assert totals.reserved_usd == 0
            assert totals.settled_usd == pytest.approx(simulation.counts.answered_pico / 1e12, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_to_all_processes_ends_gently(tmp_path: Path, which: signal.Signals) -> None:
    """As a terminal sends Ctrl-C and a service manager SIGTERM: to the parent and to its workers at once."""
    with serving_in_thread(SimulationConfig(time_scale=2.0)) as simulation:
        (tmp_path / "models.yaml").write_text(models_yaml(simulation.base_url))
        with _served(tmp_path, 1.0) as (process, address):
            bodies = list[bytes]()
            threads = [threading.Thread(target=lambda: bodies.append(_streamed(address))) for _ in range(6)]
            for thread in threads:
                thread.start()
            with Ledger(tmp_path / "ledger.db") as ledger:
                _until(lambda: len(ledger.open()) == 6, 20)
            os.killpg(process.pid, which)
            assert process.wait(30) == 0
            for thread in threads:
                thread.join()
        assert [body.endswith(b"data: [DONE]\n\n") for body in bodies] == [True] * 6


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_signal_ends_at_once_and_worst_cases_count(tmp_path: Path, workers: int) -> None:
    with serving_in_thread(SimulationConfig(time_scale=20.0)) as simulation:
        (tmp_path / "models.yaml").write_text(models_yaml(simulation.base_url))
        with _served(tmp_path, 1.0, workers=workers) as (process, address):
            threads = [threading.Thread(target=_ignoring, args=(address,)) for _ in range(6)]
            for thread in threads:
                thread.start()
            with Ledger(tmp_path / "ledger.db") as ledger:
                _until(lambda: ledger.totals().reservations == 6, 20)
                held = ledger.totals().reserved_usd
            process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(2)
            asked, children = time.monotonic(), _workers(process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 130 and time.monotonic() - asked < 4
            for thread in threads:
                thread.join()
            assert not any(Path(f"/proc/{one}").exists() for one in children)
        with Ledger(tmp_path / "ledger.db") as ledger:
            ledger.settle_abandoned()
            totals = ledger.totals()
            assert totals.reserved_usd == 0 and totals.settled_usd == pytest.approx(held) and held > 0


@pytest.mark.slow
def test_two_workers_under_load_kill_and_end(tmp_path: Path) -> None:
    with serving_in_thread(SimulationConfig(time_scale=0.05)) as simulation:
        (tmp_path / "models.yaml").write_text(models_yaml(simulation.base_url))
        router = find_router("prompt_length").fit(load_simulated(queries=300, seed=0), prices=simulated_prices())
        router.save(tmp_path / "checkpoint")
        budget = 0.05
        with _served(tmp_path, budget) as (process, address):
            assert len(_workers(process)) == 2
            seen: Counter[str] = Counter()
            answers = [_answered(address) for _ in range(10)]
            stop = threading.Event()
            threads = [threading.Thread(target=_ask, args=(address, seen, stop, number)) for number in range(8)]
            for thread in threads:
                thread.start()
            time.sleep(3)
            multipliers = [_scraped(address, "jaxroute_multiplier") for _ in range(6)]
            # Both answer the scrapes, and the price moves while they do.
            assert 0 < max(multipliers) < 1.02 * min(multipliers)
            assert _scraped(address, "jaxroute_workers") == 2
            assert _scraped(address, "jaxroute_requests_total") > 20
            before, counted = _workers(process), _scraped(address, "jaxroute_requests_total")
            os.kill(before[0], signal.SIGKILL)
            _until(lambda: len(_workers(process)) == 2 and _workers(process) != before)
            # The one that takes its place settles what it has left behind.
            with Ledger(tmp_path / "ledger.db") as ledger:
                _until(lambda: not ledger.abandoned())
            time.sleep(1)
            assert _scraped(address, "jaxroute_requests_total") >= counted
            killed = seen["lost"]
            # Whoever has answered, and whoever is asked.
            assert all(_rated(address, number) for number in answers for _ in range(2))
            # What the killed one had begun is lost, and nothing else.
            assert killed <= 8
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            stop.set()
            for thread in threads:
                thread.join()
        # The kernel resets who connects between the last look at the queue and its end; nobody has read that request.
        assert seen["lost"] - killed <= 1
        assert seen["answered"] > 50 and set(seen) <= {"answered", "refused", "lost", "ended"}
        with Ledger(tmp_path / "ledger.db") as ledger:
            totals = ledger.totals()
            assert totals.settled_usd + totals.reserved_usd <= budget and totals.reserved_usd == 0
            assert totals.settled_usd >= simulation.counts.answered_pico / 1e12 * (1 - 1e-9)
        # Every whole answer is a whole row, and those that were rated are outcomes.
        with closing(sqlite3.connect(tmp_path / "record.db")) as record:
            [(rows, whole)] = record.execute(
                "SELECT count(*), sum(prompt = ? AND cost_usd > 0) FROM serve_requests", [QUESTION]
            )
        assert rows == whole >= seen["answered"] + len(answers)
        assert write_outcomes(tmp_path / "record.db", tmp_path / "outcomes.jsonl") == 1


def _ask(address: str, seen: Counter[str], stop: threading.Event, number: int) -> None:
    while not stop.is_set():
        content = {**CHAT, "model": "auto" if number % 2 else "sim-small", "stream": number % 3 == 0}
        request = urllib.request.Request(f"{address}/chat/completions", json.dumps(content).encode())
        request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                body = response.read()
            whole = body.endswith(b"[DONE]\n\n") if content["stream"] else json.loads(body)["choices"]
            seen["answered" if whole else "lost"] += 1
        except HTTPError as error:
            seen["refused" if error.code == 402 else str(error.code)] += 1
        except URLError as error:
            # Whoever comes after the end finds nobody who listens; that is no lost request.
            if isinstance(error.reason, ConnectionRefusedError):
                seen["ended"] += 1
                return
            seen["lost"] += 1
        except (OSError, ValueError, HTTPException):
            seen["lost"] += 1


def _streamed(address: str) -> bytes:
    content = json.dumps({**CHAT, "model": "sim-nano", "stream": True, "max_tokens": 200}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{address}/chat/completions", content), timeout=60) as response:
        return response.read()


def _ignoring(address: str) -> None:
    with suppress(OSError, HTTPException):
        _streamed(address)


def _stat(process: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0]
    return b"Z"


def _answered(address: str) -> str:
    """The number of an answer."""
    request = urllib.request.Request(f"{address}/chat/completions", json.dumps({**CHAT, "model": "sim-nano"}).encode())
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.headers["x-jaxroute-id"]


def _rated(address: str, number: str) -> bool:
    """Whether its quality is recorded."""
    request = urllib.request.Request(f"{address}/feedback", json.dumps({"id": number, "quality": 0.5}).encode())
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())["recorded"]


def _scraped(address: str, name: str) -> float:
    with urllib.request.urlopen(address.removesuffix("/v1") + "/metrics") as response:
        text = response.read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


def _workers(process: subprocess.Popen) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def _until(done, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextmanager
def _served(folder: Path, budget_usd: float, *further: str, workers: int = 2) -> Iterator[tuple[subprocess.Popen, str]]:
    options = ["--models", "models.yaml", "--budget-usd", str(budget_usd), "--per", "month", "--ledger", "ledger.db"]
    options += ["--workers", str(workers), "--port", "0", "--no-access-log", "--record", "full", "--record-file", "record.db"]
    if (folder / "checkpoint").exists():
        options += ["--checkpoint", "checkpoint", "--expected-requests", "5000"]
    options += further
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", LINE, "serve", *options]
    places = {"cwd": folder, "env": environment, "start_new_session": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **places) as process:
        assert process.stdout is not None
        try:
            found = re.search(r"http://[^\s:]+:\d+/v1", process.stdout.readline())
            assert found
            yield process, found.group()
        finally:
            if process.poll() is None:
                process.terminate()
