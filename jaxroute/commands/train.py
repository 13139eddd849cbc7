"""`jaxroute train`: a table of outcomes in, a checkpoint out."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro

from jaxroute.data.prices import PriceList, load_prices, priced
from jaxroute.data.sources import chosen_table, makes_dollars, own_prices
from jaxroute.data.table import RoutingTable
from jaxroute.errors import RouterError
from jaxroute.predictor.checkpoint import is_estimator
from jaxroute.predictor.config import TrainConfig
from jaxroute.predictor.fitting import check_trainable
from jaxroute.predictor.training import train, train_costs, with_training_sample
from jaxroute.routers.base import TrainedRouter, find_router
from jaxroute.storage.files import check_folder

LEARNT_FROM = "learnt_from"
"""In an estimator's `about`: the files that the outcomes came from, for `jaxroute probes`."""


@dataclass(frozen=True)
class Train:
    """Train a predictor on a table of outcomes and write a checkpoint."""

    output: Path
    """Folder of the checkpoint; what is there is replaced when the new one is complete. Training the encoder keeps its state
    and metrics.jsonl in a folder of the same name with -state added: the same command resumes from there."""
    table: Path | None = None
    """Your own outcomes: .csv, .jsonl or .parquet in the schema that `jaxroute sources` prints."""
    source: str | None = None
    """Instead of --table: a published format, see `jaxroute sources`."""
    path: Path | None = None
    """Where the source's files lie."""
    option: tuple[str, ...] = ()
    """Options of the source's loader, name=value, such as decontaminate or binary of the published formats, or scale=10, clip
    and repeats=mean of your own table."""
    prices: Path | None = None
    """JSON, {"model": {"input": 0.2, "output": 0.6}} in dollars per million tokens, or the lists of LiteLLM or RouterArena.
    Default: the source's own list; for a table without one, an answer is taken to cost its model's mean."""
    router: str = "predictor"
    """Another router, as `jaxroute evaluate --router list` prints them, with its options as in knn:neighbours=5, or a .py file
    of your own. The options below are the predictor's."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)


def main(config: Annotated[Train, tyro.conf.arg(name="")]) -> None:
    """Train a predictor, or another router, on a table of outcomes and write a checkpoint."""
    if config.router != "predictor":
        _train_router(config)
        return
    check_folder("output", config.output, ours=is_estimator)
    table = _table(config)
    check_trainable(table, config.config)
    state = config.output.with_name(config.output.name + "-state")
    prices = _prices(config, table)
    print(table)
    predictor, report = train(table, config.config, state=state)
    if jax.process_index() > 0:
        return
    print(report)
    pricing, learned = train_costs(table, prices, predictor, config.config)
    print(*learned, sep="\n", end="\n" * bool(learned))
    about = {**predictor.about, LEARNT_FROM: _learnt_from(config)}
    predictor = with_training_sample(replace(predictor, pricing=pricing, about=about), table, report)
    predictor.save(config.output)
    print(f"checkpoint written to {config.output}/")


def _train_router(config: Train) -> None:
    given = [one.name for one in fields(TrainConfig) if getattr(config.config, one.name) != getattr(TrainConfig(), one.name)]
    if given:
        raise RouterError(
            f"router={config.router!r} reads none of {', '.join(given)}, which are the predictor's; give its own options as in "
            "NAME:option=value"
        )
    kind = find_router(config.router)
    check_folder("output", config.output, ours=is_estimator)
    if kind.hindsight:
        raise RouterError(f"router={config.router!r} looks at the outcomes of what it answers: it can only be evaluated")
    table = _table(config)
    prices = _prices(config, table)
    print(table)
    trained = kind.fit(table, prices=prices)
    if isinstance(trained, TrainedRouter):
        trained = replace(trained, about={**trained.about, LEARNT_FROM: _learnt_from(config)})
    trained.save(config.output)
    print(trained.note, end="\n" * bool(trained.note))
    print(f"checkpoint written to {config.output}/")


def _learnt_from(config: Train) -> dict[str, Any]:
    """Where the outcomes lie, so that `jaxroute probes` finds the questions again: a checkpoint keeps no prompts."""
    table, path = (None if one is None else str(one.resolve()) for one in (config.table, config.path))
    return {"table": table, "source": config.source, "path": path, "option": list(config.option)}


def _table(config: Train) -> RoutingTable:
    """A price list also supplies dollars that one's own outcomes lack, and is checked against those that they have."""
    prices = config.prices if makes_dollars(config.source) else None
    return chosen_table(config.table, config.source, config.path, config.option, prices=prices)


def _prices(config: Train, table: RoutingTable) -> PriceList | None:
    """The list that was given, else the source's own; raises `TableError` naming the models that it has no price for."""
    prices = load_prices(config.prices, table.models) if config.prices else own_prices(config.source)
    if prices is not None:
        priced(prices, table.models)
    return prices
