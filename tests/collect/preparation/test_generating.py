"""New questions are parsed, deduplicated and paid once; a run that was ended resumes to the same questions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jaxroute.collect.preparation.generating import GenerateConfig, Generated, Seeds, generate, read_questions
from jaxroute.data.sources.simulated import load_simulated
from jaxroute.endpoints import ClientConfig, Endpoint, Ledger, TokenPrice
from jaxroute.errors import CollectError, EndpointError, OutputError
from jaxroute.simulation import Simulation, SimulationConfig, serving_in_thread

FAST = ClientConfig(backoff_seconds=0.001, retries=2)
TABLE = load_simulated(queries=40)
SEEDS = Seeds(TABLE.prompts, TABLE.domains)
QUICK = SimulationConfig(time_scale=0.0, retry_after_seconds=0.0)


def write(
    simulation: Simulation, path: Path, config: GenerateConfig, *, usd: float = 1.0, model: str = "sim-small"
) -> Generated:
    return generate(SEEDS, model, simulation.endpoints(), path, usd, config, FAST, progress=lambda found: None)


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ('["a", "b"]', ["a", "b"]),
        ('```json\n["a"]\n```', ["a"]),
        (" \n```\n[]\n``` ", []),
        ('Sure: ["a"]', None),
        ('{"questions": ["a"]}', None),
        ('["a"', None),
        ("[" * 100_000, None),
    ],
)
def test_a_reply_is_an_array_or_nothing(text: str, entries: list | None):
    assert read_questions(text) == entries


def test_questions_are_new_and_have_the_domain_of_their_examples(tmp_path: Path):
    with serving_in_thread(QUICK) as simulation:
        found = write(simulation, tmp_path / "a.db", GenerateConfig(count=60))
        prompts = [row["prompt"] for row in found.questions]
        assert len(prompts) == len(set(prompts)) == 60 and not set(prompts) & set(SEEDS.texts)
        assert found.same > 0 and found.near > 0 and found.stopped == "as many as asked for"
        for row in found.questions:
            place = simulation.pool.template(row["prompt"])
            assert place is not None and place[0] == row["domain"] and row["written_by"] == "sim-small"
        assert found.spent_usd == pytest.approx(simulation.counts.answered_pico / 1e12, abs=1e-15)
        assert len({row["query_id"] for row in found.questions}) == 60


def test_what_was_answered_is_not_asked_again_and_more_continues(tmp_path: Path):
    with serving_in_thread(QUICK) as simulation:
        few = write(simulation, tmp_path / "a.db", GenerateConfig(count=20))
        asked = simulation.counts.requests.total()
        assert write(simulation, tmp_path / "a.db", GenerateConfig(count=20)).questions == few.questions
        assert simulation.counts.requests.total() == asked
        many = write(simulation, tmp_path / "a.db", GenerateConfig(count=50))
        assert many.questions[:20] == few.questions and len(many.questions) == 50
        assert simulation.counts.as_json()["answered_more_than_once"] == 0
        alone = write(simulation, tmp_path / "b.db", GenerateConfig(count=50))
        assert alone.questions == many.questions


def test_failures_are_counted_and_cost_nothing_new(tmp_path: Path):
    with serving_in_thread(replace(QUICK, faults=("server_error=0.5",))) as simulation:
        found = write(simulation, tmp_path / "a.db", GenerateConfig(count=80, batch=5))
        assert found.failed["server_error"] > 0 and "server_error" in str(found)
        assert found.spent_usd == pytest.approx(simulation.counts.answered_pico / 1e12, abs=1e-15)


def test_it_stops_within_the_budget_and_resumes_with_a_larger_one(tmp_path: Path):
    with serving_in_thread(QUICK) as simulation:
        config = GenerateConfig(count=100, output_tokens=600)
        found = write(simulation, tmp_path / "a.db", config, usd=0.001)
        assert "the budget leaves too little" in found.stopped and 0 < len(found.questions) < 100
        # What is left is less than the worst case of a request, whatever was under way at once.
        worst = simulation.endpoints()["sim-small"].price.worst_case_usd(3000, config.output_tokens)
        assert 0.001 - worst < found.spent_usd <= 0.001
        more = write(simulation, tmp_path / "a.db", config, usd=1.0)
        assert len(more.questions) == 100 and more.spent_usd <= 1.0
        alone = write(simulation, tmp_path / "b.db", config, usd=1.0)
        assert alone.questions == more.questions


def test_it_stops_when_nothing_new_comes(tmp_path: Path):
    # All requests show the same example, and the simulated model answers each in the same way.
    seeds = Seeds(["What is the symbol of iron?"], [""])
    with serving_in_thread(QUICK) as simulation:
        config = GenerateConfig(count=5000, batch=20, patience=3, similarity=1.0)
        found = generate(seeds, "sim-small", simulation.endpoints(), tmp_path / "a.db", 1.0, config, FAST)
        assert found.stopped.endswith("in a row brought nothing new") and 5 < len(found.questions) < 20
        assert all("domain" not in row for row in found.questions)


def test_a_reply_that_is_cut_or_no_array_is_unreadable(tmp_path: Path):
    with serving_in_thread(QUICK) as simulation:
        found = write(simulation, tmp_path / "a.db", GenerateConfig(count=50, output_tokens=20, patience=2))
        assert not found.questions and found.unreadable >= 2 and "unreadable" in str(found)


def test_another_run_s_database_is_rejected_and_nothing_is_asked(tmp_path: Path):
    with serving_in_thread(QUICK) as simulation:
        write(simulation, tmp_path / "a.db", GenerateConfig(count=10))
        asked = simulation.counts.requests.total()
        with pytest.raises(OutputError, match="shots was 5 and is 3"):
            write(simulation, tmp_path / "a.db", GenerateConfig(count=10, shots=3))
        assert simulation.counts.requests.total() == asked


@pytest.mark.parametrize(
    ("field", "value"), [("count", 0), ("batch", 0), ("similarity", 0.0), ("temperature", 3.0), ("seed", -1)]
)
def test_wrong_options_are_named(field: str, value: float):
    with pytest.raises(CollectError, match=f"{field}={value}"):
        GenerateConfig(**{field: value})


def test_what_is_missing_is_said_before_a_file_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    endpoint = Endpoint("m", "http://127.0.0.1:9/v1", "m", TokenPrice(1.0, 1.0), api_key_env="NO_SUCH_KEY")
    path = tmp_path / "a.db"
    with pytest.raises(EndpointError, match="NO_SUCH_KEY"):
        generate(SEEDS, "m", {"m": endpoint}, path, 1.0)
    with pytest.raises(CollectError, match=r"model='n' is none of models.yaml: m"):
        generate(SEEDS, "n", {"m": endpoint}, path, 1.0)
    with pytest.raises(CollectError, match="seeds: there are none"):
        generate(Seeds([], []), "m", {"m": endpoint}, path, 1.0)
    with pytest.raises(CollectError, match="budget_usd=0"):
        generate(SEEDS, "m", {"m": endpoint}, path, 0)
    assert not path.exists()


def test_requests_depend_on_their_number_alone():
    config = GenerateConfig()
    assert SEEDS.request(3, config) == SEEDS.request(3, config) != SEEDS.request(4, config)
    messages, domain = SEEDS.request(3, config)
    examples = json.loads(messages[1]["content"].split("Examples:\n")[1].split("\n\nWrite")[0])
    assert 0 < len(examples) <= 5 and all(TABLE.domains[TABLE.prompts.index(one)] == domain for one in examples)


def test_the_ledger_holds_what_was_spent(tmp_path: Path):
    with serving_in_thread(QUICK) as simulation:
        found = write(simulation, tmp_path / "a.db", GenerateConfig(count=10))
    with Ledger(tmp_path / "a.db") as ledger:
        assert ledger.totals().settled_usd == found.spent_usd and not ledger.open()
