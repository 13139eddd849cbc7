"""Whether estimates mean what they say: Brier score, log-loss, reliability diagram, expected calibration error.

Qualities lie in [0, 1] and may be graded; an estimate says what quality to expect. Every measure runs over the cells that were
observed, of one model, `(queries,)`, or of all, `(queries, models)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from jaxroute.errors import TableError

BINS = ("width", "mass")


def log_loss(quality: Float[np.ndarray, "queries ..."], estimates: Float[np.ndarray, "queries ..."]) -> float:
    """- q ln p - (1 - q) ln(1 - p) in nats, mean over the observed cells; estimates of 0 or 1 are moved by 1e-7."""
    q, p = _observed(quality, estimates)
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return float(np.mean(-q * np.log(p) - (1 - q) * np.log1p(-p)))


def brier(quality: Float[np.ndarray, "queries ..."], estimates: Float[np.ndarray, "queries ..."]) -> float:
    """(p - q)^2, mean over the observed cells (Brier 1950)."""
    q, p = _observed(quality, estimates)
    return float(np.mean((p - q) ** 2))


@dataclass(frozen=True, eq=False)
class Reliability:
    """Points of a reliability diagram: bins that hold at least one cell, by rising estimate."""

    estimate: Float[np.ndarray, " bins"]
    """Mean estimate in the bin."""
    quality: Float[np.ndarray, " bins"]
    """Mean true quality in the bin; equal to the estimate where calibration is perfect."""
    cells: Int[np.ndarray, " bins"]
    """How many cells lie in it."""

    @property
    def expected_calibration_error(self) -> float:
        """sum_b n_b / n |quality_b - estimate_b| (Naeini, Cooper & Hauskrecht 2015)."""
        return float(np.average(np.abs(self.quality - self.estimate), weights=self.cells))


def reliability(
    quality: Float[np.ndarray, "queries ..."],
    estimates: Float[np.ndarray, "queries ..."],
    *,
    bins: int = 15,
    equal: str = "width",
) -> Reliability:
    """Bins of equal `width` in [0, 1], or of equal `mass`, that is with equally many cells to within one.

    Equal width is what most papers print; few estimates near 0 and 1 make it noisy there, which equal mass is not. Cells with
    the same estimate may fall into neighbouring bins of equal mass, in file order.
    """
    if equal not in BINS:
        raise ValueError(f"equal={equal!r} must be 'width' or 'mass'")
    if bins < 1:
        raise ValueError(f"bins={bins} must be at least 1")
    q, p = _observed(quality, estimates)
    if equal == "width":
        place = np.clip((p * bins).astype(int), 0, bins - 1)
    else:
        place = np.empty(len(p), int)
        place[np.argsort(p, kind="stable")] = np.arange(len(p)) * bins // len(p)
    cells = np.bincount(place, minlength=bins)
    filled = cells > 0
    total = [np.bincount(place, weights=values, minlength=bins)[filled] for values in (p, q)]
    return Reliability(total[0] / cells[filled], total[1] / cells[filled], cells[filled])


def expected_calibration_error(
    quality: Float[np.ndarray, "queries ..."],
    estimates: Float[np.ndarray, "queries ..."],
    *,
    bins: int = 15,
    equal: str = "width",
) -> float:
    """How far, on average over the cells, mean quality lies from mean estimate within a bin."""
    return reliability(quality, estimates, bins=bins, equal=equal).expected_calibration_error


def _observed(
    quality: Float[np.ndarray, "queries ..."], estimates: Float[np.ndarray, "queries ..."]
) -> tuple[Float[np.ndarray, " cells"], Float[np.ndarray, " cells"]]:
    observed = ~np.isnan(quality)
    if not observed.any():
        raise TableError("no cell of the table was observed: there is nothing to measure estimates by")
    return quality[observed], np.broadcast_to(estimates, quality.shape)[observed]
