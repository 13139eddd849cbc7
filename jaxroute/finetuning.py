"""Fine-tuning a whole encoder as a classifier of prompts: a linear layer on its pooled last state, all weights by AdamW.

For small encoders: nothing is sharded and nothing resumes. `jaxroute.tuning` is for large ones, with the predictor's head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, Int
from tqdm.auto import tqdm

from jaxroute.encoders import Encoder

SHORTEST = 32
"""Tokens; shorter prompts are padded to as many."""
Loss = Callable[[Array, Array, Array], Array]
"""Of a batch, from logits and labels, both `(queries, classes)`, and the queries' weights."""


@dataclass(frozen=True)
class FineTuning:
    """How long, and how fast."""

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    max_tokens: int
    """Longer prompts are cut."""
    pooling: str
    seed: int


def fine_tune(
    encoder: Encoder,
    prompts: list[str],
    label: Float[np.ndarray, "queries classes"],
    weight: Float[np.ndarray, " queries"],
    loss: Loss,
    config: FineTuning,
) -> dict[str, np.ndarray]:
    """The trained weights by name, those of the last layer as `weight` and `bias`."""
    tokens, _ = encoder.tokenize(prompts, max_tokens=config.max_tokens)
    graph, start = nnx.split(encoder.network())
    generator = np.random.default_rng(config.seed)
    hidden = encoder.config.hidden_size
    parameters = {
        "encoder": nnx.to_pure_dict(start),
        "weight": jnp.asarray(generator.normal(0, 0.02, (hidden, label.shape[1])), jnp.float32),
        "bias": jnp.zeros(label.shape[1]),
    }
    optimizer = optax.adamw(config.learning_rate, weight_decay=config.weight_decay)

    @partial(jax.jit, donate_argnums=1)
    def add_gradient(parameters, gradient, batch, label, weight):
        def of(parameters):
            # A mean over the rows of the part, as a share of the mean over the rows of the batch.
            share = len(label) / config.batch_size
            return share * loss(_logits(graph, parameters, batch, encoder.config.layers, config.pooling), label, weight)

        value, more = jax.value_and_grad(of)(parameters)
        return value, jax.tree.map(jnp.add, gradient, more)

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def update(parameters, state, gradient):
        updates, state = optimizer.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state, jax.tree.map(jnp.zeros_like, gradient)

    state, gradient, order = optimizer.init(parameters), jax.tree.map(jnp.zeros_like, parameters), np.empty(0, int)
    with tqdm(total=config.steps, desc="fine-tuning the encoder", unit=" updates", delay=1) as bar:
        for _ in range(config.steps):
            while len(order) < config.batch_size:
                order = np.append(order, generator.permutation(len(prompts)))
            rows, order = order[: config.batch_size], order[config.batch_size :]
            values = []
            for part, counted in _parts(tokens, rows):
                batch = _padded([tokens[row] for row in part])
                value, gradient = add_gradient(parameters, gradient, batch, label[part], weight[part] * counted)
                values.append(value)
            parameters, state, gradient = update(parameters, state, gradient)
            bar.update()
            bar.set_postfix_str(f"loss {sum(map(float, values)):.4f}")
    return {name: np.asarray(value) for name, value in flatten_dict(parameters, sep="/").items()}


def class_logits(
    state: Mapping[str, np.ndarray], encoder: Encoder, prompts: list[str], config: FineTuning, *, rows: int = 16
) -> Float[np.ndarray, "queries classes"]:
    """What the trained classifier says; `rows` prompts of like length at a time."""
    tokens, _ = encoder.tokenize(prompts, max_tokens=config.max_tokens)
    graph, _ = nnx.split(encoder.network())
    names = {name: value for name, value in state.items() if name.startswith("encoder/") or name in ("weight", "bias")}
    parameters = jax.tree.map(jnp.asarray, unflatten_dict(names, sep="/"))
    found = np.empty((len(prompts), len(state["bias"])))
    order = np.argsort([-len(one) for one in tokens], kind="stable")
    for start in range(0, len(order), rows):
        part = np.resize(order[start : start + rows], rows)
        batch = _padded([tokens[row] for row in part])
        found[part] = _logits(graph, parameters, batch, encoder.config.layers, config.pooling)
    return found


@partial(jax.jit, static_argnums=(0, 3, 4))
def _logits(graph, parameters, batch, layers: int, pooling: str):
    tokens, lengths = batch
    network = nnx.merge(graph, parameters["encoder"])
    return network(tokens, lengths, taps=((layers, pooling),))[:, 0] @ parameters["weight"] + parameters["bias"]


def _parts(
    tokens: list[np.ndarray], rows: Int[np.ndarray, " batch"]
) -> Iterator[tuple[Int[np.ndarray, " part"], Float[np.ndarray, " part"]]]:
    """Rows of like length, as many as a power of two, and whether each counts.

    Padded to the longest of 8, prompts of MMLU are a third of their batch; by lengths, each rounded up to a power of two, there
    are few shapes and little padding.
    """
    length = np.array([max(SHORTEST, 1 << (len(tokens[row]) - 1).bit_length()) for row in rows])
    for bucket in np.unique(length):
        part = rows[length == bucket]
        size = 1 << (len(part) - 1).bit_length()
        yield np.resize(part, size), (np.arange(size) < len(part)).astype(np.float32)


def _padded(tokens: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(ids) for ids in tokens], np.int32)
    padded = np.zeros((len(tokens), max(SHORTEST, 1 << (int(lengths.max()) - 1).bit_length())), np.int32)
    for row, ids in enumerate(tokens):
        padded[row, : len(ids)] = ids
    return padded, lengths
