"""The simulated endpoints, asked by OpenAI's own client: answers and faults as ordered, and the money counted."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest

from jaxroute.data.sources.simulated import load_simulated, simulated_prices
from jaxroute.endpoints import load_models
from jaxroute.errors import EndpointError
from jaxroute.simulation import SimulatedPool, Simulation, SimulationConfig, serving_in_thread

openai = pytest.importorskip("openai")
AT_ONCE = SimulationConfig(time_scale=0)
MESSAGES = [{"role": "user", "content": "What is 12 plus 30?"}]


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    with serving_in_thread(AT_ONCE) as running:
        yield running


@pytest.fixture
def client(simulation: Simulation) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=simulation.base_url, api_key="none", max_retries=0) as made:
        yield made


def test_the_sdk_gets_an_answer_with_its_tokens(client, simulation: Simulation) -> None:
    answer = client.chat.completions.create(model="sim-large", messages=MESSAGES, logprobs=True)
    text, usage = answer.choices[0].message.content, answer.usage
    expected = simulation.pool.outcome("sim-large", "What is 12 plus 30?")
    assert text.endswith(f"The answer is {simulation.pool.answer('sim-large', 'What is 12 plus 30?')}.")
    assert len(text.split()) == usage.completion_tokens == expected.completion_tokens
    assert usage.prompt_tokens == expected.prompt_tokens and usage.prompt_tokens_details.cached_tokens == 0
    assert usage.completion_tokens_details is None
    assert answer.choices[0].finish_reason == "stop"
    assert len(answer.choices[0].logprobs.content) == usage.completion_tokens
    price = simulated_prices()["sim-large"]
    dollars = (usage.prompt_tokens * price.input + usage.completion_tokens * price.output) / 1e6
    assert simulation.counts.answered_pico == round(dollars * 1e12)


def test_a_stream_has_the_same_text_and_tokens(client) -> None:
    whole = client.chat.completions.create(model="sim-math", messages=MESSAGES)
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model="sim-math", messages=MESSAGES, stream=True, stream_options=options))
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole.choices[0].message.content
    )
    assert chunks[-1].usage == whole.usage and len(chunks) > 5
    assert whole.usage.completion_tokens_details.reasoning_tokens > 0


def test_a_limit_of_tokens_cuts_the_answer(client) -> None:
    answer = client.chat.completions.create(model="sim-medium", messages=MESSAGES, max_tokens=5)
    assert answer.usage.completion_tokens == 5 and answer.choices[0].finish_reason == "length"
    assert "The answer is" not in answer.choices[0].message.content


def test_an_answer_in_json_is_json(client, simulation: Simulation) -> None:
    answer = client.chat.completions.create(model="sim-nano", messages=MESSAGES, response_format={"type": "json_object"})
    assert json.loads(answer.choices[0].message.content) == {
        "answer": simulation.pool.answer("sim-nano", MESSAGES[0]["content"])
    }


def test_models_are_listed_and_unknown_ones_refused(client) -> None:
    assert [one.id for one in client.models.list()] == list(simulated_prices())
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(model="gpt-4", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError, match="messages="):
        client.chat.completions.create(model="sim-nano", messages=[])


def test_a_key_is_asked_for_where_one_is_set() -> None:
    with serving_in_thread(SimulationConfig(time_scale=0, api_key="right")) as simulation:
        client = openai.OpenAI(base_url=simulation.base_url, api_key="wrong", max_retries=0)
        with client, pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="sim-nano", messages=MESSAGES)
        assert "right" not in repr(simulation.config)


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        ("rate_limit:7", openai.RateLimitError),
        ("server_error", openai.InternalServerError),
        ("cut", openai.APIConnectionError),
        ("malformed", json.JSONDecodeError),
    ],
)
def test_faults_happen_on_demand(client, simulation: Simulation, fault: str, raised: type[Exception]) -> None:
    with pytest.raises(raised) as error:
        client.chat.completions.create(model="sim-nano", messages=MESSAGES, extra_headers={"x-simulated-fault": fault})
    if fault.startswith("rate_limit"):
        assert error.value.response.headers["retry-after"] == "7"
    counts = simulation.counts
    assert counts.faults == {fault.split(":")[0]: 1} and not counts.answers
    assert (counts.lost_pico > 0) == (fault in ("cut", "malformed"))
    client.chat.completions.create(model="sim-nano", messages=MESSAGES)
    assert sum(counts.answers.values()) == 1


def test_usage_is_wrong_on_demand(client, simulation: Simulation) -> None:
    simulation.next_faults.extend(["wrong_usage"] * 3)
    usages = [client.chat.completions.create(model="sim-nano", messages=MESSAGES).usage for _ in range(3)]
    assert {None if one is None else one.completion_tokens for one in usages} == {None, -5, 10**12}


def test_a_stream_is_cut_in_the_middle(client, simulation: Simulation) -> None:
    simulation.next_faults.append("cut")
    got = []
    with pytest.raises(openai.APIConnectionError):
        for chunk in client.chat.completions.create(model="sim-large", messages=MESSAGES, stream=True):
            got.append(chunk)
    assert 2 < len(got) < 30 and not simulation.counts.answers


def test_rates_of_faults_are_kept_and_repeat_with_the_seed() -> None:
    def failed(seed: int) -> list[str]:
        config = SimulationConfig(time_scale=0, seed=seed, faults=("server_error=0.3", "rate_limit=0.2"), retry_after_seconds=3)
        with (
            serving_in_thread(config) as simulation,
            openai.OpenAI(base_url=simulation.base_url, api_key="none", max_retries=0) as client,
        ):
            found = []
            for number in range(60):
                try:
                    client.chat.completions.create(model="sim-nano", messages=[{"role": "user", "content": f"Say {number}."}])
                    found.append("")
                except openai.APIStatusError as error:
                    found.append(type(error).__name__)
        return found

    first = failed(0)
    assert first == failed(0) != failed(1)
    assert 8 <= first.count("InternalServerError") <= 28 and 4 <= first.count("RateLimitError") <= 22


def test_counts_are_served(client, simulation: Simulation) -> None:
    for _ in range(2):
        client.chat.completions.create(model="sim-nano", messages=MESSAGES)
    with urllib.request.urlopen(f"{simulation.base_url[:-3]}/simulation/counts", timeout=10) as response:
        counts = json.load(response)
    assert (counts["requests"], counts["answers"], counts["answered_more_than_once"]) == (2, 2, 1)
    assert counts["answered_usd"] == simulation.counts.answered_pico / 1e12 > 0


def test_prompts_of_the_table_have_its_outcomes() -> None:
    table = load_simulated(queries=200, seed=3)
    pool = SimulatedPool(table, seed=3)
    for row, prompt in enumerate(table.prompts):
        for place, model in enumerate(table.models):
            outcome = pool.outcome(model, prompt)
            assert outcome.right == bool(table.quality[row, place])
            assert outcome.latency_seconds == pytest.approx(table.latency_seconds[row, place])
            assert (outcome.prompt_tokens, outcome.completion_tokens) == (
                table.input_tokens[row, place],
                table.output_tokens[row, place],
            )
            assert (pool.answer(model, prompt) == pool.reference(prompt)) == outcome.right


def test_other_prompts_follow_the_same_model() -> None:
    """Templated questions that no table holds: mean quality and tokens by model are those of a table, within their errors."""
    pool, table = SimulatedPool(seed=1), load_simulated(queries=1500, seed=2)
    drawn = [[pool.outcome(model, prompt) for model in table.models] for prompt in table.prompts]
    quality = np.array([[one.right for one in row] for row in drawn]).mean(axis=0)
    tokens = np.array([[one.completion_tokens for one in row] for row in drawn]).mean(axis=0)
    assert np.abs(quality - table.quality.mean(axis=0)).max() < 0.06
    assert np.abs(tokens / table.output_tokens.mean(axis=0) - 1).max() < 0.05
    # Domains are recognised by their templates: at programming the coder beats the counsel.
    asked = "Write a Rust function that reverses a string."
    coding = [prompt for prompt, domain in zip(table.prompts, table.domains, strict=True) if domain == "programming"]
    assert coding, asked
    right = {name: np.mean([pool.outcome(name, one).right for one in coding]) for name in ("sim-coder", "sim-counsel")}
    assert right["sim-coder"] > right["sim-counsel"] + 0.2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"faults": ("fire=0.1",)}, "faults='fire=0.1' is unknown"),
        ({"faults": ("cut=2",)}, "the share must be a number from 0 to 1"),
        ({"faults": ("cut=0.6", "malformed=0.6")}, "exceed 1 together"),
        ({"time_scale": -1}, "time_scale=-1 must be from 0"),
    ],
)
def test_wrong_options_are_named(change: dict, says: str) -> None:
    with pytest.raises(EndpointError, match=says):
        SimulationConfig(**change)


def test_the_command_writes_a_file_of_its_models(tmp_path) -> None:
    from jaxroute.commands.simulate import models_yaml

    path = tmp_path / "models.yaml"
    path.write_text(models_yaml("http://127.0.0.1:8001/v1"))
    found = load_models(path)
    assert {name: (one.price.input, one.price.output) for name, one in found.items()} == {
        name: (price.input, price.output) for name, price in simulated_prices().items()
    }
