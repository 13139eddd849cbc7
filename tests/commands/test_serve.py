"""`jaxroute serve` as a process: what it prints works, and it is stopped, killed and started again without losing anything."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jaxroute.commands.serve import Serve, main
from jaxroute.commands.simulate import models_yaml
from jaxroute.endpoints.ledger import Ledger
from jaxroute.errors import EndpointError, OutputError
from jaxroute.simulation import SimulationConfig, serving_in_thread

LINE = "from jaxroute.cli import run; run()"
CHAT = {"model": "sim-nano", "messages": [{"role": "user", "content": "What is 12 plus 30?"}]}


@contextmanager
def served(*options: str) -> Iterator[tuple[subprocess.Popen, str, str]]:
    """The process, its address, and what it has printed."""
    command = [sys.executable, "-c", LINE, "serve", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        threading.Thread(target=process.stderr.read, daemon=True).start()
        printed, found = "", None
        try:
            while line := process.stdout.readline():
                printed += line
                found = found or re.search(r"http://[^\s:]+:\d+/v1", line)
                if line.startswith("print("):
                    break
            assert found, printed
            yield process, found.group(), printed
        finally:
            process.kill()


def post(address: str, content: dict) -> tuple[int, bytes]:
    data = json.dumps(content).encode()
    request = urllib.request.Request(f"{address}/chat/completions", data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_wrong_options_are_named_before_anything_starts() -> None:
    for fields, says in (
        ({}, "give --models"),
        ({"demo": True, "models": Path("m.yaml")}, "leave --models out"),
        ({"models": Path("m.yaml"), "per": "day"}, "needs --budget-usd"),
        ({"models": Path("m.yaml"), "expected_requests": 10}, "needs --budget-usd"),
        ({"models": Path("m.yaml"), "budget_usd": 1.0, "expected_requests": 0}, "expected_requests=0 must be at least 1"),
        ({"models": Path("m.yaml"), "encoder_tokens": 1}, "encoder_tokens=1 must be at least 16"),
        ({"models": Path("m.yaml"), "conversations_mb": -1.0}, "conversations_mb=-1"),
    ):
        with pytest.raises(EndpointError, match=says):
            Serve(**fields)
    with pytest.raises(EndpointError, match="must be a name"):
        main(Serve(new_key="two words"))
    with pytest.raises(EndpointError, match=r"host=0\.0\.0\.0 lets other machines ask"):
        main(Serve(models=Path("missing.yaml"), host="0.0.0.0"))
    with pytest.raises(EndpointError, match=r"missing\.yaml cannot be read"):
        main(Serve(models=Path("missing.yaml"), budget_usd=1.0))
    for wrong in ("nonsense", "ftp://127.0.0.1", "", "http://[::1", "http://127.0.0.1:99999/v1/traces", "http://a b/"):
        with pytest.raises(EndpointError, match=r"traces=.* must be an address such as"):
            main(Serve(models=Path("missing.yaml"), traces=wrong))
    with pytest.raises(EndpointError) as raised:
        main(Serve(models=Path("missing.yaml"), traces="ftp://me:secret@host/"))
    assert "secret" not in str(raised.value) and "@host" in str(raised.value)
    with pytest.raises(EndpointError, match="stop_seconds=inf must be a number of seconds"):
        main(Serve(models=Path("missing.yaml"), stop_seconds=float("inf")))
    with pytest.raises(OutputError, match="record_file="):
        main(Serve(models=Path("missing.yaml"), record="full", record_file=Path("/")))


def test_a_new_key_is_printed_once(capsys) -> None:
    main(Serve(new_key="alice"))
    printed = capsys.readouterr().out
    assert re.search(r"jaxroute-[\w-]{43}", printed) and re.search(r"alice:\n +key_sha256: [0-9a-f]{64}", printed)


@pytest.mark.slow
def test_the_demo_prints_lines_that_work(tmp_path: Path) -> None:
    with served("--demo", "--ledger", str(tmp_path / "l.db")) as (process, _, printed):
        curl = next(line for line in printed.splitlines() if line.startswith("curl"))
        answer = json.loads(subprocess.run(curl, shell=True, capture_output=True, check=True).stdout)
        assert "The answer is" in answer["choices"][0]["message"]["content"]
        snippet = printed[printed.index("from openai") :]
        done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True)
        assert "The answer is" in done.stdout, done.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


@pytest.mark.slow
def test_the_end_under_load_drops_nothing(tmp_path: Path) -> None:
    with serving_in_thread(SimulationConfig(time_scale=0.1)) as simulation:
        (tmp_path / "models.yaml").write_text(models_yaml(simulation.base_url))
        options = ["--models", str(tmp_path / "models.yaml"), "--budget-usd", "1", "--ledger", str(tmp_path / "ledger.db")]
        with served(*options) as (process, address, _):
            results: list[object] = []
            answered: list[bool] = []

            def ask(streamed: bool) -> None:
                while True:
                    try:
                        status, body = post(address, {**CHAT, "stream": streamed})
                    except (urllib.error.URLError, ConnectionError) as error:
                        # Refused before it was sent: another proxy would get it.
                        reason = getattr(error, "reason", error)
                        results.append(reason if not isinstance(reason, ConnectionRefusedError) else None)
                        return
                    whole = body.endswith(b"[DONE]\n\n") if streamed else b"choices" in body
                    results.append(None if status == 200 and whole else (status, body[-200:]))
                    answered.append(status == 200 and whole)

            threads = [threading.Thread(target=ask, args=(bool(number % 2),)) for number in range(12)]
            for thread in threads:
                thread.start()
            time.sleep(2.0)
            process.send_signal(signal.SIGHUP)
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            for thread in threads:
                thread.join()
        wrong = [one for one in results if one is not None]
        # The kernel resets who connects between the last look at the queue and its end; nobody has read that request.
        assert len(results) > 30 and len(wrong) <= 1 and all(isinstance(one, ConnectionResetError) for one in wrong), wrong
        assert all(answered) and sum(simulation.counts.answers.values()) == len(answered)
        ledger = Ledger(tmp_path / "ledger.db")
        assert ledger.totals().reserved_usd == 0
        assert ledger.totals().settled_usd == pytest.approx(simulation.counts.answered_pico / 1e12)


@pytest.mark.slow
def test_a_killed_proxy_starts_again_and_the_ledger_is_right(tmp_path: Path) -> None:
    with serving_in_thread(SimulationConfig(time_scale=0.5)) as simulation:
        (tmp_path / "models.yaml").write_text(models_yaml(simulation.base_url))
        options = ["--models", str(tmp_path / "models.yaml"), "--budget-usd", "1", "--ledger", str(tmp_path / "ledger.db")]
        for _ in range(2):
            with served(*options) as (process, address, _):
                threads = [threading.Thread(target=_ignoring, args=(address,)) for _ in range(6)]
                for thread in threads:
                    thread.start()
                time.sleep(1.0)
                process.send_signal(signal.SIGKILL)
                process.wait(10)
                for thread in threads:
                    thread.join()
        with served(*options) as (process, address, _):
            assert post(address, CHAT)[0] == 200
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        totals, counts = Ledger(tmp_path / "ledger.db").totals(), simulation.counts
        assert totals.reserved_usd == 0 and totals.settled_usd <= totals.limit_usd
        # Whatever was billed is booked: answers at what they cost, what was killed at its worst case.
        assert totals.settled_usd >= (counts.answered_pico + counts.lost_pico) / 1e12 - 1e-12


def _ignoring(address: str) -> None:
    try:
        while True:
            post(address, {**CHAT, "stream": True})
    except (OSError, ValueError):
        return
    except Exception:  # noqa: BLE001, a body that was cut
        return
