"""Prompts that repeat a test text, hold a run of its words, or are nearly it, are found, and common phrases are not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from jaxroute import load_source
from jaxroute.collect.preparation.decontaminating import NEAR, RUN, SAME, DecontaminateConfig, overlap, report_rows
from jaxroute.errors import CollectError

QUESTION = (
    "A farmer has seventeen sheep and all but nine of them run away during the night, so how many sheep does the farmer still "
    "own when he counts them the next morning before breakfast?"
)


def random_texts(count: int, length: int, seed: int = 0) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(f"w{number}" for number in generator.integers(0, 5000, length)) for _ in range(count)]


def how(prompt: str, tests: list[str], **options: float) -> str:
    found = overlap([prompt], tests, DecontaminateConfig(**options)).matches  # type: ignore[arg-type]
    return found[0].how if found else ""


def test_the_same_text_in_other_case_and_marks_is_the_same():
    assert how(QUESTION.upper().replace(",", " "), [QUESTION]) == SAME
    assert how("Why?", ["why"]) == SAME and how("Why not?", ["why"]) == ""


def test_a_run_of_thirteen_words_inside_of_other_words_is_found():
    words = QUESTION.split()
    around = "Dear teacher, this is about something else entirely, which I made up myself: {} And then it ends in another way."
    assert how(around.format(" ".join(words[3:16])), [QUESTION], similarity=0.0) == RUN
    assert how(around.format(" ".join(words[3:15])), [QUESTION], similarity=0.0) == ""
    assert how(around.format(" ".join(words[3:11])), [QUESTION], words=8, similarity=0.0) == RUN


def test_an_edited_text_is_near():
    edited = QUESTION.replace("seventeen", "eighteen").replace("morning", "day")
    assert how(edited, [QUESTION], words=0, similarity=0.6) == NEAR
    assert how(edited, [QUESTION], words=0, similarity=0.9) == ""
    (match,) = overlap([edited], ["other", QUESTION], DecontaminateConfig(words=0, similarity=0.6)).matches
    assert match.test == 1 and 0.6 < match.similarity < 0.9


def test_instructions_around_every_question_are_no_overlap():
    instructions = (
        "The following is a multiple choice question about a subject that is taught at school; choose the one option "
        "that is right and reply with its letter alone, without any explanation of your choice: "
    )
    prompts = [instructions + text for text in random_texts(40, 12, seed=1)]
    tests = [instructions + text for text in random_texts(40, 12, seed=2)]
    tests[3] = prompts[5].replace(instructions, instructions + "Hard one: ")
    found = overlap(prompts, tests)
    assert [(match.prompt, match.test) for match in found.matches] == [(5, 3)]
    assert found.phrases > 10 and "common phrases" in str(found)
    # Without that rule each of them would be dropped.
    assert len(overlap(prompts, tests, DecontaminateConfig(common=1000)).matches) == 40


def test_long_instructions_make_no_two_questions_near():
    instructions = random_texts(1, 120, seed=9)[0]
    prompts, tests = ([f"{instructions} {text}" for text in random_texts(30, 12, seed=seed)] for seed in (5, 6))
    tests[2] = " ".join("changed" if place == 126 else word for place, word in enumerate(prompts[7].split()))
    (match,) = overlap(prompts, tests, DecontaminateConfig(similarity=0.3)).matches
    assert (match.prompt, match.test, match.how) == (7, 2, NEAR) and match.similarity < 0.8


def test_each_prompt_gets_the_test_text_that_shares_most():
    words = QUESTION.split()
    tests = [" ".join(["x", *words[:14], "y"]), " ".join(["z", *words[:20], "u"])]
    (match,) = overlap([QUESTION], tests, DecontaminateConfig(similarity=0.0)).matches
    # Runs that both tests hold belong to the first; the second has six more.
    assert match.test == 1 and match.shared.split()[0] == words[2].casefold()


def test_it_finds_what_was_planted_and_nothing_else():
    prompts, tests = random_texts(400, 40, seed=3), random_texts(100, 40, seed=4)
    for place in range(20):
        tests[place] = prompts[10 * place]
    found = overlap(prompts, tests)
    assert [(match.prompt, match.test, match.similarity) for match in found.matches] == [(10 * at, at, 1.0) for at in range(20)]
    assert str(found) == "20 of 400 prompts overlap with the 100 test texts: 20 same text"
    rows = report_rows(found, prompts, tests, [f"line {n}" for n in range(400)], [f"t: line {n}" for n in range(100)])
    assert rows[1]["prompt_place"] == "line 10" and rows[1]["test_place"] == "t: line 1" and len(rows[1]["prompt"]) <= 400


@pytest.mark.slow
def test_the_questions_that_routerdc_s_parts_share_are_found(data: Path):
    train, test = (load_source("routerdc", data / "routerdc" / f"mmlu_{part}.json").prompts for part in ("train", "test"))
    found = Counter(match.how for match in overlap(train, test).matches)
    assert len(train) == 2000 and len({one.strip() for one in train} & {one.strip() for one in test}) == 16
    assert found == {SAME: 16, RUN: 112}


def test_progress_ends_with_all_of_them():
    done: list[int] = []
    overlap(random_texts(3, 5), ["x"], progress=done.append)
    assert done[-1] == 3


@pytest.mark.parametrize(
    ("options", "said"), [({"words": 2}, "words=2"), ({"common": 0}, "common=0"), ({"similarity": 1.5}, "1.5")]
)
def test_wrong_options_are_named(options: dict, said: str):
    with pytest.raises(CollectError, match=said):
        DecontaminateConfig(**options)
