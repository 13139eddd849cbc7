"""The cost-quality plane: the non-decreasing convex hull and its area AIQ; one curve or a thousand resamples.

RouterBench (Hu et al. 2024, arXiv:2403.12031), section 3.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from jaxroute.evaluation.areas import area_below, areas

CONVENTIONS = ("paper", "code")


def hull(
    cost: Float[np.ndarray, " points"], quality: Float[np.ndarray, " points"]
) -> tuple[Float[np.ndarray, " corners"], Float[np.ndarray, " corners"]]:
    """The non-decreasing concave upper boundary of the points, corners only, by rising cost: O(n log n) (Andrew 1979).

    Any point on it can be had by answering a share of the queries as one corner does and the rest as its neighbour. It
    begins at the cheapest point and ends at the best one.
    """
    order = np.lexsort((-quality, cost))
    corners: list[tuple[float, float]] = []
    for x, y in zip(cost[order], quality[order], strict=True):
        if corners and (x == corners[-1][0] or y <= corners[-1][1]):
            continue
        while len(corners) >= 2:
            (x0, y0), (x1, y1) = corners[-2:]
            if (y1 - y0) * (x - x0) > (y - y0) * (x1 - x0):
                break
            corners.pop()
        corners.append((x, y))
    return tuple(np.array(corners).T)


def hulls(
    cost: Float[np.ndarray, "resamples points"], quality: Float[np.ndarray, "resamples points"]
) -> tuple[Float[np.ndarray, "resamples corners"], Float[np.ndarray, "resamples corners"]]:
    """`hull` of every resample, all at once; shorter ones repeat their last corner.

    All walk together from corner to corner: the next one is the point of steepest rise to the right (Jarvis 1973), one `argmax`
    of slopes over `(resamples, points)`. O(resamples x points x corners), but no Python per resample.
    """
    x = cost.min(axis=1, keepdims=True)
    y = np.where(cost == x, quality, -np.inf).max(axis=1, keepdims=True)
    corners = [(x, y)]
    while True:
        rise, run = quality - y, cost - x
        slope = np.divide(rise, run, out=np.zeros_like(rise), where=(rise > 0) & (run > 0))
        to = slope.argmax(axis=1)[:, None]
        going = np.take_along_axis(slope, to, axis=1) > 0
        if not going.any():
            return np.concatenate([x for x, _ in corners], axis=1), np.concatenate([y for _, y in corners], axis=1)
        x = np.where(going, np.take_along_axis(cost, to, axis=1), x)
        y = np.where(going, np.take_along_axis(quality, to, axis=1), y)
        corners.append((x, y))


def hull_quality(
    cost: Float[np.ndarray, " points"], quality: Float[np.ndarray, " points"], at: Float[np.ndarray, "..."] | float
) -> Float[np.ndarray, "..."]:
    """The hull at some costs, extended to the null router (no cost, no quality) on the left and flat to the right."""
    return np.asarray(np.interp(at, *hull(np.append(cost, 0.0), np.append(quality, 0.0))))


def least_cost(cost: Float[np.ndarray, " points"], quality: Float[np.ndarray, " points"], wanted: float) -> float:
    """The least mean cost at which the hull reaches a quality; infinite where it never does."""
    x, y = hull(np.append(cost, 0.0), np.append(quality, 0.0))
    return float(np.interp(wanted, y, x)) if wanted <= y[-1] else np.inf


def aiq(
    cost: Float[np.ndarray, " points"],
    quality: Float[np.ndarray, " points"],
    low: float,
    high: float,
    *,
    convention: str = "paper",
) -> float:
    """Average improvement in quality: the mean of the hull over a range of mean costs.

    `paper`: over the shared range from `low` to `high`, divided by its width (RouterBench, section 3); where both are the same,
    the height there. `code`: over the range from the router's own least cost to `high`, divided by `high`, as RouterBench's
    published code does. A hull over points that were measured on the test rows is biased upwards: for verdicts see `verdicts`.
    """
    _check_range(low, high, convention)
    x, y = hull(*_with_null(cost, quality, convention))
    return float(_mean_height(x[None], y[None], low, high, convention)[0])


def aiqs(
    cost: Float[np.ndarray, "resamples points"],
    quality: Float[np.ndarray, "resamples points"],
    low: float,
    high: float,
    *,
    convention: str = "paper",
) -> Float[np.ndarray, " resamples"]:
    """`aiq` of every resample, all at once."""
    _check_range(low, high, convention)
    return _mean_height(*hulls(*_with_null(cost, quality, convention)), low, high, convention)


def _check_range(low: float, high: float, convention: str) -> None:
    if convention not in CONVENTIONS:
        raise ValueError(f"convention={convention!r} must be 'paper' or 'code'")
    if not (0 <= low < high or (convention == "paper" and 0 <= low == high)):
        raise ValueError(f"the range of costs from {low} to {high} is empty")


def _with_null(
    cost: Float[np.ndarray, "*resamples points"], quality: Float[np.ndarray, "*resamples points"], convention: str
) -> tuple[Float[np.ndarray, "*resamples extended"], Float[np.ndarray, "*resamples extended"]]:
    """The paper extends a router to the null router; the code knows none."""
    if convention == "code":
        return cost, quality
    null = np.zeros((*cost.shape[:-1], 1))
    return np.append(cost, null, axis=-1), np.append(quality, null, axis=-1)


def _mean_height(
    x: Float[np.ndarray, "resamples corners"],
    y: Float[np.ndarray, "resamples corners"],
    low: float,
    high: float,
    convention: str,
) -> Float[np.ndarray, " resamples"]:
    if convention == "code":
        return area_below(x, y, np.minimum(x[:, :1], high), high) / high
    return areas(x, y, low, high)
