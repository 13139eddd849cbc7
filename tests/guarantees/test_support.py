"""Only the alarms that concern a promise take its support."""

from __future__ import annotations

import math

import pytest

from jaxroute.guarantees.asked import Asked
from jaxroute.guarantees.drift import PROMPTS, Alarm
from jaxroute.guarantees.promise import Part, Promise
from jaxroute.guarantees.support import against, support_words


def promise(**asked) -> Promise:
    part = Part(None, 1.0, 100, 0.8, "large", 0.8, 1e-4, math.nan, 0.01)
    return Promise(asked=Asked(**asked), models=["small", "large"], parts=[part])


@pytest.mark.parametrize(
    ("asked", "name", "direction", "counts"),
    [
        ({"within": 0.02}, "small", "worse", True),
        ({"within": 0.02}, "small", "better", True),
        ({"within": 0.02, "reference": "large"}, "small", "better", False),
        ({"within": 0.02, "reference": "large"}, "large", "better", True),
        ({"within": 0.02}, "not routed to", "worse", False),
        ({"at_least": 0.7}, "small", "worse", True),
        ({"at_least": 0.7}, "small", "better", False),
        ({"spend_at_most_usd": 0.1}, "small", "worse", False),
        ({"spend_at_most_usd": 0.1}, PROMPTS, "unfamiliar", True),
    ],
)
def test_what_an_alarm_says_against_it(asked: dict, name: str, direction: str, counts: bool) -> None:
    alarm = Alarm(name, direction, 100.0, 50)
    assert against(promise(**asked), [alarm]) == [alarm] * counts
    words = support_words(promise(**asked), [alarm])
    assert bool(words) == counts
    if counts:
        assert "no longer supported" in words and "jaxroute guarantee" in words and "jaxroute extend" in words
