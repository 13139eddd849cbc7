"""`jaxroute universe`: which few models of a table answer the most between them, and how near to the best choice that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from jaxtyping import Float

from jaxroute.data.estimate_files import read_model_costs
from jaxroute.data.sources import chosen_table
from jaxroute.errors import TableError, counted, listed
from jaxroute.storage.files import check_file, write_json
from solvers import Universe, build_universe


@dataclass(frozen=True)
class UniverseConfig:
    """Choose the models worth serving from a table of outcomes: the most queries answered by at least one of them."""

    table: Path | None = None
    """Your own outcomes: .csv, .jsonl or .parquet in the schema that `jaxroute sources` prints."""
    source: str | None = None
    """Instead of --table: a published format, see `jaxroute sources`."""
    path: Path | None = None
    """Where the source's files lie."""
    option: tuple[str, ...] = ()
    """Options of the source's loader, name=value, such as binary, or scale=10 of your own table, which needs no costs."""
    size: int | None = None
    """The largest number of models."""
    budget_usd: float | None = None
    """Instead of a size: dollars for serving, with --serving-costs."""
    serving_costs: Path | None = None
    """Dollars for serving each model: .json of {"model": dollars}, or a .csv with a column per model and one row."""
    required: tuple[str, ...] = ()
    """Models that must be served."""
    banned: tuple[str, ...] = ()
    """Models that must not."""
    method: Literal["lazy", "greedy", "exact"] = "lazy"
    """lazy and greedy choose the same models; exact proves the best set of a small pool."""
    max_seconds: float = 60.0
    """Of exact: time limit."""
    output: Path = Path("universe.json")
    """The chosen models in order, the value and the bound after each, why it stopped."""


def main(config: Annotated[UniverseConfig, tyro.conf.arg(name="")]) -> Universe:
    """Choose, print and write; raises before any work if anything is wrong."""
    check_file("output", config.output)
    table = chosen_table(config.table, config.source, config.path, config.option, paid=False)
    banned = _columns("banned", config.banned, table.models)
    found = build_universe(
        table.quality,
        config.size,
        config.method,
        budget_usd=config.budget_usd,
        cost_usd=read_model_costs(config.serving_costs, table.models) if config.serving_costs else None,
        required=_columns("required", config.required, table.models),
        banned=banned,
        max_seconds=config.max_seconds,
    )
    names = [table.models[column] for column in found.models]
    print(f"{counted(len(table), 'query')}, {counted(len(table.models), 'model')}; quality is the mean of the best in the set")
    if found.never_run:
        print(f"{found.never_run:,} of {table.quality.size:,} answers were never run and count as no quality")
    print(f"{'':>5}  {'':<46} {'value':>8}  {'added':>7}" + "  no set of this size has more than" * bool(found.bound_by_size))
    before = 0.0
    for place, (name, value) in enumerate(zip(names, found.value_by_size, strict=True)):
        proved = f"  {found.bound_by_size[place]:.4f}" if place < len(found.bound_by_size) else ""
        print(f"{place + 1:>5}  {name:<46} {value:>8.4f}  +{value - before:.4f}{proved}")
        before = value
    stopped = _why_stopped(config, found, np.delete(np.nan_to_num(table.quality), banned, axis=1))
    serving = f"; serving them costs {found.cost_usd:g} dollars" if found.cost_usd is not None else ""
    print(f"stopped after {counted(len(names), 'model')}: {stopped}")
    print(f"no set within the limits has more than {found.bound:.4f}{serving}")
    write_json(
        config.output,
        {
            "models": names,
            "value_by_size": found.value_by_size,
            "bound_by_size": found.bound_by_size,
            "bound": found.bound,
            "stopped": stopped,
            "method": config.method,
            "never_run": found.never_run,
            "cost_usd": found.cost_usd,
            "table": table.name,
        },
    )
    print(f"written to {config.output}")
    return found


def _why_stopped(config: UniverseConfig, found: Universe, allowed: Float[np.ndarray, "queries models"]) -> str:
    if len(found.models) == config.size:
        return f"as many as size={config.size} allows"
    if not allowed.size or found.value >= allowed.max(axis=1).mean() * (1 - 1e-12):
        return "no other model that is allowed answers anything better"
    return f"no other model that adds anything fits into budget_usd={config.budget_usd:g}"


def _columns(field: str, names: Sequence[str], models: list[str]) -> list[int]:
    if unknown := [name for name in names if name not in models]:
        raise TableError(f"{field}: unknown models {listed(unknown)}; the table has {listed(models)}")
    return [models.index(name) for name in names]
