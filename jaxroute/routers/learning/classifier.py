"""Fine-tuning a whole encoder as a classifier of prompts: a linear layer on its pooled last state, all weights by AdamW.

For small encoders: nothing is sharded and nothing resumes. `jaxroute.predictor.tuning` is for large ones, with the predictor's
head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, Int

from jaxroute.encoders import Encoder
from jaxroute.encoders.batching import bucket_length
from jaxroute.progress import progress_bar

TOGETHER = 50
"""Batches that are sorted by length together."""
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
        # A copy: a step gives its memory away, and the encoder is used again.
        "encoder": jax.tree.map(jnp.copy, nnx.to_pure_dict(start)),
        "weight": jnp.asarray(generator.normal(0, 0.02, (hidden, label.shape[1])), jnp.float32),
        "bias": jnp.zeros(label.shape[1]),
    }
    optimizer = optax.adamw(config.learning_rate, weight_decay=config.weight_decay)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(parameters, state, batch, label, weight):
        def of(parameters):
            return loss(_logits(graph, parameters, batch, encoder.config.layers, config.pooling), label, weight)

        value, gradient = jax.value_and_grad(of)(parameters)
        updates, state = optimizer.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state, value

    state = optimizer.init(parameters)
    batches = batches_of_like_length(np.array([len(ids) for ids in tokens]), config.batch_size, generator)
    with progress_bar(total=config.steps, desc="fine-tuning the encoder", unit=" updates", delay=1) as bar:
        for rows, counted in islice(batches, config.steps):
            batch = _padded([tokens[row] for row in rows])
            parameters, state, value = step(parameters, state, batch, label[rows], weight[rows] * counted)
            bar.update()
            bar.set_postfix_str(f"loss {float(value):.4f}")
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


def batches_of_like_length(
    lengths: Int[np.ndarray, " queries"], batch_size: int, generator: np.random.Generator
) -> Iterator[tuple[Int[np.ndarray, " batch"], Float[np.ndarray, " batch"]]]:
    """Rows, and whether each counts, epoch after epoch; an epoch's last batch is filled up with rows that do not.

    Batches are of like length: of MMLU's prompts in random ones, two thirds would be padding. Rows are drawn, sorted by length
    within every `TOGETHER` batches, cut into batches, and these drawn again (transformers' `group_by_length`).
    """
    while True:
        order, epoch = generator.permutation(len(lengths)), []
        for start in range(0, len(order), TOGETHER * batch_size):
            part = order[start : start + TOGETHER * batch_size]
            part = part[np.argsort(lengths[part], kind="stable")]
            epoch += [part[at : at + batch_size] for at in range(0, len(part), batch_size)]
        for place in generator.permutation(len(epoch)):
            counted = np.arange(batch_size) < len(epoch[place])
            yield np.resize(epoch[place], batch_size), counted.astype(np.float32)


def _padded(tokens: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(ids) for ids in tokens], np.int32)
    padded = np.zeros((len(tokens), bucket_length(int(lengths.max()))), np.int32)
    for row, ids in enumerate(tokens):
        padded[row, : len(ids)] = ids
    return padded, lengths
