"""Answers as they come over the wire: streams however they are cut, pieces of tools' calls, counts of tokens."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxroute.endpoints import Endpoint, TokenPrice, Usage, build_request, needs, read_usage
from jaxroute.endpoints.retries import backoff_seconds, retry_after_seconds
from jaxroute.endpoints.wire import Assembly, Events, Malformed
from jaxroute.errors import EndpointError

ENDPOINT = Endpoint("m", "https://api.example.com/v1", "m", TokenPrice(1.0, 2.0), output_tokens=100)


def chunk(delta: dict, finish_reason: str | None = None) -> dict:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.text(max_size=20), max_size=6), cuts=st.lists(st.integers(0, 600), max_size=8), returns=st.booleans())
def test_a_stream_reads_the_same_however_it_is_cut(texts: list[str], cuts: list[int], returns: bool) -> None:
    chunks = [chunk({"content": text}) for text in texts]
    # Some endpoints send comments, names of events, and no blank after the colon.
    lines = [": keep open", "", "event: message"]
    for number, one in enumerate(chunks):
        lines += [f"data:{' ' * (number % 2)}{json.dumps(one, ensure_ascii=number % 2 == 0)}", ""]
    data = (("\r\n" if returns else "\n").join([*lines, "data: [DONE]", "", ""])).encode()
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    events, got = Events(), []
    for start, stop in pairwise(places):
        got += events.feed(data[start:stop])
    assert got == chunks and events.done
    assembly = Assembly(100)
    for one in got:
        assembly.add(one)
    assembly.end()
    assert assembly.text == "".join(texts)


def test_calls_of_tools_are_put_together() -> None:
    assembly = Assembly(100)
    pieces = [
        {"role": "assistant", "content": None},
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "add", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"x":'}}]},
        {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "sub", "arguments": "{}"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": " 1}"}}]},
        {"reasoning_content": "so "},
        {"reasoning_content": "it is"},
    ]
    for piece in pieces:
        assembly.add(chunk(piece))
    assembly.add(chunk({}, "tool_calls"))
    assembly.end()
    assert assembly.message["tool_calls"] == [
        {"function": {"name": "add", "arguments": '{"x": 1}'}, "id": "a", "type": "function"},
        {"function": {"name": "sub", "arguments": "{}"}, "id": "b"},
    ]
    assert assembly.text == "" and assembly.finish_reason == "tool_calls"
    assert assembly.message["reasoning_content"] == "so it is"


@pytest.mark.parametrize("content", [{}, {"choices": {}}, {"choices": [1]}, {"choices": [{"delta": "x"}]}])
def test_what_is_not_in_the_form_is_malformed(content: dict) -> None:
    with pytest.raises(Malformed):
        Assembly(100).add(content)


def test_counts_that_are_not_reported_are_none_and_zero_is_a_count() -> None:
    assert read_usage(None) == read_usage({}) == Usage()
    reported = read_usage({"prompt_tokens": 9, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}})
    assert reported == Usage(prompt_tokens=9, cached_tokens=0, completion_tokens=0, reasoning_tokens=None)
    nulls = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": None, "completion_tokens_details": {}}
    assert read_usage(nulls) == Usage(prompt_tokens=9, completion_tokens=3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"prompt_tokens": -1}, "prompt_tokens is no count"),
        ({"completion_tokens": 2.5}, "completion_tokens is no count"),
        ({"completion_tokens": True}, "completion_tokens is no count"),
        ({"completion_tokens": 101}, "more completion_tokens than the 100"),
        ({"prompt_tokens": 0}, "no prompt_tokens"),
        ({"prompt_tokens_details": {"cached_tokens": 10}}, "more cached_tokens"),
        ({"completion_tokens_details": {"reasoning_tokens": 6}}, "more reasoning_tokens"),
    ],
)
def test_counts_that_cannot_be_are_none(change: dict, says: str) -> None:
    usage = read_usage({"prompt_tokens": 9, "completion_tokens": 5} | change, 100)
    assert says in usage.wrong and usage.prompt_tokens is None and usage.completion_tokens is None


@settings(max_examples=100, deadline=None)
@given(prompt=st.text(max_size=300), output=st.integers(1, 500))
def test_no_prompt_costs_more_than_its_worst_case(prompt: str, output: int) -> None:
    """A vocabulary of single bytes is the worst that there is."""
    try:
        size = len(prompt.encode())
    except UnicodeEncodeError:
        return
    request = build_request(ENDPOINT, prompt, output_tokens=output)
    true = ENDPOINT.price.cost_usd(Usage(prompt_tokens=size + 10, completion_tokens=output))
    assert true is not None and true <= request.worst_case_usd


def test_a_request_is_sent_to_no_model_that_does_not_accept_it() -> None:
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://e.org/cat.png"}}]}]
    options = {"tools": [{"type": "function"}], "response_format": {"type": "json_schema"}}
    assert needs(image, options) == ("tools", "images", "json_schema")
    assert needs([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], {"tools": [], "temperature": 0}) == ()
    with pytest.raises(EndpointError, match="m does not accept tools, json_schema"):
        build_request(replace(ENDPOINT, accepts=("images",)), image, options=options)
    seeing = replace(ENDPOINT, accepts=("images",))
    with pytest.raises(EndpointError, match=r"whose tokens only context_tokens bounds: set it in models\.yaml"):
        build_request(seeing, image)
    assert build_request(replace(seeing, context_tokens=8000), image).prompt_tokens == 8000


def test_the_field_of_the_limit_is_the_one_that_the_endpoint_knows() -> None:
    openai = Endpoint("m", "https://api.openai.com/v1", "m", TokenPrice(1.0, 2.0))
    assert json.loads(build_request(openai, "Hi", output_tokens=5).body)["max_completion_tokens"] == 5
    body = json.loads(build_request(ENDPOINT, "Hi", options={"max_completion_tokens": 9, "temperature": 0}).body)
    assert body == {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9, "temperature": 0}


@settings(max_examples=100, deadline=None)
@given(failures=st.integers(1, 2000), asked=st.none() | st.floats(0, 1000), seed=st.integers(0, 99))
def test_jitter_is_full_and_what_is_asked_for_is_waited(failures: int, asked: float | None, seed: int) -> None:
    wait = backoff_seconds(failures, asked, 0.5, 30.0, random.Random(seed))
    if asked is None:
        assert 0 <= wait <= min(30.0, 0.5 * 2.0 ** min(failures - 1, 60))
    else:
        assert asked <= wait <= asked + 0.5


def test_jitter_spreads_over_the_whole_interval() -> None:
    dice = random.Random(0)
    waits = [backoff_seconds(4, None, 0.5, 30.0, dice) for _ in range(500)]
    assert min(waits) < 0.2 and max(waits) > 3.8 and abs(sum(waits) / 500 - 2.0) < 0.2


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0.25"}, 0.25),
        ({"Retry-After": "-3"}, 0.0),
        ({"Retry-After": "Thu, 01 Jan 2026 00:01:00 GMT"}, 60.0),
        ({"Retry-After": "Wed, 31 Dec 2025 00:01:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "1e9"}, 86_400.0),
        ({"retry-after-ms": "1500", "Retry-After": "2"}, 1.5),
    ],
)
def test_seconds_and_dates_are_read(headers: dict, seconds: float | None) -> None:
    assert retry_after_seconds(headers, datetime(2026, 1, 1, tzinfo=UTC)) == seconds
