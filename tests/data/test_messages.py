"""Chat messages as text: one rendering, and everything that is not in OpenAI's form refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxroute.data.messages import prompt_field, prompt_text, render, row_prompt
from jaxroute.errors import PromptError


def user(content: object) -> dict:
    return {"role": "user", "content": content}


def part(text: str) -> dict:
    return {"type": "text", "text": text}


def image(url: str) -> dict:
    return {"type": "image_url", "image_url": {"url": url}}


# --- the rendering ---


@settings(derandomize=True, deadline=None, max_examples=30)
@given(text=st.text(min_size=1).filter(str.strip))
def test_one_user_message_of_text_is_the_plain_prompt(text: str):
    """Whether its content is the text or one part; so a prompt and its chat form are estimated alike."""
    if text.encode(errors="replace").decode() != text:
        return
    assert render([user(text)]) == render([user([part(text)])]) == prompt_text([user(text)]) == prompt_text(text) == text


def test_several_turns_name_who_speaks():
    turns = [
        {"role": "system", "content": "Be brief."},
        user("What is 2+2?"),
        {"role": "assistant", "content": "4"},
        user("+1?"),
    ]
    assert render(turns) == "system: Be brief.\n\nuser: What is 2+2?\n\nassistant: 4\n\nuser: +1?"
    assert render(turns[:1]) == "system: Be brief."


def test_images_are_numbered_over_the_conversation_and_named():
    """By the file in their address, or by their media type where they are sent inside; their content is not in the text."""
    inside = image("data:image/png;base64," + "A" * 100_000)
    turns = [
        user([part("Compare"), image("https://example.org/cats/tom.jpg?size=9"), inside]),
        user([image("file_id_7"), part("?")]),
    ]
    assert render(turns) == "user: Compare\n[image 1: tom.jpg]\n[image 2: image/png]\n\nuser: [image 3: file_id_7]\n?"


def test_a_message_of_an_image_alone_is_a_prompt():
    assert render([user([image("https://example.org/a.png")])]) == "[image 1: a.png]"


@pytest.mark.parametrize(
    ("given_part", "shown"),
    [
        ({"type": "input_audio", "input_audio": {"data": "UklGR", "format": "wav"}}, "[audio 1: wav]"),
        (
            {"type": "file", "file": {"filename": "report.pdf", "file_data": "data:application/pdf;base64,AA"}},
            "[file 1: report.pdf]",
        ),
        ({"type": "input_image", "image_url": "https://example.org/b.png"}, "[image 1: b.png]"),
        ({"type": "image_url", "image_url": {"url": "http://[broken"}}, "[image 1: [broken]"),
        ({"type": "image_url"}, "[image 1]"),
        ({"type": "refusal", "refusal": "No."}, "No."),
        ({"type": "input_text", "text": "Hi", "image_url": None}, "Hi"),
    ],
)
def test_parts_of_other_kinds_are_named(given_part: dict, shown: str):
    assert render([user([given_part])]) == shown


def test_calls_of_tools_and_their_answers_are_text():
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    turns = [user("Rain?"), {"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "dry"}]
    assert render(turns) == 'user: Rain?\n\nassistant: [calls weather({"city": "Oslo"})]\n\ntool: dry'


# --- where a row holds its prompt ---


def test_a_prompt_is_preferred_to_messages_and_these_to_a_request():
    """The messages of a data set often hold the answer too, beside the prompt."""
    row = {"body": {"messages": [user("three")]}, "messages": [user("two")], "prompt": "one"}
    for text in ("one", "two", "three"):
        field = prompt_field(row)
        assert row_prompt(row, field) == text
        row[field] = " " if field == "prompt" else None
    assert prompt_field(row) == "prompt"


def test_messages_may_be_json_text_and_a_prompt_stays_what_it_says():
    """Only the column `messages` is parsed: a prompt may well be a text that looks like JSON."""
    text = json.dumps([user("Hi")])
    assert row_prompt({"messages": text}, "messages") == "Hi"
    assert row_prompt({"prompt": text}, "prompt") == text


@pytest.mark.parametrize("body", [{"messages": [user("Hi")]}, {"input": "Hi"}, {"input": [user("Hi")]}, {"prompt": "Hi"}])
def test_the_request_of_a_batch_line_may_be_of_any_endpoint(body: dict):
    assert row_prompt({"custom_id": "r1", "body": body}, "body") == "Hi"
    assert row_prompt({"custom_id": "r1", "body": json.dumps(body)}, "body") == "Hi"


# --- what is refused ---


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (7, "neither a text nor a list of chat messages: 7"),
        (True, "neither a text"),
        (2.5, "neither a text"),
        ({"text": "Hi"}, "neither a text"),
        (None, "is empty"),
        (" \n", "is empty"),
        (b"", "is empty"),
        (b"\xff\xfe", "is not UTF-8"),
        ("\ud800", "half of a surrogate pair"),
        ([], "not a list of at least one message"),
        ([user("Hi"), "Hello"], "wrong message 2: 'Hello' is not an object"),
        ([{"role": "human", "content": "Hi"}], "role='human' is none of system"),
        ([{"content": "Hi"}], "role=None"),
        ([user(7)], "content=7 is neither a text nor a list of parts"),
        ([user([{"type": "text"}])], "text=None, which is not a text"),
        ([user([{"type": "smell"}])], "type='smell' of a part is unknown"),
        ([user(""), user(None)], "messages without any text"),
    ],
)
def test_what_is_no_prompt_is_refused(prompt: object, said: str):
    with pytest.raises(PromptError) as caught:
        prompt_text(prompt)
    assert said in str(caught.value)


def test_bytes_are_decoded():
    assert prompt_text("größer".encode()) == "größer"


def test_a_refusal_of_a_huge_cell_is_short():
    with pytest.raises(PromptError) as caught:
        prompt_text(list(range(100_000)))
    assert len(str(caught.value)) < 300
