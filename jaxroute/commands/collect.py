"""`jaxroute collect`: questions and models in, a database of graded answers out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxroute.collect.collecting import CollectConfig, collect
from jaxroute.collect.graders import grader_names
from jaxroute.collect.plans import plan_names
from jaxroute.collect.summary import Summary
from jaxroute.endpoints import ClientConfig
from jaxroute.endpoints.requests import LIMITS, OWN
from jaxroute.errors import CollectError, counted, shortened
from jaxroute.storage.files import check_file, replacing

DEMO_FOLDER = Path("runs/collect-demo")
DEMO_QUESTIONS = 60
DEMO_FAULTS = ("rate_limit=0.05", "server_error=0.05", "cut=0.03", "malformed=0.02")
DEMO_BUDGET_USD = 5.0
MOST_TEMPERATURE = 10.0
DEMO_ADDRESS = "http://simulated/v1"
"""What the demo's database knows the simulated endpoints as: their port differs from run to run."""


@dataclass(frozen=True)
class Collect:
    """Ask every model every question, grade the answers, and keep everything in one database."""

    prompts: Path | None = None
    """The questions: .jsonl, .json (an array), .csv or .parquet with a "prompt" or chat "messages" each, what graders compare
    with in "reference", and perhaps "choices", an id (query_id, id, custom_id) and a "domain"."""
    models: Path | None = None
    """models.yaml: the models that are asked, with addresses and prices; see docs/endpoints.md."""
    grader: str | None = None
    """How answers are graded, with options as in numeric:tolerance=0.01, or a .py file of your own; `list` prints all of them.
    With another grader, stored answers are graded again and not asked again."""
    output: Path | None = None
    """The database, default outcomes.db. What is in it is kept: the same command resumes from it, and `train`, `evaluate` and
    `universe` read it with --table."""
    budget_usd: float | None = None
    """What all runs on this database may spend together, dollars. A larger one continues where the money was short."""
    demo: bool = False
    """Questions and simulated models come with it; no key, no network, no dollars. Writes to runs/collect-demo/."""
    only: tuple[str, ...] = ()
    """Ask only these models of the file; default: all of them."""
    plan: str = "full"
    """Which cells are asked: full, or another plan with its options; `list` prints all of them."""
    cells: int | None = None
    """Of a plan that chooses: how many cells at most."""
    output_tokens: int | None = None
    """How many tokens an answer may have; default: each model's output_tokens in models.yaml. It decides what is reserved."""
    temperature: float | None = None
    """As models are asked; default: what each endpoint takes by itself."""
    logprobs: bool = False
    """Ask for the log-probabilities of the answers' tokens; their mean becomes log_likelihood."""
    request: tuple[str, ...] = ()
    """Further fields of every request, name=value, the value in JSON, such as top_p=0.9 or reasoning_effort=low."""
    concurrency: int | None = None
    """How many requests to one model may be under way; default, and at most, its concurrent_requests."""
    retry_failed: bool = False
    """Ask the calls that failed in an earlier run again."""
    client: Annotated[ClientConfig, tyro.conf.arg(name="")] = field(default_factory=ClientConfig)


def main(config: Annotated[Collect, tyro.conf.arg(name="")]) -> Summary | None:
    """Ask every model every question, grade the answers, and keep everything in one database."""
    for option, names in (("grader", grader_names), ("plan", plan_names)):
        if getattr(config, option) == "list":
            print("\n".join(f"{name:<22} {caption}" for name, caption in names().items()))
            return None
    if config.demo:
        summary, output = _demo(config)
    else:
        missing = [name for name in ("prompts", "models", "grader", "budget_usd") if getattr(config, name) is None]
        if missing:
            given = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
            raise CollectError(f"{given}: give {'them' if len(missing) > 1 else 'it'}, or --demo for an example")
        output = config.output or Path("outcomes.db")
        assert config.prompts and config.models and config.grader and config.budget_usd is not None
        inputs = (config.prompts, config.models, config.grader, output, config.budget_usd)
        summary = collect(_library_config(config, *inputs), config.client)
    print(summary)
    print(
        f"written to {output}"
        + f"; learn from it with: jaxroute train --table {output} --output runs/mine" * bool(summary.graded)
    )
    if not any(one.answered for one in summary.models.values()):
        raise CollectError("no model has answered; the reasons are printed above")
    return summary


def _library_config(
    config: Collect, prompts: Path, models: Path, grader: str, output: Path, budget_usd: float
) -> CollectConfig:
    same = ("only", "plan", "cells", "output_tokens", "concurrency", "retry_failed")
    options = request_options(config)
    return CollectConfig(
        prompts, models, grader, output, budget_usd, options=options, **{name: getattr(config, name) for name in same}
    )


def request_options(config: Collect) -> dict[str, Any]:
    """The further fields of every request. Raises `CollectError` for texts that are none."""
    found: dict[str, Any] = {}
    if config.temperature is not None:
        if not 0 <= config.temperature <= MOST_TEMPERATURE:
            raise CollectError(f"temperature={config.temperature} must be from 0 to {MOST_TEMPERATURE:g}")
        found["temperature"] = config.temperature
    if config.logprobs:
        found["logprobs"] = True
    for one in config.request:
        name, equals, text = one.partition("=")
        if not equals or not name:
            raise CollectError(f"request={shortened(one)} must be name=value, such as top_p=0.9")
        if name in OWN:
            raise CollectError(f"request={shortened(one)}: {name} is set for every question, leave it out")
        if name in LIMITS:
            raise CollectError(f"request={shortened(one)}: give the limit as --output-tokens")
        if name in found:
            raise CollectError(f"request={shortened(one)}: {name} is given twice, give it once")
        try:
            found[name] = json.loads(text)
        except ValueError:
            # A word is a text: reasoning_effort=low.
            found[name] = text
    return found


def _demo(config: Collect) -> tuple[Summary, Path]:
    """Simulated models with some faults, on questions whose right answers the simulation knows."""
    given = [name for name in ("prompts", "models", "grader") if getattr(config, name) is not None]
    if given:
        raise CollectError(f"--demo brings its own {', '.join(given)}: leave --{given[0]} out, or --demo")
    from jaxroute.data.sources.simulated import load_simulated
    from jaxroute.simulation import SimulationConfig, serving_in_thread, simulated_endpoints

    output = config.output or DEMO_FOLDER / "outcomes.db"
    check_file("output", output)
    prompts = output.with_name("demo-questions.jsonl")
    budget = DEMO_BUDGET_USD if config.budget_usd is None else config.budget_usd
    checked = _library_config(config, prompts, Path("models.yaml"), "numeric", output, budget)
    table = load_simulated(queries=DEMO_QUESTIONS)
    behaviour = SimulationConfig(time_scale=0.0, faults=DEMO_FAULTS, retry_after_seconds=0.05)
    with serving_in_thread(behaviour, table) as simulation:
        with replacing(prompts) as partial, partial.open("w", encoding="utf-8") as file:
            for query_id, prompt, domain in zip(table.query_ids, table.prompts, table.domains, strict=True):
                row = {"query_id": query_id, "prompt": prompt, "reference": simulation.pool.reference(prompt), "domain": domain}
                file.write(json.dumps(row) + "\n")
        print(f"a simulation: ten invented models, {counted(len(table), 'question')} in {prompts}; every seventh request fails")
        return collect(
            checked,
            replace(config.client, backoff_seconds=0.05),
            endpoints=simulation.endpoints(),
            identities=simulated_endpoints(DEMO_ADDRESS),
        ), output
