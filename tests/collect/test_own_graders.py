"""Graders of one's own, and those that ask a model: what is graded again, what is paid for, and what is missing."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from jaxroute.data.table import RoutingTable
from jaxroute.errors import EndpointError, GraderError
from tests.collect.simulated import ONE_TRY, books_agree, place

MODELS = ("sim-nano", "sim-math", "sim-large")
JUDGE = '''
"""A judge that is asked over an endpoint."""
import math
from jaxroute.collect.graders import Grade
NEEDS_REFERENCE = False
def asked_models():
    return ("sim-clinic",)
def needed_answers():
    return ("sim-nano",)
def summary(grades):
    return [f"the judge said {len(grades)} things"]
async def grade_asking(answer, reference, question, *, model, asker, others):
    if answer == others["sim-nano"] and model != "sim-nano":
        return Grade(math.nan, "the same")
    messages = [{"role": "user", "content": f"Is it right? {answer}"}]
    reply = await asker.ask("sim-clinic", messages, output_tokens=200, options={"temperature": 0})
    return Grade(0.5 if model == "sim-nano" else 1.0, reply.text)
'''


def test_another_grader_or_reference_grades_again_without_asking(tmp_path: Path) -> None:
    with place(tmp_path) as there:
        there.collect(*MODELS)
        before = RoutingTable.load(tmp_path / "outcomes.db").quality
        # Every answer of a simulated model has the word in it.
        summary = there.collect(*MODELS, grader="regex:pattern=answer (is)")
        assert summary.models["sim-nano"].graded == 4
        assert "12 stored grades made again: the grader or fields of the questions have changed" in str(summary)
        own = tmp_path / "longer.py"
        own.write_text('"""Long."""\ndef grade(answer, reference, question):\n    return 0.25\n')
        there.collect(*MODELS, grader=str(own))
        assert (RoutingTable.load(tmp_path / "outcomes.db").quality == 0.25).all()
        changed = own.stat()
        own.write_text('"""Long."""\ndef grade(answer, reference, question):\n    return 0.75\n')
        # As after an edit within the same second, which Python's bytecode would not see.
        os.utime(own, ns=(changed.st_atime_ns, changed.st_mtime_ns))
        there.collect(*MODELS, grader=str(own))
        assert (RoutingTable.load(tmp_path / "outcomes.db").quality == 0.75).all()
        there.collect(*MODELS)
        assert np.array_equal(RoutingTable.load(tmp_path / "outcomes.db").quality, before)
        rows = [{"id": f"q{row}", "prompt": text, "reference": "-1"} for row, text in enumerate(there.prompts)]
        there.write(rows)
        there.collect(*MODELS)
        assert (RoutingTable.load(tmp_path / "outcomes.db").quality == 0).all()
        assert there.requests == 12


def test_what_a_judge_leaves_of_its_worst_cases_pays_for_more_grades(tmp_path: Path) -> None:
    judge = tmp_path / "judge.py"
    judge.write_text(JUDGE)
    with place(tmp_path, 10) as there:
        full = there.collect("sim-nano", grader=str(judge))
        # All are reserved at their worst cases at first, which are a multiple of what they cost.
        answers = full.spent_usd - full.judged_usd
        budget = answers + 0.7 * full.judged_usd
        short = there.collect("sim-nano", grader=str(judge), budget_usd=budget, output=tmp_path / "short.db")
        one = short.models["sim-nano"]
        assert one.answered == 10 and 4 <= one.graded < 10 and short.spent_usd <= budget
        again = there.collect("sim-nano", grader=str(judge), output=tmp_path / "short.db")
        assert again.models["sim-nano"].graded == 10 and again.spent_usd == pytest.approx(full.spent_usd)


def test_a_grader_that_asks_pays_from_the_budget_and_is_asked_once(tmp_path: Path) -> None:
    judge = tmp_path / "judge.py"
    judge.write_text(JUDGE)
    with place(tmp_path) as there:
        summary = there.collect("sim-nano", "sim-large", grader=str(judge))
        assert (there.requests, there.simulation.counts.requests["sim-clinic"]) == (16, 8)
        table = RoutingTable.load(tmp_path / "outcomes.db")
        assert (table.quality == [[0.5, 1.0]] * 4).all() and table.models == ["sim-nano", "sim-large"]
        assert summary.notes == ("the judge said 8 things",)
        assert 0 < summary.judged_usd < summary.spent_usd and books_agree(tmp_path / "outcomes.db")
        assert round(summary.spent_usd * 1e12) == there.simulation.counts.answered_pico
        # A grader whose code has changed finds the replies that were paid for.
        judge.write_text(JUDGE.replace("0.5 if", "0.25 if"))
        there.collect("sim-nano", "sim-large", grader=str(judge))
        assert there.requests == 16 and (RoutingTable.load(tmp_path / "outcomes.db").quality == [[0.25, 1.0]] * 4).all()


def test_what_a_judge_does_not_grade_is_missing_and_not_0(tmp_path: Path) -> None:
    judge = tmp_path / "judge.py"
    judge.write_text(JUDGE)
    with place(tmp_path) as there:
        there.simulation.next_faults.extend(["none", "none", "none", "none", "server_error"])
        summary = there.collect(
            "sim-nano", grader=str(judge), client=ONE_TRY, concurrency=1, changes={"concurrent_requests": 1}
        )
        one = summary.models["sim-nano"]
        assert (one.answered, one.graded, one.quality) == (4, 3, 0.5)
        assert "1 answer without a grade: their quality is missing; such as: server_error" in str(summary)
        assert RoutingTable.load(tmp_path / "outcomes.db").query_ids == ["q1", "q2", "q3"]
        summary = there.collect("sim-nano", grader=str(judge), client=ONE_TRY, retry_failed=True)
        assert summary.models["sim-nano"].graded == 4 and there.requests == 9
        with pytest.raises(EndpointError, match="sim-clinic"):
            there.collect(
                "sim-nano",
                grader=str(judge),
                changes={"accepts": (), "api_key_env": "SIM_NO_SUCH_KEY"},
                output=tmp_path / "b.db",
            )


def test_a_grader_that_fails_loses_no_answer(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text('"""Mine."""\ndef grade(answer, reference, question):\n    return 1 / 0\n')
    with place(tmp_path, 30) as there:
        with pytest.raises(GraderError, match="in line 3: ZeroDivisionError"):
            there.collect(*MODELS, grader=str(own))
        asked = there.requests
        with sqlite3.connect(tmp_path / "outcomes.db") as connection:
            (stored,) = connection.execute("SELECT count(*) FROM answer_cells WHERE reason = ''").fetchone()
        assert stored == asked and books_agree(tmp_path / "outcomes.db")
        there.collect(*MODELS)
        assert there.requests == 90
