"""The run: update after update from where the last one stopped, evaluated on held-out queries, the best step kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tqdm.auto import tqdm

from jaxroute.data.table import RoutingTable
from jaxroute.encoders import Encoder
from jaxroute.encoders.features import FeatureConfig
from jaxroute.encoders.weights.trained import TrainedAdapters, TrainedWeights
from jaxroute.predictor.heads import expected_level
from jaxroute.predictor.tuning.batches import batch_rows, updates_per_epoch
from jaxroute.predictor.tuning.config import TuneConfig
from jaxroute.predictor.tuning.mesh import devices
from jaxroute.predictor.tuning.results import Fit, Tuned, TuningReport
from jaxroute.predictor.tuning.setting import Setting
from jaxroute.predictor.tuning.start import abstract_tree, first_tree
from jaxroute.predictor.tuning.state import Metrics, RunState
from jaxroute.predictor.tuning.steps import Tree, accumulate, no_sums, update
from jaxroute.progress import progress_bar


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

    The state lies in `folder`; an unfinished run there of the same `described` configuration, table and encoder is resumed
    and ends with the numbers it would have ended with. Raises `CheckpointError` if it is another one's.
    """
    grid = devices(config.mesh)
    described = {**described, "table": table.digest, "encoder_sha256": encoder.identity}
    with RunState(folder, described, keep=config.keep) as disk:
        setting = Setting.prepare(table, encoder, config, feature_config, levels, seed, grid)
        abstract = grid.abstract(abstract_tree(setting))
        step = disk.latest()
        if step is None:
            tree, report = first_tree(setting, fit)
            run = _Run(setting, disk, Metrics(folder, 0), 0, tree, Progress(fit=report))
        else:
            tree, progress = disk.restore(step, abstract)
            run = _Run(setting, disk, Metrics(folder, step), step, tree, Progress(**progress))
        run.train()
        disk.wait()
        best = disk.restore(run.progress.best_step, abstract)[0] if len(setting.held_out) else run.tree
        return _tuned(setting, best, run.progress)


@dataclass(frozen=True)
class Progress:
    """What the evaluations have said so far; kept with every state."""

    best_step: int = 0
    best_loss: float | None = None
    first_loss: float | None = None
    since_best: int = 0
    """Evaluations since the best one."""
    stopped: bool = False
    """The held-out loss has not fallen for as long as the configuration's patience."""
    fit: str = ""
    """How the head was found that the run began with."""

    def after(self, step: int, loss: float, *, patience: int) -> Progress:
        """An evaluation later; of equal losses the first is the best."""
        if self.best_loss is None or loss < self.best_loss:
            first = loss if self.best_loss is None else self.first_loss
            return replace(self, best_step=step, best_loss=loss, first_loss=first, since_best=0)
        return replace(self, since_best=self.since_best + 1, stopped=self.since_best + 1 >= patience)


@dataclass
class _Run:
    """A run under way: `setting` stays what it is, `step`, `tree` and `progress` move."""

    setting: Setting
    disk: RunState
    metrics: Metrics
    step: int
    """Updates done."""
    tree: Tree
    """`trainable`, `optimizer` and `fixed`: all that a resumed run needs."""
    progress: Progress

    def train(self) -> None:
        """To the last update, or until the held-out loss has stopped falling."""
        total = self.setting.network.updates
        with progress_bar(
            total=total, initial=self.step, desc="training", unit=" updates", disable=jax.process_index() > 0
        ) as bar:
            if self.step == 0:
                self._look(bar)
            while self.step < total and not self.progress.stopped:
                self._update()
                bar.update()
                self._look(bar)

    def _update(self) -> None:
        """One batch: gradients summed over its parts, then one step of the optimizer."""
        setting, trainable, frozen = self.setting, self.tree["trainable"], self.setting.frozen(self.tree)
        started, tokens = time.perf_counter(), 0
        sums = no_sums(setting.network, trainable)
        order = batch_rows(len(setting.training), setting.tune.batch_size, self.step, seed=setting.seed)
        for part, (rows, batch) in enumerate(setting.parts(setting.training[order])):
            draw = np.array([setting.seed, self.step, part], np.uint32)
            batch = jax.tree.map(setting.grid.put_batch, batch)
            sums = accumulate(setting.network, trainable, frozen, sums, batch, draw)
            tokens += sum(len(setting.examples.token_ids[row]) for row in rows)
        trainable, optimizer, seen = update(setting.network, trainable, frozen, self.tree["optimizer"], sums)
        self.tree = self.tree | {"trainable": trainable, "optimizer": optimizer}
        self.step += 1
        seen = {name: float(value) for name, value in seen.items()}
        speed = tokens / (time.perf_counter() - started)
        self.metrics.add(step=self.step, epoch=self._epoch, **seen, tokens=tokens, tokens_per_second=speed)

    def _look(self, bar: tqdm) -> None:
        """Evaluate and save, each where it is due."""
        tune, last = self.setting.tune, self.step == self.setting.network.updates
        every = tune.evaluate_every or self._per_epoch
        evaluated = len(self.setting.held_out) > 0 and (self.step % every == 0 or last)
        loss = self._evaluate(bar) if evaluated else None
        if evaluated or last or (tune.save_every and self.step % tune.save_every == 0):
            self.disk.save(self.step, self.tree, asdict(self.progress), loss)

    def _evaluate(self, bar: tqdm) -> float:
        loss = self.setting.held_out_loss(self.tree)
        self.progress = self.progress.after(self.step, loss, patience=self.setting.tune.patience)
        best = self.progress.best_step
        self.metrics.add(step=self.step, epoch=self._epoch, held_out_log_loss=loss, best_step=best)
        bar.set_postfix_str(f"held-out log-loss {loss:.4f}, best {self.progress.best_loss:.4f}")
        return loss

    @property
    def _per_epoch(self) -> int:
        return updates_per_epoch(len(self.setting.training), self.setting.tune.batch_size)

    @property
    def _epoch(self) -> float:
        return self.step / self._per_epoch


def _tuned(setting: Setting, tree: Tree, progress: Progress) -> Tuned:
    """The trained weights on the host, and the head with the range of the trained encoder's features."""
    seen = setting.features(tree, setting.training)
    head = setting.empty_head()
    fixed = setting.fetch(tree["fixed"]["head"]) | {"low": seen.min(axis=0), "high": seen.max(axis=0)}
    nnx.update(head, jax.tree.map(jnp.asarray, setting.fetch(tree["trainable"]["head"]) | fixed))
    judged = len(setting.held_out) > 0
    estimates = np.empty((0, len(setting.table.models)))
    if judged:
        unseen = setting.features(tree, setting.held_out)
        estimates = np.asarray(expected_level(head(jnp.asarray(unseen))), np.float64)
    arrays = setting.fetch(tree["trainable"]["encoder"])
    trained = TrainedWeights(arrays) if setting.tune.mode == "full" else TrainedAdapters(arrays, setting.tune.lora)
    report = TuningReport(
        fit=progress.fit,
        cut=setting.cut,
        updates=setting.network.updates,
        best_step=progress.best_step if judged else setting.network.updates,
        first_loss=_known(progress.first_loss),
        held_out_loss=_known(progress.best_loss),
        held_out=setting.held_out,
        held_out_estimates=estimates,
    )
    return Tuned(trained, head, report)


def _known(loss: float | None) -> float:
    return float("nan") if loss is None else loss
