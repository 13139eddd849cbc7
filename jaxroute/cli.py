"""The command line: demo, train, score, route, evaluate, assign, universe, sources, made from the configurations."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal

import jax
import tyro

from jaxroute import assign, demo, evaluate, score_files, universe
from jaxroute.assign import read_capacity
from jaxroute.cache import keep_compiled
from jaxroute.checkpoint import Checkpoint, is_checkpoint, save_checkpoint
from jaxroute.contest import ContestConfig
from jaxroute.errors import JaxrouteError, PromptError, RouterError, SourceError
from jaxroute.files import check_file, check_folder
from jaxroute.fitting import check_trainable
from jaxroute.prices import ROUTOO_TABLE_1, PriceList, load_prices, priced
from jaxroute.router import Router, write_assignment
from jaxroute.routers import find_router, is_router
from jaxroute.sources import SCHEMA, SOURCES, chosen_table
from jaxroute.sources.fetch import PUBLISHED, fetch
from jaxroute.sources.simulated import simulated_prices
from jaxroute.train_config import TrainConfig, described
from jaxroute.training import train, train_costs
from solvers import ProblemError

BAD_INPUT = 2
INTERRUPTED = 130


@dataclass(frozen=True)
class Train:
    """Train a predictor on a table of outcomes and write a checkpoint."""

    output: Path
    """Folder of the checkpoint; what stands there is replaced when the new one is whole. Training the encoder keeps its state
    and metrics.jsonl in a folder of the same name with -state added: the same command goes on from there after a stop."""
    table: Path | None = None
    """Your own outcomes: .csv, .jsonl or .parquet in the schema that `jaxroute sources` prints."""
    source: str | None = None
    """Instead of --table: a published format, see `jaxroute sources`."""
    path: Path | None = None
    """Where the source's files lie."""
    prices: Path | None = None
    """JSON, {"model": {"input": 0.2, "output": 0.6}} in dollars per million tokens. Default: the source's own list; for a
    table without one, an answer is taken to cost its model's mean."""
    router: str = "predictor"
    """Another router, as `jaxroute evaluate --router list` prints them, with its options as in knn:neighbours=5, or a .py file
    of your own. The options below are the predictor's."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class Route:
    """Assign every prompt of a file to a model within a budget, with a proof of how near to the best."""

    checkpoint: Path
    """Folder that `jaxroute train` or `jaxroute demo` wrote."""
    prompts: Path
    """JSON lines with a "prompt" each, or plain text with a prompt per line (.txt). Further fields are kept, but for model,
    estimate and cost_usd, which are set."""
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


@dataclass(frozen=True)
class Sources:
    """List the sources of outcomes and the schema of your own, or fetch published files."""

    action: Annotated[Literal["list", "fetch"], tyro.conf.Positional] = "list"
    """`list`, or `fetch NAME`."""
    name: Annotated[str | None, tyro.conf.Positional] = None
    """The source to fetch, such as routellm-mmlu."""
    output: Path = Path("data")
    """Folder to fetch into."""
    mirror: str | None = None
    """Another base address that serves the same files under the same paths."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; bad input ends with a message and exit status 2, and nothing is written."""
    tyro.extras.subcommand_cli_from_dict(
        {
            "demo": _demo,
            "train": _train,
            "score": _score,
            "route": _route,
            "evaluate": _evaluate,
            "assign": _assign,
            "universe": _universe,
            "sources": _sources,
        },
        args=arguments,
        prog="jaxroute",
        description="Assign every prompt to a language model so that total quality is highest within a budget.",
    )


def run() -> None:
    """The console script."""
    keep_compiled()
    try:
        main()
    except (JaxrouteError, ProblemError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        print("interrupted; what is done is kept, so the same command goes on from there", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _demo(config: Annotated[demo.DemoConfig, tyro.conf.arg(name="")]) -> None:
    """The whole line on a simulated pool, in a few minutes and without any download."""
    demo.main(config)


def _train(config: Annotated[Train, tyro.conf.arg(name="")]) -> None:
    """Train a predictor, or another router, on a table of outcomes and write a checkpoint."""
    if config.router != "predictor":
        _train_router(config)
        return
    check_folder("output", config.output, ours=is_checkpoint)
    table = chosen_table(config.table, config.source, config.path)
    check_trainable(table, config.config)
    state = config.output.with_name(config.output.name + "-state")
    prices: PriceList | None = load_prices(config.prices) if config.prices else _own_prices(config.source)
    if prices is not None:
        priced(prices, table.models)
    print(table)
    predictor, report = train(table, config.config, state=state)
    if jax.process_index() > 0:
        return
    print(report)
    pricing, learned = train_costs(table, prices, predictor, config.config)
    print(*learned, sep="\n", end="\n" * bool(learned))
    about = {"trained_on": table.name, "queries": len(table), "held_out_log_loss": report.held_out_loss}
    about["training"] = described(config.config)
    save_checkpoint(config.output, Checkpoint(predictor=predictor, pricing=pricing, about=about))
    print(f"checkpoint written to {config.output}/")


def _train_router(config: Train) -> None:
    given = [one.name for one in fields(TrainConfig) if getattr(config.config, one.name) != getattr(TrainConfig(), one.name)]
    if given or config.prices:
        raise RouterError(
            f"router={config.router!r} reads none of {', '.join(given + ['prices'] * bool(config.prices))}, which are the "
            "predictor's; give its own options as in NAME:option=value"
        )
    kind = find_router(config.router)
    check_folder("output", config.output, ours=is_router)
    if kind.hindsight:
        raise RouterError(f"router={config.router!r} looks at the outcomes of what it answers: it can only be evaluated")
    table = chosen_table(config.table, config.source, config.path)
    print(table)
    trained = kind.fit(table)
    trained.save(config.output)
    print(trained.note, end="\n" * bool(trained.note))
    print(f"checkpoint written to {config.output}/")


def _score(config: Annotated[score_files.ScoreConfig, tyro.conf.arg(name="")]) -> None:
    """Estimate the quality of every model on every prompt of a file, of any size."""
    score_files.main(config)


def _route(config: Annotated[Route, tyro.conf.arg(name="")]) -> None:
    """Assign every prompt of a file to a model within a budget."""
    check_file("output", config.output)
    rows = read_prompts(config.prompts)
    prices = load_prices(config.prices) if config.prices else None
    router = Router.load(config.checkpoint, encoder=config.encoder)
    routed = router.route_in_full(
        [row["prompt"] for row in rows],
        budget_usd=config.budget_usd,
        minimum_quality=config.minimum_quality,
        capacity=read_capacity(config.capacity, router.models) if config.capacity else None,
        allow_unanswered=config.allow_unanswered,
        solver=config.solver,
        models=config.models,
        prices=prices,
        output_tokens=config.output_tokens,
    )
    write_assignment(config.output, rows, routed.models, routed.assignment, routed.estimates, routed.cost_usd)
    if routed.cut:
        print(f"{routed.cut} prompts were longer than the encoder reads and were cut for the estimate")
    print(f"expected cost: {routed.assumption}")
    print(routed.assignment)
    for column, model in enumerate(routed.models):
        print(f"  {model:<46} {(routed.assignment.choice == column).sum():>7,} prompts")
    print(f"written to {config.output}")


def _evaluate(
    rows: Annotated[ContestConfig, tyro.conf.arg(name="")],
    config: Annotated[evaluate.EvaluateConfig, tyro.conf.arg(name="")],
) -> None:
    """Train routers on outcomes, judge them on others, and write a report, a table and its numbers."""
    evaluate.main(rows, config)


def _assign(config: Annotated[assign.AssignConfig, tyro.conf.arg(name="")]) -> None:
    """Assign queries to models from files of estimates and costs; no predictor needed."""
    assign.main(config)


def _universe(config: Annotated[universe.UniverseConfig, tyro.conf.arg(name="")]) -> None:
    """Choose the models worth serving from a table of outcomes."""
    universe.main(config)


def _sources(config: Annotated[Sources, tyro.conf.arg(name="")]) -> None:
    """List the sources of outcomes and the schema of your own, or fetch published files."""
    if config.action == "list" and config.name:
        raise SourceError(f"name={config.name!r} goes with fetch: jaxroute sources fetch {config.name}")
    if config.action == "fetch":
        if config.name is None:
            raise SourceError(f"fetch needs the name of a source; known are {', '.join(PUBLISHED)}")
        folder = fetch(config.name, config.output, mirror=config.mirror)
        print(f"{config.name} is in {folder}/")
        return
    for name, source in SOURCES.items():
        fetchable = f"\n    fetch: jaxroute sources fetch {name}" if name in PUBLISHED else ""
        print(f"{name}\n    holds: {source.holds}\n    from:  {source.origin}\n    path:  {source.path}{fetchable}")
    print(f"\nschema of `table`\n{SCHEMA}")


def read_prompts(path: Path) -> list[dict]:
    """Rows with at least a prompt; raises `PromptError` listing every line that has none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"prompts={str(path)!r} cannot be read: {error}") from error
    if path.suffix == ".txt":
        rows = [{"prompt": line} for line in lines if line.strip()]
    else:
        rows, wrong = [], []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict) and isinstance(row.get("prompt"), str) and row["prompt"].strip():
                rows.append(row)
            else:
                wrong.append(str(number))
        if wrong:
            shown = ", ".join(wrong[:20]) + (", ..." if len(wrong) > 20 else "")
            raise PromptError(
                f'prompts={str(path)!r}: every line must be a JSON object whose "prompt" is a text and not empty (or name '
                f"the file .txt and give a prompt per line); wrong: line {shown}"
            )
    if not rows:
        raise PromptError(f"prompts={str(path)!r} holds no prompt")
    return rows


def _own_prices(source: str | None) -> PriceList | None:
    """The list that a source's costs were made with, where there is one."""
    if source == "simulated":
        return simulated_prices()
    return ROUTOO_TABLE_1 if source in ("routellm-mmlu", "routellm-gsm8k", "routerdc") else None
