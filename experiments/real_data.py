"""Published outcomes for experiments: the nine-model MMLU pool of Routoo's Table 1, and RouterBench's parts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxroute import RoutingTable, SourceError, join, load_source
from jaxroute.data.table import text_key

MIXTRAL = "mistralai/Mixtral-8x7B-Instruct-v0.1"
GPT4 = "gpt-4-1106-preview"
VARIABLE = "JAXROUTE_DATA"


@dataclass(frozen=True)
class MmluPool:
    """Training and test part, and in words what was dropped on the way."""

    train: RoutingTable
    test: RoutingTable
    notes: list[str]


def load_mmlu_pool(folder: Path | None = None) -> MmluPool:
    """RouterDC's seven small models and RouteLLM's Mixtral and GPT-4 Turbo, joined on the question's text.

    The published files lie below `folder`, by default where the environment variable JAXROUTE_DATA points.
    A RouterDC grade above 0 counts as correct, which is the scale of RouteLLM's outcomes. Questions of the training part
    are dropped from the test part. Raises `SourceError` where the data is not there.
    """
    folder = folder or data_folder()
    routellm = load_source("routellm-mmlu", folder / "routellm" / "mmlu")
    parts, notes = {}, []
    for part in ("train", "test"):
        graded = load_source("routerdc", folder / "routerdc" / f"mmlu_{part}.json", binary=True)
        joined = join(graded, routellm)
        parts[part] = joined.table
        notes.append(
            f"{part}: {len(graded)} questions, {joined.matched} joined, {joined.unmatched} not found in RouteLLM's, "
            f"{joined.repeated} repeats, {joined.conflicting} dropped for conflicting outcomes"
        )
    trained = {text_key(prompt) for prompt in parts["train"].prompts}
    fresh = [text_key(prompt) not in trained for prompt in parts["test"].prompts]
    notes.append(f"test: {len(fresh) - sum(fresh)} dropped because they are in the training part too")
    test = parts["test"].select([row for row, kept in enumerate(fresh) if kept])
    return MmluPool(train=parts["train"], test=test, notes=notes)


def with_other_questions(train: RoutingTable, test: RoutingTable, folder: Path | None = None) -> RoutingTable:
    """`train`, and below it RouteLLM's questions that are in neither part, as the prompts of `train` are written.

    Mixtral and GPT-4 answered them; the small models were not run.
    """
    routellm = load_source("routellm-mmlu", (folder or data_folder()) / "routellm" / "mmlu")
    known = {text_key(prompt) for prompt in train.prompts + test.prompts}
    others = routellm.select([row for row, prompt in enumerate(routellm.prompts) if text_key(prompt) not in known])
    columns = [train.models.index(model) for model in others.models]

    def below(known: np.ndarray, other: np.ndarray) -> np.ndarray:
        wide = np.full((len(others), len(train.models)), np.nan)
        wide[:, columns] = other
        return np.concatenate([known, wide])

    return RoutingTable(
        prompts=train.prompts + [prompt.removesuffix("\nAnswer:") for prompt in others.prompts],
        domains=train.domains + others.domains,
        models=train.models,
        quality=below(train.quality, others.quality),
        cost_usd=below(train.cost_usd, others.cost_usd),
        name=f"{train.name}, and other questions of {others.name}",
    )


def data_folder() -> Path:
    """Where published outcomes lie. Raises `SourceError` where the environment variable is not set."""
    if not os.environ.get(VARIABLE):
        raise SourceError(
            f"{VARIABLE} is not set: point it at a folder with routellm, routerdc and, for some experiments, routerbench "
            "(see the README)"
        )
    return Path(os.environ[VARIABLE])


def routerbench_parts(name: str) -> tuple[RoutingTable, RoutingTable]:
    """Training and test part of `arc_challenge` or `mbpp`, without queries on which a model was not run."""
    train, test = (
        load_source("routerbench", data_folder() / "routerbench" / f"{name}_{part}.csv") for part in ("train", "test")
    )
    return train.complete()[0], test.complete()[0]
