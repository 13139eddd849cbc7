"""Files of outcomes, wide or long, as CSV, JSON lines or Parquet: columns in, columns out; `RoutingTable` is built on them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxroute.data.reading import Problems, columns_match, numbers, read_frame, texts
from jaxroute.errors import TableError
from jaxroute.storage.files import replacing

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = """\
wide, one row per query; columns:
    prompt                        the text (required)
    query_id, domain              optional
    MODEL|quality                 in [0, 1], True/False accepted, empty = never run (required, per model)
    MODEL|cost_usd                dollars for this query (required, per model)
    MODEL|input_tokens, MODEL|output_tokens, MODEL|latency_seconds, MODEL|log_likelihood, MODEL|response   optional
long, one row per query and model; columns:
    prompt, model, quality, cost_usd          required
    query_id, domain, input_tokens, output_tokens, latency_seconds, log_likelihood, response   optional
files: .csv (UTF-8, with a header), .jsonl or .parquet"""

OPTIONAL = ("input_tokens", "output_tokens", "latency_seconds", "log_likelihood", "response")
"""Columns per model that a file may lack."""
PER_MODEL = ("quality", "cost_usd", *OPTIONAL)
SEPARATOR = "|"


def read_outcomes(path: Path) -> dict[str, Any]:
    """The file's columns by the names of `RoutingTable`'s fields; raises `SourceError` listing everything that does not fit."""
    problems = table_problems(path)
    frame = read_frame(path, problems)
    if "model" in frame.columns:
        columns_match(
            frame,
            problems,
            required=["prompt", "model", "quality", "cost_usd"],
            optional=["query_id", "domain", *OPTIONAL],
        )
        problems.stop()
        frame = _widen(frame, problems)
    models = [str(name).removesuffix("|quality") for name in frame.columns if str(name).endswith("|quality")]
    columns_match(
        frame,
        problems,
        required=["prompt", *(f"{model}|{part}" for model in models for part in ("quality", "cost_usd"))],
        optional=["query_id", "domain", *(f"{model}|{part}" for model in models for part in OPTIONAL)],
    )
    if not models:
        problems.add("no column ends in '|quality' and there is no column 'model': it names no model")
    problems.stop()
    cells: dict[str, Any] = {}
    for part in PER_MODEL:
        present = [model for model in models if f"{model}|{part}" in frame.columns]
        if not present:
            continue
        if len(present) < len(models):
            missing = ", ".join(model for model in models if model not in present)
            problems.add(f"{part} is there for some models and not for {missing}")
            continue
        if part == "response":
            cells[part] = np.array(
                [texts(frame, f"{model}|{part}", problems, allow_empty=True) for model in models], dtype=object
            ).T
        else:
            limits = {"quality": (0.0, 1.0), "log_likelihood": (None, None)}
            lowest, highest = limits.get(part, (0.0, None))
            cells[part] = np.stack(
                [numbers(frame, f"{model}|{part}", problems, lowest=lowest, highest=highest) for model in models],
                axis=1,
            )
    prompts = texts(frame, "prompt", problems)
    query_ids = texts(frame, "query_id", problems) if "query_id" in frame.columns else []
    domains = texts(frame, "domain", problems, allow_empty=True) if "domain" in frame.columns else []
    problems.stop()
    return {"prompts": prompts, "models": models, "query_ids": query_ids, "domains": domains, "name": path.stem, **cells}


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


def _widen(frame: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """One row per query (by id where there is one, else by prompt), in the order of first appearance."""
    import pandas as pd

    key = "query_id" if "query_id" in frame.columns else "prompt"
    names = texts(frame, "model", problems)
    keys = texts(frame, key, problems)
    problems.stop()
    models = list(dict.fromkeys(names))
    parts = [part for part in PER_MODEL if part in frame.columns]
    rows: dict[str, dict] = {}
    for position, (identity, model) in enumerate(zip(keys, names, strict=True)):
        source = frame.iloc[position]
        row = rows.setdefault(identity, {name: source[name] for name in ("query_id", "prompt", "domain") if name in source})
        if f"{model}|quality" in row:
            problems.add(f"row {position + 1}: {model!r} stands twice for {key} {identity[:60]!r}")
        if row["prompt"] != source["prompt"]:
            problems.add(f"row {position + 1}: query_id {identity!r} has another prompt than before")
        row.update({f"{model}|{part}": source[part] for part in parts})
    problems.stop()
    return pd.DataFrame(
        {
            name: [row.get(name) for row in rows.values()]
            for name in (
                *(name for name in ("query_id", "prompt", "domain") if name in frame.columns),
                *(f"{model}|{part}" for model in models for part in parts),
            )
        },
        dtype=object,
    )
