"""Several processes behind one address: one budget, one price, and the end of one loses no more than what it had begun."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

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
from jaxroute.serve.workers import Workers, _Running
from jaxroute.simulation import SimulationConfig, serving_in_thread, simulated_endpoints
from tests.serve.served import QUESTION, answered, ask, rated, scraped, served, until, workers_of


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
def test_two_workers_under_load_kill_and_end(tmp_path: Path) -> None:
    with serving_in_thread(SimulationConfig(time_scale=0.05)) as simulation:
        (tmp_path / "models.yaml").write_text(models_yaml(simulation.base_url))
        router = find_router("prompt_length").fit(load_simulated(queries=300, seed=0), prices=simulated_prices())
        router.save(tmp_path / "checkpoint")
        budget = 0.05
        with served(tmp_path, budget) as (process, address):
            assert len(workers_of(process)) == 2
            seen: Counter[str] = Counter()
            answers = [answered(address) for _ in range(10)]
            stop = threading.Event()
            threads = [threading.Thread(target=ask, args=(address, seen, stop, number)) for number in range(8)]
            for thread in threads:
                thread.start()
            time.sleep(3)
            multipliers = [scraped(address, "jaxroute_multiplier") for _ in range(6)]
            # Both answer the scrapes, and the price moves while they do.
            assert 0 < max(multipliers) < 1.02 * min(multipliers)
            assert scraped(address, "jaxroute_workers") == 2
            assert scraped(address, "jaxroute_requests_total") > 20
            before, counted = workers_of(process), scraped(address, "jaxroute_requests_total")
            os.kill(before[0], signal.SIGKILL)
            until(lambda: len(workers_of(process)) == 2 and workers_of(process) != before)
            # The one that takes its place settles what it has left behind.
            with Ledger(tmp_path / "ledger.db") as ledger:
                until(lambda: not ledger.abandoned())
            time.sleep(1)
            assert scraped(address, "jaxroute_requests_total") >= counted
            killed = seen["lost"]
            # Whoever has answered, and whoever is asked.
            assert all(rated(address, number) for number in answers for _ in range(2))
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
