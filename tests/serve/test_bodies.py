"""A request's bytes: one value of the top level changes, and nothing else does."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxroute.serve.bodies import BadBody, Body

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.just('"model"'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("model"), inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.text() | st.sampled_from(["model", "messages", "n"]), VALUES, max_size=6)


@settings(max_examples=50, deadline=None)
@given(OBJECTS, st.booleans(), st.sampled_from([None, 2]), st.text())
def test_only_the_model_of_the_top_level_changes(content: dict, in_ascii: bool, indent: int | None, model: str) -> None:
    text = json.dumps(content, ensure_ascii=in_ascii, indent=indent)
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return
    body = Body(data)
    assert {name: body.get(name) for name in body.members} == content
    changed = body.written({"model": json.dumps(model)})
    assert json.loads(changed) == {**content, "model": model}
    if "model" in content:
        member = body.members["model"]
        before, after = body.text[: member.start].encode(), body.text[member.stop :].encode()
        assert changed == before + json.dumps(model).encode() + after
    assert body.written({}) == data


def test_what_stands_in_messages_and_numbers_stays_as_it_is_written() -> None:
    messages = b'"messages": [{"content": "\\"model\\": \\"auto\\" {model}", "model": "auto"}]'
    data = b" {\n" + messages + b' ,"temperature":1.0e-3,"model" : "auto"\t}\r\n'
    assert Body(data).written({"model": '"b"'}) == data.replace(b'"model" : "auto"', b'"model" : "b"')
    added = Body(data).written({"stream_options": '{"include_usage":true}'})
    assert added == data.replace(b'"auto"\t}', b'"auto"\t,"stream_options":{"include_usage":true}}')
    assert Body(b"{}").written({"a": "1", "b": "2"}) == b'{"a":1,"b":2}'


def test_a_member_of_an_inner_object_is_set_in_place() -> None:
    body = Body(b'{"stream_options": {"other": [1,  2], "include_usage": false}, "x": null}')
    assert body.with_member("stream_options", "include_usage", "true") == '{"other": [1,  2], "include_usage": true}'
    assert body.with_member("x", "include_usage", "true") == '{"include_usage":true}'
    assert body.with_member("y", "include_usage", "true") == '{"include_usage":true}'


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no JSON object"),
        (b"[1]", "no JSON object"),
        (b"null", "no JSON object"),
        (b'{"a": 1', "','"),
        (b'{"a": 1} x', "follows its end"),
        (b'{"a": 1}{"a": 2}', "follows its end"),
        (b'{"a": 1, "a": 2}', "'a' is there twice"),
        (b'{"a": 1, "\\u0061": 2}', "'a' is there twice"),
        (b'{"a": NaN}', "NaN is no JSON"),
        (b'{"a": -Infinity}', "-Infinity is no JSON"),
        (b'{"a": 1,}', "no|Expecting"),
        (b"{'a': 1}", "Expecting value"),
        (b"{1: 2}", "no key"),
        (b'{"a" 1}', "no ':'"),
        (b'{"a": "\n"}', "control character"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        (b"\xef\xbb\xbf{}", "no JSON object"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8|no JSON object"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "digit"),
    ],
)
def test_what_is_no_object_is_rejected(data: bytes, says: str) -> None:
    with pytest.raises(BadBody, match=says) as raised:
        Body(data)
    assert len(str(raised.value)) < 400
