"""Keep the questions that a reference model fails, and a random share of the others (Routoo, section 4.2 and appendix C).

Questions that every model answers teach a router nothing about which model to choose, and most of a public question set is of
that kind. Routoo kept 45,645 that its reference model failed and 10,000 others, of 101,434.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxroute.data.prompts import Prompts, read_prompts
from jaxroute.data.reading import EMPTY, TRUTH
from jaxroute.data.table import RoutingTable, text_key
from jaxroute.errors import CollectError, counted, listed, shortened

KEPT = "kept"
"""The field that says why a row was kept."""
FAILED, DRAWN = "failed", "drawn"
ROUTOO_SHARE = 10_000 / (101_434 - 45_645)
"""Of the questions that the reference model answers, what Routoo kept."""
SHOWN = 12


@dataclass(frozen=True)
class Filtered:
    """What was kept, and what was not."""

    rows: list[dict[str, Any]]
    """Kept ones, in their order, each with the field `kept`: failed or drawn."""
    failed: int
    """All that the reference model fails; all of them are kept."""
    drawn: int
    """Kept of the others."""
    others: int
    """All that it answers."""
    missing: int
    """Left out, since it is not known how well it answers them."""

    def __str__(self) -> str:
        total = self.failed + self.others + self.missing
        lines = [
            f"kept {len(self.rows):,} of {counted(total, 'question')}: {self.failed:,} that the reference model fails, and "
            f"{self.drawn:,} of the {self.others:,} others"
        ]
        if self.missing:
            lines.append(f"{self.missing:,} left out: it was never run on them")
        if self.drawn:
            weight = self.others / self.drawn
            lines.append(f'each of these {self.drawn:,}, whose "{KEPT}" is "{DRAWN}", stands for {weight:.3g} of the others')
        return "\n".join(lines)


def filter_rows(
    rows: Sequence[Mapping[str, Any]],
    quality: Sequence[float] | np.ndarray,
    *,
    threshold: float = 0.5,
    share: float | None = None,
    count: int | None = None,
    seed: int = 0,
) -> Filtered:
    """The rows whose quality, of the reference model, is below the threshold, and a random part of the others, in order.

    The part is a `share` of them or a `count`, by default Routoo's share. NaN: not known, left out. Raises `CollectError`.
    """
    if not 0 < threshold <= 1:
        raise CollectError(f"threshold={threshold} must be above 0 and at most 1: a lower quality counts as a failure")
    if share is not None and count is not None:
        raise CollectError(f"share={share:g} and count={count:,} exclude each other: give one of them")
    if share is not None and not 0 <= share <= 1:
        raise CollectError(f"share={share} must be from 0 to 1")
    if count is not None and count < 0:
        raise CollectError(f"count={count} must be at least 0")
    if seed < 0:
        raise CollectError(f"seed={seed} must be at least 0")
    values = np.asarray(quality, np.float64)
    missing, failed = np.isnan(values), values < threshold
    others = np.flatnonzero(~missing & ~failed)
    if count is not None and count > len(others):
        raise CollectError(
            f"count={count:,} is more than the {counted(len(others), 'question')} that the reference model answers"
        )
    part = math.floor((ROUTOO_SHARE if share is None else share) * len(others) + 0.5) if count is None else count
    drawn = set(np.random.default_rng(seed).permutation(others)[:part].tolist())
    kept = [
        {**row, KEPT: FAILED if failed[number] else DRAWN}
        for number, row in enumerate(rows)
        if failed[number] or number in drawn
    ]
    return Filtered(kept, int(failed.sum()), part, len(others), int(missing.sum()))


def read_with_quality(path: Path, column: str) -> tuple[list[dict[str, Any]], np.ndarray]:
    """The rows of a prompt file, and the reference model's quality in one of their columns; empty cells are NaN.

    Raises `PromptError` where the file is not one of prompts, `CollectError` where the column is not one of qualities.
    """
    prompts = read_prompts(path)
    names = dict.fromkeys(name for row in prompts.fields for name in row)
    if column not in names:
        raise CollectError(f"prompts={str(path)!r} has no column {shortened(column)}; it has {listed(names)}")
    quality, wrong = [], []
    for row, place in zip(prompts.fields, prompts.places, strict=True):
        value = _quality(row.get(column))
        quality.append(math.nan if value is None else value)
        if value is None:
            wrong.append(f"{place}: {shortened(row.get(column))}")
    if wrong:
        raise CollectError(
            f"prompts={str(path)!r}: the column {shortened(column)} must hold qualities from 0 to 1, or nothing; in "
            f"{counted(len(wrong), 'row')} it does not: {listed(wrong, SHOWN)}"
        )
    return prompts.fields, np.array(quality)


def join_with_table(table: RoutingTable, model: str, path: Path | None) -> tuple[list[dict[str, Any]], np.ndarray]:
    """The questions of a table of outcomes and the quality of one of its models; with `path`, the rows of that prompt file.

    A row of the file is the query with its id, where the file has ids, else that with its text. Rows without outcomes have NaN.
    Raises `CollectError` where the model is unknown, no row is in the table, or ids are those of other prompts.
    """
    if model not in table.models:
        raise CollectError(f"reference_model={shortened(model)} is none of the table's models: {listed(table.models)}")
    quality = table.quality[:, table.models.index(model)]
    if path is None:
        rows = zip(table.query_ids, table.prompts, table.domains, strict=True)
        return [
            {"query_id": query, "prompt": prompt} | ({"domain": domain} if domain else {}) for query, prompt, domain in rows
        ], quality
    prompts = read_prompts(path)
    by_id = {query: row for row, query in enumerate(table.query_ids)}
    by_text: dict[str, int] = {}
    for row, text in enumerate(table.prompts):
        by_text.setdefault(text_key(text), row)
    found, crossed = [], []
    for given, text, place in zip(prompts.ids, prompts.texts, prompts.places, strict=True):
        same = by_text.get(text_key(text))
        row = same if given is None else by_id.get(str(given))
        # Another wording under the same id is the same question; one that has another id is not.
        if row is not None and same is not None and text_key(table.prompts[row]) != text_key(text):
            crossed.append(f"{place}: {shortened(given)} is {shortened(table.query_ids[same])} in the table")
        found.append(row)
    if crossed:
        raise CollectError(
            f"prompts={str(path)!r}: in {counted(len(crossed), 'row')} the id is that of another prompt of the table: "
            f"{listed(crossed, SHOWN)}; give the rows of both the same ids, or remove the file's"
        )
    if all(one is None for one in found):
        raise CollectError(f"prompts={str(path)!r}: none of its rows is in the table; {_example(prompts, table)}")
    return prompts.fields, np.array([math.nan if row is None else quality[row] for row in found])


def _example(prompts: Prompts, table: RoutingTable) -> str:
    given = next((one for one in prompts.ids if one is not None), None)
    if given is not None:
        return f"its ids are like {shortened(given)}, the table's like {shortened(table.query_ids[0])}"
    return f"its prompts are like {shortened(prompts.texts[0])}, the table's like {shortened(table.prompts[0])}"


def _quality(cell: Any) -> float | None:
    """NaN for an empty cell, None for what is no quality."""
    if cell is None:
        return math.nan
    if isinstance(cell, bool | int | float):
        value = float(cell)
    else:
        text = str(cell).strip().casefold()
        if text in EMPTY:
            return math.nan
        try:
            value = TRUTH[text] if text in TRUTH else float(text)
        except ValueError:
            return None
    return value if 0 <= value <= 1 or math.isnan(value) else None
