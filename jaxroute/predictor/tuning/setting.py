"""What stays the same from the first update to the last: network, examples, which of them train; and what these compute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int

from jaxroute.data.table import RoutingTable, stratified_order
from jaxroute.encoders import Encoder, EncoderConfig
from jaxroute.encoders.features import FeatureConfig
from jaxroute.encoders.weights.huggingface import abstract_network
from jaxroute.predictor.heads import Head, cross_entropy, level_targets
from jaxroute.predictor.tuning.batches import Examples, MicroBatch, micro_batches, updates_per_epoch
from jaxroute.predictor.tuning.config import TuneConfig
from jaxroute.predictor.tuning.mesh import Devices
from jaxroute.predictor.tuning.steps import Network, Tree, features, head_logits


@dataclass(frozen=True)
class Setting:
    """Of one run; a state of it, a tree, holds `trainable`, `optimizer` and `fixed` arrays (see start.py)."""

    network: Network
    encoder: Encoder
    grid: Devices
    examples: Examples
    training: Int[np.ndarray, " rows"]
    held_out: Int[np.ndarray, " rows"]
    table: RoutingTable
    seed: int
    weights: Tree
    """The frozen ones, on the mesh; empty where all are trained."""
    cut: int
    """Prompts that were longer than the encoder reads."""

    @staticmethod
    def prepare(
        table: RoutingTable,
        encoder: Encoder,
        config: TuneConfig,
        feature_config: FeatureConfig,
        levels: int,
        seed: int,
        grid: Devices,
    ) -> Setting:
        """Tokens, targets, the split, and the frozen weights on their devices."""
        layers = feature_config.stated
        token_ids, cut = encoder.tokenize(
            table.prompts, max_tokens=feature_config.max_tokens, truncation_side=feature_config.truncation_side
        )
        order = stratified_order(table.domains, seed=seed, prompts=table.prompts)
        held_out = np.flatnonzero(order < config.held_out)
        training = np.flatnonzero(order >= config.held_out)
        shallow = encoder.config.up_to(max(layers))
        weights = {}
        if config.mode == "lora":
            placed = replace(encoder, dtype=config.dtype, place=grid.place)
            weights = nnx.to_pure_dict(nnx.state(placed.network(max(layers))))
        network = Network(
            encoder=nnx.split(abstract_network(shallow))[0],
            head=nnx.split(Head(shallow.hidden_size * len(layers), len(table.models), levels))[0],
            taps=tuple((layer, feature_config.pooling) for layer in layers),
            tune=config,
            updates=config.epochs * updates_per_epoch(len(training), config.batch_size),
            grid=grid,
        )
        observed = (~np.isnan(table.quality)).astype(np.float32)
        examples = Examples(token_ids, level_targets(table.quality, levels), observed)
        return Setting(network, encoder, grid, examples, training, held_out, table, seed, weights, len(cut))

    @property
    def tune(self) -> TuneConfig:
        return self.network.tune

    @property
    def shallow(self) -> EncoderConfig:
        """The encoder up to the highest layer that is read."""
        return self.encoder.config.up_to(max(layer for layer, _ in self.network.taps))

    def empty_head(self) -> Head:
        width = self.shallow.hidden_size * len(self.network.taps)
        return Head(width, self.examples.target.shape[1], self.examples.target.shape[2])

    def frozen(self, tree: Tree) -> Tree:
        return {"encoder": self.weights, **tree["fixed"]}

    def parts(self, rows: Int[np.ndarray, " rows"]) -> Iterator[tuple[Int[np.ndarray, " rows"], MicroBatch]]:
        """Micro-batches of `rows`, each with the rows that it holds."""
        return micro_batches(self.examples, rows, tokens=self.tune.tokens_per_batch, devices=self.grid.count)

    def features(self, tree: Tree, rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "rows features"]:
        """What the head reads of some queries, in their order."""
        trainable, frozen, found = tree["trainable"], self.frozen(tree), {}
        for part, batch in self.parts(rows):
            tokens, lengths = self.grid.put_batch(batch.tokens), self.grid.put_batch(batch.lengths)
            hidden = features(self.network, trainable, frozen, tokens, lengths)
            found |= dict(zip(part.tolist(), np.asarray(hidden)))
        return np.stack([found[row] for row in rows.tolist()])

    def held_out_loss(self, tree: Tree) -> float:
        """Mean cross-entropy over the observed held-out cells, in nats."""
        hidden = self.features(tree, self.held_out)
        head = {"head": self.fetch(tree["trainable"]["head"])}, {"head": self.fetch(tree["fixed"]["head"])}
        logits = np.asarray(head_logits(self.network, *head, jnp.asarray(hidden)))
        observed = self.examples.observed[self.held_out]
        losses = cross_entropy(logits, self.examples.target[self.held_out], observed)
        return float(np.asarray(losses, np.float64).sum() / observed.sum())

    def place(self, tree: Any) -> Any:
        """Host arrays where they belong on the mesh; what is there already stays."""

        def put(leaf):
            on_mesh = isinstance(leaf, jax.Array) and leaf.sharding == self.grid.weight(leaf.shape)
            return leaf if on_mesh else self.grid.put(np.asarray(leaf), self.grid.weight(np.shape(leaf)))

        return jax.tree.map(put, tree)

    def fetch(self, tree: Tree) -> Tree:
        """On the host of every process."""
        whole = jax.jit(lambda tree: tree, out_shardings=self.grid.replicated)(tree)
        return jax.tree.map(np.asarray, whole)
