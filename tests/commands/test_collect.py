"""The command: its demo, its options, and what it says of wrong ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jaxroute.cli import main
from jaxroute.commands.collect import Collect, request_options
from jaxroute.data.table import RoutingTable
from jaxroute.errors import JaxrouteError


def test_the_demo_needs_nothing_and_its_database_is_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["collect", "--demo"])
    said = capsys.readouterr().out
    assert "sim-frontier" in said and "jaxroute train --table runs/collect-demo/outcomes.db" in said
    table = RoutingTable.load(Path("runs/collect-demo/outcomes.db"))
    assert (len(table), len(table.models)) == (60, 10) and np.isfinite(table.quality).all()
    # Started again, on another port, it finds everything stored.
    main(["collect", "--demo"])
    assert capsys.readouterr().out == said


def test_fields_of_requests_are_json_or_words() -> None:
    given = ("top_p=0.9", "reasoning_effort=low", 'stop=["x"]')
    found = request_options(Collect(request=given, temperature=0.5, logprobs=True))
    assert found == {"temperature": 0.5, "logprobs": True, "top_p": 0.9, "reasoning_effort": "low", "stop": ["x"]}


@pytest.mark.parametrize("option", ["grader", "plan"])
def test_what_can_be_chosen_is_listed(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["collect", f"--{option}", "list"])
    assert {"grader": "numeric", "plan": "full"}[option] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("", "--prompts, --models, --grader, --budget-usd: give them, or --demo"),
        ("--demo --models m.yaml", "leave --models out, or --demo"),
        ("--demo --budget-usd 0", "budget_usd=0.0"),
        ("--demo --output /", "is a folder"),
        ("--demo --request top_p", "must be name=value"),
        ("--demo --request temperature=1 --temperature 1", "temperature is given twice"),
        ("--demo --request max_tokens=9", "--output-tokens"),
        ("--demo --request stream=true", "stream is set for every question"),
        ("--demo --temperature nan", "temperature=nan"),
        ("--demo --retries -1", "retries=-1"),
        ("--prompts q.jsonl --models m.yaml --grader exact --budget-usd 1", "m.yaml"),
    ],
)
def test_wrong_options_are_named_and_nothing_is_written(
    options: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JaxrouteError) as raised:
        main(["collect", *options.split()])
    assert says in str(raised.value) and not list(tmp_path.rglob("*"))
