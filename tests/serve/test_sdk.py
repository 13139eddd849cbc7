"""OpenAI's own client asks through the proxy: what it can do with an endpoint it can do with `auto`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from tests.serve.proxies import MESSAGES, QUESTION, Proxy, proxy

openai = pytest.importorskip("openai")


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Proxy]:
    with proxy(tmp_path_factory.mktemp("serve")) as one:
        yield one


@pytest.fixture
def client(running: Proxy) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=running.base_url, api_key="none", max_retries=0) as made:
        yield made


@pytest.mark.parametrize("model", ["auto", "sim-large"])
def test_a_chat_says_who_answered_and_what_it_cost(running: Proxy, client, model: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model=model, messages=MESSAGES)
    answer, headers = raw.parse(), raw.headers
    assert answer.choices[0].message.content.endswith(f"The answer is {running.simulation.pool.answer('sim-large', QUESTION)}.")
    assert headers["x-jaxroute-model"] == answer.model == "sim-large" and headers["x-jaxroute-tries"] == "1"
    price = running.simulation.endpoints()["sim-large"].price
    usage = answer.usage
    cost = (usage.prompt_tokens * price.input + usage.completion_tokens * price.output) / 1e6
    assert float(headers["x-jaxroute-cost-usd"]) == pytest.approx(cost) and float(headers["x-jaxroute-overhead-ms"]) > 0
    assert ("x-jaxroute-expected-quality" in headers) == (model == "auto")
    if model == "auto":
        assert float(headers["x-jaxroute-expected-quality"]) == 0.9
        assert float(headers["x-jaxroute-expected-cost-usd"]) == 1e-3


def test_streams_with_and_without_usage(client) -> None:
    whole = client.chat.completions.create(model="auto", messages=MESSAGES).choices[0].message.content
    chunks = list(client.chat.completions.create(model="auto", messages=MESSAGES, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    assert all(chunk.usage is None for chunk in chunks)
    options = {"include_usage": True}
    counted = list(client.chat.completions.create(model="auto", messages=MESSAGES, stream=True, stream_options=options))
    assert len(counted) == len(chunks) + 1 and counted[-1].usage.completion_tokens > 0


def test_the_helpers_of_streams(client) -> None:
    with client.chat.completions.stream(model="auto", messages=MESSAGES) as stream:
        kinds = {event.type for event in stream}
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert stream.get_final_completion().choices[0].message.content


def test_tools_there_and_back(client) -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
    for streamed in (False, True):
        if streamed:
            with client.chat.completions.stream(model="auto", messages=MESSAGES, tools=tools) as stream:
                choice = stream.get_final_completion().choices[0]
        else:
            choice = client.chat.completions.create(model="auto", messages=MESSAGES, tools=tools).choices[0]
        assert choice.finish_reason == "tool_calls" and choice.message.tool_calls[0].function.name == "add"
    call = {"id": "call_0", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    turns = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_0", "content": "42"},
    ]
    answer = client.chat.completions.create(model="auto", messages=turns, tools=tools)
    assert answer.choices[0].finish_reason == "stop"


class Number(BaseModel):
    answer: str


def test_json_schema(running: Proxy, client) -> None:
    parsed = client.chat.completions.parse(model="auto", messages=MESSAGES, response_format=Number).choices[0].message.parsed
    assert parsed == Number(answer=running.simulation.pool.answer("sim-large", QUESTION))


def test_images(running: Proxy, client) -> None:
    parts = [
        {"type": "text", "text": QUESTION},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4000}},
    ]
    client.chat.completions.create(model="auto", messages=[{"role": "user", "content": parts}])
    assert running.chooser.asked[-1][0] == f"{QUESTION}\n[image 1: image/png]"


def test_embeddings_stay_with_their_model(running: Proxy, client) -> None:
    texts = ["one", "two"]
    answer = client.embeddings.create(model="sim-nano", input=texts)
    assert len(answer.data) == 2 and len(answer.data[0].embedding) == 16 and answer.usage.total_tokens > 0
    with pytest.raises(openai.BadRequestError, match="name a model"):
        client.embeddings.create(model="auto", input=texts)


def test_completions(client) -> None:
    answer = client.completions.create(model="auto", prompt=QUESTION, max_tokens=300)
    chunks = list(client.completions.create(model="auto", prompt=QUESTION, max_tokens=300, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text


def test_responses_go_on_where_they_are_stored(running: Proxy, client) -> None:
    first = client.responses.create(model="auto", input=QUESTION, instructions="Be brief.")
    assert "The answer is" in first.output_text and running.chooser.asked[-1][0] == f"system: Be brief.\n\nuser: {QUESTION}"
    with client.responses.stream(model="auto", input=QUESTION) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert final.output_text.split()[:3] == first.output_text.split()[:3]
    asked = len(running.chooser.asked)
    named = client.responses.create(model="sim-nano", input=QUESTION)
    for previous, model in ((first, "sim-large"), (final, "sim-large"), (named, "sim-nano")):
        again = client.responses.create(model="auto", input="And 7 more?", previous_response_id=previous.id)
        assert again.model == model
    assert len(running.chooser.asked) == asked
    with pytest.raises(openai.BadRequestError, match="name the model"):
        client.responses.create(model="auto", input="And?", previous_response_id="resp_unknown")


def test_errors_have_the_classes_that_the_sdk_knows(running: Proxy, client) -> None:
    for model, arguments, error in (
        ("nothing", {}, openai.NotFoundError),
        ("auto", {"max_tokens": -1}, openai.BadRequestError),
        ("auto", {"extra_headers": {"x-jaxroute-max-cost-usd": "0"}}, openai.APIStatusError),
        ("sim-nano", {"extra_headers": {"x-simulated-fault": "rate_limit:7"}}, openai.RateLimitError),
        ("sim-nano", {"extra_headers": {"x-simulated-fault": "server_error"}}, openai.InternalServerError),
    ):
        with pytest.raises(error) as raised:
            client.chat.completions.create(model=model, messages=MESSAGES, **arguments)
        assert raised.value.status_code == raised.value.response.status_code
        if error is openai.RateLimitError:
            assert raised.value.response.headers["retry-after"] == "7" and raised.value.code == "rate_limit_exceeded"
    with pytest.raises(openai.APIError, match="closed the connection before the answer ended"):
        list(
            client.chat.completions.create(
                model="sim-nano", messages=MESSAGES, stream=True, extra_headers={"x-simulated-fault": "cut"}
            )
        )


def test_models_are_listed(running: Proxy, client) -> None:
    names = [one.id for one in client.models.list()]
    assert names == ["auto", *sorted(running.simulation.pool.models)]
    assert client.models.retrieve("auto").id == "auto"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


def test_every_dollar_of_these_tests_is_booked(running: Proxy, client) -> None:
    client.chat.completions.create(model="auto", messages=MESSAGES)
    totals, counts = running.ledger.totals(), running.simulation.counts
    assert totals.reserved_usd == 0 and totals.overrun_usd == 0
    # Answers that were lost count at their worst cases.
    assert counts.answered_pico / 1e12 <= totals.settled_usd + 1e-12
