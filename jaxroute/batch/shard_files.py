"""Shards as files: their columns, how they are written, and what is in one that is there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from jaxroute.data.estimate_files import COST, P_VALUE
from jaxroute.data.estimates import Estimates
from jaxroute.data.prompt_files import PromptFiles
from jaxroute.data.prompts import PromptRow
from jaxroute.storage.files import replacing
from jaxroute.storage.json_lines import json_line
from jaxroute.storage.places import readable


def shard_table(start: int, rows: Sequence[PromptRow], estimates: Estimates, prompts: PromptFiles) -> pyarrow.Table:
    """`row`, the id where there is one, `cut`, and per model its quality and expected dollars."""
    columns: dict[str, Any] = {"row": pyarrow.array(range(start, start + len(rows)), pyarrow.int64())}
    if prompts.id_field:
        kind = pyarrow.int64() if prompts.id_kind == "integer" else pyarrow.string()
        columns[prompts.id_field] = pyarrow.array([row.id for row in rows], kind)
    columns["cut"] = pyarrow.array(estimates.cut)
    if estimates.p_value is not None:
        columns[P_VALUE] = estimates.p_value.astype(np.float32)
    for column, model in enumerate(estimates.models):
        columns[model] = estimates.quality[:, column].astype(np.float32)
    for column, model in enumerate(estimates.models):
        columns[f"{model}{COST}"] = estimates.cost_usd[:, column]
    return pyarrow.table(columns)


def write_shard(path: Path, table: pyarrow.Table) -> None:
    """Atomically, in the format that its suffix names."""
    with replacing(path) as partial:
        if path.suffix == ".parquet":
            pyarrow.parquet.write_table(table, partial)
            return
        with partial.open("w", encoding="utf-8") as file:
            for row in table.to_pylist():
                # The shortest decimal that is the same single-precision number; dollars keep every digit.
                short = {
                    name: float(str(np.float32(value)))
                    for name, value in row.items()
                    if isinstance(value, float) and not name.endswith(COST)
                }
                file.write(json_line(row | short))


def count_rows(path: Path) -> int:
    """-1 where the file is not whole."""
    if path.suffix == ".parquet":
        try:
            return pyarrow.parquet.read_metadata(readable(path)).num_rows
        except (OSError, pyarrow.ArrowException):
            return -1
    with path.open("rb") as file:
        return sum(line.endswith(b"}\n") for line in file)


def count_cut(path: Path) -> int:
    """How many of its prompts were cut."""
    if path.suffix == ".parquet":
        return int(np.sum(pyarrow.parquet.read_table(readable(path), columns=["cut"])["cut"].to_numpy()))
    with path.open(encoding="utf-8") as file:
        return sum(json.loads(line)["cut"] for line in file)


def count_unknown(path: Path, below: float) -> int:
    """Shards of an estimator that reads no features have no p-values."""
    if path.suffix == ".parquet":
        if P_VALUE not in pyarrow.parquet.read_schema(readable(path)).names:
            return 0
        return int(
            np.sum(pyarrow.parquet.read_table(readable(path), columns=[P_VALUE])[P_VALUE].to_numpy() < np.float32(below))
        )
    with path.open(encoding="utf-8") as file:
        return sum(json.loads(line).get(P_VALUE, 1.0) < below for line in file)
