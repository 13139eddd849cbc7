"""The client against the simulated endpoints, on a clock that jumps: answers, limits, and what counts as spent."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from jaxroute.endpoints import CallFailed, Client, ClientConfig, Ledger
from jaxroute.errors import EndpointError
from jaxroute.simulation import SimulationConfig, serving
from tests.endpoints.fast_time import run_fast
from tests.endpoints.raw_server import http, now, raw_server, read_request

PROMPT = "What is 12 plus 30?"


def test_an_answer_has_text_tokens_dollars_and_times() -> None:
    async def story() -> None:
        async with serving() as simulation, Client(simulation.endpoints()) as client:
            answer = await client.ask("sim-math", PROMPT, options={"logprobs": True, "temperature": 0})
            expected = simulation.pool.outcome("sim-math", PROMPT)
            assert answer.text.endswith(f"The answer is {simulation.pool.answer('sim-math', PROMPT)}.")
            usage = answer.usage
            assert (usage.prompt_tokens, usage.cached_tokens) == (expected.prompt_tokens, 0)
            assert (usage.completion_tokens, usage.reasoning_tokens) == (expected.completion_tokens, expected.reasoning_tokens)
            assert answer.cost_usd == answer.spent_usd == simulation.counts.answered_pico / 1e12
            assert expected.latency_seconds <= answer.latency_seconds <= expected.latency_seconds + 0.2
            assert answer.log_probabilities is not None and len(answer.log_probabilities) == len(answer.text.split())
            assert (await client.ask("sim-nano", PROMPT)).usage.reasoning_tokens is None

    run_fast(story())


def test_a_stream_gives_the_same_answer_piece_by_piece() -> None:
    async def story() -> None:
        async with serving() as simulation, Client(simulation.endpoints()) as client:
            whole = await client.ask("sim-large", PROMPT)
            async with client.stream("sim-large", PROMPT) as stream:
                with pytest.raises(EndpointError, match="has not ended"):
                    _ = stream.answer
                times = [now() async for _ in stream]
            answer = stream.answer
            assert (answer.text, answer.usage, answer.cost_usd) == (whole.text, whole.usage, whole.cost_usd)
            assert len(times) > 10 and times[-1] - times[0] > 0.5
            assert 0.2 <= answer.first_byte_seconds < 0.4 < answer.latency_seconds

    run_fast(story())


def test_what_an_endpoint_asks_to_wait_is_waited_by_all() -> None:
    async def story() -> None:
        async with serving(SimulationConfig(time_scale=0)) as simulation, Client(simulation.endpoints()) as client:
            simulation.next_faults.append("rate_limit:40")
            started = now()
            first = asyncio.create_task(client.ask("sim-nano", PROMPT))
            await asyncio.sleep(1)
            second = await client.ask("sim-nano", PROMPT)
            assert now() - started >= 40 and len(second.tries) == 1
            other = asyncio.create_task(client.ask("sim-small", PROMPT))
            answer = await first
            assert now() - started < 41
            assert [one.reason for one in answer.tries] == ["rate_limit", ""] and answer.tries[0].status == 429
            await other

    run_fast(story())


def test_requests_keep_within_their_limits() -> None:
    async def story() -> None:
        async with serving() as simulation:
            endpoints = simulation.endpoints(concurrent_requests=3)
            endpoints["sim-nano"] = replace(endpoints["sim-nano"], requests_per_minute=30, concurrent_requests=100)
            async with Client(endpoints) as client:
                await asyncio.gather(*(client.ask("sim-large", f"{PROMPT} {number}") for number in range(12)))
                assert simulation.counts.most_under_way == 3
                started = now()
                await asyncio.gather(*(client.ask("sim-nano", f"{PROMPT} {number}") for number in range(31)))
                assert 60 <= now() - started < 62

    run_fast(story())


def test_what_does_not_fit_into_the_budget_is_not_asked(tmp_path: Path) -> None:
    async def story() -> None:
        ledger = Ledger(tmp_path / "ledger.db", 0.03)
        async with serving() as simulation, Client(simulation.endpoints(), ledger=ledger) as client:
            with pytest.raises(CallFailed, match=r"budget.*0.03 dollars are left, 0.05\d+ may be needed") as failed:
                await client.ask("sim-frontier", PROMPT, output_tokens=2000)
            assert failed.value.tries == () and not simulation.counts.requests
            await client.ask("sim-frontier", PROMPT, output_tokens=100)
        assert ledger.totals().settled_usd == simulation.counts.answered_pico / 1e12 > 0

    run_fast(story())


def test_a_call_that_is_cancelled_counts_at_its_worst_case(tmp_path: Path) -> None:
    async def story() -> None:
        ledger = Ledger(tmp_path / "ledger.db", 1.0)
        async with serving() as simulation, Client(simulation.endpoints(), ledger=ledger) as client:
            task = asyncio.create_task(client.ask("sim-frontier", PROMPT, note="question 7"))
            await asyncio.sleep(0.3)
            [held] = ledger.open()
            assert held.note == "question 7"
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            totals = ledger.totals()
            assert totals.reserved_usd == 0 and totals.settled_usd == held.worst_case_usd
            async with client.stream("sim-nano", PROMPT) as stream:
                async for _ in stream:
                    break
            assert ledger.totals().settlements == 2 and ledger.open() == []

    run_fast(story())


def test_counts_that_cannot_be_are_not_believed(tmp_path: Path) -> None:
    async def story() -> None:
        ledger = Ledger(tmp_path / "ledger.db", 1.0)
        async with serving() as simulation, Client(simulation.endpoints(), ledger=ledger) as client:
            simulation.next_faults.extend(["wrong_usage"] * 3)
            answers = [await client.ask("sim-nano", PROMPT) for _ in range(3)]
        assert all(one.text and one.cost_usd is None and one.usage.completion_tokens is None for one in answers)
        assert {one.usage.wrong for one in answers} == {
            "",
            "prompt_tokens is no count of tokens",
            "completion_tokens is no count of tokens",
        }
        assert ledger.totals().settled_usd == pytest.approx(sum(one.spent_usd for one in answers))
        assert ledger.totals().settled_usd > simulation.counts.lost_pico / 1e12 > 0

    run_fast(story())


def test_with_faults_everywhere_the_dollars_add_up(tmp_path: Path) -> None:
    faults = ("rate_limit=0.1", "server_error=0.1", "cut=0.05", "malformed=0.05", "slow_first_byte=0.05", "wrong_usage=0.05")

    async def story() -> None:
        ledger = Ledger(tmp_path / "ledger.db", 10.0)
        async with serving(SimulationConfig(faults=faults, slow_seconds=90)) as simulation:
            config = ClientConfig(first_byte_seconds=60, retries=20)
            async with Client(simulation.endpoints(), config, ledger=ledger) as client:
                answers = await asyncio.gather(*(client.ask("sim-medium", f"{PROMPT} {number}") for number in range(60)))
        counts, totals = simulation.counts, ledger.totals()
        assert len(counts.faults) == 6
        assert set(counts.answers.values()) == {1}
        known = sum(one.cost_usd for one in answers if one.cost_usd is not None)
        assert round(known * 1e12) == counts.answered_pico
        assert totals.reserved_usd == 0 and totals.settled_usd == pytest.approx(sum(one.spent_usd for one in answers))
        assert (counts.answered_pico + counts.lost_pico) / 1e12 <= totals.settled_usd <= totals.limit_usd
        assert totals.reservations == sum(counts.requests.values()) == sum(len(one.tries) for one in answers)

    run_fast(story())


def test_chat_messages_and_options_are_sent_as_they_are() -> None:
    bodies = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bodies.append((await read_request(reader))[1])
        reply = {"choices": [{"message": {"content": None, "tool_calls": [{"id": "1"}]}, "finish_reason": "tool_calls"}]}
        writer.write(http(json.dumps(reply).encode()))

    async def story() -> None:
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Grüße"}]
        async with raw_server(record) as endpoints, Client({"m": replace(endpoints["m"], accepts=("tools",))}) as client:
            answer = await client.ask("m", {"messages": messages}, output_tokens=7, options={"tools": [{"type": "function"}]})
        assert bodies == [{"model": "m", "messages": messages, "max_tokens": 7, "tools": [{"type": "function"}]}]
        assert answer.text == "" and answer.tool_calls == ({"id": "1"},) and answer.finish_reason == "tool_calls"
        assert answer.usage.prompt_tokens is None and answer.cost_usd is None and answer.spent_usd > 0

    run_fast(story())


def test_wrong_calls_are_named_before_anything_is_sent() -> None:
    async def story() -> None:
        async with serving() as simulation:
            client = Client(simulation.endpoints(accepts=("json_schema",)))
            with pytest.raises(EndpointError, match="the client is closed"):
                await client.ask("sim-nano", PROMPT)
            async with client:
                for arguments, says in (
                    (("gpt-4", PROMPT), "model='gpt-4' is none of the endpoints"),
                    (("sim-nano", []), "neither a text nor a list"),
                ):
                    with pytest.raises(EndpointError, match=says):
                        await client.ask(*arguments)
                with pytest.raises(EndpointError, match="output_tokens=0 must be"):
                    await client.ask("sim-nano", PROMPT, output_tokens=0)
                with pytest.raises(EndpointError, match="options must not hold n"):
                    await client.ask("sim-nano", PROMPT, options={"n": 5})
                image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://e.org/cat.png"}}]}]
                with pytest.raises(EndpointError, match="sim-nano does not accept images, which the request holds"):
                    await client.ask("sim-nano", image)
            assert not simulation.counts.requests

    run_fast(story())


@pytest.mark.parametrize("change", [{"connect_seconds": -1}, {"total_seconds": float("nan")}, {"retries": -1}])
def test_wrong_settings_are_named(change: dict) -> None:
    with pytest.raises(EndpointError, match=next(iter(change))):
        ClientConfig(**change)
