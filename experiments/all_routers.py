"""Which router gains the most on the nine-model MMLU pool?

    JAXROUTE_DATA=... uv run python -m experiments.all_routers

Every router of the papers learns from the same 1,996 questions and is judged on the same 4,182, by `jaxroute evaluate`. 15
minutes on 2 cores with cached features, of which fine-tuning BERT takes 13; without it 1 and a half.

Seen, AIQ over the zero router in points: the predictor +2.4 (2.1 to 2.9), more than any other router's, no interval of the
difference with 0 in it. RouteLLM's Bradley-Terry ranking has +1.8 and its matrix factorisation +1.1, prompt length +1.3,
Routoo's recipe with exact prices +1.3, subject means +1.0. RouterBench's kNN needs many neighbours (5: -5.8, 10: -3.0, 40:
0.0), its MLP (-5.0) and SVM (-3.5), Routoo's kNN (-4.7) and TensorOpera's 1NN (-10.5) lose to mixing single models;
TensorOpera's MLP (+0.3) and BERT (-0.7) tie with that. With hindsight: a cascade whose judge never errs +18.8, at an error
rate of 0.1 +8.0, of 0.2 +0.4 (tie), of 0.4 -9.3; overgenerate +6.1; oracle +19.3.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from experiments.real_data import load_mmlu_pool
from jaxroute import JaxrouteError
from jaxroute.contest.evaluate import EvaluateConfig, evaluate
from jaxroute.contest.results import Evaluation, printed
from jaxroute.contest.rows import make_contest

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

    evaluate: Annotated[EvaluateConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: EvaluateConfig(router=ROUTERS, output=Path("runs/all_routers"))
    )
    resamples: int = 1000
    """Bootstrap resamples of the test questions."""


def main(config: Config) -> Evaluation:
    """Run it; the report, the table and result.json go to the output folder."""
    pool = load_mmlu_pool()
    print("\n".join(pool.notes))
    evaluation = evaluate(make_contest(pool.train, pool.test, resamples=config.resamples), config.evaluate)
    print(printed(evaluation))
    return evaluation


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
