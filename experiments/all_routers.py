"""Which router gains the most on the nine-model MMLU pool?

    JAXROUTE_DATA=... uv run python -m experiments.all_routers

Every router of the papers learns from the same 1,996 questions and is judged on the same 4,182, by `jaxroute evaluate`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from experiments.real_data import load_mmlu_pool
from jaxroute import JaxrouteError
from jaxroute.contest import make_contest
from jaxroute.evaluate import EvaluateConfig, Evaluation, evaluate

ROUTERS = (
    "predictor",
    "predictor:head=difference:layers=30:pooling=last",
    "bradley_terry",
    "matrix_factorization",
    "knn:neighbours=5",
    "knn:neighbours=10",
    "knn:neighbours=40",
    "mlp",
    "mlp:hidden=100,100",
    "svm",
    "routoo_knn",
    "knn:neighbours=1",
    "tensoropera_mlp",
    "tensoropera_bert",
    "random_model",
    "cascade:epsilon=0",
    "cascade:epsilon=0.1",
    "cascade:epsilon=0.2",
    "cascade:epsilon=0.4",
    "overgenerate",
)


@dataclass(frozen=True)
class Config:
    """All routers, or some; the rest is as in `jaxroute evaluate`."""

    evaluate: EvaluateConfig = field(default_factory=lambda: EvaluateConfig(router=ROUTERS, output=Path("runs/all_routers")))
    resamples: int = 1000
    """Bootstrap resamples of the test questions."""


def main(config: Config) -> Evaluation:
    """Run it; the report, the table and result.json go to the output folder."""
    pool = load_mmlu_pool()
    print("\n".join(pool.notes))
    return evaluate(make_contest(pool.train, pool.test, resamples=config.resamples), config.evaluate)


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
