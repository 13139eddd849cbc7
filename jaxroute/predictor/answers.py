"""The judge: how likely an answer is right, from the prompt, the answer, and what was estimated before it was there.

    logit P(answer of model m to query j is right) = logit q_jm + x_jm w + b_m + sum over other answers n  f_jmn v

q_jm is the estimate from the prompt alone. x_jm holds the encoder's features of the prompt, what they change by once the
answer follows the prompt, the log of the answer's length in tokens and, where it is known, its log-likelihood. w and b are
one convex fit on the answers of all models together, ridge-penalised; the penalty is chosen on held-out queries. Where no
penalty is clearly better than w = b = 0, an answer by itself shows nothing. f_jmn compares the answer with another one
(see `agreement.py`).

A cascade also needs to know what the next answer may show (see `cascade_price.py`): how far a judgement may lie from q
(`surprise`), what another answer may do to it (`scenarios`), and how much of what answers show holds for the models that
have not been asked (`carry`). All three are read off held-out judgements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from jaxroute.encoders import Encoder
from jaxroute.encoders.features import FeatureConfig, prompt_features
from jaxroute.errors import TableError
from jaxroute.predictor.agreement import Agreement, evidence, fit_agreement
from jaxroute.predictor.regression import Linear, Penalties, fit_linear, rotation
from jaxroute.storage.bundles import misfits, read_bundle, write_bundle

FILE = "judge.json"
SMALLEST = 1e-4
"""Estimates nearer than that to 0 or 1 are moved to it: a logit must be finite."""


@dataclass(frozen=True)
class JudgeConfig:
    """How a judge is fitted."""

    penalties: tuple[float, ...] = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
    """Strengths of the ridge to try, relative to the mean over the answers."""
    directions: int = 256
    """Principal directions of the features that are kept."""
    clear: float = 1.0
    """By how many standard errors over the queries the held-out loss must fall, or the judge knows nothing."""
    nodes: int = 9
    """Equally likely values that stand for what a judgement may be."""

    def __post_init__(self) -> None:
        if not self.penalties or min(self.penalties) <= 0:
            raise TableError(f"penalties={self.penalties} must be numbers above 0")
        if self.directions < 1 or self.nodes < 1:
            raise TableError(f"directions={self.directions} and nodes={self.nodes} must be at least 1")


@dataclass(frozen=True, eq=False)
class Judge:
    """Estimates of answers that are there."""

    models: list[str]
    mean: Float[np.ndarray, " features"]
    scale: Float[np.ndarray, " features"]
    low: Float[np.ndarray, " features"]
    """The features' range in training: beyond it a linear judge would say anything."""
    high: Float[np.ndarray, " features"]
    weight: Float[np.ndarray, " features"]
    level: Float[np.ndarray, " models"]
    surprise: Float[np.ndarray, "models nodes"]
    """Equally likely values of (judgement - q) / (q (1 - q)), of mean 0."""
    agreement: Agreement
    """What other answers to the same prompt show."""

    @property
    def reads(self) -> bool:
        """Whether an answer by itself shows anything."""
        return bool(self.weight.any() or self.level.any())

    def estimate(
        self, features: Float[np.ndarray, "queries models features"], quality: Float[np.ndarray, "queries models"]
    ) -> Float[np.ndarray, "queries models"]:
        """The probability that each answer is right, judged alone, where `quality` was estimated from the prompt."""
        if features.shape[:2] != quality.shape or features.shape[1:] != (len(self.models), len(self.weight)):
            raise TableError(
                f"features of shape {features.shape} and estimates of shape {quality.shape} do not fit a judge of "
                f"{len(self.models)} models and {len(self.weight)} features"
            )
        hidden = (np.clip(features, self.low, self.high) - self.mean) / self.scale
        move = hidden @ self.weight + self.level
        return np.where(move == 0, quality, sigmoid(logit(quality) + move))

    def evidence(
        self, pairs: Float[np.ndarray, "queries models models kinds"], judged: Float[np.ndarray, "queries models"]
    ) -> Float[np.ndarray, "queries models models"]:
        """[j, m, n]: what n's answer to query j adds to the log-odds of m's; `judged` is what `estimate` gave, `pairs` what
        `agreement.compared` did."""
        return evidence(self.agreement.weight, pairs, logit(judged))

    def save(self, folder: Path | str) -> None:
        """Write it into `folder`, which is replaced."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        arrays |= {"agreement_weight": self.agreement.weight, "scenarios": self.agreement.scenarios}
        # JSON has no NaN: losses of a judge that compared nothing are null.
        losses = [None if np.isnan(one) else one for one in self.agreement.losses]
        write_bundle(folder, FILE, {"models": self.models, "carry": self.agreement.carry, "losses": losses}, arrays)

    @staticmethod
    def load(folder: Path | str) -> Judge:
        """What `save` wrote. Raises `CheckpointError`."""
        kinds = {"models": list, "carry": float, "losses": list}
        described, arrays = read_bundle(Path(folder), FILE, lambda found: misfits(found, kinds))
        losses = [np.nan if one is None else float(one) for one in described["losses"]]
        agreement = Agreement(arrays["agreement_weight"], arrays["scenarios"], described["carry"], (losses[0], losses[1]))
        return Judge(described["models"], agreement=agreement, **{name: arrays[name] for name in ARRAYS})


ARRAYS = ("mean", "scale", "low", "high", "weight", "level", "surprise")


@dataclass(frozen=True)
class JudgeReport:
    """What was tried on held-out queries; losses are in nats per answer."""

    losses: dict[float, float]
    """By penalty; at infinity that of the estimates from the prompts."""
    penalty: float
    """The chosen one; infinity where the answers say nothing."""
    held_out: Float[np.ndarray, "queries models"]
    """Each answer judged alone, by a fit that did not see its query."""


def fit_judge(
    features: Float[np.ndarray, "queries models features"],
    estimates: Float[np.ndarray, "queries models"],
    quality: Float[np.ndarray, "queries models"],
    fold: Int[np.ndarray, " queries"],
    models: Sequence[str],
    config: JudgeConfig | None = None,
    *,
    pairs: Float[np.ndarray, "queries models models kinds"] | None = None,
) -> tuple[Judge, JudgeReport]:
    """Fit it to answers of true `quality` in [0, 1], NaN where a model was not run.

    `estimates` must be held-out ones of the same prompts, or the judge trusts them too much; `fold` numbers, from 0, the
    folds in which queries are held out together. `pairs` is what `agreement.compared` gave; without them answers show nothing
    of each other. Raises `TableError` where the shapes do not fit.
    """
    config = config or JudgeConfig()
    if not features.shape[:2] == estimates.shape == quality.shape == (len(fold), len(models)):
        raise TableError(
            f"features {features.shape}, estimates {estimates.shape}, quality {quality.shape}, {len(fold)} folds and "
            f"{len(models)} models must have the same queries and models"
        )
    run = ~np.isnan(quality)
    query, column = np.nonzero(run)
    if len(np.unique(fold[query])) < 2:
        raise TableError("answers lie in fewer than two folds: nothing can be held out")
    wide = features[query, column].astype(np.float64)
    mean, scale, low, high = wide.mean(axis=0), wide.std(axis=0), wide.min(axis=0), wide.max(axis=0)
    scale = np.where(scale > 1e-5 * np.abs(mean), scale, 1.0) / _importance(wide.shape[1])
    wide = (wide - mean) / scale
    basis, curvature = rotation(wide)
    basis, curvature = basis[:, -config.directions :], curvature[-config.directions :]
    answers = _Answers(wide @ basis, curvature, logit(estimates[query, column]), quality[query, column], column, len(models))
    held = fold[query]
    kept = np.stack([held != one for one in range(fold.max() + 1)])
    before = _losses(answers.quality, answers.before)
    losses, moves, start = {np.inf: float(before.mean())}, {}, None
    for penalty in sorted(config.penalties, reverse=True):
        start = answers.fit(kept, penalty, start)
        moves[penalty] = answers.moves(start)[held, np.arange(len(held))]
        losses[penalty] = float(_losses(answers.quality, answers.before + moves[penalty]).mean())
        if len(losses) > 3 and np.all(np.diff(list(losses.values())[-3:]) > 0):
            break
    best = min(moves, key=losses.__getitem__)
    gain = np.bincount(query, before - _losses(answers.quality, answers.before + moves[best]), len(fold))
    if gain.sum() <= config.clear * np.sqrt(len(fold)) * gain.std() or gain.sum() <= 1e-9 * len(query):
        best = np.inf
    weight, level, move = np.zeros(wide.shape[1]), np.zeros(len(models)), np.zeros_like(quality)
    if np.isfinite(best):
        found = answers.fit(np.ones((1, len(query)), bool), best, None)
        weight, level = basis @ (found.weight[0, :, 1] - found.weight[0, :, 0]), found.intercept[0] @ np.array([-1.0, 1.0])
        move[query, column] = moves[best]
    held_out = np.where(run & (move != 0), sigmoid(logit(estimates) + move), estimates)
    moved = [(move[run[:, one], one], estimates[run[:, one], one]) for one in range(len(models))]
    surprise = np.stack([_surprise(one, other, config.nodes) for one, other in moved])
    together = fit_agreement(
        pairs, logit(held_out), np.where(run, move, 0.0), quality, fold, nodes=config.nodes, clear=config.clear
    )
    judge = Judge(list(models), mean, scale, low, high, weight, level, surprise, together)
    return judge, JudgeReport(losses, best, held_out)


def answer_features(
    encoder: Encoder,
    prompts: Sequence[str],
    answers: np.ndarray,
    config: FeatureConfig | None = None,
    *,
    log_likelihood: Float[np.ndarray, "queries models"] | None = None,
) -> Float[np.ndarray, "queries models features"]:
    """What a judge reads of `answers`, texts of shape `(queries, models)`; the last two features are length and likelihood.

    A text too long for the encoder loses its beginning: answers end in what counts. An unknown log-likelihood is 0.
    """
    config = config or FeatureConfig()
    alone = prompt_features(encoder, list(prompts), config).values
    texts = [f"{prompt}\n\n{answer}" for prompt, row in zip(prompts, answers, strict=True) for answer in row]
    both = prompt_features(encoder, texts, config).values.reshape(*answers.shape, -1)
    # An empty answer has no tokens that count; the mark makes it readable.
    tokens = encoder.count_tokens([f"- {answer}" for row in answers for answer in row]).reshape(answers.shape)
    likelihood = np.zeros(answers.shape) if log_likelihood is None else np.nan_to_num(log_likelihood)
    before = np.broadcast_to(alone[:, None], both.shape)
    return np.concatenate([before, both - before, np.log(tokens)[..., None], likelihood[..., None]], axis=2).astype(np.float32)


def logit(chance: Float[np.ndarray, "*cells"]) -> Float[np.ndarray, "*cells"]:
    """Log-odds, at most those of `SMALLEST`."""
    inside = np.clip(chance, SMALLEST, 1 - SMALLEST)
    return np.log(inside) - np.log1p(-inside)


def sigmoid(logits: Float[np.ndarray, "*cells"]) -> Float[np.ndarray, "*cells"]:
    """1 / (1 + exp(-logits))."""
    return 1.0 / (1.0 + np.exp(-logits))


@dataclass(frozen=True)
class _Answers:
    """One row per answer that was given."""

    hidden: Float[np.ndarray, "answers directions"]
    curvature: Float[np.ndarray, " directions"]
    before: Float[np.ndarray, " answers"]
    """Logits of the estimates from the prompts."""
    quality: Float[np.ndarray, " answers"]
    column: Int[np.ndarray, " answers"]
    models: int

    def fit(self, kept: np.ndarray, penalty: float, start: Linear | None) -> Linear:
        """One fit per row of `kept`, which says what it sees. Levels have the precision of a spread of 1 in a logit."""
        own = self.column[:, None] == np.arange(self.models)
        shape = (len(self.quality), self.models)
        target = np.stack([1 - self.quality, self.quality], axis=1)[:, None].repeat(self.models, axis=1)
        offset = np.zeros((len(kept), *shape, 2))
        offset[..., 1] = self.before[:, None]
        penalties = Penalties(penalty, np.full(self.models, np.inf), 2 / len(self.quality))
        observed = (kept[:, :, None] & own).astype(np.float64)
        return fit_linear(self.hidden, target, observed, penalties, self.curvature, offset=offset, start=start)

    def moves(self, fitted: Linear) -> Float[np.ndarray, "fits answers"]:
        """What the fits add to the logits."""
        weight = fitted.weight[..., 1] - fitted.weight[..., 0]
        return weight @ self.hidden.T + (fitted.intercept[..., 1] - fitted.intercept[..., 0])[:, self.column]


def _importance(width: int) -> Float[np.ndarray, " features"]:
    """Length and likelihood count as much as all the encoder's features together: one ridge is for both."""
    importance = np.ones(width)
    importance[-2:] = np.sqrt(max(1, width - 2))
    return importance


def _losses(quality: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Nats."""
    return np.logaddexp(0.0, logits) - quality * logits


def _surprise(move: np.ndarray, estimates: np.ndarray, nodes: int) -> Float[np.ndarray, " nodes"]:
    if not move.any():
        return np.zeros(nodes)
    inside = np.clip(estimates, SMALLEST, 1 - SMALLEST)
    away = np.sort((sigmoid(logit(inside) + move) - inside) / (inside * (1 - inside)))
    values = np.quantile(away, (np.arange(nodes * 20) + 0.5) / (nodes * 20)).reshape(nodes, 20).mean(axis=1)
    return values - values.mean()
