"""From a table of your own outcomes to a routed batch.

    uv run python examples/own_outcomes.py

The table here is simulated, so that the example runs anywhere; put your own file in its place.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import jaxroute


def main(folder: Path) -> dict[str, float]:
    outcomes = folder / "outcomes.csv"
    jaxroute.load_source("simulated", queries=200, seed=0).save(outcomes)

    table = jaxroute.RoutingTable.load(outcomes)
    train, new = table.split(0.8, seed=0)
    # minilm reads prompts faster than the default encoder, smollm2.
    config = jaxroute.TrainConfig(encoder="minilm")
    predictor, reports = jaxroute.train_estimator(train, config)
    print(*reports, sep="\n")
    predictor.save(folder / "checkpoint")

    router = jaxroute.Router.load(folder / "checkpoint")
    assignment = router.route(new.prompts, budget_usd=0.02)
    print(assignment)
    for prompt, column in zip(new.prompts[:3], assignment.choice):
        print(f"{router.models[column]:<14} {prompt}")

    chosen = np.arange(len(new)), assignment.choice
    return {
        "budget_usd": 0.02,
        "expected_cost_usd": assignment.cost_usd,
        "true_cost_usd": float(new.cost_usd[chosen].sum()),
        "true_quality": float(new.quality[chosen].mean()),
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        print(main(Path(temporary)))
