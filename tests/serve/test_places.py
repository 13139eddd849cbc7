"""Models that are full: their tolls rise, and requests go where they are nearly as good."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jaxroute.endpoints.limits import Limits
from jaxroute.serve.places import Places
from jaxroute.simulation import simulated_endpoints
from tests.endpoints.fast_time import run_fast
from tests.serve.proxies import MESSAGES, FixedChooser, proxy

CHAT = {"model": "auto", "messages": MESSAGES}


def test_a_local_model_that_many_want_gets_a_toll_and_the_next_best_answers(tmp_path: Path) -> None:
    text = "\n".join(
        f"  {name}:\n    base_url: BASE\n    {rest}"
        for name, rest in (
            ("sim-nano", "local: true\n    requests_per_minute: 60"),
            ("sim-medium", "price: {input: 1, output: 2}"),
        )
    )
    chooser = FixedChooser({"sim-nano": 0.8, "sim-medium": 0.7}, {"sim-nano": 0.0, "sim-medium": 1e-5})
    with proxy(tmp_path, chooser=chooser) as one:
        (tmp_path / "models.yaml").write_text("models:\n" + text.replace("BASE", one.simulation.base_url))
        one.read_again()
        replies = [one.post(CHAT) for _ in range(40)]
        models = [reply.headers["x-jaxroute-model"] for reply in replies]
        assert {reply.status for reply in replies} == {200}
        # A tenth of a minute's requests may begin at once; then nobody waits.
        assert models[0] == "sim-nano" and 5 <= models.count("sim-nano") <= 12
        toll = one.running.service.places.toll("sim-nano")
        # It rises until the other is as good.
        assert 0.08 < toll < 0.15
        scraped = one.request("GET", "/metrics").body.decode()
        assert 'jaxroute_toll{model="sim-nano"} 0.' in scraped


def test_the_capacity_is_that_of_the_places_and_of_the_rate() -> None:
    clock = SimpleNamespace(now=0.0)
    endpoint = simulated_endpoints("http://127.0.0.1", concurrent_requests=4, requests_per_minute=600.0)["sim-nano"]
    upstream: Any = SimpleNamespace(endpoint=endpoint, limits=Limits(endpoint))
    places = Places(clock=lambda: clock.now)
    places.wanted(upstream)
    assert places._tolls["sim-nano"].per_second == 10.0
    places.held("sim-nano", 2.0)
    places.wanted(upstream)
    assert places._tolls["sim-nano"].per_second == 2.0 and places.tolls()["sim-nano"] > 0
    assert places.toll("sim-small") == 0


def test_a_burst_begins_at_once_and_no_minute_has_more_than_its_limit() -> None:
    endpoint = simulated_endpoints("http://127.0.0.1", concurrent_requests=1_000, requests_per_minute=60.0)["sim-nano"]

    async def begun() -> list[float]:
        limits, loop = Limits(endpoint, burst=0.1), asyncio.get_running_loop()
        start, times = loop.time(), []

        async def one() -> None:
            async with limits.turn(start + 1_000):
                times.append(loop.time() - start)

        await asyncio.gather(*(one() for _ in range(200)))
        return times

    times = run_fast(begun())
    assert sum(1 for time in times if time < 0.01) == 7
    for start in times:
        assert sum(1 for time in times if start <= time < start + 60) <= 61
