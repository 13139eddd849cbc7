"""Shards of estimates to shards of assignments within one budget; stopped at any moment, the same command resumes from there.

OUTPUT/price.json               written when the price is found: what was asked, the files that were read, and the price
OUTPUT/NAME.parquet             one per shard and named like it, written atomically: the queries' ids (or `row`), model (null =
                                unanswered), estimate, cost_usd
OUTPUT/summary.json             written last: value, cost, bound, gap, and how many queries every model answers
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from jaxroute.batch.assigned import WriteShard, is_written, summed
from jaxroute.data.shard_files import SUFFIXES, ShardFile, list_shards
from jaxroute.errors import OutputError, SourceError, counted, listed
from jaxroute.routing.request import capacity_of, naming_models
from jaxroute.storage.files import LOCK, alone_in, check_folder, write_json
from jaxroute.storage.places import check_local, placed
from solvers import InfeasibleProblem, InfeasibleValue
from solvers.sharded import Map, Price, Terms, WrongCell, solve_shards

FORMAT = 1
PRICE = "price.json"
SUMMARY = "summary.json"


@dataclass(frozen=True)
class AssignShards:
    """Assign the queries of a folder of shards within one budget."""

    estimates: Path
    """Folder of .parquet or .npz files, such as `jaxroute score` wrote."""
    costs: Path | None
    """Folder of files of the same names, or a file of dollars per model; None = they are in the shards."""
    output: Path
    """Folder of the assignments. What a stopped run left there is kept, and the same command resumes from it."""
    budget_usd: float | None = None
    """Dollars for all queries together."""
    minimum_value: float | None = None
    """Instead of a budget: what the estimates must sum to, at the least cost."""
    minimum_mean: float | None = None
    """Instead of either: what they must be on average."""
    multiplier: float | None = None
    """Instead of any: value per dollar; every query is then assigned on its own."""
    capacity: Mapping[str, int] | None = None
    """The largest number of queries per model, for those that have one."""
    allow_unanswered: bool = False
    """Let queries go unanswered, at value 0 and cost 0."""
    models: tuple[str, ...] | None = None
    """Only these models; default: all."""
    workers: int = 2
    """Shards that are read at the same time."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise OutputError(f"workers={self.workers} must be at least 1")
        if self.multiplier is not None and not 0 <= self.multiplier < math.inf:
            raise OutputError(f"multiplier={self.multiplier} must be finite and >= 0, value per dollar")
        if self.multiplier is not None and self.capacity:
            raise OutputError("multiplier and capacity: at a fixed multiplier every query is assigned on its own")


@dataclass(frozen=True)
class ShardsReport:
    """What an assignment of shards found; `already` shards were written by an earlier run."""

    models: list[str]
    figures: dict[str, Any]
    """As summary.json holds them."""
    already: int

    @property
    def lines(self) -> list[str]:
        """What a command prints: the sum, the proof, and how many queries every model answers."""
        found = [str(self)]
        found += [f"  {model:<46} {count:>13,} queries" for model, count in self.figures["queries_by_model"].items()]
        if self.figures["unanswered"]:
            found.append(f"  {'unanswered':<46} {self.figures['unanswered']:>13,} queries")
        return found

    def __str__(self) -> str:
        there = f", {self.already:,} of them by an earlier run" if self.already else ""
        figures = self.figures
        proof = f"; {figures['status']}, relative gap at most {figures['relative_gap']:.2g}" if "bound" in figures else ""
        return (
            f"{counted(figures['queries'], 'query')} in {counted(figures['shards'], 'shard')}{there}: value "
            f"{figures['value']:.6g} (mean {figures['value'] / figures['queries']:.4f}) for {figures['cost_usd']:.6g} "
            f"dollars{proof}"
        )


def assign_shards(config: AssignShards, *, map: Map | None = None) -> ShardsReport:
    """Find the price, unless an earlier run has, and write every shard's assignment that is not there yet.

    `map` runs a step on every shard, see `solvers.sharded.Map`; default: threads. Raises `SourceError` for files that are
    wrong, `OutputError` where the folder holds anything else or a run of something else, and what `solve_shards` raises.
    """
    config = replace(
        config,
        estimates=placed("estimates", config.estimates),
        costs=config.costs and check_local("costs", config.costs),
        output=check_local("output", config.output),
    )
    check_folder("output", config.output, ours=is_ours)
    shards = list_shards(config.estimates, config.costs, config.models)
    if {path.resolve().parent for shard in shards for path in shard.files} & {config.output.resolve()}:
        raise OutputError(f"output={str(config.output)!r} is the folder that is read: give another one")
    with alone_in(config.output), _Threads(config.workers) as threads:
        return _assign(config, shards, map or threads.map)


def is_large(folder: Path, most: int) -> bool:
    """Whether a folder holds shards that `assign_shards` reads, and not just a few queries that `jaxroute score` wrote."""
    if not any(path.suffix in SUFFIXES for path in folder.iterdir()):
        return False
    try:
        rows = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, LookupError, TypeError):
        return True
    return isinstance(rows, int) and rows > most


def is_ours(folder: Path) -> bool:
    """A run's folder, or what a run left that was killed before its first file."""
    return (folder / PRICE).is_file() or all(path.name.startswith((LOCK, ".partial-")) for path in folder.iterdir())


class _Threads:
    """Threads: numpy and pyarrow let others run while they compute."""

    def __init__(self, workers: int):
        self._pool = ThreadPoolExecutor(workers)
        self._rounds = 0

    def __enter__(self) -> _Threads:
        return self

    def __exit__(self, *error: object) -> None:
        # After an error what waits is not begun.
        self._pool.shutdown(cancel_futures=True)

    def map(self, step: Callable[[Any], Any], shards: Sequence[Any], /) -> Iterator[Any]:
        self._rounds += 1
        done = self._pool.map(step, shards)
        return iter(tqdm(done, total=len(shards), desc=f"pass {self._rounds}", unit=" shards", leave=False, delay=1.0))


def _assign(config: AssignShards, shards: list[ShardFile], map: Map) -> ShardsReport:
    for path in config.output.glob(".partial-*"):
        path.unlink()
    asked = _asked(config, shards)
    found = _earlier(config.output / PRICE, asked)
    if found is None:
        found = asked | {"found": _solved(config, shards, map)}
        write_json(config.output / PRICE, found)
    figures, price = found["found"], _price_of(found["found"]["price"])
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    outputs = _outputs(config.output, shards)
    ready = {shard.path for shard, path in zip(shards, outputs, strict=True) if is_written(path, digest, len(shard))}
    waiting = [shard for shard in shards if shard.path not in ready]
    step = WriteShard(price, digest, {shard.path: path for shard, path in zip(shards, outputs, strict=True)})
    with _naming_columns(shards):
        for _ in map(step, waiting):
            pass
    report = {name: value for name, value in figures.items() if name != "price"} | {"shards": len(shards)}
    report |= summed(outputs, shards)
    for name in ("value", "cost_usd", "queries"):
        if figures[name] is not None and figures[name] != report[name]:
            raise SourceError(
                f"{name} of the assignments is {report[name]!r} and was {figures[name]!r} when the price was found: "
                f"files in {config.estimates} were changed meanwhile; give a new output folder"
            )
    write_json(config.output / SUMMARY, report)
    return ShardsReport(list(shards[0].names), report, len(ready))


def _solved(config: AssignShards, shards: list[ShardFile], map: Map) -> dict[str, Any]:
    """The price and what is proved about it; of a price that was given, the price alone."""
    queries = sum(len(shard) for shard in shards)
    if config.multiplier is not None:
        price = Price(Terms(len(shards[0].names), False, config.allow_unanswered), config.multiplier)
        return {"price": _price_text(price), "value": None, "cost_usd": None, "queries": queries}
    minimum = config.minimum_value if config.minimum_mean is None else config.minimum_mean * queries
    names = shards[0].names
    with _naming_columns(shards), _naming_mean(config.minimum_mean, queries), naming_models(names, queries):
        found = solve_shards(
            shards,
            config.budget_usd,
            minimum_value=minimum,
            capacity=capacity_of(config.capacity, names, queries) if config.capacity else None,
            allow_unanswered=config.allow_unanswered,
            map=map,
        )
    return {
        "price": _price_text(found.price),
        "value": found.value,
        "cost_usd": found.cost_usd,
        "queries": found.queries,
        "bound": found.bound,
        "gap": found.gap,
        "relative_gap": found.relative_gap,
        "multiplier": found.multiplier,
        **({} if found.tolls is None else {"tolls": dict(zip(names, found.tolls.tolist(), strict=True))}),
        "status": found.status,
        "passes": len(found.rounds),
    }


@contextmanager
def _naming_columns(shards: Sequence[ShardFile]) -> Iterator[None]:
    """Solvers count models and rows; what they say of a cell is said with its file, column and row."""
    try:
        yield
    except WrongCell as error:
        shard = next(one for one in shards if one.name == error.shard)
        in_cost = error.field == "cost_usd" and isinstance(shard.costs, Path)
        path = shard.costs if in_cost else shard.path
        column = shard.names[error.model]
        kind = "dollars" if error.field == "cost_usd" else "estimate"
        raise SourceError(
            f"{path}, row {error.row} (the first is 0), model {column!r}: {kind} {error.number} must be {error.rule}"
        ) from error


@contextmanager
def _naming_mean(minimum: float | None, queries: int) -> Iterator[None]:
    """Solvers know sums; what they say of a mean is said as one."""
    try:
        yield
    except InfeasibleValue as error:
        if minimum is None:
            raise
        most = error.most_value / queries
        raise InfeasibleProblem(
            f"a mean estimate of {minimum!r} is above that of the best models, {most!r}: give at most {most!r}"
        ) from error


def _asked(config: AssignShards, shards: list[ShardFile]) -> dict[str, Any]:
    """What decides the result."""
    return {
        "format": FORMAT,
        "budget_usd": config.budget_usd,
        "minimum_value": config.minimum_value,
        "minimum_mean": config.minimum_mean,
        "multiplier": config.multiplier,
        "capacity": dict(config.capacity) if config.capacity else None,
        "allow_unanswered": config.allow_unanswered,
        "models": list(shards[0].names),
        "costs": list(shards[0].costs) if isinstance(shards[0].costs, tuple) else None,
        "files": [
            [str(path.resolve()), stamp.size, stamp.changed_ns]
            for shard in shards
            for path, stamp in zip(shard.files, shard.stamps, strict=True)
        ],
    }


def _earlier(path: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier run found; None if there was none. Raises `OutputError` where something else was asked then."""
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or "found" not in found:
            raise ValueError("it holds no price")
    except ValueError as error:
        raise OutputError(f"{path} cannot be read ({error}): give a new folder") from error
    changed = [
        f"{name} was {found.get(name)!r} and is {asked[name]!r}"
        for name in asked
        if name != "files" and found.get(name) != asked[name]
    ]
    if found.get("files") != asked["files"]:
        before, now = ({one[0]: one for one in files} for files in (found.get("files") or [], asked["files"]))
        differing = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        changed.append(f"files were changed, added or removed since: {listed(differing) or 'their order'}")
    if changed:
        raise OutputError(
            f"output={str(path.parent)!r} holds assignments of another run: {'; '.join(changed)}. Give a new folder, or "
            "what that run was started with"
        )
    return found


def _price_text(price: Price) -> dict[str, Any]:
    """As JSON holds it to the last bit: Python writes the shortest decimal that is the same number."""
    terms = price.terms
    return {
        "models": terms.models,
        "minimised": terms.minimised,
        "allow_unanswered": terms.allow_unanswered,
        "multiplier": price.multiplier,
        "tie": price.tie,
        "tolls": terms.tolls,
        "drawn": terms.drawn,
        "cheapest": terms.cheapest,
        "changed": {str(query): choice for query, choice in price.changed.items()},
    }


def _price_of(text: dict[str, Any]) -> Price:
    terms = Terms(text["models"], text["minimised"], text["allow_unanswered"])
    if text.get("tolls") is not None:
        terms = replace(terms, tolls=tuple(text["tolls"]), drawn=text["drawn"], cheapest=text["cheapest"])
    return Price(terms, text["multiplier"], text["tie"], {int(query): choice for query, choice in text["changed"].items()})


def _outputs(folder: Path, shards: Sequence[ShardFile]) -> list[Path]:
    names = [f"{shard.path.stem}.parquet" for shard in shards]
    if len(set(names)) < len(names):
        names = [f"{shard.path.name}.parquet" for shard in shards]
    return [folder / name for name in names]
