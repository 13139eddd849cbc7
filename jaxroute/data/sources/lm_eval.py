"""lm-eval-harness's logged samples of several models: one metric, after one filter, joined over models by document."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxroute.data.messages import prompt_text
from jaxroute.data.prices import PriceList
from jaxroute.data.reading import Problems
from jaxroute.data.rows import Row, Unreadable, read_rows
from jaxroute.data.sources.logs import (
    Log,
    Record,
    found_files,
    gathered,
    keys_of,
    log_problems,
    mapping,
    name_of,
    number,
    under,
)
from jaxroute.data.table import RoutingTable
from jaxroute.data.table_options import TableOptions
from jaxroute.errors import PromptError, listed, shortened

REQUIRED = ("doc", "arguments")
KNOWN = (
    *REQUIRED,
    "doc_id",
    "target",
    "resps",
    "filtered_resps",
    "filter",
    "metrics",
    "doc_hash",
    "prompt_hash",
    "target_hash",
)
"""Keys of a row that are no metric; a row of a version before 0.4.6 does not say which of its keys are."""
ONLY = "none"
"""What lm-eval calls the filter of a task that has none."""
STAMP = re.compile(r"_(\d{4}-\d\d-\d\dT[\d:.-]+)$")
"""The time at the end of a file's name."""


def load_lm_eval(
    path: Path | Sequence[Path],
    *,
    task: str = "*",
    filter: str = "",
    metric: str = "",
    scale: float = 1.0,
    clip: bool = False,
    prices: PriceList | Path | str | None = None,
    paid: bool = True,
) -> RoutingTable:
    """`path` is a folder with a folder per model, as `lm_eval --log_samples --output_path` writes it, a file, or several.

    - `task` chooses tasks by a pattern, such as `mmlu_*`; the task is the domain.
    - `filter` and `metric` name those that count; the defaults are the task's first, in the order of the author of the task.
      Of several, joined by commas, the first that a task has. A task with only one keeps it, whatever is named.
    - A query is a document (`doc_hash`, or its prompt before version 0.4.3). Its prompt is what the first model was given.
    - Of several files of one model and task the newest counts.

    lm-eval counts neither tokens nor dollars: with `prices` a query costs its model's mean price. Raises `SourceError`.
    """
    options = TableOptions(scale=scale, clip=clip, repeats="mean", paid=paid, prices=prices)
    problems = log_problems(path, "samples that lm-eval logged")
    notes: list[str] = []
    try:
        files = found_files(path, ("samples_*.jsonl",)) or found_files(path, ("*.jsonl",))
    except Unreadable as error:
        files = []
        problems.add(str(error))
    if not files and not problems.found:
        problems.add("it holds no samples_*.jsonl: run lm_eval with --log_samples")
    problems.stop()
    logs = _newest([_Samples.of(path, file) for file in files], task, notes, problems)
    records: list[Record] = []
    chosen: dict[str, None] = {}
    for log in logs:
        rows = list(_labelled(log, problems))
        if not rows:
            continue
        label = _chosen("filter", filter, list(dict.fromkeys(label for label, _ in rows)), log, chosen, problems)
        kept = [row for one, row in rows if one == label]
        unnamed = [row for _, row in rows if "filter" not in row.cells]
        if unnamed and len(unnamed) < len(rows):
            problems.add(f"{log.name}, line {unnamed[0].number} has no filter, which other rows have")
        used = _chosen("metric", metric, _metrics(rows[0][1].cells), log, chosen, problems)
        records += [record for row in kept if used and (record := _record(log, row, used, problems))]
    problems.stop()
    notes += [f"counted by {listed(chosen, 6)}"] * bool(chosen)
    return gathered(Log(records, notes), problems, options, "lm-eval")


@dataclass(frozen=True)
class _Samples:
    """One file: whose answers to which task it holds."""

    file: Path
    name: str
    model: str
    task: str
    time: str

    @staticmethod
    def of(path: Path | Sequence[Path], file: Path) -> _Samples:
        stamp = STAMP.search(file.stem)
        stem = file.stem[: stamp.start()] if stamp else file.stem
        if stem.startswith("samples_"):
            return _Samples(
                file, under(path, file), _model(file, stamp), stem.removeprefix("samples_"), stamp[1] if stamp else ""
            )
        # Before 0.4.3: MODEL_ARGUMENTS_TASK.jsonl beside results.json, which names the tasks.
        tasks = [name for name in mapping(_json(file.with_name("results.json")).get("configs")) if stem.endswith(f"_{name}")]
        task = max(tasks, key=len, default=stem)
        model = stem.removesuffix(f"_{task}").removeprefix("pretrained__").replace("__", "/") if tasks else file.parent.name
        return _Samples(file, under(path, file), model, task, "")


def _model(file: Path, stamp: re.Match[str] | None) -> str:
    """As the results beside the samples name it; else as the folder does, in whose name lm-eval writes / as __."""
    results = _json(file.with_name(f"results_{stamp[1]}.json")) if stamp else {}
    name = results.get("model_name")
    return name if isinstance(name, str) and name.strip() else file.resolve().parent.name.replace("__", "/")


def _json(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _newest(logs: list[_Samples], task: str, notes: list[str], problems: Problems) -> list[_Samples]:
    wanted = [log for log in logs if fnmatch.fnmatchcase(log.task, task)]
    if not wanted:
        problems.add(f"task={task!r} is none of its tasks, which are {listed(dict.fromkeys(log.task for log in logs))}")
        problems.stop()
    found = {(log.model, log.task): log for log in sorted(wanted, key=lambda log: log.time)}
    if older := len(wanted) - len(found):
        notes.append(f"{older:,} older files of the same model and task were left out")
    return [log for log in wanted if found[log.model, log.task] is log]


def _labelled(log: _Samples, problems: Problems) -> Iterator[tuple[str, Row]]:
    """Every row with its filter; a version before 0.4.6 did not name them, and wrote all documents once per filter."""
    try:
        with log.file.open(encoding="utf-8-sig") as file:
            array = file.read(1) == "["
        seen: dict[Any, int] = {}
        for row in read_rows(log.file, suffixes=(".jsonl",), read_as=".json" if array else None):
            where = f"{log.name}, line {row.number}"
            if row.problem:
                problems.add(f"{where} {row.problem}")
            elif missing := [key for key in REQUIRED if key not in row.cells]:
                problems.add(f"{where} has no {listed(missing)}: {keys_of(row.cells, 'lm-eval')}")
                return
            else:
                document = json.dumps(row.cells.get("doc_id", row.cells["doc"]), default=str)
                seen[document] = seen.get(document, 0) + 1
                label = row.cells.get("filter")
                yield (label if isinstance(label, str) else f"number {seen[document]}"), row
    except (Unreadable, OSError, UnicodeDecodeError) as error:
        problems.add(f"{log.name}: {error}")


def _metrics(cells: Mapping[str, Any]) -> list[str]:
    """The names of the row's metrics, in order."""
    named = cells.get("metrics")
    if isinstance(named, list):
        return [name for name in named if isinstance(name, str)]
    return [key for key, value in cells.items() if key not in KNOWN and isinstance(value, bool | int | float)]


def _chosen(what: str, wanted: str, names: list[str], log: _Samples, chosen: dict[str, None], problems: Problems) -> str:
    """Which of the names counts; of several, `chosen` says which it was. Empty where none does, which is a problem."""
    named = next((one for one in wanted.split(",") if one in names), "")
    if named or (names and not wanted) or len(names) == 1:
        used = named or names[0]
        if len(names) > 1:
            chosen[f"{log.task}: {what} {used} of {listed(names, 6)}"] = None
        return used
    problems.add(f"{log.name}: {what}={wanted!r} is none of its {what}s, which are {listed(names) or 'none'}")
    return ""


def _record(log: _Samples, row: Row, metric: str, problems: Problems) -> Record | None:
    cells, where = row.cells, f"{log.name}, line {row.number}"
    if metric not in cells:
        problems.add(f"{where} has no {metric}, which other rows have")
        return None
    if cells[metric] is not None and not isinstance(cells[metric], bool | int | float):
        problems.add(f"{where}: {metric} is {shortened(cells[metric])}, not a number; choose another with the option metric")
        return None
    try:
        prompt = prompt_text(_context(cells["arguments"]))
    except PromptError as error:
        problems.add(f"{where}: the prompt in 'arguments' {error}")
        return None
    document = cells.get("doc_hash")
    response = cells.get("resps")
    while isinstance(response, list) and response:
        response = response[0]
    return Record(
        model=log.model,
        query=f"{log.task}/{document if isinstance(document, str) and document else name_of(prompt)}",
        prompt=prompt,
        score=np.nan if cells[metric] is None else number(cells[metric]),
        where=where,
        domain=log.task,
        # A choice by likelihood logs numbers in place of an answer.
        response=response if isinstance(response, str) and cells.get("filtered_resps") and _is_generated(cells) else "",
    )


def _is_generated(cells: Mapping[str, Any]) -> bool:
    return isinstance(_first(_first(cells["arguments"]), 1), dict)


def _context(arguments: Any) -> Any:
    """What the model was given, a text or chat messages: the first argument of the first request."""
    context = _first(_first(arguments))
    context = context[0] if isinstance(context, list) and len(context) == 1 and isinstance(context[0], str) else context
    if isinstance(context, str) and context.lstrip().startswith('[{"role"'):
        try:
            return json.loads(context)
        except ValueError:
            return context
    return context


def _first(value: Any, place: int = 0) -> Any:
    """An entry of a list, or of an object whose keys are numbered (`arg_0`), as versions from 0.4.3 on write them."""
    entries = list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else []
    return entries[place] if len(entries) > place else None
