"""Assignments of shards: one file for each, with its exact sums, from which those of all are added up.

A file says which price it follows, so that a run that resumes keeps what is there and writes the rest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from jaxroute.data.shard_files import ShardFile
from jaxroute.storage.files import replacing
from solvers.sharded import Price, Shard, Total

SUMS = b"jaxroute"
"""The key of what a shard of assignments says of itself: which price it follows, and its sums."""


@dataclass(frozen=True)
class WriteShard:
    """The step that writes one shard's assignment. It can be pickled, and run twice."""

    price: Price
    digest: str
    outputs: dict[Path, Path]

    def __call__(self, shard: Shard) -> None:
        assert isinstance(shard, ShardFile)
        parts = list(self.price.assign(shard))
        choice = np.concatenate([part.choice for part in parts])
        value, cost = (np.concatenate([getattr(part, name) for part in parts]) for name in ("value", "cost_usd"))
        answered = choice >= 0
        sums = {
            "price": self.digest,
            "value": Total.of(value).parts,
            "cost_usd": Total.of(cost).parts,
            "taken": np.bincount(choice[answered], minlength=len(shard.names)).tolist(),
        }
        models = pyarrow.DictionaryArray.from_arrays(
            pyarrow.array(np.where(answered, choice, 0).astype(np.int32), mask=~answered), pyarrow.array(shard.names)
        )
        estimate = pyarrow.array(value if answered.all() else np.where(answered, value, np.nan), mask=~answered)
        columns = {"model": models, "estimate": estimate, "cost_usd": pyarrow.array(cost)}
        table = shard.identities()
        for name, column in columns.items():
            table = table.append_column(name, column)
        table = table.replace_schema_metadata({SUMS: json.dumps(sums)})
        shard.check_unchanged()
        with replacing(self.outputs[shard.path]) as partial:
            pyarrow.parquet.write_table(table, partial, **_encoding(table))


def _encoding(table: pyarrow.Table) -> dict[str, Any]:
    """How its columns are written: numbers of rows as differences, and floats as they are, since compressing them takes most of
    the time and saves nothing."""
    floats = {field.name for field in table.schema if pyarrow.types.is_floating(field.type)}
    numbers = [field.name for field in table.schema if pyarrow.types.is_int64(field.type)]
    return {
        "use_dictionary": ["model"],
        "compression": {name: "none" if name in floats else "snappy" for name in table.column_names},
        "column_encoding": dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
        "write_statistics": [name for name in table.column_names if name not in floats],
    }


def _sums(path: Path) -> dict[str, Any]:
    """What a shard of assignments says of itself; empty where it is none."""
    try:
        said = pyarrow.parquet.read_schema(path).metadata or {}
        return json.loads(said.get(SUMS, b"{}"))
    except (OSError, ValueError, pyarrow.ArrowException):
        return {}


def is_written(path: Path, digest: str, rows: int) -> bool:
    """Whether the assignment of a shard is there, by this price; after a power cut it may be a name without content."""
    return path.exists() and _sums(path).get("price") == digest and pyarrow.parquet.read_metadata(path).num_rows == rows


def summed(outputs: Sequence[Path], shards: Sequence[ShardFile]) -> dict[str, Any]:
    """The exact sums of all shards that were written."""
    value, cost = Total(), Total()
    taken, queries = np.zeros(len(shards[0].names), np.int64), 0
    for path, shard in zip(outputs, shards, strict=True):
        sums = _sums(path)
        value, cost = value + Total(sums["value"]), cost + Total(sums["cost_usd"])
        taken, queries = taken + np.array(sums["taken"]), queries + len(shard)
    answered = dict(zip(shards[0].names, taken.tolist(), strict=True))
    unanswered = queries - int(taken.sum())
    return {
        "value": value.rounded(),
        "cost_usd": cost.rounded(),
        "queries": queries,
        "unanswered": unanswered,
        "queries_by_model": answered,
    }
