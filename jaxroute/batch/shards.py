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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from jaxroute.batch.score_config import ScoreConfig
from jaxroute.batch.shard_files import count_cut, count_rows, count_unknown, shard_table, write_shard
from jaxroute.batch.windows import Window, WindowScorer, load_estimator, read_windows
from jaxroute.batch.workers import PLAIN, EngineConfig, Job, check_engine, connected, score_on_workers
from jaxroute.data.estimate_files import COST, P_VALUE
from jaxroute.data.estimates import Estimates, Estimator
from jaxroute.data.prompt_files import PromptFiles, check_prompt_files
from jaxroute.encoders.narrowing import stated_dtype
from jaxroute.errors import OutputError, counted, listed
from jaxroute.predictor.checkpoint import description_of
from jaxroute.predictor.predictor import Predictor
from jaxroute.storage.digests import file_digest, files_digest
from jaxroute.storage.files import LOCK, alone_in, check_folder, write_json
from jaxroute.storage.places import is_remote, placed

FORMAT = 2
MANIFEST = "manifest.json"
SUMMARY = "summary.json"
DTYPE = "scoring.dtype"
Found = Iterator[tuple[Window, Estimates]]


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


def score_file(config: ScoreConfig, engine: EngineConfig = PLAIN) -> ScoreReport:
    """Write every shard that is not there yet, each atomically; the bytes do not depend on the engine.

    Raises `PromptError` for rows without a prompt, `OutputError` where the folder holds anything else, or a run of something
    else, and `EngineError` where Ray is missing or cannot be reached, all before any prompt is scored.
    """
    config = replace(config, prompts=placed("prompts", config.prompts), output=placed("output", config.output))
    check_folder("output", config.output, ours=_is_ours)
    check_engine(engine)
    _check_apart(config)
    with connected(engine) as ray:
        if ray is None:
            config.scoring.local_devices()
        estimator = load_estimator(config)
        config = _with_stated_dtype(config, estimator)
        prompts = check_prompt_files(config.prompts)
        with alone_in(config.output):
            return _score(config, estimator, prompts, partial(_on_workers, ray, engine) if ray else _here)


def _with_stated_dtype(config: ScoreConfig, estimator: Estimator) -> ScoreConfig:
    """What `auto` is on this machine, for workers too: shards of one run are alike, wherever they are computed."""
    dtype = stated_dtype(config.scoring.dtype) if isinstance(estimator, Predictor) else "float32"
    return replace(config, scoring=replace(config.scoring, dtype=dtype))


def _score(config: ScoreConfig, estimator: Estimator, prompts: PromptFiles, run: Callable[..., Found]) -> ScoreReport:
    _check_columns(estimator.models, prompts)
    _check_manifest(config, _manifest(config, estimator, prompts))
    paths = [
        config.output / f"shard-{number:05d}.{config.format}"
        for number in range(math.ceil(prompts.rows / config.rows_per_shard))
    ]
    missing = _missing(paths, prompts.rows, config.rows_per_shard)
    already = prompts.rows - sum(_rows_of(number, prompts.rows, config.rows_per_shard) for number in missing)
    with tqdm(total=prompts.rows, initial=already, desc="scoring", unit=" prompts", smoothing=0.05) as bar:
        windows = read_windows(prompts, config.rows_per_shard, missing)
        for window, estimates in run(config, estimator, windows, bar):
            write_shard(paths[window.number], shard_table(window.start, window.rows, estimates, prompts))
    cut = sum(count_cut(path) for path in paths)
    unknown = sum(count_unknown(path, config.unknown_below) for path in paths)
    report = ScoreReport(prompts.rows, len(paths), cut, already, unknown)
    summary = {name: getattr(report, name) for name in ("rows", "shards", "cut", "unknown")}
    write_json(config.output / SUMMARY, summary)
    return report


def _here(config: ScoreConfig, estimator: Estimator, windows: Iterator[Window], bar: tqdm) -> Found:
    """In this process, in order."""
    scorer = WindowScorer(config, estimator, progress=bar.update)
    for window in windows:
        yield window, scorer(window.queries, window.place)


def _on_workers(
    ray: Any, engine: EngineConfig, config: ScoreConfig, estimator: Estimator, windows: Iterator[Window], bar: tqdm
) -> Found:
    """On Ray, in the order in which they are done."""
    sent: dict[int, Window] = {}

    def remembered() -> Iterator[Job]:
        for window in windows:
            sent[window.number] = window
            yield Job(window.number, window.queries, window.place)

    # Workers have other working folders.
    config = replace(config, checkpoint=config.checkpoint.absolute())
    for number, estimates in score_on_workers(ray, engine, config, _checkpoint_digest(config), remembered(), bar):
        yield sent.pop(number), estimates


def _check_columns(models: list[str], prompts: PromptFiles) -> None:
    taken = sorted({"row", "cut", P_VALUE, prompts.id_field} & set(models) - {None})
    if costs := [model for model in models if model.endswith(COST)]:
        raise OutputError(f"models named {listed(costs)} end like the columns of expected dollars: rename them")
    if taken:
        raise OutputError(f"models named {listed(taken)} cannot be columns beside row, id, cut and p_value: rename them")


def _manifest(config: ScoreConfig, estimator: Estimator, prompts: PromptFiles) -> dict[str, Any]:
    """What decides the result; how prompts are batched decides its last digits only and may change."""
    features = estimator.features if isinstance(estimator, Predictor) else None
    several = len(prompts.files) > 1
    files = {"files": [{"name": file.path.name, "rows": file.rows} for file in prompts.files]} if several else {}
    return {
        "format": FORMAT,
        "checkpoint_sha256": _checkpoint_digest(config),
        "models": estimator.models,
        "max_tokens": features and features.max_tokens,
        "truncation_side": features and features.truncation_side,
        DTYPE: config.scoring.dtype,
        "prompts": config.prompts.name,
        "prompts_sha256": files_digest(prompts.paths) if several else file_digest(prompts.paths[0]),
        "rows": prompts.rows,
        **files,
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
    # Before there was another, every run was in it.
    found.setdefault(DTYPE, "float32")
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


def _rows_of(number: int, rows: int, rows_per_shard: int) -> int:
    return min(rows_per_shard, rows - number * rows_per_shard)


def _missing(paths: list[Path], rows: int, rows_per_shard: int) -> list[int]:
    """The shards that are not there; after a power cut one may be a name without content."""
    for path in paths[0].parent.glob(".partial-*"):
        path.unlink()
    return [
        number
        for number, path in enumerate(paths)
        if not path.exists() or count_rows(path) != _rows_of(number, rows, rows_per_shard)
    ]


def _check_apart(config: ScoreConfig) -> None:
    """Raise `OutputError` where the shards would be taken for prompts the next time."""
    if is_remote(config.output) != is_remote(config.prompts):
        return
    if config.prompts.is_dir() and config.output.absolute().is_relative_to(config.prompts.absolute()):
        raise OutputError(f"output={str(config.output)!r} lies within prompts={str(config.prompts)!r}: give a folder elsewhere")


def _checkpoint_digest(config: ScoreConfig) -> str:
    return file_digest(description_of(config.checkpoint))
