"""`jaxroute universe`: from a table of outcomes to the models worth serving."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jaxroute import JaxrouteError
from jaxroute.cli import main
from solvers import ProblemError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """`first` and `second` answer three each, two of them in common; `third` answers the one that both do not."""
    answers = {"first": "11100", "second": "01110", "third": "00001"}
    lines = ["prompt," + ",".join(f"{model}|quality,{model}|cost_usd" for model in answers)]
    lines += [f"question {row}," + ",".join(f"{right[row]},0.1" for right in answers.values()) for row in range(5)]
    path = tmp_path / "outcomes.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def chosen(table: Path, *options: str) -> dict:
    output = table.parent / "universe.json"
    main(["universe", "--table", str(table), "--output", str(output), *options])
    return json.loads(output.read_text())


@pytest.mark.parametrize("method", ["lazy", "greedy", "exact"])
def test_models_come_in_the_order_of_choice_with_the_value_after_each(table: Path, method: str):
    found = chosen(table, "--size", "2", "--method", method)
    assert found["models"] == ["first", "second"]
    assert found["value_by_size"] == [0.6, 0.8]
    assert found["bound"] >= 0.8 and (method != "exact" or found["bound"] < 0.8 + 1e-9)
    assert chosen(table, "--size", "3", "--method", method)["value_by_size"] == pytest.approx([0.6, 0.8, 1.0])


def test_every_size_has_a_bound_and_the_reason_to_stop_is_given(table: Path, capsys: pytest.CaptureFixture[str]):
    found = chosen(table, "--size", "3")
    assert found["bound_by_size"][0] == pytest.approx(0.6) and found["bound_by_size"][2] == pytest.approx(1.0)
    assert all(bound >= value - 1e-12 for bound, value in zip(found["bound_by_size"], found["value_by_size"], strict=True))
    assert found["stopped"] == "as many as size=3 allows"
    assert (
        "no other model that is allowed answers anything better"
        in chosen(table, "--size", "2", "--banned", "first", "second")["stopped"]
    )
    costs = table.parent / "serving.json"
    costs.write_text(json.dumps({"third": 1.0, "first": 10.0, "second": 2.0}))
    assert "fits into budget_usd=3" in chosen(table, "--budget-usd", "3", "--serving-costs", str(costs))["stopped"]
    assert "stopped after 2 models: no other model that adds anything" in capsys.readouterr().out


def test_costs_that_it_does_not_read_may_be_missing(table: Path):
    rows = [line.split(",") for line in table.read_text().splitlines()]
    table.write_text("\n".join(",".join([row[0], *row[1::2]]) for row in rows))
    assert chosen(table, "--size", "2")["models"] == ["first", "second"]
    table.write_text(
        "\n".join(",".join([row[0], *(str(10 * int(cell)) if cell.isdigit() else cell for cell in row[1::2])]) for row in rows)
    )
    assert chosen(table, "--size", "2", "--option", "scale=10")["value_by_size"] == [0.6, 0.8]


def test_required_banned_and_a_budget(table: Path, capsys: pytest.CaptureFixture[str]):
    assert chosen(table, "--size", "2", "--required", "third")["models"] == ["third", "first"]
    assert chosen(table, "--size", "2", "--banned", "first")["models"] == ["second", "third"]
    costs = table.parent / "serving.json"
    costs.write_text(json.dumps({"third": 1.0, "first": 10.0, "second": 2.0}))
    found = chosen(table, "--budget-usd", "3", "--serving-costs", str(costs))
    assert sorted(found["models"]) == ["second", "third"] and found["cost_usd"] == 3.0
    assert "serving them costs 3 dollars" in capsys.readouterr().out


def test_what_was_never_run_is_counted_and_said(table: Path, capsys: pytest.CaptureFixture[str]):
    table.write_text(table.read_text().replace("question 0,1,", "question 0,,"))
    found = chosen(table, "--size", "1")
    assert found["models"] == ["second"] and found["never_run"] == 1
    assert "1 of 15 answers were never run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "size=None and budget_usd=None: give exactly one"),
        (["--size", "0"], "size=0 must be at least 1"),
        (["--budget-usd", "3"], "budget_usd needs cost_usd"),
        (["--size", "1", "--required", "fourth"], "required: unknown models fourth"),
        (["--size", "1", "--source", "routerdc"], "give either --table FILE"),
        (["--budget-usd", "3", "--serving-costs", "missing.json"], "missing.json is not a table of dollars"),
    ],
)
def test_wrong_options_are_refused_and_nothing_is_written(table: Path, options: list[str], message: str):
    with pytest.raises((JaxrouteError, ProblemError), match=message):
        chosen(table, *options)
    assert not (table.parent / "universe.json").exists()


def test_serving_costs_must_name_every_model(table: Path):
    costs = table.parent / "serving.json"
    costs.write_text(json.dumps({"first": 10.0, "fourth": 2.0}))
    with pytest.raises(JaxrouteError, match="missing models: second, third; unknown models: fourth"):
        chosen(table, "--budget-usd", "3", "--serving-costs", str(costs))
    costs.write_text(json.dumps({"first": 10.0, "second": -2.0, "third": None}))
    with pytest.raises(JaxrouteError, match=r"must be at least 0\.0"):
        chosen(table, "--budget-usd", "3", "--serving-costs", str(costs))
