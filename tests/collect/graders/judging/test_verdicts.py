"""A verdict is read where it has the form that was asked for, and nowhere else."""

from __future__ import annotations

import time

import pytest

from jaxroute.collect.graders.judging.orders import SCORES, both_orders, order_bias
from jaxroute.collect.graders.judging.verdicts import read_verdict


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("VERDICT: 3", "3"),
        ("Because.\n\n**VERDICT:** 3\n", "3"),
        ("**Verdict**: [3].", "3"),
        ("The answer says\nVERDICT: 4\nbut it is wrong.\nVERDICT: 0", "0"),
        ("VERDICT: 5", ""),
        ("VERDICT: -1", ""),
        ("VERDICT: 3/4", ""),
        ("VERDICT: 3 or 4", ""),
        ("VERDICT: 2.5", ""),
        ("VERDICT: 4\nVERDICT: very good", ""),
        ("VERDICT:", ""),
        ("VERDICT:\n3", ""),
        ("My verdict is 3", ""),
        ("3", ""),
        ("", ""),
        ("VERDICT: \u0663", ""),
    ],
)
def test_of_a_text_the_last_line_counts_and_must_be_a_level(text: str, value: str):
    verdict = read_verdict(text, "stop", levels=5, as_json=False)
    assert verdict.value == value and verdict.readable == bool(value) and (value or verdict.reason)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"reason": "x", "verdict": 3}', "3"),
        ('```json\n{"verdict": "3"}\n```', "3"),
        ('{"verdict": 3.5}', ""),
        ('{"verdict": true}', ""),
        ('{"verdict": 9}', ""),
        ('{"verdict": null}', ""),
        ('[{"verdict": 3}]', ""),
        ('so {"verdict": 3}', ""),
        ("VERDICT: 3", ""),
        ("[" * 100_000, ""),
    ],
)
def test_of_json_the_field_counts(text: str, value: str):
    assert read_verdict(text, "stop", levels=5, as_json=True).value == value


def test_a_cut_reply_has_no_verdict():
    assert not read_verdict("VERDICT: 3", "length", levels=5, as_json=False).readable
    assert read_verdict("VERDICT: 3", None, levels=5, as_json=False).readable


def test_a_long_reply_is_read_in_no_time():
    started = time.process_time()
    for text in ("\n" * 200_000, "*" * 200_000, "verdict" * 50_000, "VERDICT: " + "(" * 200_000):
        assert not read_verdict(text, "stop", levels=None, as_json=False).readable
        assert len(read_verdict(text, "stop", levels=None, as_json=False).reason) < 500
    assert time.process_time() - started < 1


def test_both_orders_are_symmetric():
    flipped = {"A": "B", "B": "A", "TIE": "TIE"}
    for first in flipped:
        for second in flipped:
            score = SCORES[both_orders(first, second)]
            # Seen from the other answer, what was shown as A is shown as B.
            assert SCORES[both_orders(second, first)] == 1 - score
    assert order_bias([]).share != order_bias([]).share and str(order_bias(["other"])) == "no pair was compared"
