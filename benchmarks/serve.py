"""How much time does the proxy add to a request and to a chunk, and how many requests a second does it pass, against LiteLLM's?

    uv run python -m benchmarks.serve [--small] [--litellm-python PYTHON]
    uv run python -m benchmarks.serve --soak MINUTES [--soak-workers N]

A canned endpoint answers at once, from a process of its own. A client on kept connections asks it directly, through
`jaxroute serve` with a budget (every request is reserved and settled in the ledger, counted and logged), and, where a Python
with `litellm[proxy]` is given (or named by LITELLM_PYTHON), through LiteLLM's proxy, in turns of a few requests each. The
overhead of a proxy is the difference of the percentiles of all its requests and of all direct ones. Then 10,000 requests try to
spend more than the budget (`serve_adversary`).

A minute and a half on 2 cores with nothing else to do, 8 on busy ones. Seen on the former: 0.86 ms at the median and 2.0 at the
99th percentile (LiteLLM's 16.5 and 22.0), 1,367 requests per second (67), 0.25 ms for a chunk, and nothing above the budget.
With `--soak 30`, beside other jobs: 100,500 requests, none with an error of ours, none without an answer or an error; 568 MB
when warm and 568 at the end.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import numpy as np
import tyro

from benchmarks.canned_upstream import MODEL
from benchmarks.serve_adversary import run
from benchmarks.serve_soak import Soak, soak
from benchmarks.start import processor
from jaxroute.storage.files import write_json

Result = dict[str, float | str]
JAXROUTE = "from jaxroute.cli import run; run()"
LITELLM = "from litellm import run_server; run_server()"
MESSAGES = [{"role": "user", "content": "What is 12 plus 30? " * 25}]
CHAT = json.dumps({"model": MODEL, "messages": MESSAGES, "max_tokens": 64}).encode()
STREAM = json.dumps(
    {"model": MODEL, "messages": MESSAGES, "max_tokens": 64, "stream": True, "stream_options": {"include_usage": True}}
).encode()
HEADERS = {"content-type": "application/json", "authorization": "Bearer none"}
START_SECONDS = 180.0


@dataclass(frozen=True)
class Config:
    """The proxy alone; `--small` shows that everything runs."""

    output: Path = Path("runs/benchmarks/serve")
    """Folder for result.json."""
    small: bool = False
    """Few requests; its figures say nothing."""
    litellm_python: str | None = os.environ.get("LITELLM_PYTHON")
    """A Python in whose environment `litellm[proxy]` is installed; without one it is left out."""
    turns: int = 60
    """Of every contestant."""
    requests: int = 25
    """One after the other, in a turn."""
    concurrent: int = 16
    """Requests at the same time, for requests per second."""
    adversary_requests: int = 10_000
    """Of a load that cuts, leaves and kills; 0 leaves it out."""
    adversary_kills: int = 3
    """Of the proxy, by SIGKILL."""
    adversary_usd: float = 0.6
    """The budget of that load; it is smaller than what all requests would cost."""
    soak: float | None = None
    """Minutes of a load of everything at 80 percent of capacity, in place of all else (serve_soak.py)."""
    soak_workers: int = 1
    """Of the proxy in it."""


@dataclass(frozen=True)
class Running:
    """A process that answers."""

    address: str
    number: int

    def processor_seconds(self) -> float:
        """What it has used; from Linux's /proc (proc(5), fields 14 and 15 of stat), elsewhere NaN."""
        try:
            fields = Path(f"/proc/{self.number}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return float("nan")
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(config: Config) -> Result:
    """Run them all; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    if config.small:
        config = replace(config, turns=3, requests=5, concurrent=4, adversary_requests=200)
    result: Result = {"small": str(config.small), "processor": processor(), "load_average": os.getloadavg()[0]}
    if config.soak is not None:
        seconds = 3.0 if config.small else 20.0
        result |= _printed(soak(Soak(config.soak, capacity_seconds=seconds, workers=config.soak_workers)))
        write_json(config.output / "result.json", result)
        return result
    result["litellm"] = "skipped: no --litellm-python"
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        upstream = stack.enter_context(_started([sys.executable, "-m", "benchmarks.canned_upstream"], r"http://\S+/v1"))
        found = {"direct": upstream, "proxy": stack.enter_context(_jaxroute(folder, upstream.address))}
        if config.litellm_python:
            found["litellm"] = stack.enter_context(_litellm(folder, upstream.address, config.litellm_python))
            result["litellm"] = _version(config.litellm_python)
        addresses = {name: one.address for name, one in found.items()}
        result |= _printed(latencies(config, addresses)) | _printed(relays(config, addresses))
        before = {name: one.processor_seconds() for name, one in found.items()}
        result |= _printed(rates(config, addresses))
        asked = config.requests * config.concurrent // 2 * max(3, config.turns // 10)
        spent = {name: 1000 * (one.processor_seconds() - before[name]) / asked for name, one in found.items()}
        result |= _printed({f"{name}_cpu_ms_per_request": spent[name] for name in spent if name != "direct"})
    if config.adversary_requests:
        result |= _printed(run(config.adversary_requests, config.adversary_kills, config.adversary_usd))
    write_json(config.output / "result.json", result)
    return result


def _printed(found: Result) -> Result:
    for key, value in found.items():
        print(f"{key:<44} {value if isinstance(value, str) else f'{value:.4g}'}", flush=True)
    return found


def latencies(config: Config, addresses: dict[str, str]) -> Result:
    """One request after the other: milliseconds that a proxy adds."""
    seen: dict[str, list[float]] = {name: [] for name in addresses}
    connections = {name: _connection(address) for name, address in addresses.items()}
    for turn in range(config.turns + 1):
        for name, connection in connections.items():
            for _ in range(config.requests):
                begun = time.perf_counter()
                _whole(connection, CHAT)
                if turn:
                    seen[name].append(1000 * (time.perf_counter() - begun))
    at = {name: np.percentile(values, [50, 99]) for name, values in seen.items()}
    result: Result = {"direct_p50_ms": float(at["direct"][0]), "direct_p99_ms": float(at["direct"][1])}
    for name in addresses:
        if name != "direct":
            for column, percentile in enumerate(("p50", "p99")):
                result[f"{name}_overhead_{percentile}_ms"] = float(at[name][column] - at["direct"][column])
    if "litellm" in at:
        result["overhead_vs_litellm"] = float(result["litellm_overhead_p50_ms"]) / float(result["proxy_overhead_p50_ms"])  # pyright: ignore[reportArgumentType]
    return result


def relays(config: Config, addresses: dict[str, str]) -> Result:
    """Milliseconds that a proxy adds to a chunk of a stream, and whether the bytes are the endpoint's."""
    seen: dict[str, list[float]] = {name: [] for name in addresses}
    bodies: dict[str, str] = {}
    for _ in range(max(2, config.turns // 10)):
        for name, address in addresses.items():
            body = asyncio.run(_timed_stream(address, seen[name]))
            bodies[name] = re.sub(r"\d{9,}", "N", body.decode())
    medians = {name: float(np.median(values)) for name, values in seen.items()}
    result: Result = {"direct_chunk_ms": medians["direct"], "bytes_identical": str(bodies["proxy"] == bodies["direct"])}
    for name in addresses:
        if name != "direct":
            result["relay_ms" if name == "proxy" else f"{name}_relay_ms"] = medians[name] - medians["direct"]
    return result


async def _timed_stream(address: str, seen: list[float]) -> bytes:
    pieces = []
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{address}/chat/completions", data=STREAM, headers=HEADERS) as response,
    ):
        async for piece in response.content.iter_any():
            now = time.monotonic_ns()
            pieces.append(piece)
            if sent := re.findall(rb'"(\d{9,}) "', piece):
                seen.append((now - int(sent[-1])) / 1e6)
    return b"".join(pieces)


def rates(config: Config, addresses: dict[str, str]) -> Result:
    """Requests per second of many at the same time."""
    seen: dict[str, list[float]] = {name: [] for name in addresses}
    count = config.requests * config.concurrent // 2
    for turn in range(max(3, config.turns // 10)):
        for name, address in addresses.items():
            rate = asyncio.run(_rate(address, count, config.concurrent))
            if turn:
                seen[name].append(rate)
    result: Result = {f"{name}_requests_per_second": float(np.median(values)) for name, values in seen.items()}
    if "litellm" in seen:
        pairs = zip(seen["proxy"], seen["litellm"], strict=True)
        result["requests_per_second_vs_litellm"] = float(np.median([ours / theirs for ours, theirs in pairs]))
    return result


async def _rate(address: str, count: int, concurrent: int) -> float:
    numbers = iter(range(count))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def task() -> None:
            for _ in numbers:
                async with session.post(f"{address}/chat/completions", data=CHAT, headers=HEADERS) as response:
                    assert response.status == 200, await response.text()
                    await response.read()

        begun = time.perf_counter()
        await asyncio.gather(*(task() for _ in range(concurrent)))
        return count / (time.perf_counter() - begun)


def _connection(address: str) -> http.client.HTTPConnection:
    place = urlsplit(address)
    return http.client.HTTPConnection(place.hostname or "", place.port)


def _whole(connection: http.client.HTTPConnection, body: bytes) -> bytes:
    connection.request("POST", "/v1/chat/completions", body, HEADERS)
    response = connection.getresponse()
    data = response.read()
    assert response.status == 200, data[:500]
    return data


@contextmanager
def _jaxroute(folder: Path, upstream: str) -> Iterator[Running]:
    models = ["models:", f"  {MODEL}:", f"    base_url: {upstream}", "    price: {input: 1, output: 2}"]
    (folder / "models.yaml").write_text("\n".join([*models, "    concurrent_requests: 1000"]))
    options = ["--models", str(folder / "models.yaml"), "--budget-usd", "1000", "--ledger", str(folder / "ledger.db")]
    with _started([sys.executable, "-c", JAXROUTE, "serve", "--port", "0", *options], r"http://[^\s:]+:\d+/v1") as running:
        yield running


@contextmanager
def _litellm(folder: Path, upstream: str, python: str) -> Iterator[Running]:
    settings = {"model": f"openai/{MODEL}", "api_base": upstream, "api_key": "none"}
    config = {"model_list": [{"model_name": MODEL, "litellm_params": settings}]}
    (folder / "litellm.yaml").write_text(json.dumps(config))
    port = _free_port()
    command = [python, "-c", LITELLM, "--config", str(folder / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    address = f"http://127.0.0.1:{port}/v1"
    environment = {**os.environ, "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    # As ours, it listens on this machine alone and asks nobody for a key.
    environment["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            _wait_until(lambda: _answers(address), process)
            yield Running(address, process.pid)
        finally:
            process.terminate()


@contextmanager
def _started(command: list[str], address: str) -> Iterator[Running]:
    """A process that prints where it listens; what it writes of requests goes to a file of no name, as with any log."""
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        assert process.stdout is not None
        try:
            found = None
            while found is None and (line := process.stdout.readline()):
                found = re.search(address, line)
            log.seek(0)
            assert found, f"{command[-5:]} has not started: {log.read()[-2000:].decode()}"
            yield Running(found.group(), process.pid)
        finally:
            process.terminate()


def _answers(address: str) -> bool:
    try:
        _whole(_connection(address), CHAT)
    except (OSError, AssertionError, http.client.HTTPException):
        return False
    return True


def _wait_until(done: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not done():
        assert time.monotonic() < deadline and process.poll() is None, "LiteLLM's proxy has not started"
        time.sleep(0.5)


def _free_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _version(python: str) -> str:
    code = "from importlib.metadata import version; print(version('litellm'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main(tyro.cli(Config))
