"""A batch to run against simulated endpoints: a checkpoint that reads no prompt, prompts with domains, and models.yaml."""

from __future__ import annotations

import json
from pathlib import Path

from jaxroute.commands.simulate import models_yaml
from jaxroute.data.sources.simulated import load_simulated
from jaxroute.data.table import RoutingTable
from jaxroute.predictor.pricing import CostModel, table_pricing
from jaxroute.routers.base import find_router


def make_checkpoint(folder: Path) -> RoutingTable:
    """Write a checkpoint; returns outcomes of other prompts, in the same simulation."""
    train, test = load_simulated(queries=400, seed=1).split(0.75, seed=1)
    find_router("domain_mean").fit(train, costs=CostModel(table_pricing(train, None))).save(folder)
    return test


def write_prompts(path: Path, table: RoutingTable) -> None:
    rows = zip(table.prompts, table.domains, strict=True)
    lines = [json.dumps({"id": row, "prompt": text, "domain": domain}) for row, (text, domain) in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_models(path: Path, base_url: str) -> None:
    """The simulated endpoints, of which none accepts tools or images."""
    path.write_text(models_yaml(base_url).replace("accepts: [tools, images, json_schema]", "accepts: [json_schema]"))


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
