"""RouterDC's graded questions: the published parts, their join with RouteLLM's, and broken JSON."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest

from jaxroute import RoutingTable, SourceError, TableError, join, load_source
from jaxroute.data.prices import ROUTOO_TABLE_1
from jaxroute.data.table import text_key

SMALL = ["mistralai/Mistral-7B-v0.1", "meta-llama/Meta-Llama-3-8B"]


def question(text: str = "What?", **changes) -> dict:
    return {"question": text, "scores": dict(zip(SMALL, [0.7, 0], strict=True)), "cluster_id": 1} | changes


def write(folder: Path, content: object) -> Path:
    file = folder / "mmlu_train.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def refusal(file: Path) -> str:
    with pytest.raises(SourceError) as caught:
        load_source("routerdc", file)
    return str(caught.value)


@functools.cache
def keyed_routellm(data: Path) -> tuple[RoutingTable, dict[str, np.ndarray]]:
    """RouteLLM's table, and its outcomes by comparable text."""
    table = load_source("routellm-mmlu", data / "routellm" / "mmlu")
    return table, {text_key(prompt): row for prompt, row in zip(table.prompts, table.quality, strict=True)}


# --- the published bytes ---


@pytest.mark.parametrize(("part", "count"), [("train", 2_000), ("test", 4_213)])
def test_a_published_part_has_its_size(data: Path, part: str, count: int):
    """Seven models, every cell graded in [0, 1], a flat price of 0.2 dollars."""
    table = load_source("routerdc", data / "routerdc" / f"mmlu_{part}.json")
    assert len(table) == count
    assert len(table.models) == 7
    assert ((table.quality >= 0) & (table.quality <= 1)).all()
    assert ((table.quality > 0) & (table.quality < 1)).any()
    assert (table.cost_usd == 0.2).all()


def test_binary_counts_every_grade_above_zero_as_correct(data: Path):
    """A grade is a probability where the answer was right and 0 where it was not."""
    file = data / "routerdc" / "mmlu_train.json"
    graded, binary = load_source("routerdc", file), load_source("routerdc", file, binary=True)
    np.testing.assert_array_equal(binary.quality, graded.quality > 0)
    assert set(np.unique(binary.quality)) == {0.0, 1.0}


@pytest.mark.parametrize(("part", "matched", "conflicting", "unmatched"), [("train", 1_996, 1, 3), ("test", 4_198, 2, 5)])
def test_the_parts_join_with_routellm_to_nine_models(data: Path, part: str, matched: int, conflicting: int, unmatched: int):
    """Every row of the source is accounted for, and every cell is the one that its source has."""
    small = load_source("routerdc", data / "routerdc" / f"mmlu_{part}.json", binary=True)
    large, theirs = keyed_routellm(data)
    joined = join(small, large)
    table = joined.table
    assert (len(table), joined.matched) == (matched, matched)
    assert (joined.conflicting, joined.unmatched) == (conflicting, unmatched)
    assert len({text_key(prompt) for prompt in small.prompts}) == matched + conflicting + unmatched
    assert table.models == small.models + large.models
    assert len(set(table.domains)) == 57
    ours = {text_key(prompt): row for prompt, row in zip(small.prompts, small.quality, strict=True)}
    expected = [np.concatenate([ours[key], theirs[key]]) for key in map(text_key, table.prompts)]
    np.testing.assert_array_equal(table.quality, expected)


def test_sixteen_questions_stand_in_both_parts(data: Path):
    """An evaluation has to drop them from the test part."""
    parts = [load_source("routerdc", data / "routerdc" / f"mmlu_{part}.json") for part in ("train", "test")]
    keys = [{text_key(prompt) for prompt in table.prompts} for table in parts]
    assert len(keys[0] & keys[1]) == 16


# --- files that are wrong ---


def test_a_small_file_is_read(tmp_path: Path):
    """The cluster is optional and prices are the list's."""
    second = question("Why?", scores=dict(zip(SMALL, [0, 1], strict=True)))
    del second["cluster_id"]
    table = load_source("routerdc", write(tmp_path, [question(), second]))
    assert table.prompts == ["What?", "Why?"]
    assert table.quality.tolist() == [[0.7, 0.0], [0.0, 1.0]]
    assert table.cost_usd.tolist() == [[ROUTOO_TABLE_1[model].mean for model in SMALL]] * 2


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "cannot be read as JSON"),
        (json.dumps([question(), question()])[:-20], "cannot be read as JSON"),
        ("prompt,quality\nWhat?,1\n", "cannot be read as JSON"),
        ({"question": "What?"}, "not a list"),
        ([], "at least one question"),
        ([1, 2], "question 1: it is a int"),
        ([{"prompt": "What?", "answer": "B"}], "expected question, scores"),
        ([question(mood="gay")], "mood"),
        ([question("  ")], "empty or not text"),
        ([question(question=["What?"])], "empty or not text"),
        ([question(scores={SMALL[0]: 1.5, SMALL[1]: 0})], "1.5 is not a number in [0, 1]"),
        ([question(scores={SMALL[0]: -0.1, SMALL[1]: 0})], "-0.1 is not a number in [0, 1]"),
        ([question(scores={SMALL[0]: float("nan"), SMALL[1]: 0})], "nan is not a number in [0, 1]"),
        ([question(scores={SMALL[0]: "0.5", SMALL[1]: 0})], "'0.5' is not a number in [0, 1]"),
        ([question(scores={SMALL[0]: True, SMALL[1]: 0})], "True is not a number in [0, 1]"),
        ([question(), question(scores={SMALL[0]: 1})], "question 1: its scores are not for the models"),
        ([question(scores=[0.5, 0.5])], "scores"),
        ([question(scores={})], "scores"),
    ],
)
def test_foreign_or_broken_json_is_refused(tmp_path: Path, content: object, named: str):
    """The message names the file, the question and what is wrong with it."""
    file = write(tmp_path, content)
    message = refusal(file)
    assert str(file) in message
    assert named in message


def test_several_problems_are_reported_in_one_message(tmp_path: Path):
    """Three different mistakes in three questions are mended in one go; the good one is not mentioned."""
    wrong = [question(), question(""), question(scores={SMALL[0]: 7, SMALL[1]: 0}), "What?"]
    message = refusal(write(tmp_path, wrong))
    for named in ("question 1: question='' is empty", "question 2: the grade 7", "question 3: it is a str"):
        assert named in message
    assert "question 0" not in message


def test_a_thousand_problems_are_counted_and_not_all_printed(tmp_path: Path):
    message = refusal(write(tmp_path, [question("")] * 1_000))
    assert "and 980 more" in message
    assert len(message.splitlines()) < 30


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path):
    for path in (tmp_path / "nowhere.json", tmp_path):
        assert str(path) in refusal(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path):
    file = tmp_path / "mmlu_train.json"
    file.write_bytes(b"\xff\xfe[]")
    assert "cannot be read as JSON" in refusal(file)


def test_a_model_without_a_price_is_named(tmp_path: Path):
    with pytest.raises(TableError, match="no price for nobody/knows-7b"):
        load_source("routerdc", write(tmp_path, [question(scores={"nobody/knows-7b": 1})]))
