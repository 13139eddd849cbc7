"""`jaxroute run` as a user calls it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from jaxroute.cli import main
from jaxroute.errors import JaxrouteError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget-usd", "1"], "checkpoint, prompts, models: give them, or --demo"),
        (["--demo", "--models", "models.yaml"], "models: the demo has its own"),
        (["--demo", "--budget-usd", "nan"], "budget_usd=nan must be a number of dollars"),
        (["--demo", "--deadline-seconds", "0"], r"deadline_seconds=0\.0 must be above 0"),
        (["--demo", "--concurrent-calls", "0"], "concurrent_calls=0 must be at least 1"),
    ],
)
def test_wrong_options_are_named(arguments: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(JaxrouteError, match=message):
        main(["run", *arguments, "--output", str(tmp_path / "demo" / "answers.jsonl")])
    assert not list(tmp_path.iterdir())


def test_the_demo_replaces_nothing_of_a_users(tmp_path: Path) -> None:
    mine = tmp_path / "prompts.jsonl"
    mine.write_text("mine")
    with pytest.raises(JaxrouteError, match="holds other files"):
        main(["run", "--demo", "--output", str(tmp_path / "answers.jsonl")])
    assert mine.read_text() == "mine" and list(tmp_path.iterdir()) == [mine]


@pytest.mark.slow
def test_the_demo_answers_everything_within_its_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "demo" / "answers.jsonl"
    for _ in range(2):
        main(["run", "--demo", "--output", str(output)])
        said = capsys.readouterr().out
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        assert len(lines) == 200 and all(line["answer"] for line in lines)
        found = re.search(r"spent ([\d.]+) of 0.1 dollars", said)
        assert found and 0.09 < float(found.group(1)) <= 0.1 and "200 of 200 prompts answered" in said
