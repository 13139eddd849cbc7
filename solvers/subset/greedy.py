"""Greedy choice of models: the largest gain first, or per cost where there is a budget; and a bound on every set.

With a size, greedy reaches at least 1 - 1/e of the best set (Nemhauser, Wolsey & Fisher 1978, "An analysis of approximations
for maximizing submodular set functions", theorem 4.2). With a budget, the better of greedy by gain per dollar and the best
single model reaches (1 - 1/e) / 2 (Leskovec et al. 2007, "Cost-effective outbreak detection in networks", theorem 3).
A bound that is usually much closer follows from any chosen set: nothing can add more to it than the largest single gains
that fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from solvers.subset.coverage import Coverage
from solvers.subset.limits import Limits, most_gain

BATCH = 16
"""Old gains that lazy greedy renews at once."""


@dataclass(frozen=True)
class Choice:
    """The chosen models in order, a proved bound on S of every set within the limits, and how many gains were computed."""

    models: list[int]
    bound: float
    bound_by_size: list[float]
    """Of sets of at most 1, 2, ... models; empty where a budget limits them."""
    evaluations: int


def choose(coverage: Coverage, limits: Limits, *, lazy: bool) -> Choice:
    """Add the model with the largest gain per cost that still fits until none adds anything; required models come first.

    `lazy` trusts an old gain as an upper bound until it comes first (Minoux 1978, "Accelerated greedy algorithms for maximizing
    submodular set functions"), and then renews it together with the next few.
    """
    coverage.reset()
    chosen = list(limits.required)
    for model in chosen:
        coverage.take(model)
    spent = math.fsum(limits.cost[chosen])
    open_models = np.ones(coverage.models, bool)
    open_models[[*limits.required, *limits.banned]] = False
    gains = _Gains(coverage, limits, open_models)
    single = _best_single(coverage, limits, gains.gain, spent) if limits.cost_matters else None
    room = limits.budget - spent
    bound = coverage.covered + most_gain(gains.gain, limits.cost, room)
    by_size = _most_by_size(coverage, gains.gain, limits)
    while True:
        if limits.cost_matters:
            open_models &= np.array([limits.allows(spent, cost) for cost in limits.cost.tolist()])
        elif len(chosen) >= limits.budget:
            break
        best = gains.best(open_models, lazy=lazy)
        if best is None:
            break
        chosen.append(best)
        spent = math.fsum(limits.cost[chosen])
        coverage.take(best)
        open_models[best] = False
        gains.taken(best)
        # Old gains only overstate, so they bound as well as new ones, if less closely.
        bound = min(bound, coverage.covered + most_gain(gains.gain, limits.cost, room))
        by_size = np.minimum(by_size, _most_by_size(coverage, gains.gain, limits))
    if single is not None and coverage.value([*limits.required, single]) > coverage.value(chosen):
        chosen = [*limits.required, single]
    scale = (1 + 1e-12) / coverage.queries
    return Choice(chosen, bound * scale, [float(one) for one in by_size * scale], gains.evaluations)


class _Gains:
    """What every model would add to the set, as last computed: exact where fresh, else an upper bound."""

    def __init__(self, coverage: Coverage, limits: Limits, open_models: Bool[np.ndarray, " models"]):
        self.coverage, self.cost = coverage, limits.cost
        self.gain = np.zeros(coverage.models)
        self.fresh = np.zeros(coverage.models, bool)
        self.evaluations = 0
        self._renew(np.flatnonzero(open_models))

    def best(self, open_models: Bool[np.ndarray, " models"], *, lazy: bool) -> int | None:
        """The open model with the largest gain per cost, the lower column among equals; None where nothing adds anything."""
        if not open_models.any():
            return None
        if not lazy:
            self._renew(np.flatnonzero(open_models & ~self.fresh))
        ratio = np.where(open_models, self._ratio(np.arange(len(open_models))), -np.inf)
        # argmax takes the lower index among equals; an old gain that is equal or higher is renewed before it is trusted.
        while not self.fresh[best := int(ratio.argmax())] and ratio[best] > -np.inf:
            first = np.argpartition(-ratio, min(BATCH, len(ratio) - 1))[:BATCH]
            old = np.unique(np.append(first[~self.fresh[first] & (ratio[first] > -np.inf)], best))
            self._renew(old)
            ratio[old] = self._ratio(old)
        return best if ratio[best] > -np.inf else None

    def taken(self, model: int) -> None:
        """After this model joined the set, all gains are old."""
        self.gain[model] = 0.0
        self.fresh[:] = False

    def _renew(self, models: Int[np.ndarray, " some"]) -> None:
        self.gain[models] = self.coverage.gains(models)
        self.fresh[models] = True
        self.evaluations += len(models)

    def _ratio(self, models: Int[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
        """Gain per cost; infinite for a free model, -inf for one that adds nothing."""
        gain = self.gain[models]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(gain > 0, gain / self.cost[models], -np.inf)


def _best_single(coverage: Coverage, limits: Limits, gains: Float[np.ndarray, " models"], spent: float) -> int | None:
    fits = np.array([limits.allows(spent, cost) for cost in limits.cost])
    best = int(np.where(fits, gains, -np.inf).argmax())
    return best if fits[best] and gains[best] > 0 else None


def _most_by_size(coverage: Coverage, gains: Float[np.ndarray, " models"], limits: Limits) -> Float[np.ndarray, " sizes"]:
    """No set of 1, 2, ... models, the required ones among them, covers more than what is covered and as many largest gains."""
    if limits.cost_matters:
        return np.empty(0)
    most = np.append(0.0, np.cumsum(-np.sort(-gains)))
    free = np.arange(1, int(limits.budget) + 1) - len(limits.required)
    return coverage.covered + most[np.clip(free, 0, len(gains))]
