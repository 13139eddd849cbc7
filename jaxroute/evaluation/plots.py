"""Figures: the cost-quality plane."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxroute.data.table import RoutingTable
from jaxroute.evaluation import Curve, hull, single_models
from jaxroute.storage.files import replacing

matplotlib.use("Agg", force=False)
# Okabe & Ito's palette, distinguishable for colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")


def cost_quality_figure(
    path: Path,
    table: RoutingTable,
    curves: Mapping[str, Curve],
    *,
    title: str,
    unit: str,
    scale: float = 1.0,
    logarithmic: bool = False,
) -> None:
    """Hulls of the curves, the hull of single models (zero router), and every single model by name.

    Costs are means per query times `scale`, said by `unit`. On a linear axis the zero router is a straight line between
    models, and what a router gains is what lies above it.
    """
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.6), layout="constrained")
    draw_cost_quality(axes, table, curves, unit=unit, scale=scale, logarithmic=logarithmic)
    axes.set_title(title)
    # Beneath the axes, where it covers neither a curve nor a name.
    figure.legend(loc="outside lower center", ncols=min(3, len(curves) + 1), frameon=False)
    save_figure(figure, path)


def draw_cost_quality(
    axes: Axes,
    table: RoutingTable,
    curves: Mapping[str, Curve],
    *,
    unit: str,
    scale: float = 1.0,
    logarithmic: bool = False,
) -> None:
    """The same on axes that are there."""
    cost, quality = single_models(table).means()
    cost = cost * scale
    space = np.geomspace if logarithmic else np.linspace
    grid = space(cost.min(), cost.max(), 500)
    zero = np.interp(grid, *hull(cost, quality))
    axes.plot(grid, zero, color="#888888", linewidth=1.5, label="zero router (hull of single models)")
    for position, (name, curve) in enumerate(curves.items()):
        points = curve.means()
        # From its own cheapest point on: to the left of it the router has nothing to offer.
        shown = np.where(grid >= points[0].min() * scale * (1 - 1e-9), 1.0, np.nan)
        heights = shown * np.interp(grid, *hull(points[0] * scale, points[1]))
        axes.plot(grid, heights, label=name, **line(position))
    _frame(axes, table, unit=unit, scale=scale, logarithmic=logarithmic)


def draw_curves(
    axes: Axes, table: RoutingTable, curves: Mapping[str, Curve], zero: Curve, *, unit: str, scale: float = 1.0
) -> None:
    """Curves as they are, points joined by straight lines, with the single models of `table` by name; `zero` in grey."""
    cost, quality = zero.means()
    right = max(scale * single_models(table).means()[0].max(), scale * cost.max())
    for position, (name, curve) in enumerate({"zero router": zero, **curves}.items()):
        cost, quality = curve.means()
        order = np.argsort(cost, kind="stable")
        x, y = np.append(scale * cost[order], right), np.append(quality[order], quality[order][-1])
        style = {"color": "#888888", "linewidth": 1.5} if position == 0 else line(position - 1)
        axes.plot(x, y, label=name, **style)
    _frame(axes, table, unit=unit, scale=scale)


def line(position: int) -> dict:
    """Colour, dashes and width of the curve at this place: dashes too tell curves apart, which may lie on each other."""
    return {
        "color": COLOURS[position % len(COLOURS)],
        "linestyle": STYLES[position % len(STYLES)],
        "linewidth": 2,
    }


def _frame(axes: Axes, table: RoutingTable, *, unit: str, scale: float, logarithmic: bool = False) -> None:
    """Single models by name, axes, grid."""
    cost, quality = single_models(table).means()
    axes.scatter(scale * cost, quality, color="#444444", s=22, zorder=3)
    if logarithmic:
        axes.set_xscale("log")
    axes.set_xlabel(f"mean cost, {unit}")
    axes.set_ylabel("mean quality")
    axes.grid(alpha=0.3)
    # The name of the most expensive model is outside, where the frame would cut through it.
    axes.spines[["top", "right"]].set_visible(False)
    _label_points(axes, scale * cost, quality, [model.split("/")[-1] for model in table.models])


def save_figure(figure: Figure, path: Path) -> None:
    """Write it, and let go of it."""
    from matplotlib import pyplot

    with replacing(path) as partial, warnings.catch_warnings():
        # A name in letters that the font lacks shows boxes, and one that is too long leaves no room: a figure all the same.
        warnings.filterwarnings("ignore", message="Glyph|constrained_layout not applied|Attempting to set identical")
        figure.savefig(partial, dpi=130)
    pyplot.close(figure)


def _label_points(axes, x: np.ndarray, y: np.ndarray, names: list[str]) -> None:
    """Names to the right of their points; crowded ones are spread as little as needed and joined by a line."""
    from scipy.optimize import isotonic_regression

    low, high = axes.get_ylim()
    step = 0.036 * (high - low)
    places = axes.transAxes.inverted().transform(axes.transData.transform(np.column_stack([x, y])))[:, 0]
    order = np.argsort(places, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(places[order]) > 0.15) + 1):
        group = group[np.argsort(y[group], kind="stable")]
        # Least squares with at least one step between neighbours is isotonic regression of what is left without the steps.
        steps = step * np.arange(len(group))
        heights = isotonic_regression(y[group] - steps).x + steps
        for position, height in zip(group, heights, strict=True):
            axes.annotate(
                names[position],
                (x[position], y[position]),
                xytext=(places[position] + 0.02, height),
                textcoords=axes.get_yaxis_transform(),
                va="center",
                fontsize=8,
                color="#333333",
                arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "#888888", "relpos": (0, 0.5), "shrinkA": 0},
            )
