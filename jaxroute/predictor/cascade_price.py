"""Cascade routing at a price: which model first, when to ask another, and whose answer to give.

After Dekoninck, Baader & Vechev 2025, "A Unified Approach to Routing and Cascading for LLMs" (arXiv:2410.10347). A dollar
costs `price` units of quality. With q_m the estimate from the prompt, c_m the expected cost, and q~_m the judgement once m
has answered (`answers.py`):

    first       argmax_m  q_m - price c_m
    then        m' = argmax over the models not asked of  E max(best, Q_m') - best - price c_m',  best = max q~ of the answers,
                asked where that is above 0
    the answer  that of the highest q~

Q_m' is the judgement that m' would get: q'_m' + q'_m' (1 - q'_m') e with e equally likely among the judge's `surprise`,
where q' has learnt from the answers so far, logit q'_m' = logit q_m' + carry * mean of (logit q~ - logit q) over them.

`look_ahead` chooses the first model with the second call in sight: argmax_m E[Q_m + max(0, the gain of the best next call)]
- price c_m. A cheap model then comes first where its answer can be judged.

With a judge that knows nothing, q~ = q and e = 0, no second call pays: q_m' - q_m <= price (c_m' - c_m) by the first choice.
The cascade then is routing alone. One call is looked ahead at a time; the paper values sets of models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxroute.errors import TableError
from jaxroute.predictor.answers import logit, sigmoid

ROUNDING = 1e-9
"""A gain below it is none."""


@dataclass(frozen=True, eq=False)
class Beforehand:
    """What is known before any model answers."""

    quality: Float[np.ndarray, "queries models"]
    cost_usd: Float[np.ndarray, "queries models"]
    """Expected."""
    surprise: Float[np.ndarray, "models nodes"]
    """A judge's."""
    carry: float = 0.0
    """A judge's."""

    def __post_init__(self) -> None:
        if self.quality.shape != self.cost_usd.shape or len(self.surprise) != self.quality.shape[1]:
            raise TableError(
                f"quality {self.quality.shape}, cost_usd {self.cost_usd.shape} and surprise {self.surprise.shape} must have "
                "the same queries and models"
            )


@dataclass(frozen=True, eq=False)
class Cascaded:
    """Who was asked, and whose answer is given."""

    asked: Bool[np.ndarray, "queries models"]
    given: Int[np.ndarray, " queries"]


def cascade_at(
    known: Beforehand, judged: Float[np.ndarray, "queries models"], price: float, *, look_ahead: bool = False
) -> Cascaded:
    """The cascade at `price`, quality per dollar, where `judged` holds the judgements; only those of asked models are read."""
    if not price >= 0:
        raise TableError(f"price={price} must be at least 0")
    rows, toll = np.arange(len(known.quality)), price * known.cost_usd
    first = known.quality - toll
    if look_ahead:
        value = _value_of_first(known, toll)
        # Of equals, what routing alone would choose.
        first = np.where(value >= value.max(axis=1, keepdims=True) - ROUNDING, first, -np.inf)
    asked = np.zeros(known.quality.shape, bool)
    asked[rows, first.argmax(axis=1)] = True
    going = rows
    while len(going):
        seen = asked[going]
        best = np.where(seen, judged[going], -np.inf).max(axis=1)
        before = logit(known.quality[going])
        told = (np.where(seen, logit(judged[going]) - before, 0.0)).sum(axis=1) / seen.sum(axis=1)
        gain = np.where(seen, -np.inf, _gain(best, before + known.carry * told[:, None], known.surprise) - toll[going])
        following = gain.argmax(axis=1)
        more = gain[np.arange(len(going)), following] > ROUNDING
        going, following = going[more], following[more]
        asked[going, following] = True
    return Cascaded(asked, np.where(asked, judged, -np.inf).argmax(axis=1))


def prices_between(known: Beforehand, points: int) -> Float[np.ndarray, " points"]:
    """0, and prices that lead from nearly free to where only the cheapest models are asked."""
    spread = np.ptp(known.cost_usd.mean(axis=0)) or known.cost_usd.mean()
    return np.append(0.0, np.geomspace(1e-3, 1e2, points - 1) / spread)


def _judgements(logits: np.ndarray, surprise: np.ndarray) -> Float[np.ndarray, "queries models nodes"]:
    """What judgements may be."""
    chance = sigmoid(logits)[..., None]
    return np.clip(chance + chance * (1 - chance) * surprise, 0.0, 1.0)


def _gain(best: np.ndarray, logits: np.ndarray, surprise: np.ndarray) -> Float[np.ndarray, "queries models"]:
    """E max(best, Q) - best."""
    return np.maximum(_judgements(logits, surprise) - best[:, None, None], 0.0).mean(axis=2)


def _value_of_first(known: Beforehand, toll: np.ndarray) -> Float[np.ndarray, "queries models"]:
    """Expected quality less what the first call and the one that may follow cost."""
    logits = logit(known.quality)
    judgements = _judgements(logits, known.surprise)
    value = np.empty(known.quality.shape)
    for model in range(known.quality.shape[1]):
        after = []
        for best in judgements[:, model].T:
            told = known.carry * (logit(best) - logits[:, model])
            gain = _gain(best, logits + told[:, None], known.surprise) - toll
            gain[:, model] = 0.0
            after.append(best + np.maximum(gain.max(axis=1), 0.0))
        value[:, model] = np.mean(after, axis=0) - toll[:, model]
    return value
