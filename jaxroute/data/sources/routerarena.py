"""RouterArena's cached results: a file per model with its answers, tokens, dollars and score on the same questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxroute.data.messages import prompt_text
from jaxroute.data.prices import PriceList
from jaxroute.data.reading import Problems, as_text
from jaxroute.data.rows import Row, Unreadable, read_rows
from jaxroute.data.sources.logs import Log, Record, found_files, gathered, keys_of, log_problems, mapping, number, under
from jaxroute.data.table import RoutingTable
from jaxroute.data.table_options import TableOptions
from jaxroute.errors import PromptError, listed, shortened

REQUIRED = ("global_index", "question", "evaluation_result")
PRICES = "cost.json"
"""RouterArena's price list, where it lies beside the results."""


def load_routerarena(
    path: Path | Sequence[Path],
    *,
    metric: str = "",
    scale: float = 1.0,
    clip: bool = False,
    prices: PriceList | Path | str | None = None,
    paid: bool = True,
) -> RoutingTable:
    """`path` is the folder `cached_results`, a file of it, or a list of those; the benchmark is the domain.

    `metric` keeps the questions that one metric scored, such as `mcq_accuracy`. Costs are the dollars that the file has; where
    it has none, tokens times `prices`, by default those of a `cost.json` in the folder. An answer that failed is missing. One
    published score is negative: give `clip`. Raises `SourceError`.
    """
    problems = log_problems(path, "RouterArena's cached results")
    try:
        files = found_files(path, ("*.jsonl",))
    except Unreadable as error:
        files = []
        problems.add(str(error))
    if not files and not problems.found:
        problems.add("it holds no .jsonl")
    records = [record for file in files for record in _records(file, under(path, file), metric, problems)]
    problems.stop()
    if prices is None and isinstance(path, Path) and any(np.isnan(one.cost_usd) for one in records):
        beside = (path if path.is_dir() else path.parent) / PRICES
        prices = beside if beside.is_file() else None
    options = TableOptions(scale=scale, clip=clip, repeats="mean", paid=paid, prices=prices)
    return gathered(Log(records, prompts_identify=True), problems, options, "RouterArena")


def _records(file: Path, name: str, metric: str, problems: Problems) -> list[Record]:
    found, metrics = [], {}
    try:
        for row in read_rows(file, suffixes=(".jsonl",)):
            where = f"{name}, line {row.number}"
            missing = [key for key in REQUIRED if key not in row.cells]
            if row.problem:
                problems.add(f"{where} {row.problem}")
            elif missing:
                problems.add(f"{where} has no {listed(missing)}: {keys_of(row.cells, 'routerarena')}")
                return []
            else:
                judged = mapping(row.cells["evaluation_result"])
                metrics[str(judged.get("metric"))] = None
                if metric in ("", judged.get("metric")):
                    found += _record(row, where, judged, file.stem, problems)
    except Unreadable as error:
        problems.add(f"{name}: {error}")
    if metric and not found and metrics:
        problems.add(f"{name}: metric={metric!r} is none of its metrics, which are {listed(metrics)}")
    return found


def _record(row: Row, where: str, judged: Mapping[str, Any], model: str, problems: Problems) -> list[Record]:
    cells = row.cells
    try:
        prompt = prompt_text(cells["question"])
    except PromptError as error:
        problems.add(f"{where}: the question {error}")
        return []
    tokens, index = cells.get("token_usage") or {}, as_text(cells["global_index"]) or ""
    score, error = judged.get("score"), cells.get("error")
    if not isinstance(tokens, Mapping) or not index:
        problems.add(f"{where}: token_usage={shortened(tokens)}, global_index={shortened(cells['global_index'])}")
        return []
    if score is not None and np.isnan(number(score)):
        problems.add(f"{where}: score={shortened(score)} is not a number")
    failed = cells.get("success") is False
    return [
        Record(
            model=as_text(cells.get("llm_selected")) or model,
            query=index,
            prompt=prompt,
            score=np.nan if failed else number(score),
            where=where,
            domain=index.rpartition("_")[0],
            missing=f"failed: {shortened(str(error), 40, quoted=False)}" if failed else "not scored",
            cost_usd=number(judged.get("inference_cost")),
            input_tokens=number(tokens.get("input_tokens")),
            output_tokens=number(tokens.get("output_tokens")),
            response=as_text(cells.get("generated_answer")) or "",
        )
    ]
