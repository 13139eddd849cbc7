"""`jaxroute extend`: a checkpoint and a few graded answers in, a checkpoint with further models out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from jaxroute.data.prices import load_prices
from jaxroute.data.sources import chosen_table
from jaxroute.data.table import RoutingTable
from jaxroute.errors import JaxrouteError, JaxrouteWarning, RouterError, listed
from jaxroute.predictor.checkpoint import is_estimator
from jaxroute.predictor.extending import extend, without
from jaxroute.predictor.predictor import Predictor
from jaxroute.predictor.shift import few_prompts, shift
from jaxroute.routers.base import load
from jaxroute.storage.files import check_folder

FEW_PROBES = 10
"""With fewer the priors say more of a model than its own answers do."""


@dataclass(frozen=True)
class Extend:
    """Add models to a checkpoint from a few graded answers each, replace or remove some, or move all to a new kind of traffic.

    No other model's estimates change. See docs/new-model.md.
    """

    checkpoint: Path
    """Folder that `jaxroute train` wrote."""
    table: Path | None = None
    """The graded answers: .csv, .jsonl or .parquet in the schema that `jaxroute sources` prints, or the database of `jaxroute
    collect`. By default all models in it that the checkpoint does not know are added."""
    models: tuple[str, ...] = ()
    """Only these models of the table; one that the checkpoint knows, say since a new version answers now, is replaced."""
    remove: tuple[str, ...] = ()
    """Models to take out of the checkpoint."""
    shift: bool = False
    """The table holds 10 to 100 prompts of a new kind of traffic with outcomes of every model: move all levels by them."""
    domain: str = ""
    """With --shift: move levels for prompts of this domain alone; default: for all prompts."""
    prices: Path | None = None
    """Dollars per million tokens of the new models, {"model": {"input": 0.2, "output": 0.6}}: where the checkpoint has prices,
    or for a table with tokens and no dollars."""
    option: tuple[str, ...] = ()
    """How the table is read, name=value, as of `jaxroute train`: scale=10, clip, repeats=mean."""
    output: Path | None = None
    """Folder of the new checkpoint; default: the same one, which is replaced when the new one is complete."""
    encoder: str | None = None
    """Where the checkpoint's encoder lies now, if it has moved."""

    def __post_init__(self) -> None:
        problems = []
        if self.table is None and not self.remove:
            problems.append("give --table with the graded answers of a new model, or --remove with models to take out")
        if self.table is None and (self.models or self.shift or self.prices or self.option):
            problems.append("--models, --shift, --prices and --option go with --table")
        if self.shift and self.models:
            problems.append("--shift moves all models, --models adds some: run the command twice")
        if self.domain and not self.shift:
            problems.append("--domain goes with --shift")
        if both := sorted(set(self.models) & set(self.remove)):
            problems.append(f"{listed(both)} is in --models and in --remove: to replace a model, name it in --models alone")
        if problems:
            raise JaxrouteError("; ".join(problems))


def main(config: Annotated[Extend, tyro.conf.arg(name="")]) -> Predictor:
    """Add models to a checkpoint from a few graded answers each."""
    output = config.output or config.checkpoint
    check_folder("output", output, ours=is_estimator)
    predictor = load(config.checkpoint, encoder=config.encoder)
    if not isinstance(predictor, Predictor):
        raise RouterError(
            f"checkpoint={str(config.checkpoint)!r} holds the router {predictor.name!r}, which learns all models at once; only "
            "a predictor is extended. Put the new outcomes into its table and run `jaxroute train` with the same --router again"
        )
    if config.remove:
        predictor = without(predictor, config.remove)
        print(f"removed: {listed(config.remove)}")
    if config.table is not None:
        table = chosen_table(config.table, None, None, config.option, prices=config.prices)
        predictor = _shifted(predictor, table, config) if config.shift else _extended(predictor, table, config)
    predictor.save(output)
    print(f"checkpoint with {len(predictor.models)} models written to {output}/")
    return predictor


def _extended(predictor: Predictor, table: RoutingTable, config: Extend) -> Predictor:
    prices = load_prices(config.prices) if config.prices else None
    predictor, added = extend(predictor, table, models=config.models, prices=prices)
    for one in added:
        if one.probes < FEW_PROBES:
            warnings.warn(
                f"{one.model} has {one.probes} graded answers: its estimates are mostly what other models are like; ask more",
                JaxrouteWarning,
                stacklevel=1,
            )
        print(one)
    if not np.isfinite([one.mean_cost_usd for one in added]).all():
        raise JaxrouteError(f"{table.name}: the costs of {listed(one.model for one in added)} are not known")
    return predictor


def _shifted(predictor: Predictor, table: RoutingTable, config: Extend) -> Predictor:
    predictor, moved = shift(predictor, table, domain=config.domain)
    if few := few_prompts(moved.models, moved.outcomes):
        warnings.warn(few, JaxrouteWarning, stacklevel=1)
    print(moved)
    print("expected costs are as before")
    return predictor
