"""`jaxroute assign`: estimates and costs from files, assigned within budgets by several solvers side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import tyro

from jaxroute.batch.assigning import AssignShards, assign_shards, is_large
from jaxroute.batch.workers import EngineConfig, check_engine, mapping
from jaxroute.data.estimate_files import QUERY_ID, Given, read_given
from jaxroute.errors import EngineError, counted
from jaxroute.routing.request import capacity_of, naming_models, read_capacity
from jaxroute.storage.files import check_folder, replacing
from jaxroute.storage.places import is_remote, placed
from solvers import Assignment, Problem, ProblemError, check_solver, solve

EXACT_QUERIES = 20_000
"""Up to here `auto` solves exactly, in one piece."""
SHARDS = "shards"


@dataclass(frozen=True)
class AssignConfig:
    """Assign queries to models from files of estimates and costs, for one or several budgets and solvers."""

    estimates: Path
    """.csv, .jsonl or .parquet with a row per query and a column per model, and perhaps a query_id; or .npz with "estimates"
    (queries, models) and perhaps "models", "query_id", "cost_usd", "available"; or the folder, or a shard, that `jaxroute
    score` wrote, or a folder of such .parquet or .npz files, or its URL. An empty cell: that model may not answer."""
    costs: Path | None = None
    """Dollars per answer, in the same layout ("cost_usd" in an .npz); one row where they are the same for every query, which
    may also be a .json of {"model": dollars}; for a folder of estimates perhaps a folder of files of the same names. Default:
    what comes with the estimates."""
    budget_usd: tuple[float, ...] = ()
    """Dollars for all queries together; several are solved one after the other."""
    minimum_value: tuple[float, ...] = ()
    """Instead of budgets: what the estimates must sum to, at the least cost."""
    solver: str = "auto"
    """greedy_ratio, lagrangian, exact or auto; several with commas between them are compared. shards: a folder of any size,
    read a few times in bounded memory, to one file of assignments per shard; a stopped run resumes. auto takes it for one limit
    and a folder of more than 20,000 queries."""
    capacity: tuple[str, ...] = ()
    """MODEL=COUNT for every model that takes only so many queries."""
    available: Path | None = None
    """True or False (1 or 0) in the layout of the estimates: which model may answer which query."""
    allow_unanswered: bool = False
    """Let queries go unanswered, at value 0 and cost 0, where that is better or nothing else fits."""
    alpha: float = 1.0
    """Of greedy_ratio: value / cost^alpha."""
    reserve: bool = True
    """Of greedy_ratio: keep the cheapest answer for every query still to come; without it, the published selector."""
    max_seconds: float = 60.0
    """Of exact: time limit for each budget."""
    output: Path = Path("runs/assign")
    """Folder for comparison.csv and the assignment, which has the format of the estimates (.csv for .jsonl); of shards for
    summary.json and a .parquet per shard, named like it."""
    workers: int = 2
    """Of shards: how many are read at the same time."""
    engine: Literal["plain", "ray"] = "plain"
    """Of shards: plain reads them in this process, ray by tasks on every core of a cluster, with the same result."""
    address: str | None = None
    """Of --engine ray: HOST:PORT of a cluster of which this machine is part, or auto; default: Ray on this machine."""


def main(config: Annotated[AssignConfig, tyro.conf.arg(name="")]) -> list[Assignment]:
    """Solve, print the comparison, write it and the assignments; what is wrong is raised before the first solver runs."""
    config = replace(config, estimates=placed("estimates", config.estimates))
    names = [name.strip() for name in config.solver.split(",")]
    if _by_shards(config, names):
        _assign_shards(config)
        return []
    if config.engine != "plain" or config.address is not None:
        raise EngineError("engine and address are for a folder of shards and one limit: add --solver shards or leave them out")
    check_folder("output", config.output, ours=_is_ours)
    _check(config, names)
    given = read_given(config.estimates, config.costs, config.available)
    problems = _problems(config, given)
    for name in names:
        check_solver(problems[0], name)
    _describe(config, given)
    print(
        f"{'limit':>12}  {'solver':<14}{'value':>12}{'mean':>9}{'cost_usd':>12}{'gap':>10}  {'status':<9}{'unanswered':>11}"
        f"{'seconds':>9}"
    )
    found = []
    for problem in problems:
        for name in names:
            one = solve(problem, name, **_options(config, name))
            found.append(one)
            print(
                f"{_limit(problem):>12.6g}  {one.solver.split('(')[0]:<14}{one.value:>12.6g}{one.value / len(problem):>9.4f}"
                f"{one.cost_usd:>12.6g}{one.relative_gap:>10.1e}  {one.status:<9}{one.unanswered:>11,}{one.seconds:>9.3g}",
                flush=True,
            )
    for solver, reason in dict.fromkeys((one.solver, one.reason) for one in found if one.reason):
        print(f"{solver} was {reason}")
    limits = [_limit(problem) for problem in problems for _ in names]
    name = "minimum_value" if config.minimum_value else "budget_usd"
    config.output.mkdir(parents=True, exist_ok=True)
    with replacing(config.output / "comparison.csv") as partial:
        _comparison(found, name, limits, given.models).to_csv(partial, index=False)
    suffix = ".parquet" if config.estimates.is_dir() else config.estimates.suffix
    suffix = suffix if suffix != ".jsonl" else ".csv"
    _write_assignments(config.output / f"assignment{suffix}", found, name, limits, given)
    print(f"written to {config.output}/: comparison.csv, assignment{suffix}")
    return found


def _by_shards(config: AssignConfig, names: list[str]) -> bool:
    """Whether a folder is assigned shard by shard."""
    if is_remote(config.estimates):
        return True
    if names != ["auto"] or not config.estimates.is_dir():
        return SHARDS in names
    limits = len(config.budget_usd) + len(config.minimum_value)
    if limits != 1 or config.available is not None:
        return False
    return is_large(config.estimates, EXACT_QUERIES)


def _assign_shards(config: AssignConfig) -> None:
    """One limit for a folder of shards; what cannot be asked of it is rejected by name."""
    limits = {"budget_usd": config.budget_usd, "minimum_value": config.minimum_value}
    problems = []
    if sum(map(len, limits.values())) != 1:
        problems.append(f"budget_usd={config.budget_usd} and minimum_value={config.minimum_value}: give exactly one number")
    if config.solver.strip() != SHARDS and config.solver.strip() != "auto":
        problems.append(f"solver={config.solver!r}: shards cannot be compared with other solvers, run it alone")
    if config.available is not None:
        problems.append(f"available={str(config.available)!r}: leave the cells empty in the shards")
    if problems:
        raise ProblemError("; ".join(problems))
    limit = {name: given[0] if given else None for name, given in limits.items()}
    asked = AssignShards(
        config.estimates,
        config.costs,
        config.output,
        budget_usd=limit["budget_usd"],
        minimum_value=limit["minimum_value"],
        capacity=read_capacity(config.capacity) or None,
        allow_unanswered=config.allow_unanswered,
        workers=config.workers,
    )
    engine = EngineConfig(config.engine, config.address)
    check_engine(engine)
    print(f"results go to {config.output}/")
    with mapping(engine) as each:
        if engine.ray:
            # Workers have other working folders.
            costs = asked.costs and asked.costs.absolute()
            asked = replace(asked, estimates=asked.estimates.absolute(), costs=costs, output=asked.output.absolute())
        report = assign_shards(asked, map=each if engine.ray else None)
    print(*report.lines, sep="\n")
    print(f"written to {config.output}/: a .parquet per shard, summary.json")


def _write_assignments(path: Path, found: Sequence[Assignment], name: str, limits: Sequence[float], given: Given) -> None:
    """All of them in one file: long, a row per run and query; in an .npz `choice` (runs, queries), -1 = unanswered."""
    with replacing(path) as partial:
        if path.suffix == ".npz":
            arrays: dict[str, Any] = {
                "choice": np.stack([one.choice for one in found]),
                "solver": np.array([one.solver for one in found]),
                "models": np.array(given.models),
                QUERY_ID: np.array(given.query_ids),
                name: np.array(limits),
            }
            np.savez_compressed(partial, **arrays)
            return
        table = pd.concat(
            [_rows(one, given).assign(solver=one.solver, **{name: limit}) for one, limit in zip(found, limits, strict=True)]
        )
        table = table[["solver", name, QUERY_ID, "model", "estimate", "cost_usd"]]
        if path.suffix == ".parquet":
            table.to_parquet(partial, index=False)
        else:
            table.to_csv(partial, index=False)


def _check(config: AssignConfig, names: list[str]) -> None:
    problems = []
    if bool(config.budget_usd) == bool(config.minimum_value):
        problems.append(
            f"budget_usd={config.budget_usd} and minimum_value={config.minimum_value}: give one or several of either"
        )
    if len(set(names)) < len(names):
        problems.append(f"solver={config.solver!r}: name every solver once")
    if not config.max_seconds > 0:
        problems.append(f"max_seconds={config.max_seconds} must be > 0")
    if problems:
        raise ProblemError("; ".join(problems))


def _problems(config: AssignConfig, given: Given) -> list[Problem]:
    """One per budget or minimum value; what cannot work is refused here."""
    counts = read_capacity(config.capacity)
    with naming_models(given.models, len(given.estimates)):
        first = Problem(
            given.estimates,
            given.cost_usd,
            available=given.available,
            capacity=capacity_of(counts, given.models, len(given.estimates)) if counts else None,
            allow_unanswered=config.allow_unanswered,
        )
    if config.minimum_value:
        return [replace(first, minimum_value=least) for least in config.minimum_value]
    return [replace(first, budget_usd=budget) for budget in config.budget_usd]


def _options(config: AssignConfig, name: str) -> dict[str, float]:
    if name == "greedy_ratio":
        return {"alpha": config.alpha, "reserve": config.reserve}
    return {"max_seconds": config.max_seconds} if name == "exact" else {}


def _describe(config: AssignConfig, given: Given) -> None:
    queries, models = given.estimates.shape
    print(f"{counted(queries, 'query')}, {counted(models, 'model')}; results go to {config.output}/")
    if given.available is not None:
        print(f"{int((~given.available).sum()):,} of {given.available.size:,} answers are not available or have no number")


def _limit(problem: Problem) -> float:
    limit = problem.minimum_value if problem.budget_usd is None else problem.budget_usd
    assert limit is not None
    return limit


def _comparison(found: Sequence[Assignment], name: str, limits: Sequence[float], models: list[str]) -> pd.DataFrame:
    rows = []
    for one, limit in zip(found, limits, strict=True):
        counts = np.bincount(one.choice[one.choice >= 0], minlength=len(models))
        rows.append(
            {
                "solver": one.solver,
                name: limit,
                "value": one.value,
                "mean_value": one.value / len(one.choice),
                "cost_usd": one.cost_usd,
                "bound": one.bound,
                "gap": one.gap,
                "relative_gap": one.relative_gap,
                "status": one.status,
                "multiplier": one.multiplier,
                "unanswered": one.unanswered,
                "seconds": one.seconds,
                **{f"{model}|queries": count for model, count in zip(models, counts, strict=True)},
            }
        )
    return pd.DataFrame(rows)


def _rows(one: Assignment, given: Given) -> pd.DataFrame:
    row, answered = np.arange(len(one.choice)), one.choice >= 0
    cost = np.broadcast_to(given.cost_usd, given.estimates.shape)
    return pd.DataFrame(
        {
            QUERY_ID: given.query_ids or row,
            # -1, unanswered, is the last.
            "model": np.array([*given.models, None], dtype=object)[one.choice],
            "estimate": np.where(answered, given.estimates[row, one.choice], np.nan),
            "cost_usd": np.where(answered, cost[row, one.choice], 0.0),
        }
    )


def _is_ours(folder: Path) -> bool:
    return (folder / "comparison.csv").is_file()
