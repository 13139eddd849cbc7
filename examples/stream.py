"""More prompts than memory: a file is scored into shards, and the shards are assigned.

    uv run python examples/stream.py

The same as `jaxroute score` and then `jaxroute assign`. An interrupted run that is started again resumes after its last shard.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import jaxroute
from jaxroute.batch.score_config import ScoreConfig
from jaxroute.batch.shards import score_file
from jaxroute.data.estimate_files import read_given
from jaxroute.routers.base import find_router
from solvers import Assignment, Problem, lagrangian


def main(folder: Path) -> Assignment:
    # Any router can score; this one estimates quality by the domain and reads the prompt only for the length of an answer.
    train = jaxroute.load_source("simulated", queries=200, seed=0)
    find_router("domain_mean").fit(train).save(folder / "checkpoint")
    new = jaxroute.load_source("simulated", queries=120, seed=1)
    with (folder / "prompts.jsonl").open("w", encoding="utf-8") as file:
        for name, prompt, domain in zip(new.query_ids, new.prompts, new.domains):
            file.write(json.dumps({"id": name, "prompt": prompt, "domain": domain}) + "\n")

    run = ScoreConfig(folder / "checkpoint", folder / "prompts.jsonl", folder / "scored", rows_per_shard=50)
    print(score_file(run))
    print(score_file(run))  # nothing is left to do

    scored = read_given(folder / "scored", None)
    least = scored.cost_usd.min(axis=1).sum()
    assignment = lagrangian(Problem(scored.estimates, scored.cost_usd, budget_usd=5 * least))
    print(assignment)
    return assignment


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary))
