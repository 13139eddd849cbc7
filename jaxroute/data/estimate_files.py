"""Estimates and costs from files, for `jaxroute assign`: a row per query, a column per model.

Costs and masks have the same columns, in any order, and one row where they are the same for every query; where both name
their queries, rows are matched by name. In an .npz all may be in one file, and so they are in the shards that `jaxroute score`
writes: `row`, `cut`, `p_value`, an id, and per model MODEL (quality) and MODEL|cost_usd.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Bool, Float

from jaxroute.data.reading import Problems, Sheet, names, numbers, read_json, read_sheet
from jaxroute.data.rows import repeated
from jaxroute.errors import SourceError, listed, shortened
from jaxroute.storage.files import replacing

QUERY_ID = "query_id"
SHARD = {"row", "cut"}
"""Columns of every shard that `jaxroute score` writes."""
IDS = (QUERY_ID, "id", "custom_id")
COST = "|cost_usd"
P_VALUE = "p_value"
"""A column of shards: how like the training prompts a prompt is. Not of every estimator."""
BESIDE_MODELS = {*SHARD, *IDS, P_VALUE}
"""Columns of a shard that are no model's."""
MEANING = {"estimates": "estimated quality", "cost_usd": "dollars", "available": "True and False"}


@dataclass(frozen=True)
class Given:
    """What the files say; arrays are `(queries, models)`."""

    models: list[str]
    query_ids: list[str]
    estimates: Float[np.ndarray, "queries models"]
    cost_usd: Float[np.ndarray, "queries models"] | Float[np.ndarray, " models"]
    available: Bool[np.ndarray, "queries models"] | None


def read_given(estimates: Path, costs: Path | None, available: Path | None = None) -> Given:
    """Estimates, costs and mask, in the estimates' order of models and queries; raises `SourceError` listing what is wrong."""
    first = _read(estimates, "estimates")
    if costs is None and "cost_usd" not in first.arrays:
        raise SourceError("costs: give --costs FILE, or estimates that come with them: an .npz, or what `jaxroute score` wrote")
    values = first.arrays["estimates"]
    cost = _fitted(first if costs is None else _read(costs, "cost_usd"), "cost_usd", first, costs or estimates)
    usable = np.isfinite(values) & np.isfinite(cost)
    if available is not None or "available" in first.arrays:
        mask = _fitted(_read(available, "available") if available else first, "available", first, available or estimates)
        usable &= np.nan_to_num(mask.astype(np.float64)) > 0
    return Given(first.models, first.query_ids, values, cost, None if usable.all() else usable)


def read_model_costs(path: Path, models: list[str]) -> Float[np.ndarray, " models"]:
    """One number of dollars per model, in the order of `models`; raises `SourceError` listing what is wrong."""
    about = _File(models, [], {"estimates": np.zeros((1, len(models)))})
    cost = _fitted(_read(path, "cost_usd"), "cost_usd", about, path)
    if not np.isfinite(cost).all():
        raise SourceError(f"{path}: no number of dollars for {listed(np.array(models)[~np.isfinite(cost)])}")
    return cost


def write_given(path: Path, array: Float[np.ndarray, "queries models"], models: list[str], query_ids: list[str]) -> None:
    """A .csv that `read_given` reads."""
    import pandas as pd

    frame = pd.DataFrame(array, columns=pd.Index(models))
    frame.insert(0, QUERY_ID, query_ids)
    with replacing(path) as partial:
        frame.to_csv(partial, index=False)


@dataclass(frozen=True)
class _File:
    models: list[str]
    query_ids: list[str]
    arrays: dict[str, np.ndarray]


def _read(path: Path, part: str) -> _File:
    """`part` is what its numbers are, and their name in an .npz."""
    if path.suffix == ".npz":
        return _read_npz(path, part)
    if path.is_dir():
        return _read_shards(path, part)
    problems = Problems(path, f"a table of {MEANING[part]}, with a column per model")
    if path.suffix == ".json" and part == "cost_usd":
        dollars = read_json(path, problems)
        if not isinstance(dollars, dict) or not dollars:
            problems.add('it must hold {"model": dollars}')
            problems.stop()
        sheet = Sheet(path, {model: [cell] for model, cell in dollars.items()}, [1])
    else:
        sheet = read_sheet(path, problems)
    if set(sheet.columns) >= SHARD:
        return _of_shards(sheet, part, problems)
    models = [name for name in sheet.columns if name != QUERY_ID]
    if not models:
        problems.add("it has no column for a model")
    lowest = None if part == "estimates" else 0.0
    cells = [numbers(sheet, model, problems, lowest=lowest, highest=1.0 if part == "available" else None) for model in models]
    query_ids = names(sheet, QUERY_ID, problems) if QUERY_ID in sheet.columns else []
    problems.stop()
    return _checked(_File(models, query_ids, {part: np.stack(cells, axis=1)}), problems)


def _read_shards(folder: Path, part: str) -> _File:
    """All shards of a folder that `jaxroute score` has finished."""
    problems = Problems(folder, "a folder that `jaxroute score` has finished: shard-*.parquet or .jsonl, and summary.json")
    paths = sorted(folder.glob("shard-*.*"))
    if not paths or not (folder / "summary.json").is_file():
        problems.add(f"it holds {len(paths)} shards and {'a' if (folder / 'summary.json').is_file() else 'no'} summary.json")
    problems.stop()
    sheets = [read_sheet(path, problems) for path in paths]
    if not all(set(sheet.columns) >= SHARD and set(sheet.columns) == set(sheets[0].columns) for sheet in sheets):
        problems.add(f"its shards do not all have the columns {', '.join(sorted(SHARD))} and the same models")
    problems.stop()
    rows, expected = sum(map(len, sheets)), _scored_rows(folder)
    if rows != expected:
        problems.add(f"its shards hold {rows:,} rows, summary.json says {shortened(expected)}: run `jaxroute score` again")
    problems.stop()
    columns = {name: _joined([sheet.columns[name] for sheet in sheets]) for name in sheets[0].columns}
    return _of_shards(Sheet(folder, columns, range(len(columns["row"]))), part, problems)


def _scored_rows(folder: Path) -> object:
    """How many rows `jaxroute score` wrote; None where summary.json does not say."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return summary.get("rows") if isinstance(summary, dict) else None


def _joined(parts: list[Any]) -> Any:
    """One column of several sheets: numbers as an array, other cells as a list."""
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    return [cell for part in parts for cell in part]


def _of_shards(sheet: Sheet, part: str, problems: Problems) -> _File:
    """The columns of shards: ids, quality and expected dollars."""
    stored = [name for name in sheet.columns if name not in BESIDE_MODELS]
    models = [name for name in stored if not name.endswith(COST)]
    quality = [numbers(sheet, model, problems, lowest=None) for model in models]
    cost = [numbers(sheet, model + COST, problems) for model in models if model + COST in stored]
    # Ids of a file of prompts may repeat; its row numbers do not.
    identity = next((name for name in IDS if name in sheet.columns and not repeated(sheet.columns[name])), "row")
    query_ids = [str(one) for one in sheet.columns[identity]]
    arrays = {"estimates": np.stack(quality, axis=1)}
    if len(cost) == len(models) and not np.isnan(cost).all():
        arrays["cost_usd"] = np.stack(cost, axis=1)
    if part not in arrays:
        problems.add(f"it holds no {MEANING[part]}")
    problems.stop()
    return _checked(_File(models, query_ids, arrays), problems)


def _read_npz(path: Path, part: str) -> _File:
    problems = Problems(path, f'an .npz with "{part}" of shape (queries, models)')
    known = {"estimates", "cost_usd", "available", "models", QUERY_ID}
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        problems.add(f"it cannot be read: {shortened(str(error), 200, quoted=False)}")
        problems.stop()
        raise
    if unknown := sorted(set(arrays) - known):
        problems.add(f"unknown arrays: {listed(unknown)} (known: {listed(sorted(known))})")
    if part not in arrays:
        problems.add(f"missing array: {part}")
    problems.stop()
    shape = arrays[part].shape
    width = shape[-1] if shape else 0
    for name in ("estimates", "cost_usd", "available"):
        array = arrays.get(name, arrays[part])
        if array.dtype.kind not in "fiub" or array.ndim not in (1, 2) or array.shape[-1] != width:
            problems.add(f"{name} is {array.dtype} of shape {array.shape}, expected numbers (queries, {width})")
        elif name == "estimates" and name in arrays and array.ndim != 2:
            problems.add(f"estimates has shape {array.shape}, expected (queries, models)")
    models = [str(name) for name in arrays.get("models", np.array([f"model_{column}" for column in range(width)]))]
    if len(models) != width:
        problems.add(f"models has {len(models)} names for {width} columns")
    problems.stop()
    query_ids = [str(name) for name in arrays.get(QUERY_ID, [])]
    numeric = {name: np.atleast_2d(array) for name, array in arrays.items() if name not in ("models", QUERY_ID)}
    return _checked(_File(models, query_ids, numeric), problems)


def _checked(file: _File, problems: Problems) -> _File:
    for name, given in (("models", file.models), (QUERY_ID, file.query_ids)):
        if twice := repeated(given):
            problems.add(f"{name} that appear twice: {listed(twice)}")
    queries = max(len(array) for array in file.arrays.values())
    if file.query_ids and len(file.query_ids) != queries:
        problems.add(f"{QUERY_ID} has {len(file.query_ids)} names for {queries} queries")
    for name, array in file.arrays.items():
        if len(array) not in (1, queries):
            problems.add(f"{name} has {len(array)} rows for {queries} queries")
    problems.stop()
    return file


def _fitted(file: _File, part: str, first: _File, path: Path) -> np.ndarray:
    """The `part` of a file in the order of `first`, the estimates; one row counts for every query."""
    array = file.arrays[part]
    queries = len(first.arrays["estimates"])
    problems = Problems(path, "about the models and queries of the estimates")
    missing = [model for model in first.models if model not in file.models]
    unknown = [model for model in file.models if model not in first.models]
    if missing or unknown:
        problems.add(f"missing models: {listed(missing) or 'none'}; unknown models: {listed(unknown) or 'none'}")
    if len(array) not in (1, queries):
        problems.add(f"it has {len(array)} rows, expected 1 or {queries}")
    problems.stop()
    array = array[:, [file.models.index(model) for model in first.models]]
    if len(array) == 1:
        return array[0]
    if file.query_ids and first.query_ids:
        places = {name: row for row, name in enumerate(file.query_ids)}
        if absent := [name for name in first.query_ids if name not in places]:
            problems.add(f"missing queries: {listed(absent)}")
            problems.stop()
        array = array[[places[name] for name in first.query_ids]]
    return array
