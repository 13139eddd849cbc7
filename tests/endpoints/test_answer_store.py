"""The store of answers: what is stored is not asked again, what counts as spent is what the cells have spent, exactly."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from jaxroute.endpoints import AnswerStore, Client, ClientConfig, Endpoint, Ledger, TokenPrice
from jaxroute.errors import EndpointError, LedgerError, OutputError
from jaxroute.simulation import Simulation, SimulationConfig, serving
from tests.endpoints.fast_time import run_fast

PROMPTS = {"a": "What is 1 plus 1?", "b": "What is 2 plus 2?"}
ABOUT = {"kind": "test", "options": {"temperature": 0}}
PATIENT = ClientConfig(retries=1, backoff_seconds=0.1)


def open_store(path: Path, models: Mapping[str, Endpoint], **changes: object) -> AnswerStore:
    given = {"limit_usd": 1.0, "about": ABOUT, "queries": PROMPTS} | changes
    return AnswerStore(path, models=models, **given)  # type: ignore[arg-type]


def spent_by_cells(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        return connection.execute("SELECT coalesce(sum(spent_pico), 0) FROM answer_cells").fetchone()[0]


def settled(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        return connection.execute("SELECT coalesce(sum(settled), 0) FROM ledger_windows").fetchone()[0]


def test_an_answer_is_asked_once_and_found_whole(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(SimulationConfig(time_scale=0)) as simulation:
            path, models = tmp_path / "answers.db", simulation.endpoints()
            with open_store(path, models) as store:
                async with Client(models, ledger=store.ledger) as client:
                    assert store.get("a", "sim-math") is None
                    first = await store.ask(client, "a", "sim-math", PROMPTS["a"], options={"logprobs": True})
                    again = await store.ask(client, "a", "sim-math", PROMPTS["a"])
            assert first == again and first.answered and not (first.refused or first.truncated)
            assert simulation.counts.requests["sim-math"] == 1
            expected = simulation.pool.outcome("sim-math", PROMPTS["a"])
            assert first.text.endswith(f"{simulation.pool.answer('sim-math', PROMPTS['a'])}.")
            assert first.message == {"role": "assistant", "content": first.text}
            assert (first.usage.prompt_tokens, first.usage.cached_tokens) == (expected.prompt_tokens, 0)
            assert (first.usage.completion_tokens, first.usage.reasoning_tokens) == (
                expected.completion_tokens,
                expected.reasoning_tokens,
            )
            assert first.cost_usd == first.spent_usd == simulation.counts.answered_pico / 1e12
            assert first.log_probability is not None and first.log_probability < 0
            assert first.latency_seconds is not None and first.first_byte_seconds is not None
            # Another process finds the same.
            with open_store(path, models, limit_usd=None) as store:
                assert list(store.answers()) == [first] and store.reasons() == {("a", "sim-math"): ""}
                assert settled(path) == spent_by_cells(path) == simulation.counts.answered_pico

    run_fast(story())


def test_a_cell_that_is_being_asked_is_waited_for(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving() as simulation:
            models = simulation.endpoints()
            with open_store(tmp_path / "answers.db", models) as store:
                async with Client(models, ledger=store.ledger) as client:
                    asked = (store.ask(client, "a", "sim-nano", PROMPTS["a"]) for _ in range(5))
                    answers = await asyncio.gather(*asked)
            assert len(set(map(repr, answers))) == 1 and simulation.counts.requests["sim-nano"] == 1

    run_fast(story())


def test_failures_are_kept_with_what_they_cost_and_asked_again_on_demand(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(SimulationConfig(time_scale=0)) as simulation:
            path, models = tmp_path / "answers.db", simulation.endpoints()
            with open_store(path, models) as store:
                async with Client(models, PATIENT, ledger=store.ledger) as client:
                    simulation.next_faults.extend(["server_error", "cut", "cut", "wrong_usage"])
                    failed = await store.ask(client, "a", "sim-nano", PROMPTS["a"])
                    assert (failed.reason, failed.answered, failed.text, failed.tries) == ("cut", False, "", 2)
                    assert failed.spent_usd > 0 and failed.cost_usd is None
                    assert await store.ask(client, "a", "sim-nano", PROMPTS["a"]) == failed
                    answered = await store.ask(client, "a", "sim-nano", PROMPTS["a"], again=True)
                    # A cut try more, and an answer whose tokens were not counted.
                    assert answered.answered and answered.cost_usd is None and answered.tries == 4
                    assert answered.spent_usd == pytest.approx(3 * failed.spent_usd, rel=1e-12)
            assert settled(path) == spent_by_cells(path)
            assert simulation.counts.requests["sim-nano"] == 4

    run_fast(story())


def test_a_cell_without_money_is_asked_once_there_is_more(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(SimulationConfig(time_scale=0)) as simulation:
            path, models = tmp_path / "answers.db", simulation.endpoints()
            for limit, reason in ((1e-9, "budget"), (1.0, "")):
                with open_store(path, models, limit_usd=limit) as store:
                    async with Client(models, ledger=store.ledger) as client:
                        assert (await store.ask(client, "a", "sim-large", PROMPTS["a"])).reason == reason
            assert simulation.counts.requests["sim-large"] == 1

    run_fast(story())


def test_a_call_that_is_cancelled_counts_at_its_worst_case_and_is_asked_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving() as simulation:
            path, models = tmp_path / "answers.db", simulation.endpoints()
            with open_store(path, models) as store:
                async with Client(models, ledger=store.ledger) as client:
                    task = asyncio.create_task(store.ask(client, "a", "sim-math", PROMPTS["a"]))
                    await asyncio.sleep(0.5)
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    left = store.get("a", "sim-math")
                    assert left is not None and left.reason == "unfinished" and left.spent_usd > 0
                    answered = await store.ask(client, "a", "sim-math", PROMPTS["a"])
                    assert answered.answered and answered.cost_usd is not None
                    assert answered.spent_usd == pytest.approx(left.spent_usd + answered.cost_usd)
            assert settled(path) == spent_by_cells(path)

    run_fast(story())


def test_purposes_are_cells_of_their_own(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(SimulationConfig(time_scale=0)) as simulation:
            models = simulation.endpoints()
            with open_store(tmp_path / "answers.db", models) as store:
                async with Client(models, ledger=store.ledger) as client:
                    await store.ask(client, "a", "sim-nano", PROMPTS["a"])
                    judged = await store.ask(client, "a", "sim-nano", "Is that right?", purpose="judge")
                    assert judged.purpose == "judge" and len(list(store.answers())) == len(list(store.answers("judge"))) == 1
                    with pytest.raises(EndpointError, match="too long"):
                        await store.ask(client, "a", "sim-nano", "x", purpose="x" * 400)
                async with Client(models, ledger=Ledger(tmp_path / "other.db", 1.0)) as other:
                    with pytest.raises(EndpointError, match="another ledger"):
                        await store.ask(other, "a", "sim-nano", PROMPTS["a"])
            assert simulation.counts.requests["sim-nano"] == 2

    run_fast(story())


def test_what_a_killed_process_had_under_way_counts_at_its_worst_case_on_its_cell(tmp_path: Path) -> None:
    path, models = tmp_path / "answers.db", {"m": endpoint()}
    open_store(path, models).close()
    note = 'json.dumps(["a", "m", ""])'
    code = f"import json; from jaxroute.endpoints import Ledger; Ledger({str(path)!r}).reserve(0.25, {note})"
    subprocess.run([sys.executable, "-c", code], check=True)
    with open_store(path, models) as store:
        left = store.get("a", "m")
        assert store.interrupted == 1 and left is not None
        assert (left.reason, left.killed, left.killed_usd, left.spent_usd) == ("unfinished", 1, 0.25, 0.25)
        assert not store.ledger.open() and store.ledger.left_usd == 0.75
    assert settled(path) == spent_by_cells(path)
    with open_store(path, models) as store:
        assert store.interrupted == 0


def endpoint() -> Endpoint:
    return Endpoint("m", "http://127.0.0.1:9/v1", "m", TokenPrice(1.0, 2.0))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"about": {**ABOUT, "options": {}}}, 'options was {"temperature": 0} and is {}'),
        ({"about": {"kind": "test"}}, 'options was {"temperature": 0} and is not there'),
        ({"models": {"m": replace(endpoint(), price=TokenPrice(1.0, 3.0))}}, "models.m.price.output was 2.0 and is 3.0"),
        ({"models": {"m": replace(endpoint(), base_url="http://x/v1")}}, 'models.m.base_url was "http://127.0.0.1:9/v1"'),
        ({"queries": {"a": "What is 1 minus 1?"}}, "1 query had other prompts under the same ids: a"),
        ({"queries": {"c": "What is 3 plus 3?"}}, "none of the prompts is among those that it holds"),
        ({"queries": {"x" * 400: "What?"}}, "is too long"),
        ({"queries": {"\ud800": "What?"}}, "half of a surrogate pair"),
    ],
)
def test_a_file_of_another_run_is_rejected_and_left_as_it_is(tmp_path: Path, changes: dict, says: str) -> None:
    path = tmp_path / "answers.db"
    open_store(path, {"m": endpoint()}).close()
    with pytest.raises(OutputError) as raised:
        open_store(path, **{"models": {"m": endpoint()}, "limit_usd": 5.0} | changes)
    assert says in str(raised.value)
    assert Ledger(path).totals().limit_usd == 1.0
    assert sorted(one.name for one in tmp_path.iterdir() if not one.name.startswith("answers.db-")) == ["answers.db"]


def test_models_and_queries_may_be_added_and_limits_changed(tmp_path: Path) -> None:
    path, other = tmp_path / "answers.db", replace(endpoint(), name="other")
    open_store(path, {"m": endpoint()}).close()
    faster = replace(endpoint(), concurrent_requests=99, requests_per_minute=5.0)
    open_store(path, {"m": faster, "other": other}, queries=PROMPTS | {"c": "What is 3 plus 3?"}).close()
    with pytest.raises(OutputError, match="other prompts"):
        open_store(path, {"other": other}, queries=PROMPTS | {"c": "What is 3 plus 4?"})


def test_other_files_and_other_processes_are_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "outcomes.csv"
    text.write_text("prompt,quality\n" * 10)
    with pytest.raises(OutputError, match="is no SQLite database"):
        open_store(text, {"m": endpoint()})
    assert text.read_text().startswith("prompt")
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE notes (text)")
    with pytest.raises(OutputError, match="something else, with the tables notes"):
        open_store(foreign, {"m": endpoint()})
    with pytest.raises(OutputError, match="is no file"):
        open_store(tmp_path, {"m": endpoint()})
    with open_store(tmp_path / "answers.db", {"m": endpoint()}), pytest.raises(OutputError, match="another process"):
        open_store(tmp_path / "answers.db", {"m": endpoint()})
    with pytest.raises(LedgerError, match="limit_usd"):
        open_store(tmp_path / "new.db", {"m": endpoint()}, limit_usd=float("nan"))


def test_a_full_disk_loses_nothing_that_is_stored(tmp_path: Path) -> None:
    async def story(simulation: Simulation, store: AnswerStore) -> None:
        async with Client(simulation.endpoints(), ledger=store.ledger) as client:
            for number in range(1000):
                await store.ask(client, f"q{number}", "sim-frontier", f"What is {number} plus 1?")

    async def all_of_it() -> None:
        async with serving(SimulationConfig(time_scale=0)) as simulation:
            path, models = tmp_path / "answers.db", simulation.endpoints()
            with open_store(path, models) as store:
                with store.ledger.reading() as connection:
                    (pages,) = connection.execute("PRAGMA page_count").fetchone()
                    connection.execute(f"PRAGMA max_page_count = {pages + 12}")
                with pytest.raises(LedgerError, match="full"):
                    await story(simulation, store)
            with open_store(path, models) as store:
                stored = list(store.answers())
                assert len(stored) > 5 and all(one.answered for one in stored)
                served = sum(simulation.counts.answers.values())
                # What was asked and could not be stored is still reserved: its process is running.
                assert served == len(stored) + len(store.ledger.open())
            assert settled(path) == spent_by_cells(path)

    run_fast(all_of_it())
