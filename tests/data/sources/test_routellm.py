"""RouteLLM's CSV files: the published numbers, and what is said of files that are broken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jaxroute import SourceError, TableError, load_source
from jaxroute.data.prices import Price
from jaxroute.data.sources.routellm import MODELS, SUBJECTS

HEADER = ",".join(["prompt", *MODELS])
GSM8K_HEADER = ",".join([HEADER, *(f"{model}_response" for model in MODELS)])


@pytest.fixture
def mmlu(tmp_path: Path) -> Path:
    """A whole folder of the published shape, one question per subject."""
    (tmp_path / "responses").mkdir()
    for number in range(SUBJECTS):
        file = tmp_path / "responses" / f"mmlu_subject_{number:02d}.csv"
        file.write_text(f'{HEADER}\n"Question {number}?\nAnswer:",True,False\n', encoding="utf-8")
    return tmp_path


def subject(folder: Path, number: int) -> Path:
    return folder / "responses" / f"mmlu_subject_{number:02d}.csv"


def refusal(folder: Path, source: str = "routellm-mmlu", **options) -> str:
    with pytest.raises(SourceError) as caught:
        load_source(source, folder, **options)
    return str(caught.value)


# --- the published bytes ---


def test_mmlu_has_its_published_size(data: Path):
    """14,042 questions in 57 subjects; each costs its model's mean price per million tokens."""
    table = load_source("routellm-mmlu", data / "routellm" / "mmlu")
    assert len(table) == 14_042
    assert len(set(table.domains)) == 57
    assert table.domains.count("professional_law") == max(map(table.domains.count, set(table.domains)))
    np.testing.assert_array_equal(table.cost_usd, np.tile([0.6, 20.0], (14_042, 1)))
    assert set(np.unique(table.quality)) == {0.0, 1.0}


def test_mmlu_without_leaked_questions_gives_the_published_accuracies(data: Path):
    """RouteLLM prints 68.09 and 80.59 percent on the 14,037 questions that its training data did not hold."""
    table = load_source("routellm-mmlu", data / "routellm" / "mmlu", decontaminate=True)
    assert len(table) == 14_037
    assert table.models == MODELS
    np.testing.assert_array_equal(np.round(100 * table.quality.mean(axis=0), 2), [68.09, 80.59])


def test_gsm8k_without_leaked_questions_gives_the_published_accuracies(data: Path):
    """1,307 of 1,319 questions are left, with the answers of both models."""
    whole = load_source("routellm-gsm8k", data / "routellm" / "gsm8k")
    table = load_source("routellm-gsm8k", data / "routellm" / "gsm8k", decontaminate=True)
    assert (len(whole), len(table)) == (1_319, 1_307)
    np.testing.assert_array_equal(np.round(100 * table.quality.mean(axis=0), 2), [63.73, 85.77])
    assert table.response is not None and table.response.shape == (1_307, 2)
    assert whole.response is not None and "16 eggs" in whole.response[0, 0]


# --- files that are wrong ---


def test_a_folder_of_the_published_shape_is_read(mmlu: Path):
    """The subject is the domain, True and False are 1 and 0."""
    table = load_source("routellm-mmlu", mmlu)
    assert len(table) == SUBJECTS
    assert table.domains[:2] == ["subject_00", "subject_01"]
    assert table.prompts[3] == "Question 3?\nAnswer:"
    assert np.unique(table.quality, axis=0).tolist() == [[1.0, 0.0]]


def test_an_empty_cell_is_a_model_that_was_not_run(mmlu: Path):
    subject(mmlu, 0).write_text(f"{HEADER}\nQuestion?,,True\n")
    assert np.isnan(load_source("routellm-mmlu", mmlu).quality[0, 0])


def test_missing_subjects_are_counted(mmlu: Path):
    subject(mmlu, 4).unlink()
    subject(mmlu, 5).unlink()
    message = refusal(mmlu)
    assert "55" in message and "57" in message


def test_a_folder_of_something_else_is_refused(tmp_path: Path):
    assert "expected 57" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (f"{HEADER}\nfine,True,True\ncut,Tr", "line 3 has 2 cells"),
        (f'{HEADER}\nfine,True,True\n"cut in the middle', "cut off"),
        (f"prompt,{MODELS[0]}\nfine,True\n", f"missing columns: {MODELS[1]}"),
        (f"{HEADER},mood\nfine,True,True,gay\n", "unknown columns: mood"),
        (f"{HEADER},prompt\nfine,True,True,again\n", "appear twice: prompt"),
        (f"{HEADER}\nfine,True,True\nwrong,1.5,True\n", "line 3, column"),
        (f"{HEADER}\nfine,-0.5,True\n", "must be at least 0"),
        (f"{HEADER}\nfine,True,perhaps\n", "'perhaps' is not a number"),
        (f"{HEADER}\n  ,True,True\n", "'prompt' is empty"),
        (f"{HEADER}\n", "no rows"),
        ("", "empty"),
        ("\x89PNG\r\n\x1a\n", "missing columns"),
    ],
)
def test_a_broken_subject_is_refused_by_name(mmlu: Path, content: str, named: str):
    """The message says which of the 57 files is wrong, and how."""
    subject(mmlu, 7).write_text(content, encoding="utf-8")
    message = refusal(mmlu)
    assert "mmlu_subject_07.csv" in message
    assert named in message


def test_bytes_that_are_no_text_are_refused(mmlu: Path):
    subject(mmlu, 7).write_bytes(f"{HEADER}\ncafé,True,True\n".encode("latin-1"))
    assert "mmlu_subject_07.csv" in refusal(mmlu)


def test_several_problems_are_reported_in_one_message(mmlu: Path):
    """A missing file, a wrong column and a wrong cell in three places are mended in one go."""
    subject(mmlu, 1).unlink()
    subject(mmlu, 2).write_text(f"{HEADER},mood\nfine,True,True,gay\n")
    subject(mmlu, 3).write_text(f"{HEADER}\nfine,2,perhaps\n")
    message = refusal(mmlu)
    assert "holds 56 files" in message
    assert "mmlu_subject_02.csv: unknown columns: mood" in message
    assert "mmlu_subject_03.csv" in message and "2.0 must be at most 1" in message and "'perhaps'" in message


def test_a_file_that_cannot_be_parsed_does_not_hide_the_others(mmlu: Path):
    """Two files were cut off in the download and one is gone; all three are named."""
    subject(mmlu, 1).unlink()
    subject(mmlu, 2).write_text(f'{HEADER}\n"cut')
    subject(mmlu, 3).write_text("")
    message = refusal(mmlu)
    assert "mmlu_subject_02.csv" in message
    assert "mmlu_subject_03.csv" in message
    assert "56 files" in message


def test_leaked_questions_are_dropped_by_their_text(mmlu: Path):
    leaked = mmlu / "contaminated_prompts.jsonl"
    leaked.write_text(json.dumps({"train_prompt": "?", "eval_prompt": "Question 9?\nAnswer:"}) + "\n\n")
    table = load_source("routellm-mmlu", mmlu, decontaminate=True)
    assert len(table) == SUBJECTS - 1
    assert "subject_09" not in table.domains
    assert len(load_source("routellm-mmlu", mmlu)) == SUBJECTS


@pytest.mark.parametrize(
    "content",
    [None, b'{"eval_prompt": "cut', b'{"other": "key"}\n', b"[1, 2]\n", '{"eval_prompt": "café"}'.encode("latin-1")],
    ids=["missing", "cut off", "another key", "a list", "not UTF-8"],
)
def test_decontamination_without_its_list_is_refused(mmlu: Path, content: bytes | None):
    """Nothing is silently left in because the list could not be read."""
    if content is not None:
        (mmlu / "contaminated_prompts.jsonl").write_bytes(content)
    assert "contaminated_prompts.jsonl" in refusal(mmlu, decontaminate=True)


def test_prices_must_cover_both_models(mmlu: Path):
    with pytest.raises(TableError, match=MODELS[1]):
        load_source("routellm-mmlu", mmlu, prices={MODELS[0]: Price(1.0, 2.0)})


def test_gsm8k_keeps_answers_and_tells_every_problem(tmp_path: Path):
    """First a whole file, then one with a column too few and one too many, then one with two wrong cells."""
    file = tmp_path / "gsm8k_responses.csv"
    file.write_text(f'{GSM8K_HEADER}\nHow many?,True,False,"five, I think",\n')
    table = load_source("routellm-gsm8k", tmp_path)
    assert table.response is not None and table.response.tolist() == [["five, I think", ""]]
    file.write_text(f"{HEADER},mood\nHow many?,True,True,gay\n")
    message = refusal(tmp_path, "routellm-gsm8k")
    assert "missing columns: " + f"{MODELS[0]}_response" in message and "unknown columns: mood" in message
    file.write_text(f"{GSM8K_HEADER}\nHow many?,2,perhaps,five,six\n")
    message = refusal(tmp_path, "routellm-gsm8k")
    assert "2.0 must be at most 1" in message and "'perhaps'" in message


def test_an_answer_that_is_cut_off_is_refused(tmp_path: Path):
    """The last row has all its cells; only the closing quote is missing, and with it who knows how much."""
    file = tmp_path / "gsm8k_responses.csv"
    file.write_text(f'{GSM8K_HEADER}\nHow many?,True,False,five,"six, since the')
    assert "cut off" in refusal(tmp_path, "routellm-gsm8k")


def test_gsm8k_without_its_file_is_refused(tmp_path: Path):
    assert "no such file" in refusal(tmp_path, "routellm-gsm8k")
