"""What a promise claims of one way of routing, and whether calibration rows show it.

A quality is claimed against every reference and the target at once, each at the full error: all are shown only if the one that
is furthest from being true is, so nothing is added up (intersection-union test; Berger 1982).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxroute.guarantees.betting import shown
from jaxroute.guarantees.exact_tests import paired_shown, share_p_value

MOST_TIMES = 64
"""How many times the rows are taken, to say how many would be needed."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What the models really did on the calibration rows; where one was not run, the worst or no row."""

    quality: Float[np.ndarray, "rows models"]
    """Of the models that are routed among, in [0, 1]."""
    reference: Float[np.ndarray, "rows references"]
    """Of the models that quality is compared with."""
    cost_usd: Float[np.ndarray, "rows models"]
    """Of an answer."""

    def __len__(self) -> int:
        return len(self.quality)

    def select(self, rows: np.ndarray) -> Outcomes:
        """Some of the rows, also repeatedly."""
        return Outcomes(self.quality[rows], self.reference[rows], self.cost_usd[rows])

    @property
    def binary(self) -> bool:
        """Whether every outcome is 0 or 1."""
        return bool(np.isin(self.quality, (0.0, 1.0)).all() and np.isin(self.reference, (0.0, 1.0)).all())


@dataclass(frozen=True)
class QualityClaim:
    """Mean quality at most `within` below every reference's, and at least `at_least`."""

    within: float | None
    at_least: float | None
    exact: bool
    """Whether outcomes are 0 or 1, and the exact tests are taken."""

    def shown(self, outcomes: Outcomes, choice: Int[np.ndarray, " rows"], error: float) -> bool:
        """But for a probability of `error`. The order of the rows has nothing to do with their outcomes."""
        routed = chosen(outcomes.quality, choice)
        if not len(routed):
            return False
        if self.at_least is not None and not self._level_shown(routed, error):
            return False
        if self.within is None:
            return True
        difference = routed[None] - outcomes.reference.T
        # The nearest to failing first: most ways of routing that fail do so against the best model.
        order = np.argsort(difference.mean(axis=1), kind="stable")
        return all(self._difference_shown(difference[one], error) for one in order)

    def margin(self, outcomes: Outcomes, choice: Int[np.ndarray, " rows"]) -> float:
        """How far the means on these rows lie above what is claimed; below 0 where the rows say the contrary."""
        routed = chosen(outcomes.quality, choice)
        margins = [] if self.at_least is None else [float(routed.mean()) - self.at_least]
        if self.within is not None:
            margins.append(float((routed[None] - outcomes.reference.T).mean(axis=1).min()) + self.within)
        return min(margins)

    def _level_shown(self, routed: Float[np.ndarray, " rows"], error: float) -> bool:
        assert self.at_least is not None
        if self.exact:
            return share_p_value(int(routed.sum()), len(routed), self.at_least) <= error
        return bool(shown(routed, self.at_least, error))

    def _difference_shown(self, difference: Float[np.ndarray, " rows"], error: float) -> bool:
        assert self.within is not None
        if self.exact:
            better, worse = int((difference > 0).sum()), int((difference < 0).sum())
            return paired_shown(better, worse, len(difference), self.within, error)
        return bool(shown((difference + 1) / 2, (1 - self.within) / 2, error))


@dataclass(frozen=True)
class CostClaim:
    """Mean dollars of at most `usd`, where an answer costs at most `most_usd`."""

    usd: float
    most_usd: float

    def shown(self, outcomes: Outcomes, choice: Int[np.ndarray, " rows"], error: float) -> bool:
        """But for a probability of `error`."""
        if self.usd >= self.most_usd:
            return True
        saved = 1 - np.minimum(chosen(outcomes.cost_usd, choice), self.most_usd) / self.most_usd
        return bool(shown(saved, 1 - self.usd / self.most_usd, error))

    def margin(self, outcomes: Outcomes, choice: Int[np.ndarray, " rows"]) -> float:
        """Dollars that the mean on these rows lies below what is claimed."""
        return self.usd - float(np.minimum(chosen(outcomes.cost_usd, choice), self.most_usd).mean())


Claim = QualityClaim | CostClaim


def rows_needed(claim: Claim, outcomes: Outcomes, choice: Int[np.ndarray, " rows"], error: float) -> int | None:
    """About how many rows like these would show the claim; None where MOST_TIMES as many would not, or they say the contrary.

    The same rows, taken several times: what they would show if more of them looked alike.
    """
    if not len(outcomes) or claim.margin(outcomes, choice) <= 0:
        return None
    generator = np.random.default_rng(0)
    for times in np.geomspace(1.1, MOST_TIMES, 36):
        count = math.ceil(times * len(outcomes))
        repeated = generator.permutation(np.resize(np.arange(len(outcomes)), count))
        if claim.shown(outcomes.select(repeated), choice[repeated], error):
            return count
    return None


def least_rows(claim: QualityClaim, error: float) -> int:
    """Rows below which the claim cannot be shown, however good the outcomes: every answer right, or as right as the reference.

    It depends on no outcome, so it may decide which domains are tested.
    """
    low, high = 0, 1
    while not _shown_at_best(claim, high, error):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _shown_at_best(claim, middle, error) else (middle, high)
    return high


def chosen(cells: Float[np.ndarray, "rows models"], choice: Int[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """Of every row the chosen model's."""
    return np.take_along_axis(cells, choice[:, None].astype(np.int64), axis=1)[:, 0]


def _shown_at_best(claim: QualityClaim, rows: int, error: float) -> bool:
    right = np.ones((rows, 1))
    return claim.shown(Outcomes(right, right, np.zeros((rows, 1))), np.zeros(rows, np.int32), error)


def any_nan(cells: Float[np.ndarray, "rows models"]) -> Bool[np.ndarray, " rows"]:
    """Rows in which a cell was never run."""
    return np.asarray(np.isnan(cells).any(axis=1))
