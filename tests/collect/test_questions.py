"""Files of questions: what is asked, what graders see of a row, and which rows are rejected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jaxroute.collect.graders import find_grader
from jaxroute.collect.questions import check_questions, read_questions
from jaxroute.errors import GraderError, PromptError


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_csv_with_choices_is_graded_like_json_lines(tmp_path: Path) -> None:
    rows = 'id,prompt,choices,reference,domain\n7,"Which is red?","[""apple"", ""sky""]",A,colours\n'
    (question,), repeated = read_questions(written(tmp_path, "q.csv", rows))
    assert (question.query_id, question.text, question.prompt, repeated) == ("7", "Which is red?", "Which is red?", 0)
    assert (question.reference, question.domain, question.fields["choices"]) == ("A", "colours", ["apple", "sky"])
    grader = find_grader("choice")
    check_questions(tmp_path, [question], grader)
    assert grader.grade("It is the apple.", question.reference, question.for_grader).score == 1


def test_messages_are_asked_as_they_are_whatever_they_came_in(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Bye"}]
    as_text = json.dumps(json.dumps(chat))[1:-1].replace('\\"', '""')
    for path in (
        written(tmp_path, "messages.jsonl", json.dumps({"messages": chat})),
        written(tmp_path, "prompt.jsonl", json.dumps({"prompt": chat})),
        written(tmp_path, "body.jsonl", json.dumps({"custom_id": "0", "body": {"model": "x", "messages": chat}})),
        written(tmp_path, "messages.csv", f'messages\n"{as_text}"\n'),
    ):
        (question,), _ = read_questions(path)
        assert question.prompt == chat and question.query_id == "0" and question.text.startswith("user: Hello"), path


def test_a_prompt_that_begins_with_a_bracket_is_a_text(tmp_path: Path) -> None:
    (question,), _ = read_questions(written(tmp_path, "q.jsonl", json.dumps({"prompt": '["a"] - what is this?'})))
    assert question.prompt == question.text == '["a"] - what is this?'


def test_equal_rows_are_one_question_and_others_with_the_same_id_are_named(tmp_path: Path) -> None:
    row = {"id": 1, "prompt": "What?", "reference": "x"}
    lines = [json.dumps(one) for one in (row, row, row | {"id": 2})]
    questions, repeated = read_questions(written(tmp_path, "q.jsonl", "\n".join(lines)))
    assert ([one.query_id for one in questions], repeated) == (["1", "2"], 1)
    lines += [json.dumps(row | {"prompt": "Who?"}), json.dumps(row | {"reference": "y"})]
    with pytest.raises(PromptError) as raised:
        read_questions(written(tmp_path, "q.jsonl", "\n".join(lines)))
    assert "line 4: the id '1' has another prompt in line 1" in str(raised.value)
    assert "line 5: the id '1' has other fields in line 1" in str(raised.value)


def test_every_question_that_could_not_be_graded_is_named_in_a_bounded_message(tmp_path: Path) -> None:
    lines = [json.dumps({"id": f"q{row}", "prompt": "What?", "answer": "x"}) for row in range(500)]
    path = written(tmp_path, "q.jsonl", "\n".join(lines))
    questions, _ = read_questions(path)
    with pytest.raises(GraderError) as raised:
        check_questions(path, questions, find_grader("exact"))
    said = str(raised.value)
    assert "500 of 500 questions" in said and "rows have id, prompt, answer" in said and "and 480 more" in said
    assert len(said) < 3000


def test_rows_that_are_requests_of_their_own_are_rejected(tmp_path: Path) -> None:
    """Without its tools a request is another one, and its answer would be graded all the same."""
    rows = [
        {"id": "a", "prompt": "Hello", "tools": None},
        {"id": "b", "prompt": "Bye", "response_format": {"type": "json_object"}},
    ]
    path = written(tmp_path, "q.jsonl", "\n".join(map(json.dumps, rows)))
    with pytest.raises(PromptError, match=r"line 2 has response_format\. A collection asks all questions alike"):
        read_questions(path)
    written(tmp_path, "q.jsonl", json.dumps(rows[0]))
    assert read_questions(path)[0][0].text == "Hello"
