"""Cascade routing at a price: which model first, when to ask another, and whose answer to give.

After Dekoninck, Baader & Vechev 2025, "A Unified Approach to Routing and Cascading for LLMs" (arXiv:2410.10347). A dollar
costs `price` units of quality. With q_m the estimate from the prompt, c_m the expected cost, and q~_m the judgement of m's
answer beside the other answers that are there (`answers.py`, `agreement.py`), each of which changes with every further one:

    first       argmax_m  q_m - price c_m
    then        m' = argmax over the models not asked of  E max(best, Q_m') - best - price c_m',  best = max q~ of the answers,
                asked where that is above 0
    the answer  that of the highest q~

Q_m' is the judgement that m' would get: q'_m' + q'_m' (1 - q'_m') e with e equally likely among the judge's `surprise`,
where q' has learnt from the answers so far, logit q'_m' = logit q_m' + carry * mean of (logit q~ - logit q) over them.

One call in sight never pays for a second opinion: that gives no better answer, it shows whether an expensive one is needed.
`look_ahead` therefore has the call after next in sight, at every step. Asking n is worth the mean, over the judge's `scenarios`
of what n's answer adds to the best answer's log-odds and to its own, of

    max(best', max_k E max(best', Q_k) - price c_k) - price c_n,         best' the best judgement in that scenario.

less best. Scenarios that add e are weighted by exp(t e), with t such that the best answer's judgement is expected to stay as it
is; n's are shifted so that its judgement is expected to be q'_n. The first model is chosen by the same values. The paper
values sets of models, without what their answers show of each other.

With a judge that knows nothing, q~ = q and e = 0, no second call pays: q_m' - q_m <= price (c_m' - c_m) by the first choice.
The cascade then is routing alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxroute.errors import TableError
from jaxroute.predictor.answers import Judge, logit, sigmoid

ROUNDING = 1e-9
"""A gain below it is none."""
HALVINGS = 30
"""In the search for a tilt or a shift of scenarios."""
STEEPEST = 30.0
"""Tilts and shifts are looked for up to it."""


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
    scenarios: Float[np.ndarray, "models models scenarios 2"] | None = None
    """A judge's; None: no answer shows anything of another's."""

    def __post_init__(self) -> None:
        if self.quality.shape != self.cost_usd.shape or len(self.surprise) != self.quality.shape[1]:
            raise TableError(
                f"quality {self.quality.shape}, cost_usd {self.cost_usd.shape} and surprise {self.surprise.shape} must have "
                "the same queries and models"
            )

    @staticmethod
    def of(
        judge: Judge, quality: Float[np.ndarray, "queries models"], cost_usd: Float[np.ndarray, "queries models"]
    ) -> Beforehand:
        """What this judge may come to say."""
        return Beforehand(quality, cost_usd, judge.surprise, judge.agreement.carry, judge.agreement.scenarios)


@dataclass(frozen=True, eq=False)
class Cascaded:
    """Who was asked, and whose answer is given."""

    asked: Bool[np.ndarray, "queries models"]
    given: Int[np.ndarray, " queries"]


def cascade_at(
    known: Beforehand,
    judged: Float[np.ndarray, "queries models"],
    price: float,
    *,
    evidence: Float[np.ndarray, "queries models models"] | None = None,
    look_ahead: bool = False,
) -> Cascaded:
    """The cascade at `price`, quality per dollar, where `judged` holds the judgements of answers alone.

    `evidence` is the judge's: [j, m, n] is what n's answer adds to the log-odds of m's. Only asked models' parts are read.
    """
    if not price >= 0:
        raise TableError(f"price={price} must be at least 0")
    rows, toll = np.arange(len(known.quality)), price * known.cost_usd
    before = logit(known.quality)
    first = known.quality - toll
    if look_ahead:
        value = _values_of_first(known, before, toll)
        # Of equals, what routing alone would choose.
        first = np.where(value >= value.max(axis=1, keepdims=True) - ROUNDING, first, -np.inf)
    asked = np.zeros(known.quality.shape, bool)
    asked[rows, first.argmax(axis=1)] = True
    going, gains = rows, _gains_ahead if look_ahead else _gains
    while len(going):
        state = _State.of(known, before, toll, judged, evidence, asked, going)
        gain = np.where(state.asked, -np.inf, gains(state))
        following = gain.argmax(axis=1)
        more = gain[np.arange(len(going)), following] > ROUNDING
        going, following = going[more], following[more]
        asked[going, following] = True
    return Cascaded(asked, together(known.quality, judged, evidence, asked).argmax(axis=1))


def together(
    quality: Float[np.ndarray, "queries models"],
    judged: Float[np.ndarray, "queries models"],
    evidence: Float[np.ndarray, "queries models models"] | None,
    asked: Bool[np.ndarray, "queries models"],
) -> Float[np.ndarray, "queries models"]:
    """The judgements of the answers that are there, beside each other; those of models that were not asked are -infinity."""
    if evidence is None:
        return np.where(asked, judged, -np.inf)
    both = asked[:, :, None] & asked[:, None, :]
    added = np.where(both, evidence, 0.0).sum(axis=2)
    alone = np.where(asked, judged, quality)
    return np.where(asked, np.where(added == 0, alone, sigmoid(logit(alone) + added)), -np.inf)


def prices_between(known: Beforehand, points: int) -> Float[np.ndarray, " points"]:
    """0, and prices that lead from nearly free to where only the cheapest models are asked."""
    spread = np.ptp(known.cost_usd.mean(axis=0)) or known.cost_usd.mean()
    return np.append(0.0, np.geomspace(1e-3, 1e2, points - 1) / spread)


@dataclass(frozen=True, eq=False)
class _State:
    """Queries with some answers."""

    known: Beforehand
    toll: Float[np.ndarray, "queries models"]
    asked: Bool[np.ndarray, "queries models"]
    best: Float[np.ndarray, " queries"]
    """The highest judgement."""
    whose: Int[np.ndarray, " queries"]
    """The model that has it."""
    second: Float[np.ndarray, " queries"]
    """The next highest; -infinity where there is none."""
    before: Float[np.ndarray, "queries models"]
    """Log-odds of the estimates from the prompts."""
    moved: Float[np.ndarray, " queries"]
    """Sum over the answers of how far their judgements moved the log-odds."""

    @staticmethod
    def of(known, before, toll, judged, evidence, asked, going) -> _State:
        seen = asked[going]
        found = together(known.quality[going], judged[going], None if evidence is None else evidence[going], seen)
        ordered = np.sort(found, axis=1)
        second = ordered[:, -2] if found.shape[1] > 1 else np.full(len(going), -np.inf)
        # Models that were not asked have no judgement to take the logit of.
        moved = np.where(seen, logit(np.where(seen, found, 0.5)) - before[going], 0.0).sum(axis=1)
        return _State(known, toll[going], seen, ordered[:, -1], found.argmax(axis=1), second, before[going], moved)

    @property
    def expected(self) -> Float[np.ndarray, "queries models"]:
        """Log-odds of the models that were not asked, with what the answers carry over to them."""
        return self.before + (self.known.carry * self.moved / self.asked.sum(axis=1))[:, None]


def _gains(state: _State) -> Float[np.ndarray, "queries models"]:
    """Of asking every model, when nothing is asked after it."""
    return _gain(state.best, state.expected, state.known.surprise) - state.toll


def _gains_ahead(state: _State) -> Float[np.ndarray, "queries models"]:
    """Of asking every model, when one more may be asked after it."""
    gains, known = _gains(state), state.known
    if known.scenarios is None or not known.scenarios.any():
        return gains
    count = state.asked.sum(axis=1)
    for model in range(len(known.surprise)):
        rows = np.flatnonzero(~state.asked[:, model])
        if not len(rows):
            continue
        added, own = np.moveaxis(known.scenarios[state.whose[rows], model], -1, 0)
        best, expected = state.best[rows], state.expected[rows, model]
        weight = _tilted(logit(best), added, best)
        reached = sigmoid(logit(best)[:, None] + added)
        own = own + _shift(expected, own, weight)[:, None]
        after = np.maximum(np.maximum(reached, state.second[rows, None]), sigmoid(expected[:, None] + own))
        moves = state.moved[rows, None] + added + own + (expected - state.before[rows, model])[:, None]
        value = after + _best_after(state, rows, model, after, known.carry * moves / (count[rows, None] + 1))
        gain = (weight * value).sum(axis=1) - best - state.toll[rows, model]
        gains[rows, model] = np.maximum(gains[rows, model], gain)
    return gains


def _best_after(
    state: _State, rows: np.ndarray, model: int, best: Float[np.ndarray, "rows scenarios"], carried: np.ndarray
) -> Float[np.ndarray, "rows scenarios"]:
    """The largest gain of one more call after `model`'s; 0 where none pays."""
    gain = np.zeros_like(best)
    for other in range(len(state.known.surprise)):
        if other == model:
            continue
        chance = sigmoid(state.before[rows, other, None] + carried)
        found = _expected_above(best, chance, state.known.surprise[other]) - state.toll[rows, other, None]
        gain = np.where(state.asked[rows, other, None], gain, np.maximum(gain, found))
    return gain


def _values_of_first(known: Beforehand, before: np.ndarray, toll: np.ndarray) -> Float[np.ndarray, "queries models"]:
    """Expected quality less what the first call and those that may follow cost."""
    value = np.empty(known.quality.shape)
    judgements = _judgements(before, known.surprise)
    if not known.surprise.any():
        judgements = judgements[..., :1]
    for model in range(known.quality.shape[1]):
        asked = np.zeros(known.quality.shape, bool)
        asked[:, model] = True
        nothing, whose = np.full(len(value), -np.inf), np.full(len(value), model)
        after = []
        for best in judgements[:, model].T:
            moved = logit(best) - before[:, model]
            state = _State(known, toll, asked, best, whose, nothing, before, moved)
            gain = np.where(asked, 0.0, _gains_ahead(state))
            after.append(best + np.maximum(gain.max(axis=1), 0.0))
        value[:, model] = np.mean(after, axis=0) - toll[:, model]
    return value


def _judgements(logits: np.ndarray, surprise: np.ndarray) -> Float[np.ndarray, "queries models nodes"]:
    """What judgements may be."""
    chance = sigmoid(logits)[..., None]
    return np.clip(chance + chance * (1 - chance) * surprise, 0.0, 1.0)


def _gain(best: np.ndarray, logits: np.ndarray, surprise: np.ndarray) -> Float[np.ndarray, "queries models"]:
    """E max(best, Q) - best."""
    return np.maximum(_judgements(logits, surprise) - best[:, None, None], 0.0).mean(axis=2)


def _expected_above(best: np.ndarray, chance: np.ndarray, surprise: np.ndarray) -> Float[np.ndarray, "rows scenarios"]:
    """E max(best, Q) - best of one model."""
    total = np.zeros_like(best)
    for one in surprise:
        total += np.maximum(np.clip(chance + chance * (1 - chance) * one, 0.0, 1.0) - best, 0.0)
    return total / len(surprise)


def _tilted(
    logits: Float[np.ndarray, " rows"], added: Float[np.ndarray, "rows scenarios"], mean: Float[np.ndarray, " rows"]
) -> Float[np.ndarray, "rows scenarios"]:
    """Weights of the scenarios under which sigmoid(logits + added) is `mean` on average, as near as a tilt comes to it."""
    reached = sigmoid(logits[:, None] + added)
    low, high = np.full(len(logits), -STEEPEST), np.full(len(logits), STEEPEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = (_weights(middle, added) * reached).sum(axis=1) > mean
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return _weights((low + high) / 2, added)


def _weights(tilt: Float[np.ndarray, " rows"], added: Float[np.ndarray, "rows scenarios"]) -> np.ndarray:
    power = tilt[:, None] * added
    raised = np.exp(power - power.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def _shift(
    logits: Float[np.ndarray, " rows"], moves: Float[np.ndarray, "rows scenarios"], weight: np.ndarray
) -> Float[np.ndarray, " rows"]:
    """What brings the mean of sigmoid(logits + moves + shift) to sigmoid(logits)."""
    low, high = np.full(len(logits), -STEEPEST), np.full(len(logits), STEEPEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = (weight * sigmoid(logits[:, None] + moves + middle[:, None])).sum(axis=1) > sigmoid(logits)
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return (low + high) / 2
