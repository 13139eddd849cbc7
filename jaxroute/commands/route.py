"""`jaxroute route`: prompts in, a model for each within a budget out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxroute.commands.assign import read_capacity
from jaxroute.data.prices import load_prices
from jaxroute.data.prompts import read_prompts
from jaxroute.routing.router import Router, write_assignment
from jaxroute.storage.files import check_file


@dataclass(frozen=True)
class Route:
    """Assign every prompt of a file to a model within a budget, with a proof of how near to the best."""

    checkpoint: Path
    """Folder that `jaxroute train` or `jaxroute demo` wrote."""
    prompts: Path
    """.jsonl, .json (an array), .csv or .parquet with a "prompt" or chat "messages" each, an OpenAI batch file, or .txt with a
    prompt per line. Further fields are kept, but for model, estimate and cost_usd, which are set."""
    budget_usd: float | None = None
    """Dollars for all prompts together."""
    minimum_quality: float | None = None
    """Instead of a budget: the mean estimated quality to reach, in [0, 1], at the least cost."""
    output: Path = Path("assignment.jsonl")
    """One JSON line per prompt: model, estimated quality, expected cost."""
    solver: Literal["auto", "lagrangian", "exact", "greedy_ratio"] = "lagrangian"
    """How to assign."""
    models: tuple[str, ...] | None = None
    """Only these models of the checkpoint; default: all."""
    capacity: tuple[str, ...] = ()
    """MODEL=COUNT for every model that takes only so many prompts."""
    allow_unanswered: bool = False
    """Leave prompts without an answer (model null) where the budget or the capacities do not reach."""
    prices: Path | None = None
    """A price list in place of the checkpoint's."""
    output_tokens: float | None = None
    """Expected tokens of an answer, of every model and to every prompt; default: what training learnt of them."""
    encoder: str | None = None
    """Where the encoder lies now, if it has moved."""


def main(config: Annotated[Route, tyro.conf.arg(name="")]) -> None:
    """Assign every prompt of a file to a model within a budget."""
    check_file("output", config.output)
    prompts = read_prompts(config.prompts)
    router = Router.load(config.checkpoint, encoder=config.encoder)
    prices = load_prices(config.prices, config.models or router.models) if config.prices else None
    routed = router.route_in_full(
        prompts.texts,
        budget_usd=config.budget_usd,
        minimum_quality=config.minimum_quality,
        capacity=read_capacity(config.capacity, router.models) if config.capacity else None,
        allow_unanswered=config.allow_unanswered,
        solver=config.solver,
        models=config.models,
        prices=prices,
        output_tokens=config.output_tokens,
    )
    write_assignment(config.output, prompts.fields, routed.models, routed.assignment, routed.estimates, routed.cost_usd)
    if routed.cut:
        print(f"{routed.cut} prompts were longer than the encoder reads and were cut for the estimate")
    print(f"expected cost: {routed.assumption}")
    print(routed.assignment)
    for column, model in enumerate(routed.models):
        print(f"  {model:<46} {(routed.assignment.choice == column).sum():>7,} prompts")
    print(f"written to {config.output}")
