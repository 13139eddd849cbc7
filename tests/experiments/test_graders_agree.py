"""Our graders and RouterArena's: they agree, or the answer literally says what ours read."""

from __future__ import annotations

from pathlib import Path

import experiments.graders_agree as experiment


def test_graders_agree_or_are_shown_to_be_right(data: Path, tmp_path: Path) -> None:
    result = experiment.main(experiment.Config(output=tmp_path / "run"))
    assert (tmp_path / "run" / "result.json").is_file()
    for metric, goal in (("mcq_accuracy", 0.99), ("exact_match", 0.99), ("chess_accuracy", 0.99), ("math_metric", 0.8)):
        assert float(result[f"{metric} agreement"]) >= goal
    for metric in experiment.GRADERS:
        assert result[f"{metric} differ"] == result[f"{metric} shown_theirs"]


def test_what_an_answer_literally_says() -> None:
    assert experiment.literal(r"\boxed{{48 g}}") == "48 g" and experiment.literal("The answer is **H**. So") == "**H**"
    assert experiment.bare("353,582") == experiment.bare("353582") and experiment.bare("B.") == "b"
    assert experiment.wanted_by("1", "A. x\nB. y") == {"1", "b", "by"}
