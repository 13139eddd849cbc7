"""LLMRouterBench's results: a JSON file per dataset, split and model, with the score, tokens and dollars of every record."""

from __future__ import annotations

import json
import re
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

NAMED = ("dataset_name", "split", "model_name")
TIME = re.compile(r"(\d{8}_\d{6})$")


def load_llmrouterbench(
    path: Path | Sequence[Path],
    *,
    scale: float = 1.0,
    clip: bool = False,
    prices: PriceList | Path | str | None = None,
    paid: bool = True,
) -> RoutingTable:
    """`path` is the folder `results/bench`, a folder in it, a file, or a list of those; the dataset is the domain.

    A query is a record of a dataset and split with one `origin_query`; its prompt is what the first model was given. Of several
    files of one dataset, split and model the newest counts; demos do not. Models that ran locally have 0 dollars in the files:
    with `prices` their answers cost tokens times prices. Raises `SourceError`.
    """
    options = TableOptions(scale=scale, clip=clip, repeats="mean", paid=paid, prices=prices)
    problems = log_problems(path, "results of LLMRouterBench")
    try:
        files = found_files(path, ("*.json",))
    except Unreadable as error:
        files = []
        problems.add(str(error))
    if not files and not problems.found:
        problems.add("it holds no .json")
    newest: dict[tuple[str, ...], tuple[str, str, Mapping[str, Any]]] = {}
    older = 0
    for file in files:
        content, name = json_of(file, under(path, file), problems), under(path, file)
        if content is None:
            continue
        missing = (
            [key for key in (*NAMED, "records") if key not in content] if isinstance(content, dict) else [*NAMED, "records"]
        )
        if missing:
            has = keys_of(content, "llmrouterbench") if isinstance(content, dict) else "it is no object"
            problems.add(f"{name} has no {listed(missing)}: {has}")
        elif not content.get("demo"):
            key, stamp = tuple(str(content[one]) for one in NAMED), TIME.search(file.stem)
            older += key in newest
            newest[key] = max(newest.get(key, ("", "", {})), (stamp[1] if stamp else "", name, content), key=lambda one: one[0])
    problems.stop()
    records = [record for _, name, content in newest.values() for record in _records(name, content, options, problems)]
    notes = [f"{older:,} older files of the same dataset, split and model were left out"] * bool(older)
    return gathered(Log(records, notes), problems, options, "LLMRouterBench")


def _records(name: str, content: Mapping[str, Any], options: TableOptions, problems: Problems) -> Iterator[Record]:
    dataset, split, model = (str(content[one]) for one in NAMED)
    rows = content["records"] if isinstance(content["records"], list) else []
    # A model that ran locally was not paid for: its zeros are no dollars where there are prices.
    free = options.prices is not None and all(not number(row.get("cost")) > 0 for row in rows if isinstance(row, dict))
    for place, row in enumerate(rows):
        where = f"{name}, records[{place}]"
        if not isinstance(row, dict) or "index" not in row or "score" not in row:
            problems.add(f"{where} has no index and score: {keys_of(row, '') if isinstance(row, dict) else shortened(row)}")
            continue
        try:
            prompt = prompt_text(_text(row.get("prompt") or row.get("origin_query")))
        except PromptError as error:
            problems.add(f"{where}: the prompt {error}")
            continue
        if row["score"] is not None and np.isnan(number(row["score"])):
            problems.add(f"{where}: score={shortened(row['score'])} is not a number")
        output = row.get("raw_output")
        yield Record(
            model=model,
            query=f"{dataset}/{split}/{row['index']}/{name_of(str(row.get('origin_query') or prompt))[:8]}",
            prompt=prompt,
            score=number(row["score"]),
            where=where,
            domain=dataset,
            cost_usd=np.nan if free else number(row.get("cost")),
            input_tokens=number(row.get("prompt_tokens")),
            output_tokens=number(row.get("completion_tokens")),
            response=output if isinstance(output, str) else str(row.get("prediction") or ""),
        )


def _text(given: Any) -> Any:
    """The prompt as a text or chat messages; anything else as JSON."""
    is_messages = isinstance(given, list) and all(isinstance(one, dict) and "role" in one for one in given)
    return given if given is None or isinstance(given, str) or is_messages else json.dumps(given, ensure_ascii=False)
