"""The proxy as a process with workers, and what clients ask it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError

LINE = "from jaxroute.cli import run; run()"
QUESTION = "What is 12 plus 30?"
CHAT = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 50}


def ask(address: str, seen: Counter[str], stop: threading.Event, number: int) -> None:
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


def streamed(address: str) -> bytes:
    content = json.dumps({**CHAT, "model": "sim-nano", "stream": True, "max_tokens": 200}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{address}/chat/completions", content), timeout=60) as response:
        return response.read()


def ignoring(address: str) -> None:
    with suppress(OSError, HTTPException):
        streamed(address)


def stat(process: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0]
    return b"Z"


def answered(address: str) -> str:
    """The number of an answer."""
    request = urllib.request.Request(f"{address}/chat/completions", json.dumps({**CHAT, "model": "sim-nano"}).encode())
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.headers["x-jaxroute-id"]


def rated(address: str, number: str) -> bool:
    """Whether its quality is recorded."""
    request = urllib.request.Request(f"{address}/feedback", json.dumps({"id": number, "quality": 0.5}).encode())
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())["recorded"]


def scraped(address: str, name: str) -> float:
    with urllib.request.urlopen(address.removesuffix("/v1") + "/metrics") as response:
        text = response.read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


def workers_of(process: subprocess.Popen) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def until(done, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextmanager
def served(folder: Path, budget_usd: float, *further: str, workers: int = 2) -> Iterator[tuple[subprocess.Popen, str]]:
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
