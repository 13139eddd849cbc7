"""RouterDC's graded MMLU outcomes of seven 7B and 8B models, from its JSON files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxroute.data.prices import FLAT_COST_NOTE, ROUTOO_TABLE_1, PriceList, flat_cost_usd
from jaxroute.data.reading import Problems, read_json
from jaxroute.data.table import RoutingTable
from jaxroute.errors import listed, shortened


def load_routerdc(path: Path, *, prices: PriceList = ROUTOO_TABLE_1, binary: bool = False) -> RoutingTable:
    """`path` is one file (`mmlu_train.json` or `mmlu_test.json`): a list of questions with a grade per model.

    A grade looks like the probability of the right choice where that was the model's answer, else 0. `binary` counts
    `grade > 0` as correct, which puts it on the scale of True/False outcomes. Costs are the models' mean prices, as if a
    query were a million tokens: the files hold no token counts.
    """
    problems = Problems(path, "RouterDC's JSON of graded questions")
    rows = read_json(path, problems)
    if not isinstance(rows, list) or not rows:
        problems.add("it is not a list with at least one question")
        problems.stop()
    models = list(rows[0]["scores"]) if isinstance(rows[0], dict) and isinstance(rows[0].get("scores"), dict) else []
    if not models:
        problems.add("its first question has no scores: it names no model")
    grades = np.full((len(rows), len(models)), np.nan)
    for number, row in enumerate(rows):
        wrong = _problem_of(row, models)
        if wrong:
            problems.add(f"question {number}: {wrong}")
        else:
            grades[number] = [row["scores"][model] for model in models]
    problems.stop()
    return RoutingTable(
        prompts=[row["question"] for row in rows],
        models=models,
        quality=(grades > 0).astype(float) if binary else grades,
        cost_usd=flat_cost_usd(prices, models),
        note=FLAT_COST_NOTE,
        name=f"RouterDC {path.stem}",
    )


def _problem_of(row: object, models: list[str]) -> str | None:
    if not isinstance(row, dict):
        return f"it is a {type(row).__name__}, not an object"
    if set(row) - {"question", "scores", "cluster_id"} or not {"question", "scores"} <= set(row):
        return f"its keys are {listed(sorted(row))}, expected question, scores and perhaps cluster_id"
    if not isinstance(row["question"], str) or not row["question"].strip():
        return f"question={shortened(row['question'])} is empty or not text"
    scores = row["scores"]
    if not isinstance(scores, dict) or set(scores) != set(models):
        return f"its scores are not for the models of the first question ({listed(models) or 'none'})"
    bad = [value for value in scores.values() if isinstance(value, bool) or not isinstance(value, int | float)]
    bad += [value for value in scores.values() if value not in bad and not 0 <= value <= 1]
    return f"the grade {shortened(bad[0])} is not a number in [0, 1]" if bad else None
