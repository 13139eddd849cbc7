"""Figures: the cost-quality plane."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np

from jaxroute.evaluation import Curve, hull, single_models
from jaxroute.files import replacing
from jaxroute.table import RoutingTable

matplotlib.use("Agg", force=False)
# Okabe & Ito's palette, told apart by colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")


def cost_quality_figure(
    path: Path, table: RoutingTable, curves: Mapping[str, Curve], *, title: str, unit: str, scale: float = 1.0
) -> None:
    """Hulls of the curves, the hull of single models (zero router), and every single model by name.

    Costs are means per query times `scale`, said by `unit`, on a logarithmic axis.
    """
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.6), layout="constrained")
    cost, quality = single_models(table).means()
    corners = hull(cost * scale, quality)
    right = cost.max() * scale
    grid = np.geomspace(cost.min() * scale, right, 400)
    axes.plot(grid, np.interp(grid, *corners), color="#888888", linewidth=1.5, label="zero router (single models' hull)")
    for position, (name, curve) in enumerate(curves.items()):
        colour, style = COLOURS[position % len(COLOURS)], STYLES[position % len(STYLES)]
        points = curve.means()
        axes.plot(grid, np.interp(grid, *hull(points[0] * scale, points[1])), style, color=colour, linewidth=2, label=name)
    axes.scatter(cost * scale, quality, color="#444444", s=22, zorder=3)
    _label_points(axes, cost * scale, quality, [model.split("/")[-1] for model in table.models])
    axes.set_xscale("log")
    axes.set_xlim(cost.min() * scale * 0.85, right * 1.6)
    axes.set_xlabel(f"mean cost, {unit}")
    axes.set_ylabel("mean quality")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    with replacing(path) as partial:
        figure.savefig(partial, dpi=130)
    pyplot.close(figure)


def _label_points(axes, x: np.ndarray, y: np.ndarray, names: list[str]) -> None:
    """Names beside their points; those of one cost share a column, spread so that they do not cover each other."""
    low, high = axes.get_ylim()
    step = 0.033 * (high - low)
    for cost in np.unique(x):
        below = -np.inf
        for position in sorted(np.flatnonzero(x == cost), key=lambda position: y[position]):
            place = max(y[position], below + step)
            below = place
            axes.annotate(
                names[position],
                (cost, y[position]),
                xytext=(cost * 1.03, place),
                fontsize=8,
                color="#444444",
                va="center",
            )
