"""Files of outcomes, wide or long, in any format of tables: columns in, columns out; `RoutingTable` is built on them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxroute.data.collected import is_collection, read_collection
from jaxroute.data.prices import Price
from jaxroute.data.reading import Problems, Sheet, columns_match, names, numbers, prompts, read_sheet, such_cells, texts
from jaxroute.data.table_options import TableOptions, averaged, clipped, dollars
from jaxroute.errors import TableError, listed, shortened
from jaxroute.storage.files import replacing

SCHEMA = """\
wide, one row per query; columns:
    prompt                        the text (required)
    query_id, domain              optional
    MODEL|quality                 in [0, 1], True/False accepted, empty = never run (required, per model)
    MODEL|cost_usd                dollars for this query (required, per model, where no prices are given)
    MODEL|input_tokens, MODEL|output_tokens, MODEL|latency_seconds, MODEL|log_likelihood, MODEL|response   optional
long, one row per query and model; columns:
    prompt, model, quality, cost_usd          required
    query_id, domain, input_tokens, output_tokens, latency_seconds, log_likelihood, response   optional
prompts may be chat messages in OpenAI's form, [{"role": "user", "content": "..."}], in a column messages (JSON text in a CSV)
files: .csv (UTF-8, with a header), .jsonl, .json (an array) or .parquet; an index column that pandas wrote is ignored; or the
    database that `jaxroute collect` wrote, as it is
options:
    scale=10          scores go from 0 to 10 (or 100, ...), quality is score / scale
    clip=True         scores just outside of [0, 1] are cut to it
    repeats=mean      several outcomes of one model on one query are averaged
    --prices FILE     dollars from tokens where there is no cost_usd; from mean prices where there are no tokens either"""

OPTIONAL = ("input_tokens", "output_tokens", "latency_seconds", "log_likelihood", "response")
"""Columns per model that a file may lack."""
PER_MODEL = ("quality", "cost_usd", *OPTIONAL)
SEPARATOR = "|"
PROMPTS = ("prompt", "messages")
TOKENS = ("input_tokens", "output_tokens")
OUTSIDE = "; scores on another scale need scale=10 or scale=100, a few just outside of it clip=True"


def read_outcomes(path: Path, options: TableOptions | None = None) -> dict[str, Any]:
    """The file's columns by the names of `RoutingTable`'s fields; raises `SourceError` listing everything that does not fit."""
    if is_collection(path):
        return read_collection(path, options)
    options, problems = options or TableOptions(), table_problems(path)
    sheet = read_sheet(path, problems)
    records = _read_records(sheet, options, problems)
    queries = _read_queries(sheet, records, options, problems)
    notes = _apply(options, sheet, records, queries, problems)
    values = {part: queries.gathered(value, records) for part, value in records.values.items()}
    return {"models": records.models, "name": path.stem, "note": "; ".join(notes), **queries.columns, **values}


def table_problems(path: Path) -> Problems:
    """Where everything is collected that is wrong with a file of outcomes."""
    return Problems(path, "a table of outcomes (see `jaxroute sources` for the schema)")


def write_outcomes(path: Path, columns: Mapping[str, list | np.ndarray]) -> None:
    """The columns as they are named, written atomically in the format of the suffix; floats keep every digit."""
    import pandas as pd

    frame = pd.DataFrame(columns)
    with replacing(path) as partial:
        if path.suffix == ".parquet":
            frame.to_parquet(partial, index=False)
        elif path.suffix == ".csv":
            frame.to_csv(partial, index=False, quoting=csv.QUOTE_NONNUMERIC)
        elif path.suffix == ".jsonl":
            rows = frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
            partial.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        else:
            raise TableError(f"path={str(path)!r}: tables are written as .parquet, .csv or .jsonl")


@dataclass(frozen=True)
class _Records:
    """The outcomes in the order of the file: `(rows,)` arrays of a long file, `(rows, models)` of a wide one."""

    models: list[str]
    model: np.ndarray | None
    """Of a long file: every row's model, counting `models`."""
    columns: dict[str, list[str]]
    """Of every part, the columns in the file that hold it."""
    values: dict[str, np.ndarray]


@dataclass(frozen=True)
class _Queries:
    """Which rows are about the same query."""

    of_row: np.ndarray
    """Every row's query."""
    columns: dict[str, list[str]]
    """The query's own fields, as `RoutingTable` names them."""

    def at(self, records: _Records) -> tuple[np.ndarray, ...]:
        """Where in an array of (queries, models) every record belongs."""
        return (self.of_row,) if records.model is None else (self.of_row, records.model)

    def gathered(self, values: np.ndarray, records: _Records) -> np.ndarray:
        """The records as (queries, models): means of numbers, the first text that is not empty."""
        shape = (len(self.columns["prompts"]), len(records.models))
        if values.dtype != object:
            return averaged(values, self.at(records), shape)
        found = np.full(shape, "", dtype=object)
        for row in reversed(range(len(values))):
            where = tuple(index[row] for index in self.at(records))
            found[where] = np.where(values[row] == "", found[where], values[row])
        return found


def _read_records(sheet: Sheet, options: TableOptions, problems: Problems) -> _Records:
    long = "model" in sheet.columns
    model_of = texts(sheet, "model", problems) if long else []
    suffix = f"{SEPARATOR}quality"
    models = list(dict.fromkeys(model_of)) or [name.removesuffix(suffix) for name in sheet.columns if name.endswith(suffix)]
    columns = {part: [part] if long else [f"{model}{SEPARATOR}{part}" for model in models] for part in PER_MODEL}
    _check_columns(sheet, columns, long, options, problems)
    values = {}
    for part in PER_MODEL:
        missing = [name for name in columns[part] if name not in sheet.columns]
        if len(missing) == len(columns[part]):
            continue
        if missing:
            without = (name.removesuffix(f"{SEPARATOR}{part}") for name in missing)
            problems.add(f"{part} is there for some models and not for {listed(without)}")
            continue
        cells = [_outcomes(sheet, part, name, options, problems) for name in columns[part]]
        values[part] = cells[0] if long else np.stack(cells, axis=1)
    places = {model: place for place, model in enumerate(models)}
    return _Records(models, np.array([places[name] for name in model_of], int) if long else None, columns, values)


def _check_columns(sheet: Sheet, parts: dict[str, list[str]], long: bool, options: TableOptions, problems: Problems) -> None:
    if not parts["quality"]:
        problems.add("no column ends in '|quality' and there is no column 'model': it names no model")
    prompt = next((name for name in PROMPTS if name in sheet.columns), PROMPTS[0])
    paid = (options.paid and options.prices is None) or any(name in sheet.columns for name in parts["cost_usd"])
    columns_match(
        sheet,
        problems,
        required=[prompt, *["model"] * long, *parts["quality"], *(parts["cost_usd"] if paid else [])],
        optional=[*PROMPTS, "query_id", "domain", *(name for part in PER_MODEL for name in parts[part])],
    )
    if paid and parts["quality"] and not any(name in sheet.columns for name in parts["cost_usd"]):
        problems.add(
            "without dollars it needs a price list: give it with --prices (prices= in Python); costs are tokens times prices"
        )
    problems.stop()


def _outcomes(sheet: Sheet, part: str, name: str, options: TableOptions, problems: Problems) -> np.ndarray:
    """One column of outcomes, checked; quality is not scaled yet, so that messages show it as the file has it."""
    if part == "response":
        return np.array(texts(sheet, name, problems, allow_empty=True), dtype=object)
    if part == "quality":
        limits = {"lowest": None, "highest": None} if options.clip else {"lowest": 0.0, "highest": float(options.scale)}
        return numbers(sheet, name, problems, **limits, hint=OUTSIDE)
    return numbers(sheet, name, problems, lowest=None if part == "log_likelihood" else 0.0)


def _read_queries(sheet: Sheet, records: _Records, options: TableOptions, problems: Problems) -> _Queries:
    """By id, else by prompt, in the order of first appearance; in a wide file without ids every row is a query."""
    text = prompts(sheet, problems)
    query_ids = names(sheet, "query_id", problems) if "query_id" in sheet.columns else []
    domains = texts(sheet, "domain", problems, allow_empty=True) if "domain" in sheet.columns else []
    problems.stop()
    by_prompt = records.model is not None or options.repeats == "mean"
    keys = query_ids or (text if by_prompt else range(len(sheet)))
    places: dict[Any, int] = {}
    of_row = np.array([places.setdefault(key, len(places)) for key in keys], int)
    first = np.unique(of_row, return_index=True)[1].tolist()
    other = [row for row in range(len(sheet)) if text[row] != text[first[of_row[row]]]]
    if other:
        before = sheet.place(first[of_row[other[0]]])
        problems.add(
            f"{sheet.place(other[0])}: query_id {shortened(query_ids[other[0]])} has another prompt than in {before} "
            f"({len(other):,} such rows)"
        )
    if options.repeats == "refuse":
        _check_repeats(sheet, records, of_row, keys, problems)
    filled: dict[int, tuple[str, int]] = {}
    for row, domain in enumerate(domains):
        known, before = filled.get(of_row[row], ("", row))
        if known and domain and known != domain:
            problems.add(
                f"{sheet.cell(row, 'domain')}: {shortened(domain)}, but the same query has {shortened(known)} in "
                f"{sheet.place(before)}; give a query one domain, or the rows query_ids of their own"
            )
        filled[of_row[row]] = (known, before) if known else (domain, row)
    problems.stop()
    columns = {
        "prompts": [text[row] for row in first],
        "query_ids": [query_ids[row] for row in first] if query_ids else [],
        "domains": [filled[query][0] for query in range(len(first))] if domains else [],
    }
    return _Queries(of_row, columns)


def _check_repeats(sheet: Sheet, records: _Records, of_row: np.ndarray, keys: Sequence[Any], problems: Problems) -> None:
    seen: dict[Any, int] = {}
    again = []
    for row, query in enumerate(of_row):
        key = query if records.model is None else (query, records.model[row])
        if seen.setdefault(key, row) != row:
            again.append((row, seen[key]))
    if again:
        row, before = again[0]
        what = "the query" if records.model is None else f"model {records.models[records.model[row]]!r} on the query"
        problems.add(
            f"{sheet.place(row)}: {what} {shortened(keys[row])} is also in {sheet.place(before)} ({len(again):,} such rows, in "
            f"{listed((sheet.place(row) for row, _ in again), 5)}); to average repeats, give the option repeats=mean"
        )


def _apply(options: TableOptions, sheet: Sheet, records: _Records, queries: _Queries, problems: Problems) -> list[str]:
    """Scores to [0, 1], and costs where there are none, in place; returns what a reader of the numbers must know."""
    values, notes = records.values, []
    prices = options.prices_of(records.models)
    try:
        if options.clip:
            values["quality"], count = clipped(values["quality"], options.scale)
            notes += [f"{count:,} scores outside of [0, {options.scale:g}] were cut to it"] * bool(count)
    except TableError as error:
        problems.add(str(error))
        problems.stop()
        raise
    if options.scale != 1:
        notes.append(
            f"quality is score / {options.scale:g}; the highest score is {np.nanmax(values['quality'], initial=0.0):g}"
        )
        values["quality"] = values["quality"] / options.scale
    if prices is not None:
        notes += _fill_costs(values, prices, records.model)
    if not options.paid:
        values["cost_usd"] = np.nan_to_num(values.get("cost_usd", np.zeros(values["quality"].shape)))
    unpaid = np.isnan(values["cost_usd"]) & ~np.isnan(values["quality"])
    if unpaid.any():
        row, *column = np.argwhere(unpaid)[0]
        lacking = [part for part in ("cost_usd", *TOKENS) if part in values and np.isnan(values[part][row, *column])]
        inside = (records.columns[part][column[0] if column else 0] for part in lacking)
        name = next(name for name in inside if name in sheet.columns)
        problems.add(f"{sheet.cell(row, name)} is empty where the model was run ({such_cells(int(unpaid.sum()))})")
        problems.stop()
    repeats = len(queries.of_row) - len(set(zip(*(index.tolist() for index in queries.at(records)))))
    return notes + [f"{repeats:,} repeated rows were averaged"] * bool(repeats)


def _fill_costs(values: dict[str, np.ndarray], prices: list[Price], model: np.ndarray | None) -> list[str]:
    """Dollars from tokens where the model was run and has no cost; from mean prices where the file has neither."""
    tokens = [values[part] for part in TOKENS if part in values]
    known = values.get("cost_usd", np.full(values["quality"].shape, np.nan))
    lacking = np.isnan(known) & ~np.isnan(values["quality"])
    if not lacking.any() or ("cost_usd" in values and len(tokens) < 2):
        return []
    computed, note = dollars(prices, model, *(tokens if len(tokens) == 2 else (None, None)))
    values["cost_usd"] = np.where(lacking, computed, known)
    return [note]
