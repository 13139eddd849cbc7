"""Fitting the head to features: convex, every strength chosen on held-out queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from jaxroute.data.table import RoutingTable, stratified_order
from jaxroute.errors import TableError
from jaxroute.predictor.config import TrainConfig
from jaxroute.predictor.heads import (
    AnyArray,
    Head,
    Linear,
    cross_entropy,
    expected_level,
    fit_linear,
    level_targets,
    rotation,
    zero_fit,
)


def train_head(
    features: Float[np.ndarray, "queries features"],
    table: RoutingTable,
    config: TrainConfig,
    *,
    auxiliary: Float[np.ndarray, "queries tasks"] | None = None,
) -> tuple[Head, TrainingReport]:
    """Fit the head on features that are at hand.

    `auxiliary` holds further outcomes of the same queries, in [0, 1] or NaN, say graded answers beside right or wrong ones:
    they help to find what the models share, and are neither judged nor estimated.
    """
    check_trainable(table, config)
    data = _Data.prepare(features, table, config, auxiliary)
    penalty, losses, held_out = _choose_shared(data, config)
    shared = _fit(data, [penalty], data.observed[None], np.zeros_like(data.target)[None])
    data, held_out = data.judged(), held_out[:, : len(table.models)]
    shared = Linear(shared.weight, shared.intercept[:, : len(table.models)])
    corrections = Linear(
        jnp.zeros((data.models, data.hidden.shape[1], config.levels)), jnp.zeros((data.models, 1, config.levels))
    )
    chosen = dict.fromkeys(table.models, np.inf)
    if config.head == "interaction":
        corrections, chosen, held_out = _fit_corrections(data, held_out, table.models, config)
    head = _assemble(data, Linear(shared.weight[0], shared.intercept[0]), corrections)
    nnx.update(head, nnx.State({"low": nnx.Variable(features.min(axis=0)), "high": nnx.Variable(features.max(axis=0))}))
    report = TrainingReport(
        difference_losses=losses,
        difference_penalty=penalty,
        correction_penalties=chosen,
        held_out_loss=data.loss(held_out),
        held_out_estimates=np.asarray(expected_level(held_out)),
    )
    return head, report


@dataclass(frozen=True)
class TrainingReport:
    """What was tried on held-out queries; losses are log-losses in nats per observed cell."""

    difference_losses: dict[float, float]
    """Held-out loss of the difference head by penalty."""
    difference_penalty: float
    correction_penalties: dict[str, float]
    """Per model; infinity = no correction."""
    held_out_loss: float
    """Of the head as trained, each query predicted by a fit that did not see it."""
    held_out_estimates: Float[np.ndarray, "queries models"]
    cut: int = 0
    """Prompts that were longer than the encoder reads."""

    def __str__(self) -> str:
        path = "  ".join(f"{penalty:g}: {loss:.4f}" for penalty, loss in self.difference_losses.items())
        freed = [f"{model} ({penalty:g})" for model, penalty in self.correction_penalties.items() if np.isfinite(penalty)]
        cut = f"{self.cut} prompts were longer than the encoder reads and were cut\n" if self.cut else ""
        return (
            f"{cut}held-out log-loss of the difference head by penalty  {path}\n"
            f"chosen penalty {self.difference_penalty:g}; models with a correction of their own: "
            f"{', '.join(freed) or 'none'}\nheld-out log-loss {self.held_out_loss:.4f}"
        )


def check_trainable(table: RoutingTable, config: TrainConfig) -> None:
    if len(table) < 2 * config.folds:
        raise TableError(f"{table.name} has {len(table)} queries; training with {config.folds} folds needs {2 * config.folds}")
    never = [model for column, model in enumerate(table.models) if np.isnan(table.quality[:, column]).all()]
    if never:
        raise TableError(f"{table.name}: {', '.join(never)} was never run; drop the model or add its outcomes")


def fold_numbers(table: RoutingTable, folds: int, *, seed: int) -> Int[np.ndarray, " queries"]:
    """The fold, 0 to folds - 1, in which each query is held out; domains are spread evenly, equal prompts stay together."""
    return (stratified_order(table.domains, seed=seed, prompts=table.prompts) * folds).astype(int)


@dataclass(frozen=True)
class _Data:
    hidden: Float[np.ndarray, "queries features"]
    """Standardised and turned into `basis`."""
    basis: Float[np.ndarray, "features features"]
    curvature: Float[np.ndarray, " features"]
    mean: Float[np.ndarray, " features"]
    scale: Float[np.ndarray, " features"]
    target: Float[np.ndarray, "queries models levels"]
    observed: Float[np.ndarray, "queries models"]
    fold: Int[np.ndarray, " queries"]
    kept: Float[np.ndarray, "folds queries"]
    """1 where a fold trains on a query, 0 where it is held out."""
    judged_models: int
    """How many of the models count in the loss, from the first; auxiliary ones follow."""

    @property
    def models(self) -> int:
        return self.target.shape[1]

    @staticmethod
    def prepare(features: np.ndarray, table: RoutingTable, config: TrainConfig, auxiliary: np.ndarray | None) -> _Data:
        if auxiliary is not None and (len(auxiliary) != len(table) or np.nanmin(auxiliary) < 0 or np.nanmax(auxiliary) > 1):
            raise TableError(
                f"auxiliary has {len(auxiliary)} rows from {np.nanmin(auxiliary):g} to {np.nanmax(auxiliary):g}; give one row "
                f"for each of the {len(table)} queries of {table.name}, from 0 to 1"
            )
        quality = table.quality if auxiliary is None else np.concatenate([table.quality, auxiliary], axis=1)
        mean, scale = features.mean(axis=0), features.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
        fold = fold_numbers(table, config.folds, seed=config.seed)
        hidden = ((features - mean) / scale).astype(np.float32)
        basis, curvature = rotation(hidden)
        return _Data(
            hidden=hidden @ basis,
            basis=basis,
            curvature=curvature,
            mean=mean,
            scale=scale,
            target=level_targets(quality, config.levels),
            observed=(~np.isnan(quality)).astype(np.float32),
            fold=fold,
            kept=(fold != np.arange(config.folds)[:, None]).astype(np.float32),
            judged_models=len(table.models),
        )

    def judged(self) -> _Data:
        """Without the auxiliary outcomes."""
        return replace(self, target=self.target[:, : self.judged_models], observed=self.observed[:, : self.judged_models])

    def held_out(self, by_fold: Float[AnyArray, "folds queries ..."]) -> Float[np.ndarray, "queries ..."]:
        """Each query's row from the fold that did not see it."""
        return np.asarray(by_fold)[self.fold, np.arange(len(self.fold))]

    def loss(self, logits: Float[np.ndarray, "queries models levels"]) -> float:
        target, observed = self.target[:, : self.judged_models], self.observed[:, : self.judged_models]
        return float(np.sum(cross_entropy(logits[:, : self.judged_models], target, observed)) / observed.sum())


def _fit(data: _Data, penalties: Sequence[float], observed, offset, start: Linear | None = None) -> Linear:
    fits = len(observed)
    start = start or zero_fit(fits, data.hidden.shape[1], data.models, data.target.shape[2])
    target = np.broadcast_to(data.target, (fits, *data.target.shape))
    penalty = jnp.asarray(np.broadcast_to(penalties, fits), jnp.float32)
    return fit_linear(start, data.hidden, target, observed, offset, penalty, data.curvature)


def _choose_shared(data: _Data, config: TrainConfig) -> tuple[float, dict[float, float], np.ndarray]:
    """Walk the penalties from strong to weak, all folds at once, each fit started from the one before."""
    losses: dict[float, float] = {}
    logits: dict[float, np.ndarray] = {}
    observed = data.kept[:, :, None] * data.observed
    offset = np.zeros((config.folds, *data.target.shape), np.float32)
    fitted = None
    with tqdm(sorted(config.penalties, reverse=True), desc="training the head", unit=" penalties", delay=1) as bar:
        for penalty in bar:
            fitted = _fit(data, [penalty], observed, offset, fitted)
            logits[penalty] = data.held_out(fitted.logits(data.hidden))
            losses[penalty] = data.loss(logits[penalty])
            bar.set_postfix_str(f"held-out log-loss {losses[penalty]:.4f}")
            recent = list(losses.values())[-3:]
            if len(recent) == 3 and recent[0] < recent[1] < recent[2]:
                break
    best = min(losses, key=losses.__getitem__)
    return best, losses, logits[best]


def _fit_corrections(
    data: _Data, held_out: np.ndarray, models: list[str], config: TrainConfig
) -> tuple[Linear, dict[str, float], np.ndarray]:
    """Per model, a ridge-penalised correction on top of the difference head's held-out logits.

    The held-out logits are the offset, since the fitted ones know the answers. A model's penalty is the one with the
    least held-out loss, and infinity (no correction) unless that loss is lower by `config.clear` standard errors.
    """
    levels = config.levels
    target = data.target.swapaxes(0, 1)[:, :, None]  # (models, queries, 1, levels): one fit per model
    observed = data.observed.T[:, :, None]
    offset = held_out.swapaxes(0, 1)[:, :, None]
    before = np.asarray(cross_entropy(held_out, data.target, data.observed)).T  # (models, queries)
    folds, count = config.folds, data.models

    def repeated(array):
        return np.repeat(array, folds, axis=0)

    kept = np.tile(data.kept, (count, 1))[:, :, None]
    after: dict[float, np.ndarray] = {}
    logits: dict[float, np.ndarray] = {}
    fitted = zero_fit(count * folds, data.hidden.shape[1], 1, levels)
    with tqdm(sorted(config.penalties, reverse=True), desc="training corrections", unit=" penalties", delay=1) as bar:
        for penalty in bar:
            penalties = jnp.full(count * folds, penalty, jnp.float32)
            fitted = fit_linear(
                fitted,
                data.hidden,
                repeated(target),
                repeated(observed) * kept,
                repeated(offset),
                penalties,
                data.curvature,
            )
            by_fold = np.asarray(fitted.logits(data.hidden))[:, :, 0].reshape(count, folds, -1, levels)
            correction = np.stack([data.held_out(one) for one in by_fold], axis=1)
            logits[penalty] = held_out + correction
            after[penalty] = np.asarray(cross_entropy(logits[penalty], data.target, data.observed)).T
            means = [loss.sum() / data.observed.sum() for loss in after.values()]
            bar.set_postfix_str(f"held-out log-loss {means[-1]:.4f}")
            if len(means) >= 3 and means[-3] < means[-2] < means[-1]:
                break

    chosen: dict[str, float] = {}
    for column, model in enumerate(models):
        best = min(after, key=lambda penalty: after[penalty][column].sum())
        gain = (before - after[best])[column][data.observed[:, column] > 0]
        clear = len(gain) > 1 and gain.mean() > config.clear * gain.std(ddof=1) / np.sqrt(len(gain))
        chosen[model] = best if clear else np.inf
        if np.isfinite(chosen[model]):
            held_out = held_out.copy()
            held_out[:, column] = logits[best][:, column]
    freed = np.array([np.isfinite(chosen[model]) for model in models])
    penalties = np.array([chosen[model] if np.isfinite(chosen[model]) else 1.0 for model in models], np.float32)
    final = fit_linear(
        zero_fit(count, data.hidden.shape[1], 1, levels),
        data.hidden,
        target,
        observed,
        offset,
        jnp.asarray(penalties),
        data.curvature,
    )
    keep = jnp.asarray(freed, jnp.float32)[:, None, None]
    return Linear(final.weight * keep, final.intercept * keep), chosen, held_out


def _assemble(data: _Data, shared: Linear, corrections: Linear) -> Head:
    """The fitted numbers in the published form: intercepts become embeddings, -W e_m = intercept, of least norm."""
    features, levels = shared.weight.shape
    head = Head(features, data.models, levels)
    weight = np.asarray(data.basis @ shared.weight, np.float64)
    intercept = np.asarray(shared.intercept, np.float64)
    # A constant over the levels changes no softmax, and W, penalised, has none; so the intercepts lie in its range.
    intercept = intercept - intercept.mean(axis=1, keepdims=True)
    bias = intercept.mean(axis=0)
    # Softmax weights have one direction fewer than levels; what float32 leaves in it is rounding, not to be divided by.
    embedding = -(intercept - bias) @ np.linalg.pinv(weight, rcond=1e-5)
    # What no embedding can say is rounding, or everything where the features say nothing and W is 0.
    unsaid = intercept - bias + embedding @ weight
    nnx.update(
        head,
        nnx.State(
            {
                "mean": nnx.Variable(jnp.asarray(data.mean)),
                "scale": nnx.Variable(jnp.asarray(data.scale)),
                "weight": nnx.Param(jnp.asarray(weight, jnp.float32)),
                "model_embedding": nnx.Param(jnp.asarray(embedding, jnp.float32)),
                "bias": nnx.Param(jnp.asarray(bias, jnp.float32)),
                "correction": nnx.Param(jnp.asarray(data.basis @ corrections.weight)),
                "correction_bias": nnx.Param(corrections.intercept[:, 0] + jnp.asarray(unsaid, jnp.float32)),
            }
        ),
    )
    return head
