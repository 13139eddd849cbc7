"""When further cells are not worth asking: they would change the curve by less than an evaluation could see.

What all other cells would bring is the expected value of sample information (Raiffa & Schlaifer 1961, section 4.5 and
chapter 5). Asked, they would move the posterior's mean to another place, which is distributed as

    Normal(mean, S - S_all),      S the covariance now, S_all the one with every cell asked,

and with the qualities q at such a place, and a the model that is chosen by what is known now, the curve would rise by

    rise = mean over prices and queries of  max_m (q_m - t c_m) - (q_a - t c_a).

Drawn many times, this is set against the half-width of the interval that the gain over drawing models at random would have on
these very queries, had every cell been asked: their outcomes are right or wrong by chance, whatever is known of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from jaxroute.collect.choosing.posterior import HARD, Posterior
from jaxroute.collect.choosing.worth import prices_at_work, some_rows

DRAWS = 100
SURE = 0.95
SMALL = 0.5
"""Of the half-width: what a rise may be, and still change nothing that an evaluation on these queries could tell."""
NORMAL_95 = 1.96


@dataclass(frozen=True)
class Outlook:
    """What is left to gain, in units of quality, the mean along the curve."""

    rise: float
    """What the curve is expected to rise by, were all other cells asked."""
    at_most: float
    """The same with 95 percent probability."""
    half_width: float
    """Of the 95 percent interval that the gain would have on all queries."""

    @property
    def enough(self) -> bool:
        """Whether any rise that is likely is small beside what luck does."""
        return self.at_most <= SMALL * self.half_width

    def __str__(self) -> str:
        return (
            f"all other cells would raise the curve by about {100 * self.rise:.2f} points, at most {100 * self.at_most:.2f}; a "
            f"gain on these queries is known to +-{100 * self.half_width:.2f}"
        )


def outlook(posterior: Posterior, cost_usd: Float[np.ndarray, " models"], *, seed: int = 0) -> Outlook:
    """By draws of where the mean would move, on some of the queries."""
    rows = some_rows(len(posterior.places), seed)
    prices = prices_at_work(posterior.chance, cost_usd)
    utility = posterior.chance[rows] - prices[:, None, None] * cost_usd
    chosen = utility.argmax(axis=2)
    drawn = np.stack([posterior.logits(place)[rows] for place in _places(posterior, seed)])
    chance = 1 / (1 + np.exp(-drawn / np.sqrt(1 + np.pi / 8 * HARD**2)))
    rises = np.zeros(DRAWS)
    each = np.arange(len(rows))
    for price, choice in zip(prices, chosen, strict=True):
        known = chance - price * cost_usd
        rises += (known.max(axis=2) - known[:, each, choice]).mean(axis=1) / len(prices)
    return Outlook(float(rises.mean()), float(np.quantile(rises, SURE)), _half_width(posterior, chosen, rows))


def _places(posterior: Posterior, seed: int) -> Float[np.ndarray, "draws parameters"]:
    """Where the mean would move."""
    size, basis = np.linalg.eigh(posterior.covariance - posterior.covariance_of_all)
    noise = np.random.default_rng(seed).standard_normal((DRAWS, len(size)))
    return posterior.mean + (noise * np.sqrt(np.maximum(size, 0.0))) @ basis.T


def _half_width(posterior: Posterior, chosen: np.ndarray, rows: np.ndarray) -> float:
    """Of the mean over all queries of the outcome of the chosen models less that of models drawn as often."""
    share = (chosen[:, :, None] == np.arange(posterior.models)).mean(axis=0)
    contrast = share - share.mean(axis=0)
    logits = np.log(posterior.chance[rows] / (1 - posterior.chance[rows])) * np.sqrt(1 + np.pi / 8 * HARD**2)
    # A query's hardness is common to all models: the mean over it, by Gauss and Hermite.
    nodes, weights = np.polynomial.hermite_e.hermegauss(7)
    mean, square = 0.0, 0.0
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        chance = 1 / (1 + np.exp(-(logits + HARD * node)))
        expected = (contrast * chance).sum(axis=1)
        mean += weight * expected.mean()
        square += weight * (expected**2 + (contrast**2 * chance * (1 - chance)).sum(axis=1)).mean()
    return float(NORMAL_95 * np.sqrt(max(square - mean**2, 0.0) / len(posterior.places)))
