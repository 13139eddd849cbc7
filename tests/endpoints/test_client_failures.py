"""Tries that fail: each has a reason, a time and a cost, and whether another follows depends on it."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from jaxroute.endpoints import CallFailed, Client, ClientConfig, Endpoint, Ledger, TokenPrice
from jaxroute.errors import EndpointError
from jaxroute.simulation import SimulationConfig, serving
from tests.endpoints.fast_time import run_fast
from tests.endpoints.raw_server import http, now, raw_server, read_request

PROMPT = "What is 12 plus 30?"
ONE_TRY = ClientConfig(retries=0)


@pytest.mark.parametrize("fault", ["server_error", "cut", "malformed", "rate_limit:0", "slow_first_byte:300"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_failed_try_is_repeated(fault: str, streamed: bool, tmp_path: Path) -> None:
    """Except in the middle of a stream, of which somebody has got the first half."""

    async def story() -> None:
        ledger = Ledger(tmp_path / "ledger.db", 1.0)
        config = ClientConfig(first_byte_seconds=60)
        async with serving() as simulation, Client(simulation.endpoints(), config, ledger=ledger) as client:
            simulation.next_faults.append(fault)
            if not streamed:
                answer = await client.ask("sim-nano", PROMPT)
            elif fault in ("cut", "malformed"):
                with pytest.raises(CallFailed) as failed:
                    async with client.stream("sim-nano", PROMPT) as stream:
                        got = [chunk async for chunk in stream]
                        assert got
                assert failed.value.reason == fault and len(failed.value.tries) == 1
                assert 0 < failed.value.spent_usd == pytest.approx(ledger.totals().settled_usd, abs=1e-12)
                return
            else:
                async with client.stream("sim-nano", PROMPT) as stream:
                    assert [chunk async for chunk in stream]
                answer = stream.answer
            reasons = {"rate_limit:0": "rate_limit", "slow_first_byte:300": "first_byte_timeout"}
            assert [one.reason for one in answer.tries] == [reasons.get(fault, fault), ""]
            free = fault in ("server_error", "rate_limit:0")
            assert (answer.tries[0].spent_usd == 0) == free
            assert answer.cost_usd is not None and (answer.spent_usd == answer.cost_usd) == free
            totals = ledger.totals()
            assert totals.settled_usd == pytest.approx(answer.spent_usd, abs=1e-12) and totals.reserved_usd == 0
            assert totals.settled_usd >= (simulation.counts.answered_pico + simulation.counts.lost_pico) / 1e12 - 1e-15

    run_fast(story())


def test_tries_end_with_the_retries_and_say_why() -> None:
    async def story() -> None:
        config = ClientConfig(retries=3)
        broken = SimulationConfig(faults=("server_error=1",))
        async with serving(broken) as simulation, Client(simulation.endpoints(), config) as client:
            with pytest.raises(
                CallFailed, match=r"sim-nano has not answered after 4 tries: server_error.*status 500"
            ) as failed:
                await client.ask("sim-nano", PROMPT)
        assert len(failed.value.tries) == 4 and failed.value.spent_usd == 0
        assert sum(simulation.counts.requests.values()) == 4

    run_fast(story())


def test_the_deadline_holds_over_all_tries() -> None:
    async def story() -> None:
        async with serving() as simulation, Client(simulation.endpoints()) as client:
            simulation.next_faults.append("rate_limit:30")
            started = now()
            with pytest.raises(CallFailed, match=r"rate_limit.*leaves no time for another try"):
                await client.ask("sim-nano", PROMPT, deadline_seconds=20)
            # Waiting would not help, so it does not wait.
            assert now() - started < 1
            # That model is paused now: the turn of others would come too late as well.
            with pytest.raises(CallFailed) as failed:
                await client.ask("sim-nano", PROMPT, deadline_seconds=20)
            assert failed.value.reason == "deadline" and failed.value.tries == ()
            simulation.next_faults.append("slow_first_byte:100")
            started = now()
            with pytest.raises(CallFailed, match="total_timeout"):
                await client.ask("sim-small", PROMPT, deadline_seconds=15)
            assert 15 <= now() - started < 15.5

    run_fast(story())


def test_each_phase_has_a_time_of_its_own() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1000)

    async def stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        await asyncio.sleep(1000)

    async def trickles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):
            writer.write(b" ")
            await asyncio.sleep(4)

    async def story() -> None:
        config = ClientConfig(first_byte_seconds=20, between_bytes_seconds=5, total_seconds=90, retries=0)
        for reply, reason, seconds in (
            (silent, "first_byte_timeout", 20),
            (stalls, "between_bytes_timeout", 5),
            (trickles, "total_timeout", 90),
        ):
            async with raw_server(reply) as endpoints, Client(endpoints, config) as client:
                started = now()
                with pytest.raises(CallFailed, match=reason) as failed:
                    await client.ask("m", PROMPT)
                assert seconds <= now() - started < seconds + 1
                assert failed.value.reason == reason and failed.value.spent_usd > 0

    run_fast(story())


def test_no_connection_costs_nothing() -> None:
    async def story() -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
            async with Client({"m": Endpoint("m", address, "m", TokenPrice(1, 1))}, ONE_TRY) as client:
                with pytest.raises(CallFailed, match="connect") as failed:
                    await client.ask("m", PROMPT)
        assert failed.value.reason == "connect" and failed.value.spent_usd == 0

    run_fast(story())


SECRET = "sk-Ab3dEf6hIj9lMn2pQr5tUv8x"


def test_a_wrong_key_ends_the_call_and_is_not_repeated_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        seen.append(SECRET in head)
        writer.write(http(json.dumps({"error": {"message": f"Incorrect API key: {SECRET}"}}).encode(), "401 Unauthorized"))

    async def story() -> None:
        async with raw_server(echo) as endpoints, Client({"m": replace(endpoints["m"], api_key_env="SOME_KEY")}) as client:
            with pytest.raises(CallFailed, match=r"unauthorized.*Incorrect API key: \[key\]") as failed:
                await client.ask("m", PROMPT)
        assert seen == [True] and SECRET not in repr(failed.value.tries) + str(failed.value) + repr(client.endpoints)

    monkeypatch.setenv("SOME_KEY", SECRET)
    run_fast(story())
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(EndpointError, match=r"set the environment variable: SOME_KEY \(of m\)"):
        Client({"m": Endpoint("m", "http://127.0.0.1:1/v1", "m", TokenPrice(1, 1), api_key_env="SOME_KEY")})


@pytest.mark.parametrize(
    ("reply", "reason", "says"),
    [
        (http(b"", "307 Temporary Redirect", "Location: http://127.0.0.1:1/steal\r\n"), "rejected", "status 307"),
        (http(b'{"error": {"message": "no such field"}}', "400 Bad Request"), "rejected", "status 400: no such field"),
        (http(b"<html>" + b"x" * 5000, "502 Bad Gateway"), "server_error", "status 502: <html>"),
        (http(b'{"error": {"code": 503, "message": "overloaded"}}'), "server_error", "503: overloaded"),
        (http(b'{"choices": []}'), "malformed", "it has no choices"),
        (http(b'{"choices": [{"message": "yes"}]}'), "malformed", "its choice has no message"),
        (http(b"[1, 2]"), "malformed", "it is no JSON object"),
        (b"", "cut", "ServerDisconnected"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", "cut", "ClientPayloadError"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "cut", ""),
    ],
)
def test_strange_replies_have_a_reason(reply: bytes, reason: str, says: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(reply)
        await writer.drain()
        writer.close()

    async def story() -> None:
        async with raw_server(answer) as endpoints, Client(endpoints, ONE_TRY) as client:
            with pytest.raises(CallFailed) as failed:
                await client.ask("m", PROMPT)
        assert failed.value.reason == reason and says in str(failed.value) and len(str(failed.value)) < 600

    run_fast(story())
