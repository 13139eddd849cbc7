"""A routed batch on disk: one JSON object per prompt, in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxroute.data.estimates import Estimates
from jaxroute.storage.files import replacing
from jaxroute.storage.json_lines import json_line
from solvers import Assignment


def write_routed(path: Path, rows: list[dict[str, Any]], assignment: Assignment, estimates: Estimates) -> None:
    """What each row holds, with its `model` (null = unanswered), `estimate` (quality) and `cost_usd` (expected) set."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        for row, (given, column) in enumerate(zip(rows, assignment.choice, strict=True)):
            line = given | {
                "model": estimates.models[column] if column >= 0 else None,
                "estimate": round(float(estimates.quality[row, column]), 6) if column >= 0 else None,
                "cost_usd": float(estimates.cost_usd[row, column]) if column >= 0 else 0.0,
            }
            file.write(json_line(line))
