"""The run: update after update from where the last one stopped, evaluated on held-out queries, the best step kept."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from jaxroute.data.table import RoutingTable, stratified_order
from jaxroute.encoders import Encoder
from jaxroute.encoders.features import FeatureConfig
from jaxroute.encoders.networks.lora import new_adapters
from jaxroute.encoders.weights.huggingface import abstract_network
from jaxroute.encoders.weights.peft import load_adapters
from jaxroute.encoders.weights.trained import Trained, TrainedAdapters, TrainedWeights
from jaxroute.errors import EncoderError
from jaxroute.predictor.heads import Head, cross_entropy, expected_level, level_targets
from jaxroute.predictor.tuning.batches import Examples, batch_rows, micro_batches, updates_per_epoch
from jaxroute.predictor.tuning.config import TuneConfig
from jaxroute.predictor.tuning.mesh import Devices, devices
from jaxroute.predictor.tuning.state import Metrics, RunState
from jaxroute.predictor.tuning.steps import Network, Tree, accumulate, features, head_logits, no_sums, optimizer, update


@dataclass(frozen=True)
class FittedHead:
    """A head fitted to the frozen encoder, and the ridge penalties that it chose (infinite = no correction)."""

    head: Head
    penalty: float
    penalties: Float[np.ndarray, " models"]
    report: str
    """How it went, for people."""


Fit = Callable[[RoutingTable, Float[np.ndarray, "queries features"] | None], FittedHead]
"""Finds the head for the frozen encoder's features of a table's prompts, which it makes itself where none are given."""


@dataclass(frozen=True)
class TuningReport:
    """How the run went; losses are log-losses in nats per observed held-out cell, NaN without held-out queries."""

    fit: str
    """How the head was found that the run began with."""
    updates: int
    best_step: int
    first_loss: float
    """Of the frozen encoder with the fitted head."""
    held_out_loss: float
    """Of the best step."""
    held_out: Int[np.ndarray, " rows"]
    held_out_estimates: Float[np.ndarray, "rows models"]
    """As the trained predictor gives them."""
    cut: int
    """Prompts that were longer than the encoder reads."""

    def __str__(self) -> str:
        cut = f"{self.cut} prompts were longer than the encoder reads and were cut\n" if self.cut else ""
        if not len(self.held_out):
            return f"{cut}{self.fit}\n{self.updates} updates on all queries"
        return (
            f"{cut}{self.fit}\nheld-out log-loss {self.first_loss:.4f} with the frozen encoder, {self.held_out_loss:.4f} after "
            f"update {self.best_step} of {self.updates} ({len(self.held_out)} queries held out)"
        )


@dataclass(frozen=True)
class Tuned:
    """A trained encoder, its head, and how they came about."""

    trained: Trained
    head: Head
    report: TuningReport


def tune(
    table: RoutingTable,
    encoder: Encoder,
    config: TuneConfig,
    *,
    feature_config: FeatureConfig,
    levels: int,
    seed: int,
    fit: Fit,
    described: Mapping[str, Any],
    folder: Path,
) -> Tuned:
    """Train the encoder's adapters or weights with the head, from the head that `fit` finds for the frozen encoder.

    The state lies in `folder`; where it holds an unfinished run of the same `described` configuration, table and encoder, that
    one goes on and ends with the numbers it would have ended with. Raises `CheckpointError` if it is another one's.
    """
    grid = devices(config.mesh)
    described = {**described, "table": _fingerprint(table), "encoder_sha256": encoder.identity}
    with RunState(folder, described, keep=config.keep) as state:
        run = _Run.prepare(table, encoder, config, feature_config, levels, seed, grid)
        step = state.latest()
        if step is None:
            tree, progress = run.begin(fit)
            step = 0
        else:
            tree, progress = state.restore(step, grid.abstract(run.abstract()))
        metrics = Metrics(folder, step)
        tree, progress = run.train(tree, progress, step, state, metrics)
        state.wait()
        if len(run.held_out):
            tree, _ = state.restore(progress["best_step"], grid.abstract(run.abstract()))
        return run.finish(tree, progress)


@dataclass(frozen=True)
class _Run:
    """What stays the same from the first update to the last."""

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

    @staticmethod
    def prepare(
        table: RoutingTable,
        encoder: Encoder,
        config: TuneConfig,
        feature_config: FeatureConfig,
        levels: int,
        seed: int,
        grid: Devices,
    ) -> _Run:
        depth = max(feature_config.layers)
        token_ids, cut = encoder.tokenize(
            table.prompts, max_tokens=feature_config.max_tokens, truncation_side=feature_config.truncation_side
        )
        target = level_targets(table.quality, levels)
        order = stratified_order(table.domains, seed=seed, prompts=table.prompts)
        held_out = np.flatnonzero(order < config.held_out)
        training = np.flatnonzero(order >= config.held_out)
        shallow = encoder.config.up_to(depth)
        graph, _ = nnx.split(abstract_network(shallow))
        weights = {}
        if config.mode == "lora":
            placed = replace(encoder, dtype=config.dtype, place=grid.place)
            weights = nnx.to_pure_dict(nnx.state(placed.network(depth)))
        head = Head(shallow.hidden_size * len(feature_config.layers), len(table.models), levels)
        network = Network(
            encoder=graph,
            head=nnx.split(head)[0],
            taps=tuple((layer, feature_config.pooling) for layer in feature_config.layers),
            tune=config,
            updates=config.epochs * updates_per_epoch(len(training), config.batch_size),
            grid=grid,
        )
        examples = Examples(token_ids, target, (~np.isnan(table.quality)).astype(np.float32))
        return _Run(network, encoder, grid, examples, training, held_out, table, seed, weights, len(cut))

    @property
    def tune(self) -> TuneConfig:
        return self.network.tune

    @property
    def shallow(self):
        return self.encoder.config.up_to(max(layer for layer, _ in self.network.taps))

    def begin(self, fit: Fit) -> tuple[Tree, dict[str, Any]]:
        """The state before the first update."""
        weights = self._place(self._first_weights())
        # One device has them in the cache, or puts them there; an encoder that needs several is on the mesh already.
        first = None
        if self.grid.count > 1:
            first = self._features({"encoder": weights}, {"encoder": self.weights}, self.training)
        fitted = fit(self.table.select(self.training), first)
        _, parameters, rest = nnx.split(fitted.head, nnx.Param, ...)
        fixed = nnx.to_pure_dict(rest)
        # The range of training holds for the frozen encoder's features; the trained one's is taken at the end.
        fixed |= {"low": jnp.full_like(fixed["low"], -jnp.inf), "high": jnp.full_like(fixed["high"], jnp.inf)}
        trainable = {"encoder": weights, "head": self._place(nnx.to_pure_dict(parameters))}
        tree = {
            "trainable": trainable,
            "optimizer": self._first_optimizer_state(trainable),
            "fixed": self._place(
                {
                    "head": fixed,
                    "penalty": jnp.asarray(fitted.penalty, jnp.float32),
                    "penalties": jnp.asarray(fitted.penalties, jnp.float32),
                }
            ),
        }
        progress = {"best_step": 0, "best_loss": None, "first_loss": None, "since_best": 0, "stopped": False}
        return tree, progress | {"fit": fitted.report}

    def _first_weights(self) -> Tree:
        """Adapters that change nothing, or those of `tune.adapter`; or all of the encoder's weights in float32."""
        if self.tune.mode == "full":
            placed = replace(self.encoder, dtype="float32", place=self.grid.place)
            return nnx.to_pure_dict(nnx.state(placed.network(self.shallow.layers)))
        if self.tune.adapter is None:
            return new_adapters(self.tune.lora, self.shallow, jax.random.key(self.seed))
        adapters, lora = load_adapters(self.tune.adapter, self.shallow)
        stored, wanted = ((one.rank, one.alpha, one.projections) for one in (lora, self.tune.lora))
        if stored != wanted:
            raise EncoderError(
                f"tune.adapter={str(self.tune.adapter)!r} has (rank, alpha, projections) = {stored}; tune.lora says {wanted}"
            )
        return adapters

    def _first_optimizer_state(self, trainable: Tree) -> Any:
        initialise = optimizer(self.network).init
        abstract = self.grid.abstract(jax.eval_shape(initialise, trainable))
        return jax.jit(initialise, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, abstract))(trainable)

    def _place(self, tree: Any) -> Any:
        """Host arrays where they belong on the mesh; what is there already stays."""

        def put(leaf):
            on_mesh = isinstance(leaf, jax.Array) and leaf.sharding == self.grid.weight(leaf.shape)
            return leaf if on_mesh else self.grid.put(np.asarray(leaf), self.grid.weight(np.shape(leaf)))

        return jax.tree.map(put, tree)

    def abstract(self) -> Tree:
        """Shapes and dtypes of the whole state."""
        shallow, head = self.shallow, self._empty_head()
        _, parameters, rest = nnx.split(head, nnx.Param, ...)
        if self.tune.mode == "full":
            weights = nnx.to_pure_dict(nnx.state(abstract_network(shallow)))
        else:
            weights = jax.eval_shape(lambda: new_adapters(self.tune.lora, shallow, jax.random.key(0)))
        trainable = {"encoder": weights, "head": nnx.to_pure_dict(parameters)}
        trainable = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), trainable)
        models = self.examples.observed.shape[1]
        return {
            "trainable": trainable,
            "optimizer": jax.eval_shape(optimizer(self.network).init, trainable),
            "fixed": {
                "head": nnx.to_pure_dict(rest),
                "penalty": jax.ShapeDtypeStruct((), jnp.float32),
                "penalties": jax.ShapeDtypeStruct((models,), jnp.float32),
            },
        }

    def _empty_head(self) -> Head:
        width = self.shallow.hidden_size * len(self.network.taps)
        return Head(width, self.examples.target.shape[1], self.examples.target.shape[2])

    def train(
        self, tree: Tree, progress: dict[str, Any], step: int, state: RunState, metrics: Metrics
    ) -> tuple[Tree, dict[str, Any]]:
        """Updates from `step` to the last, or until the held-out loss has stopped falling."""
        tune, network = self.tune, self.network
        per_epoch = updates_per_epoch(len(self.training), tune.batch_size)
        every = tune.evaluate_every or per_epoch
        trainable, optimizer_state, frozen = tree["trainable"], tree["optimizer"], self._frozen(tree)

        def checkpoint() -> None:
            nonlocal progress
            due = len(self.held_out) and (step % every == 0 or step == network.updates)
            loss = None
            if due:
                loss = self._held_out_loss(trainable, frozen)
                progress = _judged(progress, step, loss, patience=tune.patience)
                metrics.add(step=step, epoch=step / per_epoch, held_out_log_loss=loss, best_step=progress["best_step"])
                bar.set_postfix_str(f"held-out log-loss {loss:.4f}, best {progress['best_loss']:.4f}")
            if due or step == network.updates or (tune.save_every and step % tune.save_every == 0):
                whole = {"trainable": trainable, "optimizer": optimizer_state, "fixed": tree["fixed"]}
                state.save(step, whole, progress, loss)

        quiet = jax.process_index() > 0
        with tqdm(total=network.updates, initial=step, desc="training", unit=" updates", disable=quiet) as bar:
            if step == 0:
                checkpoint()
            while step < network.updates and not progress["stopped"]:
                started, tokens = time.perf_counter(), 0
                sums = no_sums(network, trainable)
                rows = self.training[batch_rows(len(self.training), tune.batch_size, step, seed=self.seed)]
                for part, (chosen, batch) in enumerate(self._parts(rows)):
                    draw = np.array([self.seed, step, part], np.uint32)
                    sums = accumulate(network, trainable, frozen, sums, jax.tree.map(self.grid.put_batch, batch), draw)
                    tokens += sum(len(self.examples.token_ids[row]) for row in chosen)
                trainable, optimizer_state, seen = update(network, trainable, frozen, optimizer_state, sums)
                step += 1
                seen = {name: float(value) for name, value in seen.items()}
                seconds = time.perf_counter() - started
                metrics.add(step=step, epoch=step / per_epoch, **seen, tokens=tokens, tokens_per_second=tokens / seconds)
                bar.update()
                checkpoint()
        return {"trainable": trainable, "optimizer": optimizer_state, "fixed": tree["fixed"]}, progress

    def _parts(self, rows: Int[np.ndarray, " rows"]):
        return micro_batches(self.examples, rows, tokens=self.tune.tokens_per_batch, devices=self.grid.count)

    def _frozen(self, tree: Tree) -> Tree:
        return {"encoder": self.weights, **tree["fixed"]}

    def _features(self, trainable: Tree, frozen: Tree, rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "rows features"]:
        """Of some queries, in their order."""
        found = {}
        for part, batch in self._parts(rows):
            hidden = features(
                self.network, trainable, frozen, self.grid.put_batch(batch.tokens), self.grid.put_batch(batch.lengths)
            )
            found |= dict(zip(part.tolist(), np.asarray(hidden)))
        return np.stack([found[row] for row in rows.tolist()])

    def _held_out_loss(self, trainable: Tree, frozen: Tree) -> float:
        """Mean cross-entropy over the observed cells."""
        hidden = self._features(trainable, frozen, self.held_out)
        head = {"head": self._fetch(trainable["head"])}, {"head": self._fetch(frozen["head"])}
        logits = np.asarray(head_logits(self.network, *head, jnp.asarray(hidden)))
        observed = self.examples.observed[self.held_out]
        losses = cross_entropy(logits, self.examples.target[self.held_out], observed)
        return float(np.asarray(losses, np.float64).sum() / observed.sum())

    def finish(self, tree: Tree, progress: dict[str, Any]) -> Tuned:
        """The trained weights on the host, and the head with the range of the trained encoder's features."""
        trainable, frozen = tree["trainable"], self._frozen(tree)
        seen = self._features(trainable, frozen, self.training)
        head = self._empty_head()
        fixed = self._fetch(tree["fixed"]["head"]) | {"low": seen.min(axis=0), "high": seen.max(axis=0)}
        nnx.update(head, jax.tree.map(jnp.asarray, self._fetch(trainable["head"]) | fixed))
        estimates = np.empty((0, len(self.table.models)))
        if len(self.held_out):
            unseen = self._features(trainable, frozen, self.held_out)
            estimates = np.asarray(expected_level(head(jnp.asarray(unseen))), np.float64)
        arrays = self._fetch(trainable["encoder"])
        trained = TrainedWeights(arrays) if self.tune.mode == "full" else TrainedAdapters(arrays, self.tune.lora)
        nothing = float("nan")
        report = TuningReport(
            fit=progress["fit"],
            cut=self.cut,
            updates=self.network.updates,
            best_step=progress["best_step"] if len(self.held_out) else self.network.updates,
            first_loss=progress["first_loss"] if len(self.held_out) else nothing,
            held_out_loss=progress["best_loss"] if len(self.held_out) else nothing,
            held_out=self.held_out,
            held_out_estimates=estimates,
        )
        return Tuned(trained, head, report)

    def _fetch(self, tree: Tree) -> Tree:
        """On the host of every process."""
        whole = jax.jit(lambda tree: tree, out_shardings=self.grid.replicated)(tree)
        return jax.tree.map(np.asarray, whole)


def _judged(progress: dict[str, Any], step: int, loss: float, *, patience: int) -> dict[str, Any]:
    """The progress after an evaluation."""
    best = progress["best_loss"]
    if best is None or loss < best:
        first = loss if best is None else progress["first_loss"]
        return progress | {"best_step": step, "best_loss": loss, "first_loss": first, "since_best": 0}
    since = progress["since_best"] + 1
    return progress | {"since_best": since, "stopped": since >= patience}


def _fingerprint(table: RoutingTable) -> str:
    """SHA-256 over the prompts, the models and their qualities."""
    digest = hashlib.sha256(json.dumps([table.prompts, table.domains, table.models]).encode())
    digest.update(np.ascontiguousarray(table.quality).tobytes())
    return digest.hexdigest()
