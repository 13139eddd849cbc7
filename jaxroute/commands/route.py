"""`jaxroute route`: prompts in, a model for each within a budget out."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from jaxroute.batch.assigning import AssignShards, assign_shards
from jaxroute.data.estimates import Estimator
from jaxroute.data.prompts import read_prompts
from jaxroute.encoders.scoring_config import ScoringConfig
from jaxroute.errors import TableError
from jaxroute.guarantees.safe_choice import unknown_words
from jaxroute.routing.assignment_files import write_routed
from jaxroute.routing.request import DEFAULT_SOLVER, RouteRequest
from jaxroute.storage.files import check_file


@dataclass(frozen=True)
class Route:
    """Assign every prompt of a file, or of scored shards, to a model within a budget, with a proof of how near to the best."""

    request: Annotated[RouteRequest, tyro.conf.arg(name="")]
    checkpoint: Path | None = None
    """Folder that `jaxroute train` or `jaxroute demo` wrote."""
    prompts: Path | None = None
    """.jsonl, .json (an array), .csv or .parquet with a "prompt" or chat "messages" each, an OpenAI batch file, or .txt with a
    prompt per line. Further fields are kept, but for model, estimate and cost_usd, which are set."""
    scored: Path | None = None
    """In place of checkpoint and prompts: the folder that `jaxroute score` wrote. It is read a few times in bounded memory."""
    output: Path | None = None
    """One JSON line per prompt: model, estimated quality, expected cost; default: assignment.jsonl. With --scored a folder of a
    .parquet per shard, where a stopped run resumes; default: runs/route."""
    encoder: str | None = None
    """Where the encoder lies now, if it has moved."""
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    """How prompts are read for an estimate of `jaxroute train`'s predictor."""


def main(config: Annotated[Route, tyro.conf.arg(name="")]) -> None:
    """Assign every prompt of a file, or of scored shards, to a model within a budget."""
    if config.scored is not None:
        _route_shards(config, config.scored)
        return
    if config.checkpoint is None or config.prompts is None:
        raise TableError("give --checkpoint and --prompts, or --scored with the folder that `jaxroute score` wrote")
    from jaxroute.routing.router import Router

    output = config.output or Path("assignment.jsonl")
    check_file("output", output, source=config.prompts)
    prompts = read_prompts(config.prompts)
    router = Router.load(config.checkpoint, encoder=config.encoder)
    if config.scoring != ScoringConfig():
        router.estimator = _reading(router.estimator, config.scoring)
    routed = router.route_in_full(prompts.queries, config.request)
    write_routed(output, prompts.fields, routed.assignment, routed.estimates)
    if routed.cut:
        print(f"{routed.cut} prompts were longer than the encoder reads and were cut for the estimate")
    print(*routed.notes, sep="\n", end="\n" * bool(routed.notes))
    if routed.unknown:
        print(unknown_words(routed.unknown, len(prompts.fields), config.request.unknown_below))
    print(f"expected cost: {routed.assumption}")
    print(routed.assignment)
    for column, model in enumerate(routed.models):
        print(f"  {model:<46} {(routed.assignment.choice == column).sum():>7,} prompts")
    print(f"written to {output}")


def _reading(estimator: Estimator, scoring: ScoringConfig) -> Estimator:
    """The same estimator, which reads prompts so. Raises `TableError` for one that is no predictor."""
    from jaxroute.encoders.features import prompt_features
    from jaxroute.predictor.predictor import Predictor

    if not isinstance(estimator, Predictor):
        raise TableError("scoring: the checkpoint is of another router than the predictor: leave its options out")
    return estimator.reading(partial(prompt_features, scoring=scoring))


def _route_shards(config: Route, scored: Path) -> None:
    """What cannot be asked of shards is rejected by name."""
    request, problems = config.request, []
    if config.checkpoint is not None or config.prompts is not None or config.encoder is not None:
        problems.append("checkpoint, prompts and encoder: --scored has their estimates already, leave them out")
    if config.scoring != ScoringConfig():
        problems.append("scoring: --scored has estimates already; give it to `jaxroute score`")
    if request.prices is not None or request.output_tokens is not None:
        problems.append(
            "prices and output_tokens: the shards hold dollars already; give prices to `jaxroute score`'s checkpoint"
        )
    if request.solver != DEFAULT_SOLVER:
        problems.append(f"solver={request.solver}: shards have one solver, leave it out")
    if problems:
        raise TableError("; ".join(problems))
    output = config.output or Path("runs/route")
    asked = AssignShards(
        scored,
        None,
        output,
        budget_usd=request.budget_usd,
        minimum_mean=request.minimum_quality,
        multiplier=request.multiplier,
        capacity=request.capacity,
        allow_unanswered=request.allow_unanswered,
        models=request.models,
    )
    print(f"results go to {output}/")
    print(*assign_shards(asked).lines, sep="\n")
    print(f"written to {output}/: a .parquet per shard, summary.json")
