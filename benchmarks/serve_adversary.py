"""Requests that are cut, left, counted wrongly and killed: is the budget ever exceeded, and is every dollar booked?

The simulated endpoints fail a share of the requests, clients leave in the middle of streams, and the proxy is killed by SIGKILL
and started again on the same ledger. What the endpoints have billed, also for what did not arrive, must be booked, and reserved
and settled dollars must never exceed the limit.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from benchmarks.endpoints import LINE, simulated_server
from jaxroute.commands.simulate import models_yaml
from jaxroute.endpoints.ledger import Ledger

FAULTS = ("rate_limit=0.03", "server_error=0.03", "cut=0.05", "malformed=0.02", "wrong_usage=0.05")
MODELS = ("sim-nano", "sim-small", "sim-medium")
CONCURRENT = 24
Result = dict[str, float | str]


def run(requests: int, kills: int, budget_usd: float) -> Result:
    """`requests` of them, over `kills` lives of the proxy and one more; raises where an invariant does not hold."""
    seen: Counter[str] = Counter()
    dice = random.Random(0)
    with tempfile.TemporaryDirectory() as name, simulated_server("--faults", *FAULTS) as upstream:
        folder = Path(name)
        (folder / "models.yaml").write_text(models_yaml(upstream))
        highest = 0.0
        for life in range(kills + 1):
            with _proxy(folder, budget_usd) as (process, address):
                killed = process if life < kills else None
                share = requests // (kills + 1)
                highest = max(highest, asyncio.run(_asked(address, share, killed, dice, seen, folder / "ledger.db")))
                process.send_signal(signal.SIGTERM)
                process.wait(60)
        ledger = Ledger(folder / "ledger.db")
        ledger.settle_abandoned()
        totals = ledger.totals()
        counts_at = upstream.removesuffix("/v1") + "/simulation/counts"
        with urllib.request.urlopen(counts_at) as response:
            counts = json.load(response)
        ledger.close()
    billed = counts["answered_usd"] + counts["lost_usd"]
    assert seen["no answer and no error"] == 0, seen
    assert totals.reserved_usd == 0, totals
    assert billed <= totals.settled_usd * (1 + 1e-9), (billed, totals)
    return {
        "adversary_requests": float(seen.total()),
        "adversary_kills": float(kills),
        "adversary_answers": float(seen["answered"]),
        "adversary_errors": float(seen["error"]),
        "adversary_left": float(seen["left"]),
        "adversary_refused_402": float(seen["refused"]),
        "adversary_limit_usd": budget_usd,
        "adversary_settled_usd": totals.settled_usd,
        "adversary_billed_usd": billed,
        "adversary_highest_share_of_limit": highest / budget_usd,
        "overspend_usd": max(0.0, totals.settled_usd - budget_usd, highest - budget_usd),
    }


async def _asked(
    address: str, requests: int, killed: subprocess.Popen | None, dice: random.Random, seen: Counter[str], path: Path
) -> float:
    """Ask so often, then kill the proxy while others are under way; returns the most that was reserved and settled at once."""
    numbers, highest = iter(range(requests)), 0.0
    ledger = Ledger(path)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def task() -> None:
            nonlocal highest
            for number in numbers:
                seen[await _one(session, address, dice)] += 1
                if number == requests - 1 and killed is not None:
                    killed.send_signal(signal.SIGKILL)
                if number % 20 == 0:
                    totals = ledger.totals()
                    highest = max(highest, totals.reserved_usd + totals.settled_usd)

        await asyncio.gather(*(task() for _ in range(CONCURRENT)))
    ledger.close()
    return highest


async def _one(session: aiohttp.ClientSession, address: str, dice: random.Random) -> str:
    streamed, leaves = dice.random() < 0.5, dice.random() < 0.1
    content = {
        "model": dice.choice(MODELS),
        "messages": [{"role": "user", "content": f"What is {dice.randrange(1000)} plus 4?"}],
        "stream": streamed,
        "max_tokens": dice.choice((None, 20, 300)),
    }
    try:
        async with session.post(f"{address}/chat/completions", json=content) as response:
            if response.status == 402:
                return "refused"
            if leaves:
                await response.content.readany()
                response.close()
                return "left"
            body = await response.read()
            whole = body.endswith(b"[DONE]\n\n") if streamed else b'"choices"' in body
            if response.status == 200 and whole:
                return "answered"
            return "error" if b'"error"' in body else "no answer and no error"
    except aiohttp.ClientError:
        return "left"


@contextmanager
def _proxy(folder: Path, budget_usd: float) -> Iterator[tuple[subprocess.Popen, str]]:
    options = ["--models", str(folder / "models.yaml"), "--budget-usd", str(budget_usd), "--ledger", str(folder / "ledger.db")]
    command = [sys.executable, "-c", LINE, "serve", "--port", "0", "--no-access-log", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            found = re.search(r"http://[^\s:]+:\d+/v1", process.stdout.readline())
            assert found, "the proxy has not started"
            yield process, found.group()
        finally:
            process.kill()
