"""The curve as it is: its points joined by straight lines in the order of cost, with no hull over them.

A hull over points measured on test rows picks the points that luck favoured, so its area is biased upwards. Lines through all
points pick nothing: for choices that were made without the test rows' outcomes, no height and no area is biased.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def heights(
    cost: Float[np.ndarray, "*resamples points"],
    quality: Float[np.ndarray, "*resamples points"],
    at: float,
) -> Float[np.ndarray, "*resamples"]:
    """Quality at the mean cost `at`, in dollars per query, of one curve or of one per resample.

    On the left a line leads to the null router, which costs and achieves nothing; on the right quality stays what the most
    expensive point has: money need not be spent (RouterBench, arXiv:2403.12031, section 3). Where several points cost exactly
    `at`, the last of them counts.
    """
    x, y = _joined(cost, quality)
    after = np.maximum((x <= at).sum(axis=-1, keepdims=True), 1)
    left, right = after - 1, np.minimum(after, x.shape[-1] - 1)
    (x0, y0), (x1, y1) = ((np.take_along_axis(x, side, -1), np.take_along_axis(y, side, -1)) for side in (left, right))
    share = np.divide(at - x0, x1 - x0, out=np.zeros_like(x0), where=x1 > x0)
    return np.asarray((y0 + share * (y1 - y0))[..., 0])


def areas(
    cost: Float[np.ndarray, "*resamples points"],
    quality: Float[np.ndarray, "*resamples points"],
    low: float,
    high: float,
) -> Float[np.ndarray, "*resamples"]:
    """Mean height over the mean costs from `low` to `high`, in dollars per query; where both are the same, the height there."""
    if not 0 <= low <= high:
        raise ValueError(f"the range of costs from {low} to {high} is empty")
    if low == high:
        return heights(cost, quality, high)
    return np.asarray(area_below(*_joined(cost, quality), low, high) / (high - low))


def area_below(
    x: Float[np.ndarray, "*resamples corners"],
    y: Float[np.ndarray, "*resamples corners"],
    low: Float[np.ndarray, "*resamples 1"] | float,
    high: float,
) -> Float[np.ndarray, "*resamples"]:
    """From `low` to `high`, of straight lines between corners of rising cost, flat after the last one."""
    rise, run = np.diff(y, axis=-1), np.diff(x, axis=-1)
    slope = np.divide(rise, run, out=np.zeros_like(rise), where=run > 0)
    inside = np.clip(x, low, high)
    left, right = inside[..., :-1], inside[..., 1:]
    # The area below a line is its width times the height of its middle.
    below = ((right - left) * (y[..., :-1] + slope * ((left + right) / 2 - x[..., :-1]))).sum(axis=-1)
    return np.asarray(below + (high - inside[..., -1]) * y[..., -1])


def _joined(
    cost: Float[np.ndarray, "*resamples points"], quality: Float[np.ndarray, "*resamples points"]
) -> tuple[Float[np.ndarray, "*resamples corners"], Float[np.ndarray, "*resamples corners"]]:
    """The points in the order of cost, with the null router before them."""
    order = np.argsort(cost, axis=-1, kind="stable")
    null = np.zeros((*cost.shape[:-1], 1))
    x, y = (np.take_along_axis(one, order, axis=-1) for one in (cost, quality))
    return np.concatenate([null, x], axis=-1), np.concatenate([null, y], axis=-1)
