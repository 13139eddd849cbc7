"""A file of prompts of any size to shards of estimates; stopped at any moment, the same command resumes from there.

OUTPUT/manifest.json            what decides the result: the checkpoint, the input, the options
OUTPUT/shard-00000.parquet      row, id, cut, p_value (how like the training prompts; not of every estimator), and per model
                                MODEL (quality) and MODEL|cost_usd (expected dollars); rows in the order of the input;
                                `jaxroute assign --estimates OUTPUT` reads all of them
OUTPUT/summary.json             written last: rows, shards, prompts that were cut, prompts unlike the training prompts
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow
import pyarrow.parquet
from tqdm.auto import tqdm

from jaxroute.batch.streams import Scored, estimate_stream
from jaxroute.data.estimate_files import COST, P_VALUE
from jaxroute.data.estimates import Estimates, Estimator
from jaxroute.data.prompts import PromptFile, PromptRow, check_prompt_file
from jaxroute.encoders.batching import ScoringConfig
from jaxroute.errors import OutputError, PromptError, counted, listed
from jaxroute.guarantees.safe_choice import UNKNOWN_BELOW, check_unknown_below
from jaxroute.predictor.checkpoint import description_of
from jaxroute.predictor.predictor import Predictor
from jaxroute.routers.base import load
from jaxroute.storage.digests import file_digest
from jaxroute.storage.files import LOCK, alone_in, check_folder, replacing, write_json

FORMAT = 2
MANIFEST = "manifest.json"
SUMMARY = "summary.json"


@dataclass(frozen=True)
class ScoreConfig:
    """Estimate the quality of every model on every prompt of a file, of any size."""

    checkpoint: Path
    """Folder that `jaxroute train` or `jaxroute demo` wrote."""
    prompts: Path
    """.jsonl, .json (an array), .csv or .parquet with a "prompt" or chat "messages" each, an OpenAI batch file, or .txt with a
    prompt per line."""
    output: Path
    """Folder of the shards. What a stopped run left there is kept, and the same command resumes from it."""
    format: Literal["parquet", "jsonl"] = "parquet"
    """Of the shards."""
    rows_per_shard: int = 10_000
    """Prompts that are held in memory, scored and written together; equal ones among them are computed once."""
    max_tokens: int | None = None
    """Cut longer prompts; default: as in training."""
    truncation_side: Literal["left", "right"] | None = None
    """Which end of a too long prompt is cut; default: as in training."""
    encoder: str | None = None
    """Where the encoder lies now, if it has moved."""
    unknown_below: float = UNKNOWN_BELOW
    """Count the prompts that are unlike all training prompts: those whose p_value is under this. Their estimates are written as
    they are."""
    scoring: ScoringConfig = field(default_factory=ScoringConfig)

    def __post_init__(self) -> None:
        if self.rows_per_shard < 1:
            raise OutputError(f"rows_per_shard={self.rows_per_shard} must be at least 1")
        check_unknown_below(self.unknown_below)


@dataclass(frozen=True)
class ScoreReport:
    """What a run found; `already` rows were there before it."""

    rows: int
    shards: int
    cut: int
    already: int
    unknown: int = 0
    """Prompts unlike all training prompts."""

    def __str__(self) -> str:
        cut = f"; {self.cut:,} longer than the encoder reads, and cut" if self.cut else ""
        there = f", {self.already:,} of them by an earlier run" if self.already else ""
        unknown = f"; {self.unknown:,} unlike the training prompts ({100 * self.unknown / self.rows:.2g} percent)"
        unknown = unknown if self.unknown else ""
        return f"{counted(self.rows, 'prompt')} scored{there}, in {counted(self.shards, 'shard')}{cut}{unknown}"


def score_file(config: ScoreConfig) -> ScoreReport:
    """Write every shard that is not there yet, one after the other, each whole or not at all.

    Raises `PromptError` for rows without a prompt and `OutputError` where the folder holds anything else, or a run of something
    else, before any prompt is scored.
    """
    check_folder("output", config.output, ours=_is_ours)
    config.scoring.local_devices()
    estimator = _estimator(config)
    prompts = check_prompt_file(config.prompts)
    with alone_in(config.output):
        return _score(config, estimator, prompts)


def _score(config: ScoreConfig, estimator: Estimator, prompts: PromptFile) -> ScoreReport:
    _check_columns(estimator.models, prompts)
    _check_manifest(config, _manifest(config, estimator, prompts))
    paths = [
        config.output / f"shard-{number:05d}.{config.format}"
        for number in range(math.ceil(prompts.rows / config.rows_per_shard))
    ]
    done = _whole_shards(paths, prompts.rows, config.rows_per_shard)
    already = min(done * config.rows_per_shard, prompts.rows)
    with tqdm(total=prompts.rows, initial=already, desc="scoring", unit=" prompts", smoothing=0.05) as bar:
        for path, (start, rows, scored) in zip(paths[done:], _shards(config, estimator, prompts, already, bar)):
            table = _table(start, rows, scored.estimates, prompts)
            _write(path, table)
    cut = sum(_count_cut(path) for path in paths)
    unknown = sum(_count_unknown(path, config.unknown_below) for path in paths)
    report = ScoreReport(prompts.rows, len(paths), cut, already, unknown)
    summary = {name: getattr(report, name) for name in ("rows", "shards", "cut", "unknown")}
    write_json(config.output / SUMMARY, summary)
    return report


def _shards(
    config: ScoreConfig, estimator: Estimator, prompts: PromptFile, start: int, bar: tqdm
) -> Iterator[tuple[int, list[PromptRow], Scored]]:
    """(first row, rows, scored) of every window from row `start` on."""
    window: list[PromptRow] = []

    def texts() -> Iterator[str]:
        for row in prompts.read(skip=start):
            window.append(row)
            yield row.prompt

    # Each domain is asked for right after its prompt was read.
    domains = (window[-1].domain for _ in repeat(None))
    stream = estimate_stream(
        estimator, texts(), domains=domains, window=config.rows_per_shard, config=config.scoring, progress=bar.update
    )
    with _naming_rows(config.prompts, window):
        for scored in stream:
            yield start, list(window), scored
            start += len(window)
            window.clear()


@contextmanager
def _naming_rows(path: Path, window: list[PromptRow]) -> Iterator[None]:
    """A prompt that the encoder cannot read is named by its rows in the file."""
    try:
        yield
    except PromptError as error:
        where = f"{window[0].place} to {window[-1].place}" if window else "no row"
        raise PromptError(f"prompts={str(path)!r}, {where}: {error}") from error


def _estimator(config: ScoreConfig) -> Estimator:
    estimator = load(config.checkpoint, encoder=config.encoder)
    given = {name: value for name in ("max_tokens", "truncation_side") if (value := getattr(config, name)) is not None}
    if not given:
        return estimator
    if not isinstance(estimator, Predictor):
        raise OutputError(f"{', '.join(given)}: the checkpoint is of another router than the predictor: leave it out")
    return replace(estimator, features=replace(estimator.features, **given))


def _check_columns(models: list[str], prompts: PromptFile) -> None:
    taken = sorted({"row", "cut", P_VALUE, prompts.id_field} & set(models) - {None})
    if costs := [model for model in models if model.endswith(COST)]:
        raise OutputError(f"models named {listed(costs)} end like the columns of expected dollars: rename them")
    if taken:
        raise OutputError(f"models named {listed(taken)} cannot be columns beside row, id, cut and p_value: rename them")


def _manifest(config: ScoreConfig, estimator: Estimator, prompts: PromptFile) -> dict[str, Any]:
    """What decides the result; how prompts are batched decides its last digits only and may change."""
    features = estimator.features if isinstance(estimator, Predictor) else None
    described = description_of(config.checkpoint)
    return {
        "format": FORMAT,
        "checkpoint_sha256": file_digest(described),
        "models": estimator.models,
        "max_tokens": features and features.max_tokens,
        "truncation_side": features and features.truncation_side,
        "prompts": config.prompts.name,
        "prompts_sha256": file_digest(config.prompts),
        "rows": prompts.rows,
        "id": prompts.id_field,
        "rows_per_shard": config.rows_per_shard,
        "shard_format": config.format,
    }


def _check_manifest(config: ScoreConfig, manifest: dict[str, Any]) -> None:
    """Write it where there is none. Raises `OutputError` where what is there differs, showing how."""
    path = config.output / MANIFEST
    if not path.exists():
        write_json(path, manifest)
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no object")
    except ValueError as error:
        raise OutputError(f"{path} cannot be read ({error}): give a new folder") from error
    changed = [
        f"{name} was {found.get(name)!r} and is {manifest.get(name)!r}"
        for name in sorted(set(found) | set(manifest))
        if name != "prompts" and found.get(name) != manifest.get(name)
    ]
    if changed:
        raise OutputError(
            f"output={str(config.output)!r} holds shards of another run: "
            + "; ".join(changed)
            + ". Give a new folder, or what "
            "that run was started with"
        )


def _is_ours(folder: Path) -> bool:
    """A run's folder, or what a run left that was killed before its first file."""
    return (folder / MANIFEST).exists() or all(path.name.startswith((LOCK, ".partial-")) for path in folder.iterdir())


def _whole_shards(paths: list[Path], rows: int, rows_per_shard: int) -> int:
    """How many of the first shards are there; after a power cut the last may be a name without content."""
    for path in paths[0].parent.glob(".partial-*"):
        path.unlink()
    for number, path in enumerate(paths):
        expected = min(rows_per_shard, rows - number * rows_per_shard)
        if not path.exists() or _count_rows(path) != expected:
            return number
    return len(paths)


def _table(start: int, rows: list[PromptRow], estimates: Estimates, prompts: PromptFile) -> pyarrow.Table:
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


def _write(path: Path, table: pyarrow.Table) -> None:
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
                file.write(json.dumps(row | short, ensure_ascii=False) + "\n")


def _count_rows(path: Path) -> int:
    if path.suffix == ".parquet":
        try:
            return pyarrow.parquet.read_metadata(path).num_rows
        except (OSError, pyarrow.ArrowException):
            return -1
    with path.open("rb") as file:
        return sum(line.endswith(b"}\n") for line in file)


def _count_cut(path: Path) -> int:
    if path.suffix == ".parquet":
        return int(np.sum(pyarrow.parquet.read_table(path, columns=["cut"])["cut"].to_numpy()))
    with path.open(encoding="utf-8") as file:
        return sum(json.loads(line)["cut"] for line in file)


def _count_unknown(path: Path, below: float) -> int:
    """Shards of an estimator that reads no features have no p-values."""
    if path.suffix == ".parquet":
        if P_VALUE not in pyarrow.parquet.read_schema(path).names:
            return 0
        return int(np.sum(pyarrow.parquet.read_table(path, columns=[P_VALUE])[P_VALUE].to_numpy() < np.float32(below)))
    with path.open(encoding="utf-8") as file:
        return sum(json.loads(line).get(P_VALUE, 1.0) < below for line in file)
