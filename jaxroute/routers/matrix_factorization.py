"""Matrix factorisation: models and prompts in one space, trained on who won (RouteLLM, arXiv:2406.18665, section 4.2).

    strength_m(q) = w . (v_m / |v_m| * (A x_q)),    P(m beats k on q) = sigmoid(strength_m(q) - strength_k(q))

with x_q the sentence embedding. Trained as in the published code: Adam, batches of 64 battles, noise on the embeddings,
ties left out. Any number of models; the estimate is a model's chance to win, mean over the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from jaxroute.data.shrinkage import leaning, relative_reliability
from jaxroute.data.table import Queries, RoutingTable
from jaxroute.encoders.embedding import embed
from jaxroute.errors import RouterError
from jaxroute.routers.learning.preferences import win_rates, wins


@dataclass(frozen=True)
class Config:
    """The factors and their training."""

    width: int = 128
    """Of the common space."""
    epochs: int = 10
    """Times through all battles, as the paper says; the published script says 100."""
    batch_size: int = 64
    learning_rate: float = 3e-4
    """Adam's."""
    weight_decay: float = 1e-5
    """L2 penalty on all parameters."""
    noise: float = 0.1
    """Standard deviation of what is added to every number of an embedding in training."""
    seed: int = 42
    """Decides the first parameters, the order and the noise."""
    encoder: str = "minilm"
    """Of the sentence embeddings."""


def fit(train: RoutingTable, config: Config) -> dict[str, np.ndarray]:
    query, winner, loser = np.nonzero(wins(train.quality) == 1)
    if not len(query):
        raise RouterError(f"{train.name}: no model ever answered better than another; there is nothing to learn from")
    embeddings = jnp.asarray(embed(train.prompts, config.encoder), jnp.float32)
    optimizer = optax.chain(optax.add_decayed_weights(config.weight_decay), optax.adam(config.learning_rate))
    generator = np.random.default_rng(config.seed)
    parameters = _first_parameters(generator, embeddings.shape[1], len(train.models), config.width)
    batches = -(-len(query) // config.batch_size)

    def loss(parameters, battles, key):
        query, winner, loser, counted = battles
        asked = embeddings[query]
        strength = _strength(parameters, asked + config.noise * jax.random.normal(key, asked.shape))
        rows = jnp.arange(len(query))
        losses = jax.nn.softplus(strength[rows, loser] - strength[rows, winner])
        return jnp.sum(losses * counted) / jnp.sum(counted)

    @jax.jit
    def epoch(carry, battles, keys):
        def step(carry, batch):
            parameters, state = carry
            updates, state = optimizer.update(jax.grad(loss)(parameters, *batch), state, parameters)
            return (optax.apply_updates(parameters, updates), state), None

        return jax.lax.scan(step, carry, (battles, keys))[0]

    carry = (parameters, optimizer.init(parameters))
    for number in range(config.epochs):
        # The last batch is filled up with battles that do not count.
        order = np.resize(generator.permutation(len(query)), batches * config.batch_size)
        counted = np.arange(len(order)) < len(query)
        battles = [part.reshape(batches, -1) for part in (query[order], winner[order], loser[order], counted)]
        keys = jax.random.split(jax.random.key(config.seed + number), batches)
        carry = epoch(carry, tuple(map(jnp.asarray, battles)), keys)
    learned = {name: np.asarray(value) for name, value in carry[0].items()}
    return learned | {"reliability": relative_reliability(train.quality)}


def estimate(state: Mapping[str, np.ndarray], queries: Queries, config: Config) -> Float[np.ndarray, "queries models"]:
    parameters = {name: state[name] for name in ("models", "projection", "classifier")}
    rates = win_rates(np.asarray(_strength(parameters, embed(queries.prompts, config.encoder)), np.float64))
    return leaning(rates, state)


def _strength(parameters, embeddings):
    models = parameters["models"] / jnp.linalg.norm(parameters["models"], axis=1, keepdims=True)
    return (embeddings @ parameters["projection"]) @ (models * parameters["classifier"]).T


def _first_parameters(generator: np.random.Generator, features: int, models: int, width: int) -> dict[str, jax.Array]:
    """As PyTorch starts: embeddings standard normal, linear layers uniform within 1 / sqrt(inputs)."""
    first = {
        "models": generator.normal(size=(models, width)),
        "projection": generator.uniform(-1, 1, (features, width)) / np.sqrt(features),
        "classifier": generator.uniform(-1, 1, width) / np.sqrt(width),
    }
    return {name: jnp.asarray(value, jnp.float32) for name, value in first.items()}
