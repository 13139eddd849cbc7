"""What harnesses log, one record per model and query, gathered into a RoutingTable: joined, averaged, priced, counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxroute.data.prices import TOKENS_PER_PRICE, Price
from jaxroute.data.reading import Problems, such_cells
from jaxroute.data.rows import Unreadable
from jaxroute.data.table import RoutingTable
from jaxroute.data.table_files import OUTSIDE
from jaxroute.data.table_options import TableOptions, averaged, clipped, dollars
from jaxroute.errors import TableError, counted, listed, shortened
from jaxroute.storage.digests import text_digest

MOST_REASONS = 4
NO_SCORE = "it has no score"
NUMBERS = ("cost_usd", "input_tokens", "output_tokens", "latency_seconds")
"""What a record has beside its score."""
MARKS = {
    "lm-eval": ({"doc", "filtered_resps"}, {"doc", "resps"}),
    "inspect": ({"eval", "samples"}, {"eval", "plan"}),
    "helm": ({"request_states"}, {"instance_id", "stats"}),
    "routerarena": ({"global_index", "evaluation_result"},),
    "llmrouterbench": ({"records", "performance"},),
    "alpaca-eval": ({"instruction", "generator_2"},),
    "paretobandit": ({"prompt", "arms"},),
}
"""By which keys the files of a source are known."""


@dataclass(frozen=True)
class Record:
    """One outcome of one model on one query."""

    model: str
    query: str
    """What identifies the query, the same for every model; it becomes the query_id."""
    prompt: str
    score: float
    """On the scale of the log; NaN where it is missing."""
    where: str
    """Its place, for messages."""
    domain: str = ""
    missing: str = ""
    """Why there is no score."""
    cost_usd: float = np.nan
    """Dollars of the answer, where the log has them."""
    input_tokens: float = np.nan
    output_tokens: float = np.nan
    latency_seconds: float = np.nan
    response: str = ""


@dataclass(frozen=True)
class Log:
    """All records of a source, and what a reader of their numbers must know."""

    records: Sequence[Record]
    notes: Sequence[str] = field(default_factory=list)
    prompts_identify: bool = False
    """Whether equal query names with different prompts are different queries; else the first prompt stands for all."""


def gathered(log: Log, problems: Problems, options: TableOptions, name: str) -> RoutingTable:
    """The records as a table. Repeats are averaged; a cell without a score is NaN and counted with its reason in the note.

    Dollars are the log's own, else tokens times prices, else mean prices where nobody counted tokens. Raises `SourceError`.
    """
    records = _filled(log.records, options, problems)
    if not records and not problems.found:
        problems.add("it holds no outcomes")
    elif records and all(np.isnan(one.score) for one in records):
        problems.add(f"none of its {counted(len(records), 'outcome')} has a score: {_reasons(records)}")
    problems.stop()
    models = list(dict.fromkeys(one.model for one in records))
    queries = _Queries.of(records, log.prompts_identify)
    column = {model: place for place, model in enumerate(models)}
    at = (np.array(queries.of_record), np.array([column[one.model] for one in records]))
    shape = (len(queries.prompts), len(models))
    cells = {part: averaged(np.array([getattr(one, part) for one in records], np.float64), at, shape) for part in NUMBERS}
    response = np.full(shape, "", dtype=object)
    for row, place, one in zip(*at, records):
        response[row, place] = response[row, place] or one.response
    try:
        values, scaled_notes = _quality(records, options)
        quality = averaged(values, at, shape)
        cost, priced_notes = _costs(cells, ~np.isnan(quality), models, options)
        table = RoutingTable(
            prompts=queries.prompts,
            models=models,
            quality=quality,
            cost_usd=cost,
            query_ids=queries.names,
            domains=queries.domains,
            response=response if (response != "").any() else None,
            name=name,
            note="; ".join([*log.notes, *queries.notes, *_counts(records, at), *scaled_notes, *priced_notes]),
            **{part: cells[part] for part in NUMBERS[1:] if not np.isnan(cells[part]).all()},
        )
        if options.prices is not None and not np.isnan(cells["cost_usd"]).all():
            table.check_prices(dict(zip(models, options.prices_of(models) or [])))
        return table
    except TableError as error:
        problems.add(str(error))
        problems.stop()
        raise


def other_format(row: Mapping[str, Any], own: str) -> str:
    """What to say of a file that is another source's by its keys; empty where it is none that is known."""
    for source, marks in MARKS.items():
        if source != own and any(mark <= set(row) for mark in marks):
            return f"; it looks like a file of the source {source!r}"
    return ""


def keys_of(row: Mapping[str, Any], own: str) -> str:
    """What a file has in place of what was expected."""
    return f"it has {listed(map(shortened, row), 8) or 'no keys'}{other_format(row, own)}"


def number(value: Any) -> float:
    """The value as a float, NaN where it is none; True and False are 1 and 0."""
    return float(value) if isinstance(value, bool | int | float | np.number) else np.nan


def mapping(value: Any) -> Mapping[str, Any]:
    """The value where it is an object; else an empty one."""
    return value if isinstance(value, dict) else {}


def entries(value: Any) -> list[Any]:
    """The value where it is a list; else an empty one."""
    return value if isinstance(value, list) else []


def found_files(path: Path | Sequence[Path], patterns: Sequence[str]) -> list[Path]:
    """The file itself, or all files beneath a folder that match one of the patterns, sorted; a list of paths is joined.

    Raises `Unreadable` for a path that does not exist.
    """
    files: list[Path] = []
    for one in [path] if isinstance(path, Path) else path:
        if not one.exists():
            raise Unreadable(f"{one}: there is no such file or folder")
        files += [one] if one.is_file() else sorted(file for pattern in patterns for file in one.rglob(pattern))
    return list(dict.fromkeys(files))


def json_of(file: Path, name: str, problems: Problems) -> Any:
    """What a JSON file holds; None, and a problem, where it cannot be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        problems.add(f"{name} cannot be read as JSON: {shortened(str(error), 200, quoted=False)}; is it cut off?")
        return None


def under(path: Path | Sequence[Path], file: Path) -> str:
    """The file's name as the user sees it: without the folder that was given."""
    for one in [path] if isinstance(path, Path) else path:
        if file != one and file.is_relative_to(one):
            return str(file.relative_to(one))
    return file.name


def log_problems(path: Path | Sequence[Path], expected: str) -> Problems:
    """Where everything is collected that is wrong with the files of a log."""
    return Problems(path if isinstance(path, Path) else Path(listed(map(str, path), 3)), expected)


@dataclass(frozen=True)
class _Queries:
    """The queries in the order of their first record."""

    of_record: list[int]
    prompts: list[str]
    names: list[str]
    domains: list[str]
    notes: list[str]

    @staticmethod
    def of(records: Sequence[Record], prompts_identify: bool) -> _Queries:
        places: dict[tuple[str, str], int] = {}
        of_record = [places.setdefault((one.query, one.prompt if prompts_identify else ""), len(places)) for one in records]
        first = np.unique(of_record, return_index=True)[1].tolist()
        seen: Counter[str] = Counter()
        names = []
        for query, _ in places:
            seen[query] += 1
            names.append(query if seen[query] == 1 else f"{query}#{seen[query]}")
        other = {place for place, one in zip(of_record, records) if one.prompt != records[first[place]].prompt}
        notes = [f"models saw different prompts for {counted(len(other), 'query')}: the first is kept"] * bool(other)
        return _Queries(
            of_record,
            [records[row].prompt for row in first],
            names,
            [records[row].domain for row in first],
            notes,
        )


def _filled(records: Iterable[Record], options: TableOptions, problems: Problems) -> list[Record]:
    """The records; scores outside of the scale and empty prompts are problems."""
    records = list(records)
    empty = [one for one in records if not one.prompt.strip()]
    if empty:
        problems.add(f"{empty[0].where}: the prompt is empty ({such_cells(len(empty))})")
    outside = [one for one in records if not options.clip and not (np.isnan(one.score) or 0 <= one.score <= options.scale)]
    if outside:
        one = outside[0]
        problems.add(
            f"{one.where}: the score {one.score:g} must lie in [0, {options.scale:g}] ({such_cells(len(outside))}){OUTSIDE}"
        )
    return records


def _counts(records: Sequence[Record], at: tuple[np.ndarray, np.ndarray]) -> list[str]:
    """How many outcomes are missing, and how many repeat another."""
    missing = [one for one in records if np.isnan(one.score)]
    repeats = len(records) - len(set(zip(*(index.tolist() for index in at))))
    notes = [f"{counted(repeats, 'repeated outcome')} {'was' if repeats == 1 else 'were'} averaged"] * bool(repeats)
    if missing:
        notes.append(f"{len(missing):,} of {counted(len(records), 'outcome')} are missing: {_reasons(missing)}")
    return notes


def _reasons(records: Iterable[Record]) -> str:
    reasons = Counter(one.missing or NO_SCORE for one in records if np.isnan(one.score))
    return listed(
        [f"{shortened(reason, 80, quoted=False)} ({count:,})" for reason, count in reasons.most_common()], MOST_REASONS
    )


def _quality(records: Sequence[Record], options: TableOptions) -> tuple[Float[np.ndarray, " records"], list[str]]:
    """Scores as qualities in [0, 1], and notes about what was done to them. Raises `TableError` as `clipped` does."""
    scores, notes = np.array([one.score for one in records], np.float64), []
    if options.clip:
        scores, count = clipped(scores, options.scale)
        notes += [
            f"{counted(count, 'score')} outside of [0, {options.scale:g}] {'was' if count == 1 else 'were'} cut to it"
        ] * bool(count)
    if options.scale != 1:
        notes.append(f"quality is score / {options.scale:g}; the highest score is {np.nanmax(scores):g}")
    return scores / options.scale, notes


def _costs(
    cells: Mapping[str, np.ndarray], run: np.ndarray, models: list[str], options: TableOptions
) -> tuple[Float[np.ndarray, "queries models"], list[str]]:
    """Dollars of every cell that was run, and notes about them. Raises `TableError` where they cannot be known."""
    cost, tokens, notes = cells["cost_usd"], (cells["input_tokens"], cells["output_tokens"]), []
    lacking = run & np.isnan(cost)
    if lacking.any() and options.prices is not None:
        prices: list[Price] = options.prices_of(models) or []
        if np.isnan(tokens[0][run]).all() or np.isnan(tokens[1][run]).all():
            computed, note = dollars(prices, None, None, None)
            computed = np.broadcast_to(computed, run.shape)
        else:
            computed, note = dollars(prices, None, *tokens)
        cost = np.where(lacking, computed, cost)
        notes.append(note)
    unknown = run & np.isnan(cost)
    if not options.paid:
        return np.where(unknown, 0.0, cost), notes
    if unknown.any():
        without = [models[place] for place in np.flatnonzero(~(run & ~unknown).any(axis=0) & run.any(axis=0))]
        if options.prices is None and (unknown | ~run).all():
            counts = not np.isnan(tokens[0][run]).any()
            how = (
                "tokens times prices" if counts else f"mean prices per {TOKENS_PER_PRICE:,} tokens, since no tokens are logged"
            )
            raise TableError(
                f"the log has no dollars: give a price list with --prices (prices= in Python); costs are then {how}"
            )
        if without:
            raise TableError(f"nothing says what answers of {listed(without)} cost: neither dollars nor tokens are logged")
        means = np.nanmean(np.where(run, cost, np.nan), axis=0)
        cost = np.where(unknown, means, cost)
        notes.append(f"{counted(int(unknown.sum()), 'outcome')} without tokens or dollars at the model's mean cost")
    return cost, notes


def name_of(*texts: str) -> str:
    """A short name for a query that has none: a digest of its texts."""
    return text_digest("\n".join(texts))[:16]
