"""Which router gains the most on the nine-model MMLU pool?

    JAXROUTE_DATA=... uv run python -m experiments.all_routers

Every router of the papers learns from the same 1,996 questions and is judged on the same 4,182, by `jaxroute evaluate`. 15
minutes on 2 cores with cached features, of which fine-tuning BERT takes 13; without it 1 and a half.

Seen on an AMD EPYC with AVX-512, without BERT, points over the zero router: the predictor +2.2 (1.6 to 2.8, a gain), more than
every other router, though over RouteLLM's Bradley-Terry ranking (+1.7) the difference of +0.5 (0.0 to 1.1) is a tie. Prompt
length +1.1, matrix factorisation +1.0, Routoo's recipe with exact prices +1.0 and subject means +0.9 are gains. RouterBench's
kNN needs many neighbours (5: -5.8, 10: -3.0, 40: -0.2, a tie); its networks (-4.8, -6.2) and SVM (-3.7), Routoo's kNN (-4.8)
and TensorOpera's 1NN (-10.5) are losses, TensorOpera's MLP (+0.2) is a tie; BERT, in hull AIQ and with version 0.1.0, had -0.7
(-1.4 to 0.1). With hindsight: a cascade whose judge never errs +18.8, at an error rate of 0.1 +7.9, of 0.2 +0.4, of 0.4 -9.3;
overgenerate +6.1; oracle +19.3.
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
