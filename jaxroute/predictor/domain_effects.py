"""What the domain of a query, where it is known, says beyond its text: an effect per domain and model on the logits.

    logits_jm = (the head's logits without domains) + U_d + V_dm,      d = domain(j),      U, V ~ Normal(0, spread^2)

The head is fitted first, as if there were no domains, so that a query whose domain is not known, or was not in training, is
estimated as well as ever; the effects explain what it leaves. `spread` is the one of least held-out loss, or 0: no effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from jaxroute.predictor.regression import Penalties, cell_losses, fit_linear

UNKNOWN = -1


def domain_names(labels: Sequence[str]) -> list[str]:
    """The domains that a table tells apart; none where it has fewer than two."""
    names = sorted({label for label in labels if label})
    return names if len(names) > 1 else []


def domain_numbers(labels: Sequence[str], names: Sequence[str]) -> Int[np.ndarray, " queries"]:
    """The place of each query's domain in `names`; -1 where it is none of them."""
    place = {name: number for number, name in enumerate(names)}
    return np.array([place.get(label, UNKNOWN) for label in labels], int)


@dataclass(frozen=True)
class DomainFit:
    """Outcomes, and what the head without domains says of them."""

    domain: Int[np.ndarray, " queries"]
    domains: int
    target: Float[np.ndarray, "queries models levels"]
    observed: Float[np.ndarray, "queries models"]

    def effects(
        self,
        logits: Float[np.ndarray, "fits queries models levels"],
        kept: Float[np.ndarray, "fits queries"],
        spread: float,
    ) -> Float[np.ndarray, "fits domains models levels"]:
        """The effects by the queries that each fit keeps, given its own logits."""
        member = (self.domain[:, None] == np.arange(self.domains)).astype(float)
        # As in `fitting`: a prior of precision P on a difference of two logits is a ridge of 2 P on the sum over the cells.
        strength = 2 / spread**2 / self.observed.sum()
        found = fit_linear(
            member,
            self.target,
            kept[:, :, None] * self.observed,
            Penalties(strength, np.full(self.observed.shape[1], strength), level=None),
            member.mean(axis=0),
            offset=logits,
        )
        return found.weight[:, :, None] + found.own.swapaxes(1, 2)

    def added(
        self, effects: Float[np.ndarray, "domains models levels"], rows: Int[np.ndarray, " rows"]
    ) -> Float[np.ndarray, "rows models levels"]:
        """What the effects add to the logits of some of the queries."""
        known = self.domain[rows] >= 0
        return np.where(known[:, None, None], effects[self.domain[rows]], 0.0)

    def held_out(
        self,
        logits: Float[np.ndarray, "folds queries models levels"],
        fold: Int[np.ndarray, " queries"],
        spreads: Sequence[float],
        *,
        tie: float,
    ) -> tuple[float, Float[np.ndarray, "queries models levels"]]:
        """The spread of least held-out loss, and each query's logits by the fold that did not see it."""
        plain = logits[fold, np.arange(len(fold))]
        tried = {0.0: plain}
        for spread in sorted(spreads):
            effects = self.effects(logits, (fold != np.arange(len(logits))[:, None]).astype(float), spread)
            tried[spread] = plain.copy()
            for number, one in enumerate(effects):
                rows = np.flatnonzero(fold == number)
                tried[spread][rows] += self.added(one, rows)
        cells = self.observed.sum()
        losses = {spread: cell_losses(one, self.target, self.observed).sum() / cells for spread, one in tried.items()}
        best = next(spread for spread, loss in losses.items() if loss <= min(losses.values()) + tie)
        return best, tried[best]
