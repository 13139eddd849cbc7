"""Models that cannot take some of the questions: they are asked the others, and the summary says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jaxroute.errors import EndpointError
from tests.collect.simulated import place

MODELS = ("sim-nano", "sim-math")


def test_a_model_is_not_asked_what_it_cannot_take_and_the_others_are(tmp_path: Path) -> None:
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/cat.png"}}]}]
    rows = [
        {"id": "text", "prompt": "What is 1 plus 2?"},
        {"id": "long", "prompt": "word " * 3_000},
        {"id": "cat", "messages": image},
    ]
    with place(tmp_path) as there:
        there.write([row | {"reference": "3"} for row in rows])
        first, second = (there.simulation.endpoints()[name] for name in MODELS)
        first = replace(first, accepts=(), context_tokens=2_000, output_tokens=100)
        summary = there.collect(*MODELS, endpoints={first.name: first, second.name: second})
        assert [one.reasons["not asked"] for one in summary.models.values()] == [2, 0]
        assert summary.notes[0].startswith(f"{MODELS[0]} was not asked 2 questions, such as 'long': about 3,7")
        assert "'cat'" not in summary.notes[0] and there.requests == 4
        with pytest.raises(EndpointError, match=r"the question 'text': sim-nano does not accept json_schema"):
            there.collect(
                "sim-nano",
                changes={"accepts": ()},
                options={"response_format": {"type": "json_object"}},
                output=tmp_path / "other.db",
            )
