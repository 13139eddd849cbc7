"""ParetoBandit's outcomes of four current models: a judge's graded rewards and true dollars, on prompts of nine benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxroute.data.reading import Problems, Sheet, prompts, read_sheet, texts
from jaxroute.data.table import RoutingTable
from jaxroute.errors import shortened

FIELDS = ("prompt", "arms", "source")
"""What is read of a row; the others can be computed from `arms`."""


def load_paretobandit(path: Path) -> RoutingTable:
    """`path` is `val_k4.jsonl`, to learn from, or `test_k4.jsonl`, to judge with.

    Quality is the judge's reward in [0, 1], costs are dollars per query as paid; the benchmark is the domain, BIG-Bench-Hard
    with all its tasks one of the nine. A model that a row does not name was not run. Raises `SourceError`.
    """
    problems = Problems(path, "ParetoBandit's JSON lines of rewards")
    sheet = read_sheet(path, problems)
    missing = [name for name in FIELDS if name not in sheet.columns]
    if missing:
        problems.add(f"no row has {', '.join(missing)}")
    problems.stop()
    text, benchmarks = prompts(sheet, problems), texts(sheet, "source", problems)
    arms = [_arms(sheet, row, problems) for row in range(len(sheet))]
    problems.stop()
    models = list(dict.fromkeys(model for named in arms for model in named))
    cells = np.array([[named.get(model, (np.nan, np.nan)) for model in models] for named in arms])
    return RoutingTable(
        prompts=text,
        models=models,
        quality=cells[:, :, 0],
        cost_usd=cells[:, :, 1],
        domains=[name.split("/")[0] for name in benchmarks],
        name=f"ParetoBandit {path.stem}",
    )


def _arms(sheet: Sheet, row: int, problems: Problems) -> dict[str, tuple[float, float]]:
    """Reward and dollars of every model that the row names."""
    arms: Any = sheet.columns["arms"][row]
    where = sheet.cell(row, "arms")
    if not isinstance(arms, Mapping) or not arms:
        problems.add(f"{where} is not {{model: {{reward, cost}}}}: {shortened(arms)}")
        return {}
    found = {}
    for model, arm in arms.items():
        if arm is None:  # as Parquet writes a model that is in other rows only
            continue
        reward, cost = (_number(arm.get(name)) if isinstance(arm, Mapping) else None for name in ("reward", "cost"))
        if reward is None or cost is None:
            problems.add(f"{where}: {shortened(model)} has no numbers reward and cost: {shortened(arm)}")
        elif not 0 <= reward <= 1 or not 0 <= cost < float("inf"):
            problems.add(f"{where}: {shortened(model)} has reward={reward}, cost={cost}; expected [0, 1] and dollars")
        else:
            found[model] = (reward, cost)
    return found


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
