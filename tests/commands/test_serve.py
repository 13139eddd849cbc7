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
from jaxroute.errors import EndpointError
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


MODELS = Path("missing.yaml")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "give --models"),
        ({"demo": True, "models": MODELS}, "leave --models out"),
        ({"demo": True, "guarantee": True}, "nothing is promised of the demo's router"),
        ({"models": MODELS, "per": "day"}, "needs --budget-usd"),
        ({"models": MODELS, "expected_requests": 10}, "needs --budget-usd"),
        ({"models": MODELS, "budget_usd": 1.0, "expected_requests": 0}, "expected_requests=0 must be at least 1"),
        ({"models": MODELS, "budget_usd": -1.0}, "budget_usd=-1.0 must be from 0"),
        ({"models": MODELS, "budget_usd": float("nan")}, "budget_usd=nan must be from 0"),
        ({"models": MODELS, "guarantee": True}, "guarantee needs a checkpoint"),
        ({"models": MODELS, "multiplier": -1.0}, "multiplier=-1.0 must be finite"),
        ({"models": MODELS, "unknown_below": 1.0}, "unknown_below=1.0 must be from 0"),
        ({"models": MODELS, "drift_alpha": 2.0}, "drift_alpha=2.0 must be from 0"),
        ({"models": MODELS, "drift_tolerance": float("nan")}, "drift_tolerance=nan must be from 0"),
        ({"models": MODELS, "tries": 0}, "tries=0 must be from 1"),
        ({"models": MODELS, "encoder_tokens": 1}, "encoder_tokens=1 must be from 16"),
        ({"models": MODELS, "encoder_tokens": 10**9}, "encoder_tokens=1000000000 must be from 16"),
        ({"models": MODELS, "conversations_mb": -1.0}, "conversations_mb=-1"),
        ({"models": MODELS, "workers": 65}, "workers=65 must be from 1 to 64"),
        ({"models": MODELS, "port": 70_000}, "port=70000 must be from 0"),
        ({"models": MODELS, "deadline_seconds": 0.0}, "deadline_seconds=0.0 must be a number of seconds above 0"),
        ({"models": MODELS, "first_byte_seconds": float("inf")}, "first_byte_seconds=inf must be"),
        ({"models": MODELS, "drain_seconds": -1.0}, "drain_seconds=-1.0 must be a number of seconds"),
        ({"models": MODELS, "stop_seconds": float("inf")}, "stop_seconds=inf must be a number of seconds"),
        ({"models": MODELS, "host": "0.0.0.0"}, r"host=0\.0\.0\.0 lets other machines ask"),
        ({"models": MODELS, "ledger": Path("/")}, "ledger='/' is a folder"),
        ({"models": MODELS, "record": "full", "record_file": Path("/")}, "record_file='/' is a folder"),
    ],
)
def test_wrong_options_are_named_before_anything_is_read(fields: dict, says: str) -> None:
    for workers in (fields.get("workers", 1), fields.get("workers", 2)):
        with pytest.raises(EndpointError, match=says) as raised:
            main(Serve(**{**fields, "workers": workers}))
        # Each once, and the file has not been looked at.
        assert ";" not in str(raised.value) and "cannot be read" not in str(raised.value)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(EndpointError) as raised:
        main(Serve(models=MODELS, tries=0, drift_alpha=7.0, port=-1, traces="nonsense", per="day", workers=0))
    for part in ("tries=0", "drift_alpha=7", "port=-1", "traces=", "--per day", "workers=0"):
        assert str(raised.value).count(part) == 1
    # Then what is wrong with the files, before a process is started.
    models, damaged = tmp_path / "models.yaml", tmp_path / "ledger.db"
    models.write_text(models_yaml("http://127.0.0.1:9/v1") + "    concurrent_requests: 1\n")
    with pytest.raises(EndpointError, match=r"2 workers share out .*; checkpoint='.*' is not a checkpoint"):
        main(Serve(models=models, checkpoint=tmp_path, workers=2))
    damaged.write_text("no database, of more than a few bytes" * 100)
    with pytest.raises(EndpointError, match=r"ledger\.db cannot be used as a ledger.*; record_file=.* cannot be used"):
        main(Serve(models=models, budget_usd=1.0, ledger=damaged, record="full", record_file=damaged))
    # A budget in all does not become one per day because the file has windows.
    Ledger(tmp_path / "days.db", 1.0, 86_400.0).close()
    with pytest.raises(EndpointError, match=r"per=total, but the ledger .* counts per day"):
        main(Serve(models=models, budget_usd=1.0, ledger=tmp_path / "days.db"))


def test_other_wrong_input_is_named() -> None:
    with pytest.raises(EndpointError, match="must be a name"):
        main(Serve(new_key="two words"))
    with pytest.raises(EndpointError, match=r"missing\.yaml cannot be read"):
        main(Serve(models=Path("missing.yaml"), budget_usd=1.0))
    for wrong in ("nonsense", "ftp://127.0.0.1", "", "http://[::1", "http://127.0.0.1:99999/v1/traces", "http://a b/"):
        with pytest.raises(EndpointError, match=r"traces=.* must be an address such as"):
            main(Serve(models=Path("missing.yaml"), traces=wrong))
    with pytest.raises(EndpointError) as raised:
        main(Serve(models=Path("missing.yaml"), traces="ftp://me:secret@host/"))
    assert "secret" not in str(raised.value) and "@host" in str(raised.value)


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
