"""Collections from simulated models, small enough for a test."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxroute.collect.collecting import CollectConfig, collect
from jaxroute.collect.summary import Summary
from jaxroute.data.sources.simulated import load_simulated
from jaxroute.endpoints import ClientConfig, Endpoint
from jaxroute.simulation import Simulation, SimulationConfig, serving_in_thread

QUICK = ClientConfig(retries=20, backoff_seconds=0.001, jitter_seed=0)
ONE_TRY = ClientConfig(retries=0)


class Place:
    """A folder with questions, and simulated endpoints that answer them."""

    def __init__(self, folder: Path, simulation: Simulation, prompts: Sequence[str]) -> None:
        self.folder, self.simulation, self.prompts = folder, simulation, list(prompts)
        self.write([{"id": f"q{row}", "prompt": text, "reference": self.reference(row)} for row, text in enumerate(prompts)])

    def reference(self, row: int) -> str:
        """The right answer to a question."""
        return self.simulation.pool.reference(self.prompts[row])

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """These questions, in place of those before."""
        (self.folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def collect(
        self,
        *only: str,
        client: ClientConfig = QUICK,
        changes: dict[str, Any] | None = None,
        endpoints: dict[str, Endpoint] | None = None,
        **given: Any,
    ) -> Summary:
        """Collect with these options; `changes` are fields of the endpoints, unless `endpoints` are given."""
        values: dict[str, Any] = {"grader": "numeric", "budget_usd": 100.0, "output": self.folder / "outcomes.db"} | given
        config = CollectConfig(self.folder / "questions.jsonl", self.folder / "models.yaml", only=only, **values)
        return collect(config, client, endpoints=endpoints or self.simulation.endpoints(**changes or {}))

    @property
    def requests(self) -> int:
        """How many the endpoints have served."""
        return self.simulation.counts.requests.total()


@contextmanager
def place(folder: Path, count: int = 4, **behaviour: Any) -> Iterator[Place]:
    """`count` questions; `behaviour` are fields of `SimulationConfig`."""
    table = load_simulated(queries=count)
    config = replace(SimulationConfig(time_scale=0.0, retry_after_seconds=0.001), **behaviour)
    with serving_in_thread(config, table) as simulation:
        yield Place(folder, simulation, table.prompts)


def books_agree(path: Path) -> bool:
    """The ledger has spent what the cells have, and holds nothing."""
    with sqlite3.connect(path) as connection:
        spent = connection.execute("SELECT sum(spent_pico) FROM answer_cells").fetchone()
        settled = connection.execute("SELECT sum(settled) FROM ledger_windows").fetchone()
        (held,) = connection.execute("SELECT count(*) FROM ledger_open").fetchone()
    return spent == settled and held == 0
