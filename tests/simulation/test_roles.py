"""Simulated judges and writers: what they see is true with noise, what favours the first answer is planted and found again."""

from __future__ import annotations

import json

import pytest

from jaxroute.collect.graders.judging.orders import SCORES, both_orders, order_bias
from jaxroute.collect.graders.judging.prompts import level_messages, once_more, pair_messages
from jaxroute.collect.graders.judging.templates import default_template
from jaxroute.collect.graders.judging.verdicts import read_verdict
from jaxroute.collect.preparation.generating import GenerateConfig, Seeds, read_questions
from jaxroute.data.messages import render
from jaxroute.data.sources.simulated import load_simulated
from jaxroute.simulation import SimulatedPool, roles

POOL = SimulatedPool(seed=3)
QUESTIONS = load_simulated(queries=150, seed=4).prompts


def reply(model: str, messages: list, most_tokens: int | None = None, *, as_json: bool = False) -> roles.Written | None:
    return roles.special_reply(POOL, model, render(messages), most_tokens, as_json=as_json)


def verdict(model: str, question: str, first: str, second: str) -> str:
    template = default_template(pairs=True, reference=False)
    written = reply(model, pair_messages(template, question, None, first, second, as_json=False))
    assert written is not None
    return read_verdict(" ".join(written.words), written.finish_reason, levels=None, as_json=False).value


def compared(model: str, answers: dict[str, tuple[str, str]]) -> tuple[float, list[str]]:
    """Mean score of the first answers where they are always shown first; and how both orders end."""
    alone, ends = 0.0, []
    for question, (one, other) in answers.items():
        shown_first, shown_second = verdict(model, question, one, other), verdict(model, question, other, one)
        alone += {"A": 1.0, "B": 0.0, "TIE": 0.5}[shown_first] / len(answers)
        ends.append(both_orders(shown_first, shown_second))
    return alone, ends


def equals() -> dict[str, tuple[str, str]]:
    """Two answers each that are as good as each other."""
    return {
        text: (f"The answer is {POOL.reference(text)}.", f"So: the answer is {POOL.reference(text)}.") for text in QUESTIONS
    }


def test_in_both_orders_the_planted_bias_is_gone_and_in_one_it_is_not(monkeypatch: pytest.MonkeyPatch):
    results = {}
    for planted in (0.0, 0.3):
        monkeypatch.setattr(roles, "FIRST", planted)
        alone, ends = compared("sim-small", equals())
        results[planted] = alone, sum(SCORES[end] for end in ends) / len(ends), order_bias(ends)
    (fair_alone, fair_both, fair), (alone, both, bias) = results.values()
    assert abs(fair_alone - 0.5) < 0.1 and alone > fair_alone + 0.15
    assert abs(fair_both - 0.5) < 0.1 and abs(both - fair_both) < 0.05
    assert fair.pairs == bias.pairs == 150 and fair.share < 0.15 and bias.share > 0.25 and bias.second < 0.1 * bias.first


def test_the_better_answer_wins_in_both_orders():
    answers = {text: (f"The answer is {POOL.reference(text)}.", "The answer is -1.") for text in QUESTIONS[:50]}
    _, ends = compared("sim-frontier", answers)
    assert sum(SCORES[end] for end in ends) / len(ends) > 0.95


def test_a_judge_that_forgot_the_form_may_remember_it_when_asked_again():
    template, forgot = default_template(pairs=False, reference=True), 0
    for question in QUESTIONS:
        messages = level_messages(template, question, "5", "The answer is 5.", levels=5, as_json=False)
        first = reply("sim-nano", messages)
        assert first is not None
        if "VERDICT" not in (text := " ".join(first.words)):
            forgot += 1
            second = reply("sim-nano", once_more(messages, text))
            assert second is not None and ("VERDICT" in " ".join(second.words) or forgot)
    assert 3 <= forgot <= 40


def test_json_and_limits_are_kept():
    template = default_template(pairs=False, reference=True)
    messages = level_messages(template, QUESTIONS[0], "5", "The answer is 5.", levels=11, as_json=True)
    written = reply("sim-large", messages, as_json=True)
    assert written is not None and 0 <= json.loads(written.words[0])["verdict"] <= 10
    cut = reply("sim-large", messages, 3)
    assert cut is not None and (cut.finish_reason, cut.completion_tokens, len(cut.words)) == ("length", 3, 3)


def test_other_prompts_are_answered_as_ever():
    for messages in (
        [{"role": "user", "content": "You are a judge. <answer-00>"}],
        [{"role": "system", "content": "You are a judge."}, {"role": "user", "content": "Hello"}],
        [{"role": "system", "content": "You write new questions."}, {"role": "user", "content": "Hello"}],
    ):
        assert reply("sim-large", messages) is None


def test_a_writer_keeps_to_the_templates_of_the_examples():
    seeds = Seeds(["What is the symbol of iron?", "What is the unit of force?"], ["x", "x"])
    messages, _ = seeds.request(0, GenerateConfig(batch=30))
    written = reply("sim-large", messages)
    assert written is not None
    questions = read_questions(" ".join(written.words))
    assert questions is not None and len(questions) == 30
    assert {POOL.template(text) for text in questions} == {("chemistry", 0), ("physics", 0)}
    messages, _ = Seeds(["Something else entirely"], [""]).request(0, GenerateConfig())
    assert (free := reply("sim-large", messages)) is not None and read_questions(" ".join(free.words))
