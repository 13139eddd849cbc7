"""`jaxroute guarantee`: outcomes that a router has not seen in, a promise of quality or cost with a confidence out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxroute.data.sources import chosen_table
from jaxroute.guarantees.asked import Asked
from jaxroute.guarantees.out_of_fold import out_of_fold_rows
from jaxroute.guarantees.promise import Promise, make_promise
from jaxroute.guarantees.promise_files import write_promise
from jaxroute.guarantees.rows import calibration_rows
from jaxroute.routers.base import load


@dataclass(frozen=True)
class Guarantee:
    """Choose the price at which a router keeps a promise, and write the promise into its checkpoint.

    The table holds outcomes of every model on prompts like those to come, which the router was not trained on: a few hundred
    to a few thousand. `jaxroute route --guarantee`, `run --promise` and `serve --guarantee` then route at that price.
    """

    checkpoint: Path
    """Folder that `jaxroute train` wrote; promise.json is written into it."""
    asked: Annotated[Asked, tyro.conf.arg(name="")]
    table: Path | None = None
    """Calibration rows: your own outcomes, .csv, .jsonl or .parquet in the schema that `jaxroute sources` prints."""
    source: str | None = None
    """Instead of --table: a published format, see `jaxroute sources`."""
    path: Path | None = None
    """Where the source's files lie."""
    option: tuple[str, ...] = ()
    """Options of the source's loader, name=value, as of `jaxroute train`."""
    prices: Path | None = None
    """A price list, for dollars that your own table lacks."""
    models: tuple[str, ...] = ()
    """Route among these models only, now and wherever the promise is used. Default: all that the checkpoint knows."""
    out_of_fold: bool = False
    """The table is the one that the router was trained on: estimate each part of it by a router trained without it. Needs no
    further outcomes, and is no theorem."""
    encoder: str | None = None
    """Where the encoder lies now, if it has moved."""
    seed: int = 0
    """Of the order of the rows, and of the folds."""


def main(config: Annotated[Guarantee, tyro.conf.arg(name="")]) -> Promise:
    """Make a promise on calibration rows and write it into the checkpoint."""
    estimator = load(config.checkpoint, encoder=config.encoder)
    table = chosen_table(config.table, config.source, config.path, config.option, prices=config.prices)
    rows_of = out_of_fold_rows if config.out_of_fold else calibration_rows
    promise = make_promise(rows_of(estimator, table, config.asked, models=config.models, seed=config.seed), config.asked)
    print(promise)
    print(f"written to {write_promise(config.checkpoint, promise)}")
    return promise
