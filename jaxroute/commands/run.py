"""`jaxroute run`: prompts in, answers out, within a budget that holds for what is really paid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxroute.batch.run_config import RunConfig, RunOptions
from jaxroute.commands.simulate import models_yaml
from jaxroute.data.sources.simulated import load_simulated
from jaxroute.errors import OutputError
from jaxroute.progress import without_bars
from jaxroute.simulation import SimulationConfig, serving_in_thread
from jaxroute.storage.files import check_folder, replacing

DEMO = Path("runs/run-demo")
DEMO_QUERIES, DEMO_TRAINING, DEMO_USD = 200, 600, 0.1
DEMO_MARK = "of_jaxroute_run_demo"
"""A file in a demo's folder: what lies beside it may be replaced."""
DEMO_FAULTS = ("rate_limit=0.05", "server_error=0.05", "cut=0.02")


@dataclass(frozen=True)
class Run:
    """Answer every prompt of a file within a budget.

    Models are chosen for all prompts together, asked, and chosen again as true costs come in: what answers save buys quality,
    what they cost too much is paid by cheaper models. The worst case of each call is held before it starts, so the budget is
    never exceeded. Stopped at any moment, the same command resumes; nothing is asked or paid twice.
    """

    checkpoint: Path | None = None
    """Folder that `jaxroute train` or `jaxroute demo` wrote."""
    prompts: Path | None = None
    """.jsonl, .json (an array), .csv or .parquet with a "prompt" or chat "messages" each, an OpenAI batch file, or .txt with a
    prompt per line. Further fields are kept."""
    models: Path | None = None
    """models.yaml: where each model is asked, and its prices; see docs/endpoints.md. Names as in the checkpoint."""
    budget_usd: float | None = None
    """Dollars for all calls together, failed ones too."""
    output: Path | None = None
    """One JSON line per prompt, in order; default: answers.jsonl. OUTPUT.db beside it keeps answers and dollars from the first
    call on."""
    options: Annotated[RunOptions, tyro.conf.arg(name="")] = RunOptions()  # noqa: RUF009, frozen
    encoder: str | None = None
    """Where the encoder lies now, if it has moved."""
    demo: bool = False
    """Simulated prompts to simulated models, some of whose calls fail, in a few seconds: no key, no download, nothing paid."""

    def __post_init__(self) -> None:
        needed = {name: getattr(self, name) for name in ("checkpoint", "prompts", "models", "budget_usd")}
        missing = [name for name, value in needed.items() if value is None]
        if missing and not self.demo:
            raise OutputError(f"{', '.join(missing)}: give {'them' if len(missing) > 1 else 'it'}, or --demo for an example")
        given = [name for name in ("checkpoint", "prompts", "models") if needed[name] is not None]
        if given and self.demo:
            raise OutputError(f"{', '.join(given)}: the demo has its own, leave {'them' if len(given) > 1 else 'it'} out")


def main(config: Annotated[Run, tyro.conf.arg(name="")]) -> None:
    """Answer every prompt of a file within a budget."""
    if config.demo:
        with _demo(config) as made:
            _answer(made)
        return
    assert config.checkpoint and config.prompts and config.models and config.budget_usd is not None
    output = config.output or Path("answers.jsonl")
    _answer(
        RunConfig(config.checkpoint, config.prompts, config.models, config.budget_usd, output, config.options, config.encoder)
    )


def _answer(config: RunConfig) -> None:
    from jaxroute.batch.prepare import prepare
    from jaxroute.batch.runs import run

    prepared = prepare(config)
    for note in prepared.notes:
        print(f"note: {note}")
    print(f"expected cost: {prepared.estimates.assumption}")
    print(f"asking {len(prepared.endpoints)} models; answers and dollars are kept in {config.state}", flush=True)
    print(run(prepared))
    print(f"written to {config.output}")


@contextmanager
def _demo(config: Run) -> Iterator[RunConfig]:
    """A small run of its own: an estimator trained on simulated outcomes, and endpoints that serve the simulated pool."""
    from jaxroute.predictor.pricing import CostModel, table_pricing
    from jaxroute.routers.base import find_router

    output = config.output or DEMO / "answers.jsonl"
    folder = output.parent
    budget = DEMO_USD if config.budget_usd is None else config.budget_usd
    made = RunConfig(folder / "checkpoint", folder / "prompts.jsonl", folder / "models.yaml", budget, output, config.options)
    check_folder("output", folder, ours=_is_demo)
    table = load_simulated(queries=DEMO_TRAINING + DEMO_QUERIES, seed=config.options.seed)
    train, test = (table.select(list(rows)) for rows in (range(DEMO_TRAINING), range(DEMO_TRAINING, len(table))))
    print(f"A simulation: ten invented models, {len(test)} templated questions. Everything goes to {folder}/")
    print(f"Training a router on {len(train)} others first.", flush=True)
    with without_bars():
        estimator = find_router("domain_mean").fit(train, costs=CostModel(table_pricing(train, None)))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DEMO_MARK).touch()
    estimator.save(folder / "checkpoint")
    with replacing(folder / "prompts.jsonl") as partial, partial.open("w", encoding="utf-8") as file:
        for prompt, domain in zip(test.prompts, test.domains, strict=True):
            file.write(json.dumps({"prompt": prompt, "domain": domain}) + "\n")
    with serving_in_thread(SimulationConfig(time_scale=0.02, faults=DEMO_FAULTS, retry_after_seconds=0.1), table) as simulation:
        with replacing(folder / "models.yaml") as partial:
            partial.write_text(models_yaml(simulation.base_url))
        # Every demo has endpoints of its own, so it begins anew.
        for suffix in ("", "-wal", "-shm"):
            made.state.with_name(made.state.name + suffix).unlink(missing_ok=True)
        yield made


def _is_demo(folder: Path) -> bool:
    return (folder / DEMO_MARK).is_file()
