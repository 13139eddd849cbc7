"""Streams that pass: bytes as they came, in whatever pieces, without the usage that nobody asked for."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxroute.endpoints.usage import Usage
from jaxroute.serve.event_streams import EventStream, counted


def event(content: object, end: str = "\n\n") -> bytes:
    return f"data: {json.dumps(content)}".encode() + end.encode()


def chunk(**fields: object) -> dict:
    return {"object": "chat.completion.chunk", **fields}


USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
WORDS = [
    chunk(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}]) for text in ('a "usage": {}', "é\n", "")
]
LAST = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
DONE = b"data: [DONE]\n\n"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=60), st.sampled_from(["\n\n", "\r\n\r\n"]), st.booleans())
def test_pieces_do_not_matter(sizes: list[int], end: str, keep: bool) -> None:
    others = b": comment" + end.encode() + b"".join(event(one, end) for one in [*WORDS, LAST])
    usage = event(chunk(choices=[], usage=USAGE), end)
    data, passed, place = others + usage + DONE, b"", 0
    stream = EventStream(keep_usage=keep)
    for size in [*sizes, len(data)]:
        passed += stream.feed(data[place : place + size])
        place += size
    passed += stream.rest()
    assert passed == (data if keep else others + DONE)
    assert stream.done and stream.error is None and counted("chat", stream.usage, None) == Usage(9, None, 4, None)


def test_an_event_passes_as_soon_as_it_is_whole() -> None:
    stream = EventStream(keep_usage=False)
    first = event(WORDS[0])
    assert stream.feed(first[:-1]) == b""
    assert stream.feed(first[-1:] + first) == first + first
    assert not stream.done and stream.usage is None


def test_a_usage_beside_choices_stays_and_counts() -> None:
    stream = EventStream(keep_usage=False)
    both = event(chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "length"}], usage=USAGE))
    null = event(chunk(choices=[], usage=None))
    assert stream.feed(both + null) == both + null
    assert stream.done and stream.usage == USAGE


def test_several_answers_have_ended_when_each_has() -> None:
    stream = EventStream(keep_usage=False, answers=2)
    for index, done in ((0, False), (0, False), (1, True)):
        stream.feed(event(chunk(choices=[{"index": index, "delta": {}, "finish_reason": "stop"}])))
        assert stream.done == done


def test_errors_and_ends_are_seen() -> None:
    stream = EventStream(keep_usage=False)
    wrong = event({"error": {"message": "overloaded"}})
    assert stream.feed(wrong) == wrong
    assert stream.error == {"message": "overloaded"} and not stream.done
    responses = EventStream(keep_usage=True)
    usage = {"input_tokens": 5, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 1}}
    end = b"event: response.completed\n" + event({"type": "response.completed", "response": {"id": "r1", "usage": usage}})
    assert responses.feed(end) == end
    assert responses.done and responses.response_id == "r1"
    assert counted("response", responses.usage, 2) == Usage(5, None, 2, 1)


def test_counts_of_every_kind() -> None:
    assert counted("embedding", {"prompt_tokens": 3, "total_tokens": 3}, 0) == Usage(3, None, 0, None)
    assert counted("chat", {"prompt_tokens": 3, "total_tokens": 3}, 10).completion_tokens is None
    assert counted("chat", USAGE, 3).wrong and counted("chat", None, 3) == Usage()


def test_an_end_without_a_blank_line() -> None:
    stream = EventStream(keep_usage=False)
    assert stream.feed(b"data: [DONE]\n") == b""
    assert stream.rest() == b"data: [DONE]\n" and stream.done


@pytest.mark.parametrize("broken", [b"data: {broken usage\n\n", b'data: "usage"\n\n', b'data: [{"usage": 1}]\n\n', b"\n\n\n\n"])
def test_what_cannot_be_read_passes(broken: bytes) -> None:
    stream = EventStream(keep_usage=False)
    assert stream.feed(broken) == broken and stream.usage is None
