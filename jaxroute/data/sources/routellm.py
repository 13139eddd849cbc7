"""RouteLLM's outcomes of Mixtral 8x7B and GPT-4 Turbo on MMLU and GSM8K, from its CSV files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from jaxroute.data.prices import FLAT_COST_NOTE, ROUTOO_TABLE_1, PriceList, flat_cost_usd
from jaxroute.data.reading import Problems, columns_match, numbers, prompts, read_sheet, texts
from jaxroute.data.table import RoutingTable
from jaxroute.errors import SourceError

MODELS = ["mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"]
SUBJECTS = 57


def load_mmlu(path: Path, *, prices: PriceList = ROUTOO_TABLE_1, decontaminate: bool = False) -> RoutingTable:
    """`path` is the folder with `responses/mmlu_<subject>.csv` for all 57 subjects; the subject is the domain.

    Costs are the models' mean prices, as if a query were a million tokens: the files hold no token counts.
    `decontaminate` drops the prompts in `contaminated_prompts.jsonl`, as RouteLLM's evaluation does.
    """
    problems = Problems(path, "RouteLLM's folder evals/mmlu")
    files = sorted((path / "responses").glob("mmlu_*.csv"))
    if len(files) != SUBJECTS:
        problems.add(f"{path / 'responses'} holds {len(files)} files mmlu_<subject>.csv, expected {SUBJECTS}")
    leaked = _leaked(path, problems) if decontaminate else set()
    found: list[str] = []
    domains: list[str] = []
    qualities: list[np.ndarray] = []
    for file in files:
        inner = Problems(file, "RouteLLM's MMLU responses")
        try:
            sheet = read_sheet(file, inner)
            columns_match(sheet, inner, required=["prompt", *MODELS], optional=[])
            inner.stop()
            found += prompts(sheet, inner)
            domains += [file.stem.removeprefix("mmlu_")] * len(sheet)
            qualities.append(np.stack([numbers(sheet, model, inner, highest=1.0) for model in MODELS], axis=1))
        except SourceError:
            pass  # reported with what is wrong in the other files
        problems.found += [f"{file.name}: {problem}" for problem in inner.found]
    problems.stop()
    table = RoutingTable(
        prompts=found,
        models=MODELS,
        quality=np.concatenate(qualities),
        cost_usd=flat_cost_usd(prices, MODELS),
        note=FLAT_COST_NOTE,
        domains=domains,
        name="RouteLLM MMLU",
    )
    return table.select([row for row, prompt in enumerate(found) if prompt not in leaked]) if leaked else table


def load_gsm8k(path: Path, *, prices: PriceList = ROUTOO_TABLE_1, decontaminate: bool = False) -> RoutingTable:
    """`path` is the folder with `gsm8k_responses.csv`; answers are kept as responses, costs are as for MMLU."""
    file = path / "gsm8k_responses.csv"
    problems = Problems(file, "RouteLLM's GSM8K responses")
    sheet = read_sheet(file, problems)
    answers = [f"{model}_response" for model in MODELS]
    columns_match(sheet, problems, required=["prompt", *MODELS, *answers], optional=[])
    leaked = _leaked(path, problems) if decontaminate else set()
    problems.stop()
    found = prompts(sheet, problems)
    quality = np.stack([numbers(sheet, model, problems, highest=1.0) for model in MODELS], axis=1)
    response = np.array([texts(sheet, column, problems, allow_empty=True) for column in answers], dtype=object).T
    problems.stop()
    table = RoutingTable(
        prompts=found,
        models=MODELS,
        quality=quality,
        cost_usd=flat_cost_usd(prices, MODELS),
        note=FLAT_COST_NOTE,
        domains=["gsm8k"] * len(found),
        response=response,
        name="RouteLLM GSM8K",
    )
    return table.select([row for row, prompt in enumerate(found) if prompt not in leaked]) if leaked else table


def _leaked(path: Path, problems: Problems) -> set[str]:
    """The prompts that RouteLLM's authors found in their training data."""
    file = path / "contaminated_prompts.jsonl"
    try:
        return {json.loads(line)["eval_prompt"] for line in file.read_text(encoding="utf-8").split("\n") if line.strip()}
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        problems.add(f"{file.name} cannot be read ({error!r}); it is needed to decontaminate")
        return set()
