"""A small network per model on sentence embeddings, one or two layers of 100 (RouterBench, arXiv:2403.12031, section 5).

scikit-learn's MLPRegressor as in RouterBench's code: rectifiers, squared error, Adam at a rate of 0.001, at most 200 epochs.
`mlp:hidden=100,100` has two layers.
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


@dataclass(frozen=True)
class Config:
    """The networks' shape and training."""

    hidden: tuple[int, ...] = (100,)
    """Units of each hidden layer."""
    learning_rate: float = 0.001
    """Adam's."""
    epochs: int = 200
    """At most; fewer where the loss has stopped falling."""
    seed: int = 1234
    """Decides the first weights and the order of the queries."""
    encoder: str = "minilm"
    """Of the sentence embeddings."""


def fit(train: RoutingTable, config: Config) -> dict[str, np.ndarray]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    embeddings = embed(train.prompts, config.encoder)
    networks = []
    for quality in train.quality.T:
        run = ~np.isnan(quality)
        network = MLPRegressor(
            hidden_layer_sizes=config.hidden,
            learning_rate_init=config.learning_rate,
            max_iter=config.epochs,
            random_state=config.seed,
        )
        with warnings.catch_warnings():
            # The number of epochs is part of the recipe, not a failure to converge.
            warnings.simplefilter("ignore", ConvergenceWarning)
            networks.append(network.fit(embeddings[run], quality[run]))
    layers = range(len(config.hidden) + 1)
    weights = {f"weight_{layer}": np.stack([network.coefs_[layer] for network in networks]) for layer in layers}
    biases = {f"bias_{layer}": np.stack([network.intercepts_[layer] for network in networks]) for layer in layers}
    return weights | biases | {"reliability": relative_reliability(train.quality)}


def estimate(state: Mapping[str, np.ndarray], queries: Queries, config: Config) -> Float[np.ndarray, "queries models"]:
    hidden = embed(queries.prompts, config.encoder)[None]
    for layer in range(len(config.hidden) + 1):
        # The output layer is linear: rectifiers precede every layer but the first.
        hidden = (np.maximum(hidden, 0) if layer else hidden) @ state[f"weight_{layer}"]
        hidden = hidden + state[f"bias_{layer}"][:, None]
    return leaning(hidden[:, :, 0].T, state)
