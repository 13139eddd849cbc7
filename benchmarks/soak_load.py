"""The load of `serve_soak`, from a process of its own: what is asked, and how every request ended.

    python -m benchmarks.soak_load ADDRESS SECONDS [--rate REQUESTS_PER_SECOND | --concurrent REQUESTS]

Requests arrive at random moments at that rate, however long they take, or so many follow each other as soon as one has ended.
Prints one line of JSON: outcomes and their numbers, requests per second, and the latest time to an end in seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp

MODELS = ("sim-nano", "sim-small", "sim-medium", "auto", "auto", "auto")
KINDS = {"chat": 36, "stream": 30, "leaves": 10, "embedding": 8, "completion": 6, "response": 6, "bad": 4}
"""What is asked, in percent."""
SECONDS = 60.0
"""In which every request has to end."""
UPSTREAM = ("upstream_", "rate_limit", "server_error", "model_busy")
"""Codes of errors that say that an endpoint has failed, and none of ours."""
BAD: tuple[tuple[str, bytes, tuple[int, ...]], ...] = (
    ("/chat/completions", b'{"model": "auto", "messages": [', (400,)),
    ("/chat/completions", b'{"model": "nothing", "messages": [{"role": "user", "content": "x"}]}', (404,)),
    ("/chat/completions", b'{"model": "auto"}', (400,)),
    ("/chat/completions", b'{"model": "sim-nano", "max_tokens": -5, "messages": [{"role": "user", "content": "x"}]}', (400,)),
    ("/embeddings", b'{"model": "auto", "input": "x"}', (400,)),
    ("/nowhere", b"{}", (404,)),
)
"""Requests that are wrong, and the statuses that they must get."""


@dataclass
class Seen:
    """How requests have ended."""

    outcomes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    """Of what must not be, the first of its kind."""
    slowest: float = 0.0

    def add(self, outcome: str, what: str = "") -> None:
        self.outcomes[outcome] += 1
        if what:
            self.examples.setdefault(outcome, what[:300])


class Load:
    """Asks one address."""

    def __init__(self, address: str, session: aiohttp.ClientSession, seed: int) -> None:
        self.address, self.session, self.dice, self.seen = address, session, random.Random(seed), Seen()

    async def one(self) -> None:
        """One request of the mixture."""
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(SECONDS):
                await self._ask()
        except TimeoutError:
            self.seen.add("no answer and no error", f"nothing within {SECONDS:g} seconds")
        except (aiohttp.ClientError, ConnectionError) as error:
            self.seen.add("no answer and no error", repr(error))
        self.seen.slowest = max(self.seen.slowest, time.perf_counter() - begun)

    async def _ask(self) -> None:
        dice = self.dice
        kind = dice.choices(list(KINDS), list(KINDS.values()))[0]
        text = f"What is {dice.randrange(1000)} plus {dice.randrange(1000)}? " * dice.choice((1, 1, 1, 4, 20))
        content: dict[str, Any] = {"model": dice.choice(MODELS), "max_tokens": dice.choice((20, 60, 200))}
        if kind == "bad":
            path, body, statuses = dice.choice(BAD)
            async with self.session.post(self.address + path, data=body) as response:
                said = await response.text()
                right = response.status in statuses and '"error"' in said
                self.seen.add("rejected" if right else "wrong error", "" if right else f"{response.status} {body!r} {said}")
            return
        path = "/chat/completions"
        if kind == "embedding":
            path, content = "/embeddings", {"model": "sim-nano", "input": text}
        elif kind == "completion":
            path, content["prompt"] = "/completions", text
        elif kind == "response":
            path, content["input"] = "/responses", text
            content["max_output_tokens"] = content.pop("max_tokens")
        else:
            content["messages"] = [{"role": "user", "content": text}]
            content["stream"] = kind != "chat"
        async with self.session.post(self.address + path, json=content) as response:
            if kind == "leaves":
                await response.content.readany()
                response.close()
                self.seen.add("left")
                return
            body = await response.read()
        self._judge(kind, response.status, body)

    def _judge(self, kind: str, status: int, body: bytes) -> None:
        if status == 200 and kind == "stream":
            whole = body.endswith(b"[DONE]\n\n")
            if not whole and b'"error"' not in body:
                self.seen.add("no answer and no error", repr(body[-200:]))
                return
            self.seen.add("answered" if whole else "endpoint failed")
            return
        try:
            content = json.loads(body)
        except ValueError:
            self.seen.add("no answer and no error", f"{status} {body[-200:]!r}")
            return
        if status == 200:
            self.seen.add("answered")
            return
        code = str((content.get("error") or {}).get("code"))
        theirs = status in (429, 500, 502, 503, 504) and code.startswith(UPSTREAM)
        self.seen.add("endpoint failed" if theirs else "error of ours", "" if theirs else f"{status} {body[:200]!r}")


async def load(address: str, seconds: float, rate: float | None, concurrent: int, seed: int) -> dict[str, Any]:
    """Ask for so long; returns what is printed."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        one = Load(address, session, seed)
        begun = time.perf_counter()
        end = begun + seconds
        if rate is None:

            async def follow() -> None:
                while time.perf_counter() < end:
                    await one.one()

            await asyncio.gather(*(follow() for _ in range(concurrent)))
        else:
            due, tasks = begun, set()
            while (due := due + one.dice.expovariate(rate)) < end:
                await asyncio.sleep(max(due - time.perf_counter(), 0))
                task = asyncio.create_task(one.one())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)
        took = time.perf_counter() - begun
    seen = one.seen
    return {
        "outcomes": dict(seen.outcomes),
        "examples": seen.examples,
        "requests_per_second": seen.outcomes.total() / took,
        "slowest_seconds": seen.slowest,
    }


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--concurrent", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(load(given.address, given.seconds, given.rate, given.concurrent, given.seed))))


if __name__ == "__main__":
    _main()
