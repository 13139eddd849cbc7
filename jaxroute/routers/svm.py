"""Support vector regression: one linear function of the sentence embedding per model, as in RouterBench's code.

    minimise  1/2 ||w_m||^2 + C sum_j |q_jm - w_m . x_j - b_m|

scikit-learn's LinearSVR with its own defaults: no tolerance around the target, the intercept penalised too.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from jaxroute.data.shrinkage import leaning, relative_reliability
from jaxroute.data.table import Queries, RoutingTable
from jaxroute.encoders.embedding import embed
from jaxroute.errors import RouterError


@dataclass(frozen=True)
class Config:
    """Which embeddings, and how closely to fit."""

    strength: float = 1.0
    """C: how much errors count against the size of the weights."""
    iterations: int = 1000
    """At most, over all queries."""
    seed: int = 1234
    """Decides the order in which the solver visits the queries."""
    encoder: str = "minilm"
    """Of the sentence embeddings."""

    def __post_init__(self) -> None:
        if not self.strength > 0:
            raise RouterError(f"strength={self.strength} must be above 0")


def fit(train: RoutingTable, config: Config) -> dict[str, np.ndarray]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVR

    embeddings = embed(train.prompts, config.encoder)
    weight, intercept = [], []
    for quality in train.quality.T:
        run = ~np.isnan(quality)
        solver = LinearSVR(C=config.strength, max_iter=config.iterations, random_state=config.seed)
        with warnings.catch_warnings():
            # The number of iterations is part of the recipe, not a failure to converge.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = solver.fit(embeddings[run], quality[run])
        weight.append(fitted.coef_)
        intercept.append(np.ravel(fitted.intercept_)[0])
    return {
        "weight": np.array(weight).T,
        "intercept": np.array(intercept),
        "reliability": relative_reliability(train.quality),
    }


def estimate(state: Mapping[str, np.ndarray], queries: Queries, config: Config) -> Float[np.ndarray, "queries models"]:
    return leaning(embed(queries.prompts, config.encoder) @ state["weight"] + state["intercept"], state)
