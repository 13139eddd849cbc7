"""Fitting the head to features: convex problems, every strength chosen on held-out queries.

    logits_jm = h_j W + h_j C_m + b_m

The ridge penalty of W is chosen first, without C. Then every C_m has the prior Normal(0, spread^2) on what it moves a
logit: all models' at once at each spread, and each model keeps the spread of its least held-out loss, or none. W, C and b
are fitted together. (A correction on top of a fitted W, with held-out logits as its offset, learns again what W lacked by
being held out: even a harmless one then looks harmful, and few are kept.) The levels b_m lean on each other as `shrinkage.py`
says, so that a rarely run model is estimated like the others; one with far fewer outcomes than they is fitted against their
head (`rarely_run.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int

from jaxroute.data.shrinkage import pool_levels, warn_of_few
from jaxroute.data.table import RoutingTable, stratified_order, text_key
from jaxroute.errors import TableError, listed
from jaxroute.predictor.config import TrainConfig
from jaxroute.predictor.domain_effects import DomainFit, domain_names, domain_numbers
from jaxroute.predictor.heads import Head, expected_level, level_targets
from jaxroute.predictor.new_models import CORRECTION_SPREAD
from jaxroute.predictor.rarely_run import rarely_run, with_rarely_run
from jaxroute.predictor.regression import Linear, Penalties, cell_losses, fit_linear, rotation
from jaxroute.predictor.training_report import MEANS, TrainingReport
from jaxroute.progress import progress_bar
from solvers.inputs import no_type_check

TIE = 1e-6
"""Held-out losses that differ by less, in nats, are equal, and the strongest penalty among them is taken: rounding, which
differs by processor, must not choose."""
SPREADS = (0.05, 0.1, 0.2, 0.4, 0.8)
"""How far a domain's effect may move a logit, to try."""
CONSTANT = 1e-5
"""A feature that varies by less than this share of its mean is constant but for float32's rounding."""


@no_type_check
def train_head(
    features: Float[np.ndarray, "queries features"],
    table: RoutingTable,
    config: TrainConfig,
    *,
    auxiliary: Float[np.ndarray, "queries tasks"] | None = None,
    leaning: bool = True,
) -> tuple[Head, TrainingReport]:
    """Fit the head on features that are at hand.

    With `leaning`, models with far fewer outcomes than the others (`rarely_run.py`) get rows that lean on the head of the
    others; without it, and in a head without corrections, one fit is made for all.

    `auxiliary` holds further outcomes of the same queries, in [0, 1] or NaN, say graded answers beside right or wrong ones:
    they help to find what the models share, and are neither judged nor estimated. Warns (`FewOutcomes`) of models that were
    rarely run.
    """
    check_trainable(table, config)
    warn_of_few(table.models, table.quality, pool_levels(table.quality).reliability)
    if leaning and config.head == "interaction" and config.corrections:
        rare = [table.models[column] for column in rarely_run(table.quality)]
        if rare and (parts := _without(table, rare, config)) is not None:
            return _train_beside(features, table, rare, *parts, config, auxiliary)
    data = _Data.prepare(features, table, config, auxiliary)
    penalty, losses, fitted = _choose_shared(data, config)
    spreads = dict.fromkeys(table.models, 0.0)
    if config.head == "interaction" and config.corrections:
        spreads = dict(zip(table.models, _choose_corrections(data, penalty, fitted, config)))
    penalties = data.penalties(penalty, list(spreads.values()))
    if any(spreads.values()):
        fitted = data.fit_folds(penalties, fitted)
    found = data.fit(penalties)
    if penalty == MEANS:
        found = found._replace(weight=np.zeros_like(found.weight))
    plain = data.held_out(fitted)
    domains, spread, effects, held_out = _fit_domains(data, table, found, fitted, config)
    shared = data.held_out_shared(fitted) + (held_out - plain).mean(axis=1)
    head = _assemble(data, found, effects, features)
    report = TrainingReport(
        difference_losses=losses,
        difference_penalty=penalty,
        corrections=spreads,
        correction_penalties=dict(zip(table.models, penalties.own * data.models / len(table.models))),
        held_out_loss=data.loss(held_out),
        held_out_estimates=np.asarray(expected_level(held_out)),
        held_out_shared=shared,
        domains=domains,
        domain_spread=spread,
    )
    return head, report


def _without(table: RoutingTable, rare: list[str], config: TrainConfig) -> tuple[np.ndarray, RoutingTable] | None:
    """The rows and the part of the table that the other models answered; None where that cannot be trained on."""
    others = [model for model in table.models if model not in rare]
    answered = np.flatnonzero((~np.isnan(table.select(models=others).quality)).any(axis=1))
    part = table.select(answered, models=others)
    try:
        check_trainable(part, config)
    except TableError:
        return None
    return answered, part


def _train_beside(
    features: np.ndarray,
    table: RoutingTable,
    rare: list[str],
    answered: np.ndarray,
    part: RoutingTable,
    config: TrainConfig,
    auxiliary: np.ndarray | None,
) -> tuple[Head, TrainingReport]:
    """The head of the models that were often run, with rows of the others that lean on them."""
    further = None if auxiliary is None else auxiliary[answered]
    head, report = train_head(features[answered], part, config, auxiliary=further, leaning=False)
    held_out = np.full((len(table), len(part.models)), np.nan)
    held_out[answered] = report.held_out_estimates
    fold = fold_numbers(table, config.folds, seed=config.seed)
    pool = report.pool_questions(part)
    found = with_rarely_run(features, table, rare, fold, head=head, domains=report.domains, pool=pool, held_out=held_out)
    cells = (~np.isnan(part.quality)).sum()
    corrected = [name for name, row in found.rows.items() if row.correction.any()]
    spreads = report.corrections | {name: CORRECTION_SPREAD if name in corrected else 0.0 for name in rare}
    penalties = report.correction_penalties | dict.fromkeys(rare, math.inf)
    return found.head, replace(
        report,
        corrections={model: spreads[model] for model in table.models},
        correction_penalties={model: penalties[model] for model in table.models},
        held_out_loss=float((report.held_out_loss * cells + found.losses.sum()) / (~np.isnan(table.quality)).sum()),
        held_out_estimates=found.estimates,
        held_out_shared=found.shared,
        leaning=found.rows,
    )


def check_trainable(table: RoutingTable, config: TrainConfig) -> None:
    """Raise `TableError` for a table from which nothing can be learnt, before any prompt is encoded."""
    if len(table) < 2 * config.folds:
        raise TableError(f"{table.name} has {len(table)} queries; training with {config.folds} folds needs {2 * config.folds}")
    # As `fold_numbers` has it: equal prompts are held out together.
    distinct = len({text_key(prompt) for prompt in table.prompts})
    if distinct < config.folds:
        raise TableError(
            f"{table.name} has {distinct} distinct prompt{'s' if distinct > 1 else ''} in {len(table)} rows; training with "
            f"{config.folds} folds needs {config.folds}"
        )
    if never := table.never_run:
        raise TableError(f"{table.name}: {listed(never)} was never run; drop the model or add its outcomes")


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
    judged: int
    """How many of the models count in the loss, from the first; auxiliary ones follow."""
    level_precision: float
    """1 / variance of the models' levels around each other, in logits."""

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
        hidden, mean, scale = _standardised(features)
        basis, curvature = rotation(hidden)
        fold = fold_numbers(table, config.folds, seed=config.seed)
        levels = pool_levels(table.quality)
        return _Data(
            hidden=hidden @ basis,
            basis=basis,
            curvature=curvature,
            mean=mean,
            scale=scale,
            target=level_targets(quality, config.levels).astype(np.float64),
            observed=(~np.isnan(quality)).astype(np.float64),
            fold=fold,
            kept=(fold != np.arange(config.folds)[:, None]).astype(np.float64),
            judged=len(table.models),
            # A logit moves by 1 / (p (1 - p)) where a chance moves by 1.
            level_precision=(np.clip(levels.mean * (1 - levels.mean), 0.05, None) / levels.spread) ** 2,
        )

    def penalties(self, shared: float, spreads: Sequence[float]) -> Penalties:
        """Relative to the mean over all observed cells.

        A prior of precision P on the difference between two logits is a ridge of 2 P on the sum over the cells, since the
        weights of the two levels are opposite.
        """
        cells = self.observed.sum()
        own = np.full(self.models, np.inf)
        for column, spread in enumerate(spreads):
            if spread:
                own[column] = 2 * len(self.curvature) / spread**2 / cells
        return Penalties(shared, own, 2 * self.level_precision / cells)

    def fit(self, penalties: Penalties) -> Linear:
        """On all queries."""
        found = fit_linear(self.hidden, self.target, self.observed[None], penalties, self.curvature)
        return Linear(*(part[0] for part in found))

    def fit_folds(self, penalties: Penalties, start: Linear | None) -> Linear:
        """One fit for each fold, without the queries that it holds out."""
        observed = self.kept[:, :, None] * self.observed
        return fit_linear(self.hidden, self.target, observed, penalties, self.curvature, start=start)

    def held_out(self, fitted: Linear) -> Float[np.ndarray, "queries models levels"]:
        """Each query's logits by the fit that did not see it."""
        return fitted.logits(self.hidden)[self.fold, np.arange(len(self.fold)), : self.judged]

    def held_out_shared(self, fitted: Linear) -> Float[np.ndarray, "queries levels"]:
        """h_j W by the fit that did not see the query."""
        return (self.hidden @ fitted.weight)[self.fold, np.arange(len(self.fold))]

    def losses(self, logits: Float[np.ndarray, "queries models levels"]) -> Float[np.ndarray, "queries models"]:
        return cell_losses(logits, self.target[:, : self.judged], self.observed[:, : self.judged])

    def loss(self, logits: Float[np.ndarray, "queries models levels"]) -> float:
        return float(self.losses(logits).sum() / self.observed[:, : self.judged].sum())


def _standardised(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of mean 0 and mean square 1; their mean and scale, as float32, which is what the head holds."""
    wide = features.astype(np.float64)
    if not np.isfinite(wide).all():
        raise TableError(f"features of {np.count_nonzero(~np.isfinite(wide).all(axis=1))} queries are not finite")
    mean, scale = wide.mean(axis=0), wide.std(axis=0)
    scale = np.where(scale > CONSTANT * np.abs(mean), scale, 1.0)
    mean, scale = mean.astype(np.float32), scale.astype(np.float32)
    return (wide - mean) / scale, mean, scale


def _choose_shared(data: _Data, config: TrainConfig) -> tuple[float, dict[float, float], Linear]:
    """Walk the penalties from strong to weak, all folds at once, each fit started from the one before.

    The walk begins at the models' means, so that features that say nothing leave nothing.
    """
    losses: dict[float, float] = {}
    fits: dict[float, Linear] = {}
    fitted = None
    with progress_bar(
        sorted({MEANS, *config.penalties}, reverse=True), desc="training the head", unit=" penalties", delay=1
    ) as bar:
        for penalty in bar:
            fits[penalty] = fitted = data.fit_folds(data.penalties(penalty, []), fitted)
            losses[penalty] = data.loss(data.held_out(fitted))
            bar.set_postfix_str(f"held-out log-loss {losses[penalty]:.4f}")
            if _has_risen_twice(list(losses.values())):
                break
    best = next(penalty for penalty, loss in losses.items() if loss <= min(losses.values()) + TIE)
    return best, losses, fits[best]


def _choose_corrections(data: _Data, penalty: float, fitted: Linear, config: TrainConfig) -> list[float]:
    """Each model's spread: the nearest of those with its least held-out loss, or 0 where that gain is not clear."""
    before = data.losses(data.held_out(fitted))
    gains: dict[float, np.ndarray] = {}
    with progress_bar(sorted(config.corrections), desc="training corrections", unit=" spreads", delay=1) as bar:
        for spread in bar:
            fitted = data.fit_folds(data.penalties(penalty, [spread] * data.judged), fitted)
            gains[spread] = before - data.losses(data.held_out(fitted))
            bar.set_postfix_str(f"gain in held-out log-loss {gains[spread].sum() / data.observed.sum():.4f}")
            if _has_risen_twice([-gain.sum(axis=0).max() for gain in gains.values()]):
                break
    return [
        _best_spread({spread: gain[run > 0, column] for spread, gain in gains.items()}, config.clear)
        for column, run in enumerate(data.observed[:, : data.judged].T)
    ]


def _best_spread(gains: dict[float, np.ndarray], clear: float) -> float:
    """The smallest spread with the largest mean gain over a model's outcomes; 0 unless that is `clear` standard errors."""
    most = max(gain.mean() for gain in gains.values())
    best = next(spread for spread, gain in gains.items() if gain.mean() >= most - TIE)
    gain = gains[best]
    error = gain.std(ddof=1) / math.sqrt(len(gain)) if len(gain) > 1 else math.inf
    return best if most > TIE and most > clear * error else 0.0


def _has_risen_twice(losses: list[float]) -> bool:
    return len(losses) >= 3 and losses[-3] < losses[-2] < losses[-1]


def _fit_domains(
    data: _Data, table: RoutingTable, found: Linear, fitted: Linear, config: TrainConfig
) -> tuple[list[str], float, Float[np.ndarray, "domains models levels"], Float[np.ndarray, "queries models levels"]]:
    """Names, spread and effects of the table's domains, and held-out logits with them; none where they do not help."""
    # The difference head stays what was published.
    names = domain_names(table.domains) if config.domains and config.head == "interaction" else []
    none = np.zeros((0, data.judged, config.levels))
    if not names:
        return [], 0.0, none, data.held_out(fitted)
    fit = DomainFit(
        domain_numbers(table.domains, names), len(names), data.target[:, : data.judged], data.observed[:, : data.judged]
    )
    logits = fitted.logits(data.hidden)[:, :, : data.judged]
    spread, held_out = fit.held_out(logits, data.fold, SPREADS, tie=TIE)
    if not spread:
        return [], 0.0, none, held_out
    final = found.logits(data.hidden)[None, :, : data.judged]
    return names, spread, fit.effects(final, np.ones((1, len(table))), spread)[0], held_out


def _assemble(data: _Data, fitted: Linear, effects: Float[np.ndarray, "domains models levels"], features: np.ndarray) -> Head:
    """The fitted numbers in the published form: intercepts become embeddings, -W e_m = intercept, of least norm."""
    width, levels = fitted.weight.shape
    head = Head(width, data.judged, levels, len(effects))
    weight, intercept = data.basis @ fitted.weight, fitted.intercept[: data.judged]
    # A constant over the levels changes no softmax, and W, penalised, has none; so the intercepts lie in its range.
    bias = intercept.mean(axis=0)
    # Softmax weights have one direction fewer than levels; what rounding leaves in it is not to be divided by.
    embedding = -(intercept - bias) @ np.linalg.pinv(weight, rcond=1e-5)
    # What no embedding can say is rounding, or everything where the features say nothing and W is 0.
    unsaid = intercept - bias + embedding @ weight
    found = {
        "mean": nnx.Variable(data.mean),
        "scale": nnx.Variable(data.scale),
        "low": nnx.Variable(features.min(axis=0)),
        "high": nnx.Variable(features.max(axis=0)),
        "weight": nnx.Param(weight),
        "model_embedding": nnx.Param(embedding),
        "bias": nnx.Param(bias),
        "correction": nnx.Param(data.basis @ fitted.own[: data.judged]),
        "correction_bias": nnx.Param(unsaid),
    }
    if len(effects):
        found["domain_effect"] = nnx.Param(effects)
    nnx.update(head, nnx.State(jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), found)))
    return head
