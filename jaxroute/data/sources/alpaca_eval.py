"""AlpacaEval's annotations: how often a judge prefers a model's answer to the reference model's, instruction by instruction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxroute.data.messages import prompt_text
from jaxroute.data.prices import PriceList
from jaxroute.data.reading import Problems
from jaxroute.data.rows import Unreadable
from jaxroute.data.sources.logs import (
    Log,
    Record,
    found_files,
    gathered,
    json_of,
    keys_of,
    log_problems,
    name_of,
    number,
    under,
)
from jaxroute.data.table import RoutingTable
from jaxroute.data.table_options import TableOptions
from jaxroute.errors import PromptError, listed, shortened

REQUIRED = ("instruction", "generator_1", "generator_2", "preference")
FILES = ("annotations.json", "annotation*.json")
DRAW = 0.5
"""What a model is worth against itself."""


def load_alpaca_eval(
    path: Path | Sequence[Path],
    *,
    annotator: str = "",
    reference: bool = False,
    prices: PriceList | Path | str | None = None,
    paid: bool = True,
) -> RoutingTable:
    """`path` is the folder `results` with a folder per model, one of those, a file, or a list of those.

    Quality is the preference for the model over the reference model, 0 to 1: `preference` - 1, where 1.5, and the 0 of early
    versions, is a draw. `annotator` names the judge where there are several. `reference` adds the reference model, whose
    quality is 0.5 on everything by definition. The instruction is the query, its dataset the domain.

    Annotations know neither tokens nor what answers cost (`price_per_example` is the judge's): with `prices` a query costs its
    model's mean price. Raises `SourceError`.
    """
    options = TableOptions(repeats="mean", paid=paid, prices=prices)
    problems = log_problems(path, "annotations of AlpacaEval")
    try:
        files = found_files(path, FILES)
    except Unreadable as error:
        files = []
        problems.add(str(error))
    if not files and not problems.found:
        problems.add(f"it holds no {FILES[0]}")
    rows = [row for file in files for row in _rows(file, under(path, file), problems)]
    problems.stop()
    for what, field, wanted in (("annotator", "annotator", annotator), ("reference model", "generator_1", "")):
        names = list(dict.fromkeys(str(row.get(field, "")) for row, _ in rows))
        if wanted and wanted not in names:
            problems.add(f"{what}={wanted!r} is none of those there, which are {listed(names)}")
        rows = [row for row in rows if wanted in ("", str(row[0].get(field, "")))]
        if len({str(row.get(field, "")) for row, _ in rows}) > 1:
            how = "give one as annotator=" if field == "annotator" else "load them apart: preferences do not compare"
            problems.add(f"there are several {what}s, {listed(names)}: {how}")
        problems.stop()
    records = [record for row, where in rows for record in _records(row, where, reference, problems)]
    against = f"quality is the preference over {rows[0][0]['generator_1']}" if rows else ""
    return gathered(Log(records, [against]), problems, options, "AlpacaEval")


def _rows(file: Path, name: str, problems: Problems) -> Iterator[tuple[Mapping[str, Any], str]]:
    content = json_of(file, name, problems)
    if content is None:
        return
    for place, row in enumerate(content if isinstance(content, list) else [content]):
        where = f"{name}, entry {place}"
        missing = [key for key in REQUIRED if key not in row] if isinstance(row, dict) else list(REQUIRED)
        if missing:
            has = keys_of(row, "alpaca-eval") if isinstance(row, dict) else "it is no object"
            problems.add(f"{where} has no {listed(missing)}: {has}")
            return
        yield row, where


def _records(row: Mapping[str, Any], where: str, reference: bool, problems: Problems) -> Iterator[Record]:
    try:
        prompt = prompt_text(row["instruction"])
    except PromptError as error:
        problems.add(f"{where}: the instruction {error}")
        return
    preference = number(row["preference"])
    preference = 1 + DRAW if preference == 0 else preference
    if row["preference"] is not None and not (np.isnan(preference) or 1 <= preference <= 2):
        problems.add(f"{where}: preference={shortened(row['preference'])} must be from 1 (the reference model's) to 2, or 0")
        return
    query, domain = f"{row.get('dataset') or 'alpaca'}/{name_of(prompt)}", str(row.get("dataset") or "")
    sides = [("2", preference - 1), *[("1", DRAW)] * reference]
    for side, score in sides:
        model, response = str(row[f"generator_{side}"]), str(row.get(f"output_{side}") or "")
        yield Record(model, query, prompt, score, where, domain, "no preference", response=response)
