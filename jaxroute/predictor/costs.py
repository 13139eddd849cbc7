"""How long, or how expensive, every model's answer to a prompt will be, before any model runs.

log(offset + amount) of every model is linear in the prompt's features and its length: what is alike for all models is
fitted once, to the mean over the models, and each model's own ridge regression adds to it what it needs. A model whose
regression does not clearly beat its plain mean on held-out queries keeps the mean.

The exponential of an estimated logarithm is too low on average; Duan's smearing estimate (1983, "Smearing estimate: a
nonparametric retransformation method", JASA 78) multiplies it by the mean of exp(residual). Residuals are held out here,
since fitted ones are too small, and weighted by the estimate, so that the sum over the training queries is met exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxroute.errors import TableError, listed
from jaxroute.predictor.cost_head import CostHead, inputs_of
from jaxroute.progress import progress_bar
from solvers.inputs import no_type_check

NEVER = math.inf
"""The penalty that leaves nothing of the features."""
TIE = 1e-6
"""Held-out losses that differ by less are equal: rounding, which differs by processor, must not choose."""
CONSTANT = 1e-5
"""An input that varies by less than this share of its mean is constant but for float32's rounding."""


@dataclass(frozen=True)
class CostConfig:
    """How expected lengths, or costs, of answers are learnt."""

    predict: bool = True
    """Whether to; without, every answer of a model is taken to be as long, or as expensive, as its mean."""
    penalties: tuple[float, ...] = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
    """Ridge penalties to try, per observation on standardised features; none of the features is always tried."""
    clear: float = 2.0
    """A model's regression is kept if it lowers the held-out loss of its mean by this many standard errors."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "penalties", tuple(self.penalties))
        problems = []
        if not all(0 < penalty < math.inf for penalty in self.penalties):
            problems.append(f"costs.penalties={self.penalties} must be positive and finite")
        if not self.clear >= 0:
            problems.append(f"costs.clear={self.clear} must be at least 0")
        if problems:
            raise TableError("; ".join(problems))


@dataclass(frozen=True)
class CostReport:
    """What was chosen on held-out queries, by model."""

    amount: str
    """`tokens` or `dollars`."""
    choices: dict[str, str]
    """In words; `mean` where the head does not beat it."""
    explained: dict[str, float]
    """Share of the variance of the amounts that held-out estimates explain; 0 where a model keeps its mean."""

    def __str__(self) -> str:
        learned = [f"{model} ({self.explained[model]:.0%})" for model, words in self.choices.items() if words != "mean"]
        what = "length" if self.amount == "tokens" else "cost"
        return (
            f"{what} of an answer, predicted from the prompt, with the share of its held-out variance: "
            f"{listed(learned) or 'no model'}{'' if len(learned) == len(self.choices) else '; else its mean'}"
        )


@no_type_check
def fit_cost_head(
    features: Float[np.ndarray, "queries features"],
    prompt_tokens: Int[np.ndarray, " queries"],
    amount: Float[np.ndarray, "queries models"],
    *,
    models: Sequence[str],
    fold: Int[np.ndarray, " queries"],
    config: CostConfig,
    unit: str = "tokens",
) -> tuple[CostHead, CostReport]:
    """Fit the head to amounts in tokens or dollars; NaN where unknown, which counts for nothing.

    `fold` says in which part each query is held out. Raises `TableError` for amounts that are no amounts.
    """
    _check(features, prompt_tokens, amount, models, fold, unit)
    data = _Data.prepare(features, prompt_tokens, amount, fold, unit)
    for model, known in zip(models, data.known.T, strict=True):
        if not known.any():
            raise TableError(f"{model} has no known {unit} of any answer; drop the model or add them")
    candidates = list(_candidates(data, _Shared.fit(data, config), config))
    chosen = [_choose(data, candidates, column, config) for column in range(len(models))]
    choices = dict(zip(models, (one.words for one in chosen)))
    explained = dict(zip(models, (one.explained for one in chosen)))
    weight = np.stack([one.weight for one in chosen], axis=1)
    intercept = np.array([one.intercept for one in chosen])
    head = CostHead(
        mean=data.mean,
        scale=data.scale,
        weight=weight,
        intercept=intercept,
        offset=data.offset,
        low=np.nanmin(np.where(data.known, amount, np.nan), axis=0),
        high=np.nanmax(np.where(data.known, amount, np.nan), axis=0),
    )
    return head, CostReport(amount=unit, choices=choices, explained=explained)


def ridge(
    inputs: Float[np.ndarray, "rows inputs"],
    free: Float[np.ndarray, "rows free"],
    target: Float[np.ndarray, "rows targets"],
    penalties: Sequence[float],
) -> Iterator[tuple[Float[np.ndarray, "inputs targets"], Float[np.ndarray, "free targets"]]]:
    """For every penalty p the least |target - inputs w - free v|^2 / rows + p |w|^2, in closed form.

    The unpenalised part is projected out (Frisch & Waugh 1933); one eigendecomposition, of the smaller Gram matrix, serves
    all penalties.
    """
    rows = len(inputs)
    inverse = np.linalg.pinv(free)
    left, wanted = inputs - free @ (inverse @ inputs), target - free @ (inverse @ target)
    tall = rows >= left.shape[1]
    curvature, basis = np.linalg.eigh((left.T @ left if tall else left @ left.T) / rows)
    turned = basis.T @ (left.T @ wanted if tall else wanted) / rows
    for penalty in penalties:
        if penalty == NEVER:
            weight = np.zeros((inputs.shape[1], target.shape[1]))
        else:
            weight = basis @ (turned / (np.maximum(curvature, 0.0) + penalty)[:, None])
            weight = weight if tall else left.T @ weight
        yield weight, inverse @ (target - inputs @ weight)


@dataclass(frozen=True, eq=False)
class _Data:
    inputs: Float[np.ndarray, "queries inputs"]
    """Standardised; the last one is the prompt's length."""
    mean: Float[np.ndarray, " inputs"]
    scale: Float[np.ndarray, " inputs"]
    known: Bool[np.ndarray, "queries models"]
    raised: Float[np.ndarray, "queries models"]
    """offset + amount; 1 where unknown."""
    target: Float[np.ndarray, "queries models"]
    """Its logarithm."""
    offset: Float[np.ndarray, " models"]
    fold: Int[np.ndarray, " queries"]

    @staticmethod
    def prepare(features: np.ndarray, prompt_tokens: np.ndarray, amount: np.ndarray, fold: np.ndarray, unit: str) -> _Data:
        inputs = inputs_of(features, prompt_tokens)
        mean, scale = inputs.mean(axis=0), inputs.std(axis=0)
        scale = np.where(scale > CONSTANT * np.abs(mean), scale, 1.0)
        known = np.isfinite(amount)
        means = np.where(known, amount, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        # Dollars have no natural 1 to add: a thousandth of the mean lets an answer be free and moves no other.
        offset = np.ones(len(means)) if unit == "tokens" else np.where(means > 0, means / 1000, 1.0)
        raised = np.where(known, amount + offset, 1.0)
        return _Data((inputs - mean) / scale, mean, scale, known, raised, np.log(raised), offset, fold)

    @property
    def length(self) -> Float[np.ndarray, "queries 2"]:
        """The part without a penalty: 1 and the prompt's length."""
        return np.column_stack([np.ones(len(self.inputs)), self.inputs[:, -1]])

    def trainings(self) -> Iterator[tuple[Bool[np.ndarray, " queries"], Bool[np.ndarray, " queries"]]]:
        """(trained on, held out) of every fold, then (everything, nothing)."""
        for number in np.unique(self.fold):
            yield self.fold != number, self.fold == number
        yield np.ones(len(self.fold), bool), np.zeros(len(self.fold), bool)


@dataclass(frozen=True, eq=False)
class _Shared:
    """What all models' answers have in common: the mean over the models of the centred logarithms, by prompt."""

    held_out: Float[np.ndarray, " queries"]
    weight: Float[np.ndarray, " inputs"]
    intercept: float

    @staticmethod
    def fit(data: _Data, config: CostConfig) -> _Shared:
        """With the penalty of least held-out squared error; a query counts as often as it has known amounts."""
        times = data.known.sum(axis=1)
        centre = np.where(data.known, data.target, 0.0).sum(axis=0) / np.maximum(data.known.sum(axis=0), 1)
        target = np.where(data.known, data.target - centre, 0.0).sum(axis=1) / np.maximum(times, 1)
        penalties = (NEVER, *sorted(config.penalties, reverse=True))
        features, free, root = data.inputs[:, :-1], data.length, np.sqrt(times)[:, None]
        held_out = np.zeros((len(penalties), len(target)))
        fits = []
        for trained, left_out in data.trainings():
            use = trained & (times > 0)
            fits = list(ridge((root * features)[use], (root * free)[use], (root * target[:, None])[use], penalties))
            for index, (weight, loading) in enumerate(fits):
                held_out[index, left_out] = (features[left_out] @ weight + free[left_out] @ loading)[:, 0]
        best = _first_of_least(((held_out - target) ** 2) @ times / times.sum())
        weight, loading = fits[best]
        return _Shared(held_out[best], np.append(weight[:, 0], loading[1, 0]), float(loading[0, 0]))


@dataclass(frozen=True, eq=False)
class _Candidate:
    """One way to estimate the logarithms, for every model, before smearing."""

    words: str
    held_out: Float[np.ndarray, "queries models"]
    weight: Float[np.ndarray, "inputs models"]
    intercept: Float[np.ndarray, " models"]


def _candidates(data: _Data, shared: _Shared, config: CostConfig) -> Iterator[_Candidate]:
    """Each model's ridge regression at every penalty, with and without the shared estimate as one more free input, from
    simple to rich."""
    penalties = (NEVER, *sorted(config.penalties, reverse=True))
    lowest = np.where(data.known, data.target, np.inf).min(axis=0)
    highest = np.where(data.known, data.target, -np.inf).max(axis=0)
    for joint in (False, True):
        found = _Regressions.fit(data, shared if joint else None, penalties)
        for index, penalty in enumerate(penalties):
            words = ["length", *(["shared"] if joint else []), *([f"features ({penalty:g})"] if penalty < NEVER else [])]
            held_out = np.clip(found.held_out[index], lowest, highest)
            yield _Candidate(" + ".join(words), held_out, found.weight[index], found.intercept[index])


@dataclass(frozen=True, eq=False)
class _Regressions:
    """Every model's ridge regression at every penalty."""

    held_out: Float[np.ndarray, "penalties queries models"]
    weight: Float[np.ndarray, "penalties inputs models"]
    intercept: Float[np.ndarray, "penalties models"]

    @staticmethod
    def fit(data: _Data, shared: _Shared | None, penalties: Sequence[float]) -> _Regressions:
        """On the length and the features; where given, the shared estimate is one more free input."""
        queries, models = data.known.shape
        found = _Regressions(
            np.zeros((len(penalties), queries, models)),
            np.zeros((len(penalties), data.inputs.shape[1], models)),
            np.zeros((len(penalties), models)),
        )
        # Models that were run on the same queries share an eigendecomposition.
        patterns, group = np.unique(data.known, axis=1, return_inverse=True)
        trainings = list(data.trainings())
        with progress_bar(total=patterns.shape[1] * len(trainings), desc="learning costs", unit=" fits", delay=2) as bar:
            for number, run in enumerate(patterns.T):
                columns = np.flatnonzero(np.ravel(group) == number)
                for trained, left_out in trainings:
                    if (trained & run).any():
                        found.add(data, shared, penalties, trained & run, left_out, columns)
                    bar.update()
        return found

    def add(
        self,
        data: _Data,
        shared: _Shared | None,
        penalties: Sequence[float],
        trained: Bool[np.ndarray, " queries"],
        left_out: Bool[np.ndarray, " queries"],
        columns: Int[np.ndarray, " columns"],
    ) -> None:
        """Fit some models to some queries; what this says of the ones left out is kept, and its numbers until the next fit.

        Of the last training, on everything, no estimate is held out and the numbers stay.
        """
        features = data.inputs[:, :-1]
        free = data.length if shared is None else np.column_stack([data.length, shared.held_out])
        fits = ridge(features[trained], free[trained], data.target[np.ix_(trained, columns)], penalties)
        for index, (own, loading) in enumerate(fits):
            self.held_out[index][np.ix_(left_out, columns)] = features[left_out] @ own + free[left_out] @ loading
            weight, intercept = np.vstack([own, loading[1]]), loading[0]
            if shared is not None:
                weight = weight + shared.weight[:, None] * loading[2]
                intercept = intercept + shared.intercept * loading[2]
            self.weight[index][:, columns], self.intercept[index, columns] = weight, intercept


@dataclass(frozen=True, eq=False)
class _Choice:
    """How one model's amounts are estimated."""

    words: str
    weight: Float[np.ndarray, " inputs"]
    intercept: float
    explained: float


def _choose(data: _Data, candidates: Sequence[_Candidate], column: int, config: CostConfig) -> _Choice:
    """The candidate of least held-out loss where it clearly beats the model's mean, else the mean."""
    rows = np.flatnonzero(data.known[:, column])
    seen, groups = data.raised[rows, column], data.fold[rows]
    plain = np.zeros(len(rows))
    if not _is_constant(seen) and _enough(groups):
        losses = [held_out_losses(seen, one.held_out[rows, column], groups) for one in candidates]
        least = _first_of_least(np.array([one.mean() for one in losses]))
        gain = held_out_losses(seen, plain, groups) - losses[least]
        if gain.mean() > TIE and gain.mean() > config.clear * gain.std(ddof=1) / math.sqrt(len(gain)):
            best = candidates[least]
            estimate = best.held_out[rows, column]
            intercept = float(best.intercept[column]) + math.log(_smearing(seen, estimate))
            return _Choice(best.words, best.weight[:, column], intercept, _explained(seen, estimate, groups))
    return _Choice("mean", np.zeros(len(data.mean)), math.log(_smearing(seen, plain)), 0.0)


def _is_constant(seen: Float[np.ndarray, " rows"]) -> bool:
    """Whether nothing is to be explained, but for rounding."""
    return float(np.ptp(seen)) <= 1e-9 * float(np.abs(seen).max())


def _first_of_least(losses: Float[np.ndarray, " candidates"]) -> int:
    """The first, that is the simplest, of the candidates with the least loss; rounding must not choose among equals."""
    return int(np.flatnonzero(losses <= losses.min() + TIE)[0])


def _enough(groups: Int[np.ndarray, " rows"]) -> bool:
    """Whether every fold leaves something to train on, and standard errors are more than a guess."""
    return len(groups) >= 20 and len(np.unique(groups)) > 1


def _smearing(seen: Float[np.ndarray, " rows"], estimate: Float[np.ndarray, " rows"]) -> float:
    """Mean of exp(residual), weighted by exp(estimate): the sum of what was seen over that of what was estimated."""
    return math.fsum(seen) / math.fsum(np.exp(estimate))


def _held_out_amounts(
    seen: Float[np.ndarray, " rows"], estimate: Float[np.ndarray, " rows"], groups: Int[np.ndarray, " rows"]
) -> Float[np.ndarray, " rows"]:
    """Estimates on the scale of what was seen, each smeared by the other folds' residuals."""
    amounts = np.empty(len(seen))
    for number in np.unique(groups):
        inside = groups == number
        amounts[inside] = np.exp(estimate[inside]) * _smearing(seen[~inside], estimate[~inside])
    return amounts


def held_out_losses(
    seen: Float[np.ndarray, " rows"], estimate: Float[np.ndarray, " rows"], groups: Int[np.ndarray, " rows"]
) -> Float[np.ndarray, " rows"]:
    """seen / expected + log(expected): half the gamma deviance up to a constant, least for the true mean of any law.

    (Gneiting 2011, "Making and evaluating point forecasts", JASA 106.) It counts relative errors, so that a few long
    answers do not decide alone.
    """
    amounts = _held_out_amounts(seen, estimate, groups)
    return seen / amounts + np.log(amounts)


def _explained(
    seen: Float[np.ndarray, " rows"], estimate: Float[np.ndarray, " rows"], groups: Int[np.ndarray, " rows"]
) -> float:
    error = ((seen - _held_out_amounts(seen, estimate, groups)) ** 2).sum()
    return float(1.0 - error / ((seen - _held_out_amounts(seen, np.zeros(len(seen)), groups)) ** 2).sum())


def _check(
    features: np.ndarray, prompt_tokens: np.ndarray, amount: np.ndarray, models: Sequence[str], fold: np.ndarray, unit: str
) -> None:
    problems = []
    if unit not in ("tokens", "dollars"):
        problems.append(f"unit={unit!r} must be tokens or dollars")
    if amount.shape != (len(features), len(models)):
        problems.append(f"amount has shape {amount.shape}, expected (queries, models) = {(len(features), len(models))}")
    elif (bad := np.isinf(amount) | (amount < 0)).any():
        row, column = np.argwhere(bad)[0]
        problems.append(
            f"amount of {models[column]!r} on query {row} is {amount[row, column]}; it must be finite and >= 0, or NaN"
        )
    for name, values in (("prompt_tokens", prompt_tokens), ("fold", fold)):
        if np.shape(values) != (len(features),):
            problems.append(f"{name} has shape {np.shape(values)}, expected one number for each of {len(features)} queries")
    if not np.isfinite(features).all():
        problems.append("features must be finite")
    if np.shape(fold) == (len(features),) and len(np.unique(fold)) < 2:
        problems.append("fold must name at least two parts")
    if problems:
        raise TableError("; ".join(problems))
