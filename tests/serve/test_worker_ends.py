"""How processes behind one address end: with their parent, by a signal, by a second one; what was begun is not lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jaxroute.commands.simulate import models_yaml
from jaxroute.endpoints.ledger import Ledger
from jaxroute.serve.shared import Worker
from jaxroute.serve.worker_process import Place
from jaxroute.simulation import SimulationConfig, serving_in_thread
from tests.serve.served import LINE, ignoring, served, stat, streamed, until, workers_of


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
            until(lambda: bool(workers_of(parent)))
            [worker] = workers_of(parent)
            # As long as its interpreter starts, what it is to do is not read yet.
            imports = time.monotonic() - started
            parent.kill()
            killed = time.monotonic()
            until(lambda: not Path(f"/proc/{worker}").exists() or b"Z" in stat(worker))
        # An import of all that a worker needs takes as long as the parent's own; it waits for none.
        assert time.monotonic() - killed < max(0.5, imports / 4)


@pytest.mark.slow
def test_workers_whose_parent_is_killed_answer_what_they_have_begun(tmp_path: Path) -> None:
    with serving_in_thread(SimulationConfig(time_scale=2.0)) as simulation:
        (tmp_path / "models.yaml").write_text(models_yaml(simulation.base_url))
        with served(tmp_path, 1.0, "--stop-seconds", "30") as (process, address):
            workers, bodies = workers_of(process), list[bytes]()
            threads = [threading.Thread(target=lambda: bodies.append(streamed(address))) for _ in range(6)]
            for thread in threads:
                thread.start()
            with Ledger(tmp_path / "ledger.db") as ledger:
                until(lambda: len(ledger.open()) == 6, 20)
            process.kill()
            process.wait()
            for thread in threads:
                thread.join()
            until(lambda: not any(Path(f"/proc/{one}").exists() for one in workers), 10)
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
        with served(tmp_path, 1.0) as (process, address):
            bodies = list[bytes]()
            threads = [threading.Thread(target=lambda: bodies.append(streamed(address))) for _ in range(6)]
            for thread in threads:
                thread.start()
            with Ledger(tmp_path / "ledger.db") as ledger:
                until(lambda: len(ledger.open()) == 6, 20)
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
        with served(tmp_path, 1.0, workers=workers) as (process, address):
            threads = [threading.Thread(target=ignoring, args=(address,)) for _ in range(6)]
            for thread in threads:
                thread.start()
            with Ledger(tmp_path / "ledger.db") as ledger:
                until(lambda: ledger.totals().reservations == 6, 20)
                held = ledger.totals().reserved_usd
            process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(2)
            asked, children = time.monotonic(), workers_of(process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 130 and time.monotonic() - asked < 4
            for thread in threads:
                thread.join()
            assert not any(Path(f"/proc/{one}").exists() for one in children)
        with Ledger(tmp_path / "ledger.db") as ledger:
            ledger.settle_abandoned()
            totals = ledger.totals()
            assert totals.reserved_usd == 0 and totals.settled_usd == pytest.approx(held) and held > 0
