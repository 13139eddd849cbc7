"""Collections from simulated models: what is stored, what is missing, what is asked again, and what it costs."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxroute import load_source
from jaxroute.collect.collecting import CollectConfig, collect
from jaxroute.commands.simulate import models_yaml
from jaxroute.data.table import RoutingTable
from jaxroute.endpoints import Ledger
from jaxroute.errors import (
    CollectError,
    EndpointError,
    GraderError,
    JaxrouteError,
    LedgerError,
    OutputError,
    PlanError,
    PromptError,
)
from tests.collect.simulated import ONE_TRY, QUICK, books_agree, place

MODELS = ("sim-nano", "sim-math", "sim-large")
LINE = "from jaxroute.cli import run; run()"


def test_faults_or_not_the_table_is_what_the_models_have_answered(tmp_path: Path) -> None:
    faults = ("rate_limit=0.1", "server_error=0.1", "cut=0.1", "malformed=0.05")
    with place(tmp_path, 6, faults=faults) as there:
        summary = there.collect(*MODELS, options={"logprobs": True})
        requests, pool = there.requests, there.simulation.pool
        assert requests > 18 and not summary.models["sim-math"].reasons
        table = RoutingTable.load(tmp_path / "outcomes.db")
        assert (table.models, table.query_ids) == (list(MODELS), [f"q{row}" for row in range(6)])
        assert table.prompts == there.prompts
        assert table.input_tokens is not None and table.output_tokens is not None and table.latency_seconds is not None
        assert table.response is not None and table.log_likelihood is not None and (table.log_likelihood < 0).all()
        for row, prompt in enumerate(there.prompts):
            for column, model in enumerate(MODELS):
                outcome = pool.outcome(model, prompt)
                assert table.quality[row, column] == outcome.right
                assert table.output_tokens[row, column] == outcome.completion_tokens
                assert table.response[row, column].endswith(f"{pool.answer(model, prompt)}.")
        # Each cell's dollars, and all of them together, are what the endpoints have counted.
        assert round(table.cost_usd.sum() * 1e12) == there.simulation.counts.answered_pico
        assert summary.spent_usd > table.cost_usd.sum() and books_agree(tmp_path / "outcomes.db")
        again = there.collect(*MODELS, options={"logprobs": True})
        assert there.requests == requests and str(again) == str(summary)


def test_a_failed_call_is_missing_with_its_reason_and_asked_again_on_demand(tmp_path: Path) -> None:
    with place(tmp_path) as there:
        there.simulation.next_faults.extend(["none", "server_error", "cut", "none"])
        summary = there.collect("sim-nano", client=ONE_TRY, concurrency=1)
        one = summary.models["sim-nano"]
        assert (one.answered, one.graded, dict(one.reasons)) == (2, 2, {"server_error": 1, "cut": 1})
        assert "failed, cut: 1" in str(summary) and "--retry-failed" in str(summary)
        table = load_source("table", tmp_path / "outcomes.db")
        assert table.query_ids == ["q0", "q3"] and "2 questions without any grade left out" in table.note
        there.collect("sim-nano", client=ONE_TRY)
        assert there.requests == 4
        summary = there.collect("sim-nano", client=ONE_TRY, retry_failed=True)
        assert there.requests == 6 and not summary.models["sim-nano"].reasons
        table = RoutingTable.load(tmp_path / "outcomes.db")
        assert len(table) == 4 and not np.isnan(table.quality).any()
        # The try that was cut still counts as spent, and not as the answer's cost.
        assert summary.spent_usd > table.cost_usd.sum() and books_agree(tmp_path / "outcomes.db")


def test_rows_that_repeat_another_are_counted_in_the_summary(tmp_path: Path) -> None:
    with place(tmp_path) as there:
        row = {"id": "q0", "prompt": there.prompts[0], "reference": there.reference(0)}
        there.write([row, row, row])
        summary = there.collect("sim-nano")
        assert summary.questions == 1 and "2 rows of the file only repeated another, and counted once" in str(summary)


def test_money_runs_out_and_a_larger_budget_continues(tmp_path: Path) -> None:
    with place(tmp_path, 8) as there:
        summary = there.collect(*MODELS, budget_usd=0.012)
        asked = there.requests
        assert summary.lacking > 0 and asked == 24 - summary.lacking
        assert 0 < summary.spent_usd <= 0.012
        # What is left would not pay for any of the missing cells in the worst case.
        assert 0.012 - summary.spent_usd < summary.most_missing_usd / summary.lacking
        assert f"{summary.lacking} cells missing for lack of money" in str(summary)
        with pytest.raises(LedgerError, match=r"budget_usd=0\.001 is below"):
            there.collect(*MODELS, budget_usd=0.001)
        assert there.requests == asked
        summary = there.collect(*MODELS, budget_usd=summary.enough_usd)
        assert summary.lacking == 0 and there.requests == 24
        assert np.isfinite(RoutingTable.load(tmp_path / "outcomes.db").quality).all()


def test_a_wrong_key_leaves_its_model_out_and_not_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMULATED_KEY", "right")
    with place(tmp_path, 20, api_key="right") as there:
        keyed = {name: replace(one, api_key_env="SIMULATED_KEY") for name, one in there.simulation.endpoints().items()}
        wrong = {"sim-nano": keyed["sim-nano"], "sim-large": replace(keyed["sim-large"], api_key_env=None)}
        config = CollectConfig(tmp_path / "questions.jsonl", tmp_path / "m.yaml", "numeric", tmp_path / "outcomes.db", 1.0)
        summary = collect(config, QUICK, endpoints=wrong)
        assert summary.models["sim-nano"].answered == 20
        large = summary.models["sim-large"]
        assert (large.answered, summary.left_out.keys()) == (0, {"sim-large"}) and large.reasons["not asked"] > 0
        assert "sim-large was left out: its key was rejected" in str(summary)
        table = RoutingTable.load(tmp_path / "outcomes.db")
        assert table.models == ["sim-nano"] and "left out: sim-large" in table.note


def test_a_model_that_nobody_answers_for_is_left_out(tmp_path: Path) -> None:
    with place(tmp_path, 20) as there:
        endpoints = {name: one for name, one in there.simulation.endpoints().items() if name in ("sim-nano", "sim-large")}
        endpoints["sim-large"] = replace(endpoints["sim-large"], base_url="http://127.0.0.1:9/v1", concurrent_requests=2)
        config = CollectConfig(tmp_path / "questions.jsonl", tmp_path / "m.yaml", "numeric", tmp_path / "outcomes.db", 1.0)
        summary = collect(config, ONE_TRY, endpoints=endpoints)
        reasons = summary.models["sim-large"].reasons
        assert 5 <= reasons["connect"] <= 6 and reasons["not asked"] == 20 - reasons["connect"]
        assert "no connection, 5 times in a row" in str(summary) and summary.models["sim-nano"].graded == 20


def test_refusals_and_truncations_are_marked_and_answers_that_were_not_counted_get_mean_dollars(tmp_path: Path) -> None:
    with place(tmp_path) as there:
        there.simulation.next_faults.extend(["none", "wrong_usage", "none", "none"])
        summary = there.collect("sim-medium", output_tokens=10, concurrency=1)
        one = summary.models["sim-medium"]
        assert (one.answered, one.truncated, one.refused, one.uncounted) == (4, 4, 0, 1)
        table = RoutingTable.load(tmp_path / "outcomes.db")
        assert table.input_tokens is not None and np.isnan(table.input_tokens[1, 0])
        known = table.cost_usd[[0, 2, 3], 0]
        assert table.cost_usd[1, 0] == pytest.approx(known.mean()) and "1 answer were not counted" in table.note


PLAN = '''
"""One model after the other, each on the questions that the last one got wrong."""
from dataclasses import dataclass
import numpy as np
@dataclass(frozen=True)
class Config:
    cells: int | None = None
class Plan:
    def __init__(self, config):
        self.config, self.note = config, "no plan"
    def next_cells(self, collected):
        assert (collected.worst_case_usd > 0).all() and collected.left_usd > 0
        for column in range(len(collected.models)):
            wrong = (collected.quality[:, :column] < 1).all(axis=1)
            cells = [(row, column) for row in np.flatnonzero(wrong & ~collected.asked[:, column])]
            if cells:
                return cells[: self.config.cells]
        self.note = "nobody is left to be asked"
        return []
def build(config):
    return Plan(config)
'''


def test_a_plan_of_ones_own_chooses_from_what_was_graded(tmp_path: Path) -> None:
    plan = tmp_path / "cascade.py"
    plan.write_text(PLAN)
    with place(tmp_path, 12) as there:
        summary = there.collect(*MODELS, plan=str(plan), cells=5)
        right = [[there.simulation.pool.outcome(model, prompt).right for model in MODELS] for prompt in there.prompts]
        expected = 12 + sum(not row[0] for row in right) + sum(not row[0] and not row[1] for row in right)
        assert 12 < expected < 36 and there.requests == expected
        assert summary.notes == ("nobody is left to be asked",)
        there.collect(*MODELS, plan=str(plan))
        assert there.requests == expected
        # Partly asked, the table has gaps.
        table = RoutingTable.load(tmp_path / "outcomes.db")
        assert np.isfinite(table.quality).sum() == expected and len(table) == 12
        plan.write_text(PLAN.replace("return cells[", "return [(99, 0)] or cells["))
        with pytest.raises(PlanError, match=r"the cell \(99, 0\)"):
            there.collect(*MODELS, plan=str(plan), output=tmp_path / "other.db")


def test_chat_messages_are_asked_as_they_are_and_models_must_accept_what_they_hold(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 1 plus 2?"}]
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/cat.png"}}]}]
    with place(tmp_path) as there:
        there.write([{"id": "chat", "messages": chat, "reference": "3"}])
        there.collect("sim-nano")
        asked = "system: Be brief.\n\nuser: What is 1 plus 2?"
        assert there.simulation.counts.tries == {("sim-nano", asked): 1}
        assert RoutingTable.load(tmp_path / "outcomes.db").prompts == [asked]
        there.write([{"id": "text", "prompt": "What?", "reference": "3"}, {"id": "cat", "messages": image, "reference": "3"}])
        with pytest.raises(EndpointError, match="the question 'cat': sim-nano does not accept images"):
            there.collect("sim-nano", changes={"accepts": ()}, output=tmp_path / "other.db")
        assert there.requests == 1 and not (tmp_path / "other.db").exists()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"budget_usd": 0.0}, CollectError, "budget_usd=0.0"),
        ({"budget_usd": float("nan")}, CollectError, "budget_usd=nan"),
        ({"output_tokens": 0}, CollectError, "output_tokens=0"),
        ({"concurrency": 0}, CollectError, "concurrency=0"),
        ({"grader": "guess"}, GraderError, "grader='guess' is unknown"),
        ({"plan": "guess"}, PlanError, "plan='guess' is unknown"),
        ({"cells": 3}, PlanError, "cells=3"),
        ({"cells": 0}, CollectError, "cells=0"),
        ({"grader": "choice"}, GraderError, "of 4 questions could not be graded"),
        ({"options": {"model": "x"}}, EndpointError, "must not hold model"),
        ({"output": Path("/proc/outcomes.db")}, OutputError, "cannot be written to"),
    ],
)
def test_what_is_wrong_is_known_before_anything_is_asked(
    tmp_path: Path, options: dict, error: type[JaxrouteError], says: str
) -> None:
    with place(tmp_path) as there:
        with pytest.raises(error) as raised:
            there.collect(*MODELS, **options)
        assert says in str(raised.value) and "\n\n" not in str(raised.value)
        assert there.requests == 0 and sorted(one.name for one in tmp_path.iterdir()) == ["questions.jsonl"]


def test_wrong_questions_models_and_databases_are_named(tmp_path: Path) -> None:
    with place(tmp_path) as there:
        with pytest.raises(CollectError, match="only: sim-huge are none of the models"):
            there.collect("sim-huge")
        there.collect("sim-nano")
        for options, says in (
            ({"options": {"temperature": 1.0}}, "request.temperature was not there and is 1.0"),
            ({"output_tokens": 5}, "output_tokens was null and is 5"),
            ({"changes": {"model": "sim-new"}}, 'models.sim-nano.model was "sim-nano" and is "sim-new"'),
        ):
            with pytest.raises(OutputError, match="another run") as raised:
                there.collect("sim-nano", **options)
            assert says in str(raised.value)
        there.write([{"id": "q0", "prompt": "Another?", "reference": "1"}])
        with pytest.raises(OutputError, match="other prompts under the same ids: q0"):
            there.collect("sim-nano")
        there.write([{"id": "q0", "prompt": "What?", "reference": "1"}, {"id": "q0", "prompt": "Who?", "reference": "1"}])
        with pytest.raises(PromptError, match="line 2: the id 'q0' has another prompt in line 1"):
            there.collect("sim-nano")
        there.write([{"id": "q0", "prompt": "What?"}])
        with pytest.raises(GraderError, match="the reference is missing"):
            there.collect("sim-nano")
        assert there.requests == 4
    Ledger(tmp_path / "run.db", 1.0).close()
    with sqlite3.connect(tmp_path / "run.db") as connection:
        connection.execute("CREATE TABLE mine (x)")
    with place(tmp_path) as there, pytest.raises(OutputError, match="something else"):
        there.collect("sim-nano", output=tmp_path / "run.db")


def test_models_and_questions_can_be_added_later(tmp_path: Path) -> None:
    with place(tmp_path) as there:
        rows = [json.loads(line) for line in (tmp_path / "questions.jsonl").read_text().splitlines()]
        there.write(rows[:2])
        there.collect("sim-large")
        there.write(rows)
        there.collect("sim-nano", "sim-large")
        assert there.requests == 8
        table = RoutingTable.load(tmp_path / "outcomes.db")
        assert (table.models, len(table)) == (["sim-large", "sim-nano"], 4) and np.isfinite(table.quality).all()


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_waits_for_what_is_under_way_and_the_second_one_does_not(tmp_path: Path, times: int) -> None:
    with place(tmp_path, 12, time_scale=0.5 if times == 1 else 3.0) as there:
        (tmp_path / "models.yaml").write_text(models_yaml(there.simulation.base_url))
        files = ["--prompts", "questions.jsonl", "--models", "models.yaml", "--grader", "numeric", "--budget-usd", "9"]
        command = [sys.executable, "-c", LINE, "collect", *files, "--concurrency", "2"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        while there.requests < 25:
            time.sleep(0.01)
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130 and "under way; Ctrl-C again gives them up" in said and "resumes" in said
        assert "Traceback" not in said and books_agree(tmp_path / "outcomes.db")
        served = there.simulation.counts.answers.total()
        with sqlite3.connect(tmp_path / "outcomes.db") as connection:
            counts = dict(connection.execute("SELECT reason, count(*) FROM answer_cells GROUP BY reason"))
        assert counts[""] == served < 120 and (counts.get("unfinished", 0) > 0) == (times == 2)
        there.simulation.config = replace(there.simulation.config, time_scale=0.0)
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and there.requests == 120 + counts.get("unfinished", 0)
