"""`jaxroute prepare`: training questions that are worth asking, new ones, and none of the test set's."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from jaxroute.collect.preparation.decontaminating import DecontaminateConfig, overlap, report_rows
from jaxroute.collect.preparation.filtering import filter_rows, join_with_table, read_with_quality
from jaxroute.collect.preparation.generating import GenerateConfig, Generated, Seeds, generate
from jaxroute.collect.preparation.rows import write_rows
from jaxroute.data.prompts import read_prompts
from jaxroute.data.sources import chosen_table
from jaxroute.endpoints import ClientConfig, Endpoint, load_models
from jaxroute.errors import CollectError, JaxrouteWarning, counted, shortened
from jaxroute.storage.files import check_file

DEMO_FOLDER = Path("runs/prepare-demo")
DEMO_SEEDS = 40
DEMO_MODEL = "sim-medium"
DEMO_FAULTS = ("rate_limit=0.1", "server_error=0.1")
DEMO_BUDGET_USD = 1.0
DEMO_ADDRESS = "http://simulated/v1"
"""What the demo's database knows the simulated endpoint as: its port differs from run to run."""
EXAMPLES = 3


@dataclass(frozen=True)
class Filter:
    """Keep the questions that a reference model fails, and a random share of the others."""

    output: Path
    """Where the kept questions go, as JSON lines for `jaxroute collect`; "kept" in each says failed or drawn."""
    prompts: Path | None = None
    """The questions, a prompt file with whatever else their rows hold, which is kept. Without it, the table's own."""
    quality_column: str | None = None
    """The column of --prompts with the reference model's quality, from 0 to 1; empty: not known."""
    table: Path | None = None
    """Instead of a column: a table of outcomes, also a database of `jaxroute collect`, joined by id or else by text."""
    reference_model: str | None = None
    """The model of the table that should fail: usually your best one, or the one that you would replace."""
    option: tuple[str, ...] = ()
    """Options of the table's loader, name=value, such as scale=10."""
    threshold: float = 0.5
    """A lower quality is a failure; for graded quality perhaps 0.75."""
    share: float | None = None
    """Which share of the others to keep; default 0.179, as Routoo: 10,000 of 55,789."""
    count: int | None = None
    """Instead of a share: how many of the others to keep."""
    seed: int = 0
    """Of the draw."""


@dataclass(frozen=True)
class Generate:
    """Write new questions in the manner of given ones, by a model of models.yaml, within a budget."""

    output: Path | None = None
    """Where the questions go, as JSON lines for `jaxroute collect`."""
    seeds: Path | None = None
    """The given questions, a prompt file. Where they have domains, each request shows examples of one, and the new
    ones get it."""
    models: Path | None = None
    """models.yaml: addresses and prices; see docs/endpoints.md."""
    model: str | None = None
    """The model of it that writes."""
    budget_usd: float | None = None
    """What all runs on the database may spend together, dollars."""
    database: Path | None = None
    """Where replies are kept with their money; default: beside the output, with .db. The same command resumes from it."""
    demo: bool = False
    """A simulated model and seeds come with it; no key, no network, no dollars. Writes to runs/prepare-demo/."""
    writing: Annotated[GenerateConfig, tyro.conf.arg(name="")] = field(default_factory=GenerateConfig)
    client: Annotated[ClientConfig, tyro.conf.arg(name="")] = field(default_factory=ClientConfig)


@dataclass(frozen=True)
class Decontaminate:
    """Drop the prompts that overlap with test files, and report which, with what, and how much."""

    prompts: Path
    """The prompts to clean, a prompt file."""
    against: tuple[Path, ...]
    """One or more prompt files of tests."""
    output: Path
    """Where the others go, as JSON lines."""
    report: Path | None = None
    """Where a line goes for each prompt that was dropped, with the test text; default: beside the output, with
    .overlap.jsonl."""
    overlap: Annotated[DecontaminateConfig, tyro.conf.arg(name="")] = field(default_factory=DecontaminateConfig)


Job = (
    Annotated[Filter, tyro.conf.subcommand("filter", prefix_name=False)]
    | Annotated[Generate, tyro.conf.subcommand("generate", prefix_name=False)]
    | Annotated[Decontaminate, tyro.conf.subcommand("decontaminate", prefix_name=False)]
)


def main(config: Annotated[Job, tyro.conf.arg(name="")]) -> None:
    """Prepare training questions; raises before anything is asked or written if anything is wrong."""
    if isinstance(config, Filter):
        _filter(config)
    elif isinstance(config, Generate):
        _generate(config)
    else:
        _decontaminate(config)


def _filter(config: Filter) -> None:
    if (config.quality_column is None) == (config.table is None):
        raise CollectError(
            "give either --prompts FILE with --quality-column COLUMN, or --table FILE with --reference-model MODEL"
        )
    if config.quality_column is not None and config.prompts is None:
        raise CollectError(f"quality_column={config.quality_column!r} goes with --prompts, the file that holds it")
    if (config.table is None) != (config.reference_model is None):
        raise CollectError("--table and --reference-model go together: which model of the table should fail?")
    _check_output("output", config.output, config.prompts, config.table)
    if config.table is not None and config.reference_model is not None:
        table = chosen_table(config.table, None, None, config.option, paid=False)
        rows, quality = join_with_table(table, config.reference_model, config.prompts)
    else:
        assert config.prompts is not None and config.quality_column is not None
        if config.option:
            raise CollectError(f"option={config.option[0]!r} goes with --table")
        rows, quality = read_with_quality(config.prompts, config.quality_column)
    kept = filter_rows(rows, quality, threshold=config.threshold, share=config.share, count=config.count, seed=config.seed)
    if not kept.rows:
        raise CollectError(f"nothing is left of {counted(len(rows), 'question')}: {kept}")
    print(kept)
    write_rows(config.output, kept.rows)
    print(f"written to {config.output}")


def _generate(config: Generate) -> None:
    if config.demo:
        _generate_demo(config)
        return
    names = ("output", "seeds", "models", "model", "budget_usd")
    if missing := [name for name in names if getattr(config, name) is None]:
        given = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise CollectError(f"{given}: give {'them' if len(missing) > 1 else 'it'}, or --demo for an example")
    assert config.output and config.seeds and config.models and config.model and config.budget_usd is not None
    database = config.database or config.output.with_suffix(".db")
    _check_output("output", config.output, config.seeds, config.models, database)
    _check_output("database", database, config.seeds, config.models)
    endpoints = load_models(config.models)
    given = read_prompts(config.seeds)
    seeds = Seeds(given.texts, given.domains)
    _write(config, config.output, database, seeds, config.model, endpoints, config.budget_usd, config.client)


def _generate_demo(config: Generate) -> None:
    """A simulated writer that sometimes fails, on questions of the simulated table."""
    if given := [name for name in ("seeds", "models", "model") if getattr(config, name) is not None]:
        raise CollectError(f"--demo brings its own {', '.join(given)}: leave --{given[0]} out, or --demo")
    from jaxroute.data.sources.simulated import load_simulated
    from jaxroute.simulation import SimulationConfig, serving_in_thread, simulated_endpoints

    output = config.output or DEMO_FOLDER / "questions.jsonl"
    database = config.database or output.with_suffix(".db")
    _check_output("output", output, database)
    _check_output("database", database)
    database.parent.mkdir(parents=True, exist_ok=True)
    table = load_simulated(queries=DEMO_SEEDS)
    behaviour = SimulationConfig(time_scale=0.0, faults=DEMO_FAULTS, retry_after_seconds=0.05)
    print(f"a simulation: {DEMO_MODEL} writes questions in the manner of {DEMO_SEEDS} others; every fifth request fails")
    with serving_in_thread(behaviour) as simulation:
        budget = DEMO_BUDGET_USD if config.budget_usd is None else config.budget_usd
        client = replace(config.client, backoff_seconds=0.05)
        names = simulated_endpoints(DEMO_ADDRESS)
        seeds = Seeds(table.prompts, table.domains)
        _write(config, output, database, seeds, DEMO_MODEL, simulation.endpoints(), budget, client, names)


def _write(
    config: Generate,
    output: Path,
    database: Path,
    seeds: Seeds,
    model: str,
    endpoints: dict[str, Endpoint],
    budget_usd: float,
    client: ClientConfig,
    identities: dict[str, Endpoint] | None = None,
) -> None:
    from tqdm import tqdm

    with tqdm(total=config.writing.count, desc="writing", unit=" questions") as bar:

        def show(found: Generated) -> None:
            bar.update(len(found.questions) - bar.n)
            bar.set_postfix_str(f"{found.spent_usd:.4f} dollars")

        found = generate(
            seeds,
            model,
            endpoints,
            database,
            budget_usd,
            config.writing,
            client,
            identities=identities,
            progress=show,
            say=partial(tqdm.write, file=sys.stderr),
        )
    if not found.questions:
        raise CollectError(f"no question was written: {found}")
    print(found)
    for row in found.questions[:EXAMPLES]:
        print(f"  {shortened(row['prompt'], quoted=False)}")
    write_rows(output, found.questions)
    print(f"written to {output}; replies and dollars are in {database}")


def _decontaminate(config: Decontaminate) -> None:
    from tqdm import tqdm

    report = config.report or config.output.with_suffix(".overlap.jsonl")
    _check_output("output", config.output, config.prompts, *config.against)
    _check_output("report", report, config.prompts, *config.against, config.output)
    if not config.against:
        raise CollectError("against: give at least one file of test prompts")
    prompts, tests = read_prompts(config.prompts), [read_prompts(path) for path in config.against]
    for path in config.against:
        if path.samefile(config.prompts):
            raise CollectError(f"against={str(path)!r} is the file that is cleaned: nothing would be left")
    texts = [text for one in tests for text in one.texts]
    places = [f"{path}: {place}" for path, one in zip(config.against, tests, strict=True) for place in one.places]
    with tqdm(total=len(prompts.texts), desc="comparing", unit=" prompts") as bar:

        def show(done: int) -> None:
            bar.update(done - bar.n)

        found = overlap(prompts.texts, texts, config.overlap, progress=show)
    dropped = {match.prompt for match in found.matches}
    print(found)
    rows = report_rows(found, prompts.texts, texts, prompts.places, places)
    for row in rows[:EXAMPLES]:
        print(f"  {row['prompt_place']} and {row['test_place']}: {row['how']}, similarity {row['similarity']:.2f}")
        print(f"    {shortened(row['prompt'], quoted=False)}\n    {shortened(row['test'], quoted=False)}")
    if len(dropped) == len(prompts.texts):
        warnings.warn(f"every prompt of {config.prompts} overlaps with the tests", JaxrouteWarning, stacklevel=2)
    write_rows(config.output, [row for number, row in enumerate(prompts.fields) if number not in dropped])
    write_rows(report, rows)
    print(f"{counted(len(prompts.texts) - len(dropped), 'prompt')} written to {config.output}, the overlaps to {report}")


def _check_output(name: str, path: Path, *others: Path | None) -> None:
    """Raise where nothing could be written to `path`, or it is another file of the command."""
    check_file(name, path)
    if name != "database" and path.suffix != ".jsonl":
        # By its suffix it would be read as something else.
        raise CollectError(f"{name}={str(path)!r} must end in .jsonl: rows are written as JSON lines")
    for other in others:
        if other is not None and path.resolve() == other.resolve():
            raise CollectError(f"{name}={str(path)!r} is another file of this command: give another name")
