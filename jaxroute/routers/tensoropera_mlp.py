"""A network of 256 units on a bag of words, trained on soft labels (TensorOpera, arXiv:2408.12320, Appendix D).

Counts of the training prompts' words in, one logit per model out; labels and weights as in
`jaxroute.routers.learning.soft_labels`. A prompt's counts are brought to length 1: at the published learning rate raw ones
leave hardly a unit alive, and all prompts look alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float
from scipy.sparse import csr_matrix

from jaxroute.data.shrinkage import leaning, relative_reliability
from jaxroute.data.table import Queries, RoutingTable
from jaxroute.routers.learning.soft_labels import estimates, query_weights, soft_labels, soft_loss

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import CountVectorizer

WORD = r"(?u)\w+|[^\w\s]"
"""Letters and digits, or one mark: no prompt is without words."""


@dataclass(frozen=True)
class Config:
    """The network and its training, as published."""

    hidden: int = 256
    """Units of the hidden layer."""
    words: int = 5000
    """Most frequent words to count; the paper gives no number."""
    temperature: float = 10.0
    """T of the labels softmax(quality / T)."""
    learning_rate: float = 5e-3
    """AdamW's."""
    weight_decay: float = 1e-4
    """AdamW's."""
    epochs: int = 5
    batch_size: int = 8
    seed: int = 42
    """Decides the first weights and the order of the queries."""


def fit(train: RoutingTable, config: Config) -> dict[str, np.ndarray]:
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(max_features=config.words, token_pattern=WORD).fit(train.prompts)
    counts = _unit_counts(counter, train.prompts)
    label, weight = soft_labels(train.quality, config.temperature), query_weights(train)
    generator = np.random.default_rng(config.seed)
    sizes = [len(counter.vocabulary_), config.hidden, len(train.models)]
    parameters = {}
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        parameters[f"weight_{layer}"] = jnp.asarray(generator.normal(0, inputs**-0.5, (inputs, outputs)), jnp.float32)
        parameters[f"bias_{layer}"] = jnp.zeros(outputs)
    optimizer = optax.adamw(config.learning_rate, weight_decay=config.weight_decay)

    @jax.jit
    def step(parameters, state, counts, label, weight):
        gradient = jax.grad(lambda parameters: soft_loss(_logits(parameters, counts), label, weight))(parameters)
        updates, state = optimizer.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state

    state = optimizer.init(parameters)
    for _ in range(config.epochs):
        order = generator.permutation(len(train))
        for start in range(0, len(order), config.batch_size):
            # The last batch is filled up with queries that do not count.
            rows = np.resize(order[start : start + config.batch_size], config.batch_size)
            counted = np.arange(config.batch_size) < len(order) - start
            batch = counts[rows].toarray(), label[rows], weight[rows] * counted
            parameters, state = step(parameters, state, *batch)
    learned = {name: np.asarray(value) for name, value in parameters.items()}
    return learned | {
        "words": counter.get_feature_names_out().astype(str),
        "mean": np.array(np.nanmean(train.quality)),
        "reliability": relative_reliability(train.quality),
    }


def estimate(state: Mapping[str, np.ndarray], queries: Queries, config: Config) -> Float[np.ndarray, "queries models"]:
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(vocabulary=state["words"].tolist(), token_pattern=WORD)
    counts = _unit_counts(counter, queries.prompts)
    logits = np.maximum(counts @ state["weight_0"] + state["bias_0"], 0) @ state["weight_1"] + state["bias_1"]
    return leaning(estimates(logits, temperature=config.temperature, mean=float(state["mean"])), state)


def _unit_counts(counter: CountVectorizer, prompts: list[str]) -> csr_matrix:
    from sklearn.preprocessing import normalize

    return csr_matrix(normalize(counter.transform(prompts)), dtype=np.float32)


def _logits(parameters, counts):
    hidden = jax.nn.relu(counts @ parameters["weight_0"] + parameters["bias_0"])
    return hidden @ parameters["weight_1"] + parameters["bias_1"]
