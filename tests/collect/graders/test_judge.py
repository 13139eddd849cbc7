"""A judge grades on levels or compares in both orders; what it does not say clearly is missing, never guessed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from jaxroute.collect.graders import Grade, find_grader
from jaxroute.endpoints import Client
from jaxroute.errors import GraderError
from jaxroute.simulation import SimulationConfig, serving

QUESTION, REFERENCE = "What is 2 plus 3?", "5"


class Scripted:
    """A judge that says what the test says, and remembers what it was asked."""

    def __init__(self, *replies: str, accepts: Sequence[str] = (), finish_reason: str = "stop", refusal: str | None = None):
        self.replies, self.accepted, self.asked = list(replies), accepts, []
        self.finish_reason, self.refusal = finish_reason, refusal

    def accepts(self, model: str) -> Sequence[str]:
        return self.accepted

    async def ask(self, model: str, messages: list, *, output_tokens: int, options: Mapping[str, Any]) -> Any:
        self.asked.append((model, messages, output_tokens, options))
        text = self.replies.pop(0)
        return type("Reply", (), {"text": text, "finish_reason": self.finish_reason, "refusal": self.refusal})()


def judged(
    spec: str, answer: str, asker: Scripted, *, model: str = "m", others: Mapping[str, str | None] | None = None
) -> Grade:
    grader = find_grader(spec)
    return asyncio.run(
        grader.grade_asking(answer, REFERENCE, {"prompt": QUESTION}, model=model, asker=asker, others=others or {})
    )


@pytest.mark.parametrize(("levels", "level", "score"), [(5, 0, 0.0), (5, 3, 0.75), (5, 4, 1.0), (2, 1, 1.0), (11, 3, 0.3)])
def test_level_k_of_K_counts_k_by_K_minus_1(levels: int, level: int, score: float):
    asker = Scripted(f"It is fine.\nVERDICT: {level}")
    grade = judged(f"judge:model=j:levels={levels}", "Five.", asker)
    assert grade.score == score and f"level {level}" in grade.reason
    ((model, messages, _, options),) = asker.asked
    assert model == "j" and options == {"temperature": 0.0}
    assert QUESTION in messages[1]["content"] and "Five." in messages[1]["content"]


def test_an_unreadable_verdict_is_asked_for_once_more_and_is_then_missing():
    asker = Scripted("Good.", "VERDICT: 2")
    assert judged("judge:model=j", "Five.", asker).score == 0.5
    again = asker.asked[1][1]
    assert again[:2] == asker.asked[0][1] and again[2] == {"role": "assistant", "content": "Good."} and len(again) == 4
    asker = Scripted("", "VERDICT: 7")
    grade = judged("judge:model=j", "Five.", asker)
    assert math.isnan(grade.score) and "'7', not 0 to 4" in grade.reason
    assert [one["role"] for one in asker.asked[1][1]] == ["system", "user", "user"]
    for asker in (
        Scripted("VERDICT: 1", "VERDICT: 1", finish_reason="length"),
        Scripted("VERDICT: 1", "VERDICT: 1", refusal="No."),
    ):
        assert math.isnan(judged("judge:model=j", "Five.", asker).score) and len(asker.asked) == 2


def test_where_the_endpoint_accepts_a_schema_the_verdict_is_json():
    asker = Scripted('{"reason": "right", "verdict": 4}', accepts=["json_schema"])
    grade = judged("judge:model=j", "Five.", asker)
    assert grade == Grade(1.0, "level 4 of 0 to 4: right")
    schema = asker.asked[0][3]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["verdict"]["enum"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("first", "second", "score"),
    [
        *(("A", "B", 1.0), ("B", "A", 0.0), ("TIE", "TIE", 0.5)),
        *(("A", "A", 0.5), ("B", "B", 0.5), ("A", "TIE", 0.5), ("TIE", "A", 0.5)),
    ],
)
def test_a_pair_is_won_only_in_both_orders(first: str, second: str, score: float):
    asker = Scripted(f"VERDICT: {first}", f"verdict: **{second.lower()}**")
    spec = "judge:model=j:mode=pairs:baseline=base"
    assert judged(spec, "Five.", asker, others={"base": "Six."}).score == score
    shown = [messages[1]["content"] for _, messages, _, _ in asker.asked]
    assert shown[0].index("Five.") < shown[0].index("Six.") and shown[1].index("Six.") < shown[1].index("Five.")


def test_pairs_that_need_no_judge_ask_none():
    spec, nobody = "judge:model=j:mode=pairs:baseline=base", Scripted()
    assert judged(spec, "Six.", nobody, model="base", others={"base": "Six."}).score == 0.5
    assert judged(spec, " Six.", nobody, others={"base": "Six."}).score == 0.5
    assert judged(spec, "", nobody, others={"base": "Six."}).score == 0.0
    assert judged(spec, "Five.", nobody, others={"base": " "}).score == 1.0
    missing = judged(spec, "Five.", nobody, others={"base": None})
    assert math.isnan(missing.score) and "base has no answer" in missing.reason
    assert judged("judge:model=j", " \n", nobody).score == 0.0


def test_the_summary_says_how_often_the_order_decided():
    spec, grades = "judge:model=j:mode=pairs:baseline=base", []
    for verdicts in (("A", "A"), ("A", "A"), ("B", "B"), ("A", "B"), ("what", "what")):
        asker = Scripted(*(f"VERDICT: {one}" for one in verdicts))
        grades.append(judged(spec, "Five.", asker, others={"base": "Six."}))
    assert find_grader(spec).summary([*grades, Grade(0.5, "it is the baseline")]) == [
        "1 of 6 grades are missing",
        "the order decided 75.0% of 4 pairs: the first shown won 2, the second 1",
    ]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("judge", "the judge is missing: name a model of models.yaml"),
        ("judge:model=x", "model='x' is none of models.yaml: j, base"),
        ("judge:model=j:mode=pairs", "the baseline is missing"),
        ("judge:model=j:mode=pairs:baseline=j", "baseline='j' is none of the models that are asked: base"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_asked(spec: str, said: str):
    with pytest.raises(GraderError) as caught:
        find_grader(spec).check_models({"j": None, "base": None}, ["base"])
    assert said in str(caught.value) and "grader=judge" in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("judge:model=j,levels=5", "options are joined by colons"),
        ("judge:model=j:levels=1", "levels=1 must be from 2 to 101"),
        ("judge:model=j:baseline=k", "baseline='k' goes with mode=pairs"),
        ("judge:model=j:temperature=-1", "temperature=-1.0 must be"),
        ("judge:model=j:template=nowhere.txt", "template='nowhere.txt' cannot be read: No such file"),
        ("judge:model=j:output_tokens=0", "output_tokens=0 must be at least 1"),
    ],
)
def test_wrong_options_are_named(spec: str, said: str):
    with pytest.raises(GraderError) as caught:
        find_grader(spec)
    assert said in str(caught.value)


def test_another_wording_is_another_grader_and_each_keeps_its_own(tmp_path: Path):
    path, graders = tmp_path / "mine.txt", []
    for mark in "!?":
        path.write_text(f"{{question}}{{reference}}{{answer}}{mark}")
        graders.append(find_grader(f"judge:model=j:template={path}"))
    assert graders[0].identity != graders[1].identity
    for grader, mark in zip(graders, "!?", strict=True):
        asker = Scripted("VERDICT: 1")
        asyncio.run(grader.grade_asking("Five.", REFERENCE, QUESTION, model="m", asker=asker))
        assert asker.asked[0][1][1]["content"].endswith(mark)


def test_a_simulated_judge_sees_what_is_right_and_an_able_one_sees_it_better():
    async def story(judge: str) -> tuple[float, float]:
        async with serving(SimulationConfig(time_scale=0)) as simulation, Client(simulation.endpoints()) as client:
            grader = find_grader(f"judge:model={judge}:levels=11")
            scores: dict[bool, list[float]] = {True: [], False: []}
            for number in range(12):
                question = f"What is {number} plus 30?"
                number_said = simulation.pool.reference(question)
                for right in scores:
                    text = f"The answer is {number_said if right else '-1'}."
                    asker = Asking(client)
                    grade = await grader.grade_asking(text, number_said, question, model="m", asker=asker)
                    scores[right].append(grade.score)
            means = [sum(one) / len(one) for one in scores.values()]
            spread = [abs(one - mean) for mean, many in zip(means, scores.values(), strict=True) for one in many]
            return means[0] - means[1], sum(spread)

    able, poor = asyncio.run(story("sim-frontier")), asyncio.run(story("sim-small"))
    assert able[0] > 0.5 and poor[0] > 0.2 and able[1] < poor[1]


class Asking:
    """Sends a judge's requests, and keeps nothing."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def accepts(self, model: str) -> Sequence[str]:
        return self.client.endpoints[model].accepts

    async def ask(self, model: str, messages: list, *, output_tokens: int, options: Mapping[str, Any]) -> Any:
        return await self.client.ask(model, messages, output_tokens=output_tokens, options=options)
