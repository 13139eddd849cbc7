"""`jaxroute probes`: a checkpoint in, the questions to ask a new model out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from jaxroute.commands.train import LEARNT_FROM
from jaxroute.data.collected import collected_questions, is_collection
from jaxroute.data.estimates import Estimator
from jaxroute.data.prompts import DOMAIN, ID_FIELDS, read_prompts
from jaxroute.data.sources import chosen_table
from jaxroute.data.table import numbers_of, stratified_order, text_key
from jaxroute.data.table_files import PER_MODEL
from jaxroute.errors import CheckpointError, JaxrouteError, PromptError, counted, listed
from jaxroute.routers.base import load
from jaxroute.storage.files import check_file, replacing
from jaxroute.storage.json_lines import json_line

OUTCOMES = {*PER_MODEL, "model"}
"""Columns of a long table that are no part of a question."""


@dataclass(frozen=True)
class Probes:
    """Draw questions at random, the same share of every domain, to ask a new model: see docs/new-model.md."""

    checkpoint: Path
    """Folder that `jaxroute train` wrote."""
    size: int = 200
    """How many questions. 50 tell the level of a model that costs about as much as another one; a model unlike the others in
    price gains up to about 300."""
    output: Path = Path("probes.jsonl")
    """One JSON line per question, as `jaxroute collect --prompts` reads it."""
    prompts: Path | None = None
    """The questions to draw from: a file of prompts, a table of outcomes, or the database of `jaxroute collect`. Default: what
    the checkpoint was trained on, where that still lies there. Best are training questions with a "reference": the other
    models' answers to them are known."""
    seed: int = 0
    """Decides the draw."""
    encoder: str | None = None
    """Where the checkpoint's encoder lies now, if it has moved."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise JaxrouteError(f"size={self.size} must be at least 1")
        if self.seed < 0:
            raise JaxrouteError(f"seed={self.seed} must be at least 0")


def main(config: Annotated[Probes, tyro.conf.arg(name="")]) -> list[dict[str, Any]]:
    """Draw the questions to ask a new model."""
    check_file("output", config.output, source=config.prompts)
    estimator = load(config.checkpoint, encoder=config.encoder)
    questions = _questions(config, estimator)
    seen = np.isin(numbers_of([one["prompt_text"] for one in questions]), _seen(estimator))
    # Of training questions the other models' answers are known: only where they do not suffice are others drawn.
    drawn = _drawn([one for one, known in zip(questions, seen, strict=True) if known], config.size, config.seed)
    others = [one for one, known in zip(questions, seen, strict=True) if not known]
    known = len(drawn)
    drawn += _drawn(others, config.size - known, config.seed)
    if len(drawn) < config.size:
        raise PromptError(f"size={config.size:,} is more than there are: {counted(len(drawn), 'question')}; give at most that")
    rows = [{name: value for name, value in one.items() if name != "prompt_text"} for one in drawn]
    with replacing(config.output) as partial:
        partial.write_text("".join(map(json_line, rows)), encoding="utf-8")
    print(f"{counted(len(rows), 'question')}, {known:,} of them from training, written to {config.output}")
    if not all("reference" in row for row in rows):
        print(
            'no reference answers in them: most graders of `jaxroute collect` need a field "reference"; take --prompts with it'
        )
    print(
        f"next: jaxroute collect --prompts {config.output} --models models.yaml --only NEW_MODEL --grader GRADER "
        "--output probes.db\n"
        f"      jaxroute extend --checkpoint {config.checkpoint} --table probes.db"
    )
    return rows


def _seen(estimator: Estimator) -> np.ndarray:
    return np.zeros(0, np.uint64) if estimator.seen is None else estimator.seen


def _drawn(questions: list[dict[str, Any]], size: int, seed: int) -> list[dict[str, Any]]:
    """At most `size` of them, in their order."""
    if not questions or size < 1:
        return []
    order = stratified_order([str(one.get(DOMAIN) or "") for one in questions], seed=seed)
    return [questions[row] for row in np.sort(np.argsort(order, kind="stable")[:size])]


def _questions(config: Probes, estimator: Estimator) -> list[dict[str, Any]]:
    """Every distinct question with its fields, none of an outcome among them."""
    if config.prompts is not None:
        return _distinct(_rows(config.prompts))
    learnt = (getattr(estimator, "about", None) or {}).get(LEARNT_FROM)
    if not learnt:
        raise CheckpointError(
            f"checkpoint={str(config.checkpoint)!r} does not say which file it was trained on, and keeps no prompts; name the "
            "questions with --prompts, say the table that it was trained on"
        )
    if learnt["table"] is not None:
        table = Path(learnt["table"])
        if not table.is_file():
            raise CheckpointError(
                f"checkpoint={str(config.checkpoint)!r} was trained on {str(table)!r}, which is not there now, and keeps no "
                "prompts; name the questions with --prompts"
            )
        return _distinct(_rows(table))
    path = None if learnt["path"] is None else Path(learnt["path"])
    found = chosen_table(None, learnt["source"], path, learnt["option"])
    rows = zip(found.query_ids, found.domains, found.prompts, strict=True)
    return _distinct([{"query_id": name, DOMAIN: domain, "prompt": text, "prompt_text": text} for name, domain, text in rows])


def _rows(path: Path) -> list[dict[str, Any]]:
    if is_collection(path):
        return collected_questions(path)
    prompts = read_prompts(path)
    rows = []
    for row, (text, domain, fields, name) in enumerate(
        zip(prompts.texts, prompts.domains, prompts.fields, prompts.ids, strict=True)
    ):
        kept = {key: value for key, value in fields.items() if "|" not in key and key not in OUTCOMES and value is not None}
        rows.append({"query_id": str(row) if name is None else name, DOMAIN: domain, **kept, "prompt_text": text})
    return rows


def _distinct(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first of equal texts. Raises `PromptError` where two questions share an id, which would mix their answers."""
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        first.setdefault(text_key(row["prompt_text"]), row)
    names: dict[str, int] = {}
    for row in first.values():
        name = _name(row)
        names[name] = names.get(name, 0) + 1
    if twice := [name for name, count in names.items() if count > 1]:
        raise PromptError(f"{listed(twice)}: several prompts have this id; give every prompt its own")
    return list(first.values())


def _name(row: Mapping[str, Any]) -> str:
    return str(next((row[field] for field in ID_FIELDS if row.get(field) not in (None, "")), ""))
