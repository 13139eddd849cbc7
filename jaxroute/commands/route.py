"""`jaxroute route`: prompts in, a model for each within a budget out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxroute.data.prompts import read_prompts
from jaxroute.guarantees.safe_choice import unknown_words
from jaxroute.routing.assignment_files import write_routed
from jaxroute.routing.request import RouteRequest
from jaxroute.routing.router import Router
from jaxroute.storage.files import check_file


@dataclass(frozen=True)
class Route:
    """Assign every prompt of a file to a model within a budget, with a proof of how near to the best."""

    checkpoint: Path
    """Folder that `jaxroute train` or `jaxroute demo` wrote."""
    prompts: Path
    """.jsonl, .json (an array), .csv or .parquet with a "prompt" or chat "messages" each, an OpenAI batch file, or .txt with a
    prompt per line. Further fields are kept, but for model, estimate and cost_usd, which are set."""
    request: Annotated[RouteRequest, tyro.conf.arg(name="")]
    output: Path = Path("assignment.jsonl")
    """One JSON line per prompt: model, estimated quality, expected cost."""
    encoder: str | None = None
    """Where the encoder lies now, if it has moved."""


def main(config: Annotated[Route, tyro.conf.arg(name="")]) -> None:
    """Assign every prompt of a file to a model within a budget."""
    check_file("output", config.output, source=config.prompts)
    prompts = read_prompts(config.prompts)
    router = Router.load(config.checkpoint, encoder=config.encoder)
    routed = router.route_in_full(prompts.queries, config.request)
    write_routed(config.output, prompts.fields, routed.assignment, routed.estimates)
    if routed.cut:
        print(f"{routed.cut} prompts were longer than the encoder reads and were cut for the estimate")
    if routed.unknown:
        print(unknown_words(routed.unknown, len(prompts.fields), config.request.unknown_below))
    print(f"expected cost: {routed.assumption}")
    print(routed.assignment)
    for column, model in enumerate(routed.models):
        print(f"  {model:<46} {(routed.assignment.choice == column).sum():>7,} prompts")
    print(f"written to {config.output}")
