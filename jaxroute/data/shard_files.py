"""Shards of estimates and costs on disk: a folder of Parquet or .npz files, read a few thousand queries at a time.

A Parquet file has a column per model, and perhaps MODEL|cost_usd, as `jaxroute score` writes them; an .npz has "estimates" and
perhaps "models", "cost_usd" and "available". Costs may instead be in a folder of files of the same names, or in one small file
of dollars per model. A cell that is empty, or NaN: that model may not answer that query.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow
import pyarrow.parquet
from jaxtyping import Float

from jaxroute.data.estimate_files import BESIDE_MODELS, COST, IDS, QUERY_ID, read_model_costs
from jaxroute.data.reading import Problems
from jaxroute.errors import SourceError, listed, shortened
from jaxroute.storage.places import is_remote, readable

SUFFIXES = (".parquet", ".npz")
ROWS_AT_A_TIME = 2**16


@dataclass(frozen=True)
class Stamp:
    """By which a file is known again while a run lasts: its size and the time of its last change."""

    size: int
    changed_ns: int

    @staticmethod
    def of(path: Path) -> Stamp:
        found = path.stat()
        return Stamp(found.st_size, found.st_mtime_ns)


@dataclass(frozen=True)
class ShardFile:
    """One file of estimates with its costs: a `solvers.sharded.Shard`."""

    path: Path
    start: int
    """The number of its first query in the whole folder."""
    rows: int
    names: tuple[str, ...]
    """The models, in the order of the first file."""
    identity: tuple[str, ...]
    """Columns that name its queries."""
    costs: Path | tuple[float, ...] | None
    """The file of its dollars, or those of every model; None = they are in the file itself."""
    stamps: tuple[Stamp, ...] = field(default=())
    """Of the file, and of that of its costs."""

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def models(self) -> int:
        return len(self.names)

    @property
    def files(self) -> list[Path]:
        return [self.path, *([self.costs] if isinstance(self.costs, Path) else [])]

    def __len__(self) -> int:
        return self.rows

    def chunks(self) -> Iterator[tuple[Float[np.ndarray, "rows models"], Float[np.ndarray, "#rows models"]]]:
        """Estimates and dollars. Raises `SourceError` where a file was changed since it was listed, or cannot be read."""
        self.check_unchanged()
        if isinstance(self.costs, Path):
            yield from _abreast(self._cells(self.path, ""), self._cells(self.costs, self._cost_suffix))
        elif self.costs is None:
            yield from ((value, cost) for value, cost in self._cells(self.path, "", COST))
        else:
            shared = np.array([self.costs])
            for (value,) in self._cells(self.path, ""):
                yield value, shared

    def check_unchanged(self) -> None:
        """Raise `SourceError` where a file is not what it was when it was listed."""
        for path, stamp in zip(self.files, self.stamps):
            if not path.is_file() or Stamp.of(path) != stamp:
                raise SourceError(f"{path} was changed or removed while it was read: start again when nothing writes there")

    def identities(self) -> pyarrow.Table:
        """The columns that name its queries; their numbers where there are none."""
        if self.path.suffix == ".npz":
            with np.load(readable(self.path), allow_pickle=False) as stored:
                if QUERY_ID in stored.files:
                    return pyarrow.table({QUERY_ID: stored[QUERY_ID].astype(str)})
        elif self.identity:
            return pyarrow.parquet.read_table(readable(self.path), columns=list(self.identity), use_threads=False)
        return pyarrow.table({"row": np.arange(self.start, self.start + self.rows)})

    @cached_property
    def _cost_suffix(self) -> str:
        assert isinstance(self.costs, Path)
        return COST if self.costs.suffix == ".parquet" and self.names[0] + COST in _columns_of(self.costs) else ""

    def _cells(self, path: Path, *suffixes: str) -> Iterator[tuple[np.ndarray, ...]]:
        """Of every few thousand queries the columns of all models, as one array `(rows, models)` per suffix."""
        if path.suffix == ".npz":
            yield from _npz_cells(self, path, suffixes)
            return
        names = [model + suffix for suffix in suffixes for model in self.names]
        try:
            with parquet_file(path) as file:
                for batch in file.iter_batches(batch_size=ROWS_AT_A_TIME, columns=names, use_threads=False):
                    columns = {name: batch.column(name) for name in names}
                    yield tuple(_matrix([columns[model + suffix] for model in self.names]) for suffix in suffixes)
        except (OSError, pyarrow.ArrowException) as error:
            raise SourceError(f"{path} cannot be read: {shortened(str(error), 200, quoted=False)}") from error


def list_shards(estimates: Path, costs: Path | None = None, models: tuple[str, ...] | None = None) -> list[ShardFile]:
    """The shards of a folder, in the order of their queries.

    `costs` is a folder with a file of the same name for every shard, a file of one number of dollars per model (.json, .csv,
    .parquet), or None where they are in the shards. `models` are those to use; default: those of the first file.

    Raises `SourceError` listing what is wrong: files that cannot be read, a shard that is missing or there twice, models and
    rows that differ, columns that are no numbers.
    """
    problems = Problems(estimates, "a folder of shards, .parquet or .npz, with a column per model")
    paths = _paths(estimates, problems)
    heads = [_head(path, problems) for path in paths]
    problems.stop()
    names = models or heads[0].models
    for head in heads:
        _check_models(head, names, problems)
    problems.stop()
    heads = _in_order(heads, problems)
    _check_scored(estimates, sum(head.rows for head in heads), problems)
    problems.stop()
    given = _costs(costs, heads, names, problems)
    problems.stop()
    found: list[ShardFile] = []
    start = 0
    for head, cost in zip(heads, given, strict=True):
        shard = ShardFile(head.path, start, head.rows, names, head.identity, cost)
        stamps = tuple(Stamp.of(path) for path in shard.files)
        found.append(ShardFile(head.path, start, head.rows, names, head.identity, cost, stamps))
        start += head.rows
    return found


@dataclass(frozen=True)
class _Head:
    """What a file says of itself before its cells are read."""

    path: Path
    rows: int
    models: tuple[str, ...]
    with_costs: bool
    identity: tuple[str, ...]
    first: int | None = None
    """The number in its column `row` of its first query."""


def _paths(folder: Path, problems: Problems) -> list[Path]:
    if not folder.is_dir():
        problems.add("there is no such folder")
    held = sorted(folder.iterdir(), key=str) if folder.is_dir() else []
    paths = [path for path in held if path.suffix in SUFFIXES and not path.name.startswith(".")]
    if folder.is_dir() and not paths:
        other = listed(path.name for path in held) or "nothing"
        problems.add(f"it holds no .parquet and no .npz; it holds {other}")
    problems.stop()
    return paths


def _head(path: Path, problems: Problems) -> _Head:
    try:
        return _npz_head(path) if path.suffix == ".npz" else _parquet_head(path, problems)
    except (OSError, ValueError, EOFError, KeyError, BadZipFile, pyarrow.ArrowException) as error:
        problems.add(f"{path.name} cannot be read: {shortened(str(error), 200, quoted=False)}")
        return _Head(path, 0, (), False, ())


def _parquet_head(path: Path, problems: Problems) -> _Head:
    with parquet_file(path) as file:
        schema, metadata = file.schema_arrow, file.metadata
        stored = [name for name in schema.names if name not in BESIDE_MODELS]
        models = tuple(name for name in stored if not name.endswith(COST))
        for name in stored:
            kind = schema.field(name).type
            if not (pyarrow.types.is_floating(kind) or pyarrow.types.is_integer(kind) or pyarrow.types.is_null(kind)):
                problems.add(f"{path.name}, column {name!r}: it holds {kind}, not numbers")
        if not models:
            problems.add(f"{path.name} has no column for a model")
        identity = tuple(name for name in schema.names if name == "row" or name in IDS)
        with_costs = bool(models) and all(model + COST in stored for model in models)
        first = None
        if "row" in identity and metadata.num_rows:
            first = next(file.iter_batches(batch_size=1, columns=["row"])).column(0)[0].as_py()
        return _Head(path, metadata.num_rows, models, with_costs, identity, first)


def _npz_head(path: Path) -> _Head:
    with np.load(readable(path), allow_pickle=False) as stored:
        name = "estimates" if "estimates" in stored.files else "cost_usd"
        if name not in stored.files:
            raise ValueError(f"it holds {listed(stored.files)}, expected estimates or cost_usd")
        shape = _npz_shape(path, name)
        if len(shape) != 2:
            raise ValueError(f"{name} has shape {shape}, expected (queries, models)")
        models = stored["models"].tolist() if "models" in stored.files else [f"model_{column}" for column in range(shape[1])]
        if len(models) != shape[1]:
            raise ValueError(f"models has {len(models)} names for {shape[1]} columns")
        identity = (QUERY_ID,) if QUERY_ID in stored.files else ()
        return _Head(path, shape[0], tuple(map(str, models)), "cost_usd" in stored.files, identity)


def _npz_shape(path: Path, name: str) -> tuple[int, ...]:
    """Of an array in an .npz, from its first bytes."""
    import zipfile

    with zipfile.ZipFile(readable(path)) as archive, archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return read(file)[0]


def _npz_cells(shard: ShardFile, path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[np.ndarray, ...]]:
    """The same of an .npz: costs are in "cost_usd", estimates in "estimates"."""
    try:
        with np.load(readable(path), allow_pickle=False) as stored:
            names = [str(one) for one in stored["models"]] if "models" in stored.files else list(shard.names)
            order = [names.index(name) for name in shard.names]
            parts = [stored["cost_usd" if suffix or path != shard.path else "estimates"] for suffix in suffixes]
            mask = stored["available"] if "available" in stored.files and path == shard.path else None
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise SourceError(f"{path} cannot be read: {shortened(str(error), 200, quoted=False)}") from error
    for part in parts:
        if part.dtype.kind not in "fiub" or part.ndim not in (1, 2) or part.shape[-1] != len(names):
            raise SourceError(
                f"{path}: an array is {part.dtype} of shape {part.shape}, expected numbers (queries, {len(names)})"
            )
    for first in range(0, shard.rows, ROWS_AT_A_TIME):
        rows = slice(first, min(first + ROWS_AT_A_TIME, shard.rows))
        cells = [part[None, order] if part.ndim == 1 else part[rows][:, order] for part in parts]
        if mask is not None:
            cells[0] = np.where(np.asarray(mask[rows][:, order], bool), cells[0], np.nan)
        yield tuple(cells)


def _abreast(
    values: Iterator[tuple[np.ndarray, ...]], costs: Iterator[tuple[np.ndarray, ...]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunks of two files with the same queries, which may be cut at other places."""
    value, cost = np.zeros((0, 0)), np.zeros((0, 0))
    while True:
        if not len(value):
            (value,) = next(values, (None,))
        if not len(cost if cost is not None else ()):
            (cost,) = next(costs, (None,))
        if value is None or cost is None:
            return
        rows = min(len(value), len(cost))
        yield value[:rows], cost[:rows]
        value, cost = value[rows:], cost[rows:]


def _matrix(columns: list[pyarrow.Array]) -> Float[np.ndarray, "rows models"]:
    """Columns side by side, each in one piece of memory; cells without a number are NaN."""
    single = all(column.type == pyarrow.float32() for column in columns)
    filled = np.empty((len(columns), len(columns[0])), np.float32 if single else np.float64)
    for row, column in zip(filled, columns):
        row[:] = column.to_numpy(zero_copy_only=False) if column.type != pyarrow.null() else np.nan
    return filled.T


def _check_models(head: _Head, names: tuple[str, ...], problems: Problems) -> None:
    missing = [name for name in names if name not in head.models]
    unknown = [name for name in head.models if name not in names]
    if missing or (unknown and len(set(names)) == len(head.models)):
        said = f"missing models: {listed(missing) or 'none'}; unknown models: {listed(unknown) or 'none'}"
        problems.add(f"{head.path.name} has other models than the first file: {said}")


def _in_order(heads: list[_Head], problems: Problems) -> list[_Head]:
    """By their column `row`, where they have it, which says whether one is missing or there twice; else by name."""
    held = [head for head in heads if head.rows]
    if not held:
        problems.add("its files hold no queries")
    if any(head.first is None for head in held):
        return held
    held.sort(key=lambda head: head.first or 0)
    expected = 0
    for head in held:
        if head.first != expected:
            fault = "is one missing?" if (head.first or 0) > expected else "is one there twice?"
            problems.add(f"{head.path.name} begins with row {head.first:,}, expected {expected:,}: {fault}")
            break
        expected += head.rows
    return held


def _check_scored(folder: Path, rows: int, problems: Problems) -> None:
    """`jaxroute score` says how many rows its shards hold together, once all of them are there."""
    if not (folder / "manifest.json").is_file():
        return
    try:
        said: Any = json.loads((folder / "summary.json").read_text(encoding="utf-8")).get("rows")
    except (OSError, ValueError, AttributeError):
        said = None
    if said != rows:
        problems.add(f"its shards hold {rows:,} rows, summary.json says {shortened(said)}: run `jaxroute score` again")


def _costs(
    costs: Path | None, heads: list[_Head], names: tuple[str, ...], problems: Problems
) -> list[Path | tuple[float, ...] | None]:
    """Per shard where its dollars are."""
    if costs is None:
        for head in heads:
            if head.rows and not head.with_costs:
                problems.add(f"{head.path.name} holds no dollars (MODEL{COST}, or cost_usd in an .npz): give --costs")
        return [None for _ in heads]
    if not costs.is_dir():
        shared = tuple(read_model_costs(costs, list(names)).tolist())
        return [shared for _ in heads]
    found: list[Path | tuple[float, ...] | None] = []
    for head in heads:
        path = costs / head.path.name
        if not path.is_file():
            problems.add(f"costs={str(costs)!r} has no {head.path.name}, as the estimates have")
            continue
        cost = _head(path, problems)
        missing = [name for name in names if name not in cost.models]
        if missing or cost.rows != head.rows:
            lacks = f"; missing models: {listed(missing)}" if missing else ""
            problems.add(f"{path} holds {cost.rows:,} rows for {head.rows:,} queries{lacks}")
        elif head.identity and cost.identity and (common := [one for one in head.identity if one in cost.identity]):
            _check_same_queries(head.path, path, common, problems)
        found.append(path)
    return found


def _check_same_queries(path: Path, costs: Path, columns: list[str], problems: Problems) -> None:
    """Where both name their queries, they are in the same order."""
    if path.suffix != ".parquet" or costs.suffix != ".parquet":
        return
    one, other = (pyarrow.parquet.read_table(each, columns=columns, use_threads=False) for each in (path, costs))
    for column in columns:
        same = one[column].equals(other[column])
        if not same:
            left, right = one[column].to_pylist(), other[column].to_pylist()
            row = next((row for row, pair in enumerate(zip(left, right)) if pair[0] != pair[1]), 0)
            problems.add(
                f"{costs}, column {column!r}, row {row}: {shortened(right[row])} is not the query of {path.name}, "
                f"{shortened(left[row])}: put both in the same order"
            )
            return


def parquet_file(path: Path) -> pyarrow.parquet.ParquetFile:
    """Open; a local one is mapped into memory."""
    return pyarrow.parquet.ParquetFile(readable(path), memory_map=not is_remote(path))


def _columns_of(path: Path) -> list[str]:
    return pyarrow.parquet.read_schema(path).names
