"""RouterBench's tables on the real files: published numbers, both conventions, a task that no router saw."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import experiments.routerbench_tables as experiment


def test_both_tasks_within_and_across(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JAXROUTE_DATA", str(data))
    routers, cascades = ("prompt_length", "random"), ("cascade:epsilon=0", "cascade:epsilon=0.4")
    config = experiment.Config(output=tmp_path / "run", router=routers, cascade=cascades, resamples=40)
    result = experiment.main(config)
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    for name in ("figures_4_5.png", "figure_6.png", "figures_8_9.png"):
        assert (tmp_path / "run" / name).stat().st_size > 10_000
    for setting in ("arc_challenge", "mbpp", "both_tasks", "mbpp,_learnt_from_arc_challenge"):
        assert (tmp_path / "run" / setting / "report.html").stat().st_size < 3_000_000
    # The published dollars pay for the same number of queries, whichever model answers, and the published accuracies are
    # those of a sample of that size: the files hold what the paper measured.
    for place, (task, size, spread) in enumerate((("arc_challenge", 1456, 1.02), ("mbpp", 427, 1.1))):
        paid = []
        for model, published in experiment.PUBLISHED.items():
            accuracy, usd = published[place]
            mean = result[f"{task} {model} total_cost_usd"] / size
            paid.append((usd + np.array([-5e-4, 5e-4])) / mean)
            error = np.sqrt(accuracy * (1 - accuracy) / (usd / mean))
            assert abs(result[f"{task} {model} accuracy"] - accuracy) < 3 * error
        least, most = np.array(paid).T
        assert least.max() <= spread * most.min()
    # A judge that errs costs quality; with the oracle in sight nothing gains more than the oracle.
    for task in experiment.TASKS:
        oracle = result[f"{task} oracle aiq"]
        assert result[f"{task} cascade:epsilon=0.4 aiq"] < result[f"{task} cascade:epsilon=0 aiq"] <= oracle + 1e-9
        assert result[f"{task} cascade:epsilon=0 aiq_by_code"] > 0
    printed = capsys.readouterr().out
    assert "mbpp, learnt from arc_challenge" in printed and "queries that it would pay for" in printed
