"""The report's figures, each as SVG text in two shapes: for a wide page, and for a telephone."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from jaxroute.contest.judging import Judged
from jaxroute.contest.rows import Contest
from jaxroute.evaluation import Gain, Interval, heights, model_shares
from jaxroute.evaluation.plots import COLOURS, STYLES, draw_curves

WIDE, NARROW = 9.6, 4.3
"""Inches across; at 96 pixels per inch and 9 points the letters are as large as the page's."""
LINES = 5
"""Routers that one figure can tell apart."""

Draw = Callable[[Axes, bool], None]
"""Draws on axes; whether there is room to the sides."""


def cost_quality(contest: Contest, judged: Sequence[Judged]) -> str:
    """The plane: curves of the first router, with its interval, and of the best others; single models by name."""
    shown = shown_lines(judged)

    def draw(axes: Axes, wide: bool) -> None:
        curves = {one.name: one.entry.curve for one in shown}
        draw_curves(axes, contest.test, curves, contest.zero_router, unit=contest.unit, scale=contest.scale)
        grid = np.linspace(*contest.costs, 60)
        resampled = shown[0].entry.curve.means(contest.weights)
        low, high = np.quantile([heights(*resampled, at) for at in grid], [0.025, 0.975], axis=1)
        axes.fill_between(grid * contest.scale, low, high, color=COLOURS[0], alpha=0.15, linewidth=0)
        _legend_below(axes, wide)

    return responsive("plane", "Mean quality over mean cost of routers and single models", draw, 5.4, 5.6)


def gains(judged: Sequence[Judged]) -> str:
    """Mean height over the zero router of every router, by size, with intervals; filled where the verdict is a gain."""
    order = sorted(judged, key=lambda one: one.gain.value)
    found = {one.name: one.gain for one in order}

    def draw(axes: Axes, wide: bool) -> None:
        reachable = [one.gain for one in order if one.entry.estimated is not None] or list(found.values())
        _forest(axes, found, within=reachable, highlight=judged[0].name)
        axes.set_xlabel("mean quality over the zero router, points")

    return responsive("gains", "Gain over the zero router, by router", draw, *_tall(len(found)))


def shares(contest: Contest, one: Judged) -> str:
    """Who answers, as the budget moves."""
    curve = one.entry.curve
    assert curve.choice is not None and curve.budgets_usd is not None
    order = np.argsort(contest.expected_cost_usd, kind="stable")
    names = [_short(contest.test.models[column]) for column in order]
    parts = model_shares(curve.choice, contest.test.models)[:, order].T
    budgets = curve.budgets_usd * contest.scale
    # From dark, cheap, to light, expensive: lightness alone tells them apart.
    colours = matplotlib.colormaps["cividis"](np.linspace(0, 1, len(names)))

    def draw(axes: Axes, wide: bool) -> None:
        axes.stackplot(budgets, 100 * parts, colors=colours, edgecolor="white", linewidth=0.4)
        base = np.cumsum(parts, axis=0) - parts
        for name, share, below, colour in zip(names, parts, base, colours, strict=True):
            # Where a band is wide enough for its name; the legend has the others.
            broad = np.flatnonzero(share > 0.6 * share.max())
            place = int(broad[len(broad) // 2]) if len(broad) else 0
            if share[place] > 0.05 and len(broad) > (0.14 if wide else 0.35) * len(budgets):
                axes.annotate(
                    name,
                    (budgets[place], 100 * (below[place] + share[place] / 2)),
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="black" if np.dot(colour[:3], (0.299, 0.587, 0.114)) > 0.5 else "white",
                )
        axes.set(xlim=(budgets[0], budgets[-1]), ylim=(0, 100))
        axes.set(xlabel=f"budget, {contest.unit}", ylabel="share of queries, percent")
        handles = [Patch(color=colour) for colour in colours]
        axes.legend(handles[::-1], names[::-1], **_beside(wide), title="expensive\nto cheap" if wide else None)

    return responsive("shares", f"Share of queries by model as the budget moves, {one.name}", draw, 4.6, 6.4)


def domains(found: dict[str, Interval]) -> str:
    """Gains by domain, by size."""
    ordered = dict(sorted(found.items(), key=lambda item: item[1].value))

    def draw(axes: Axes, wide: bool) -> None:
        _forest(axes, ordered, within=list(ordered.values()), highlight=None)
        axes.set_xlabel("quality over the zero router\nat the same cost, points")

    return responsive("domains", "Gain over the zero router by domain", draw, *_tall(len(found)))


def calibration(judged: Sequence[Judged]) -> str:
    """Reliability diagrams of the routers whose estimates are shares."""
    shown = [one for one in shown_lines(judged) if one.calibration is not None]

    def draw(axes: Axes, wide: bool) -> None:
        axes.plot([0, 1], [0, 1], color="#888888", linewidth=1, label="perfect")
        for position, one in enumerate(shown):
            assert one.calibration is not None
            bins = one.calibration.reliability
            label = f"{one.name}, error {bins.expected_calibration_error:.3f}"
            style, colour = STYLES[position % len(STYLES)], COLOURS[position % len(COLOURS)]
            axes.plot(bins.estimate, bins.quality, style, color=colour, marker="o", markersize=4, label=label)
        axes.set(xlabel="estimated quality", ylabel="mean true quality", xlim=(0, 1), ylim=(0, 1))
        axes.grid(alpha=0.3)
        _legend_below(axes, wide)

    return responsive("calibration", "Reliability diagram", draw, 5.0, 5.6)


def shown_lines(judged: Sequence[Judged]) -> list[Judged]:
    """The first router and the best others, as many as a figure can tell apart; none that looked at the outcomes."""
    others = sorted((one for one in judged[1:] if one.entry.estimated is not None), key=lambda one: -one.gain.value)
    return [judged[0], *others[: LINES - 1]]


def responsive(name: str, caption: str, draw: Draw, wide_height: float, narrow_height: float) -> str:
    """Both shapes; the page's style shows the one that fits."""
    return _svg(f"{name}-wide", caption, draw, WIDE, wide_height) + _svg(f"{name}-narrow", caption, draw, NARROW, narrow_height)


def _svg(name: str, caption: str, draw: Draw, width: float, height: float) -> str:
    style = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9, "axes.labelsize": 9, "legend.fontsize": 8}
    with matplotlib.rc_context(style):  # pyright: ignore[reportArgumentType]
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        draw(axes, width > NARROW)
        axes.spines[["top", "right"]].set_visible(False)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    content = text.getvalue()
    content = content[content.index("<svg") :]
    # Names within one page must differ between its drawings.
    content = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", content)
    kind = name.rpartition("-")[2]
    described = f'<svg class="{kind}" role="img" aria-label="{html.escape(caption)}" '
    # The page decides the width; the view box keeps the shape.
    return re.sub(
        r'^<svg | (?:width|height)="[\d.]+pt"', lambda found: described if found[0] == "<svg " else "", content, count=3
    )


def _forest(axes: Axes, found: Mapping[str, Interval], *, within: Sequence[Interval], highlight: str | None) -> None:
    """One row per name: value and interval, in points; what lies outside of `within` is a number at the edge."""
    low, high = 100 * min(one.low for one in within), 100 * max(one.high for one in within)
    margin = 0.08 * max(high - low, 0.5)
    low, high = min(low - margin, -margin), max(high + margin, margin)
    axes.axvline(0, color="#888888", linewidth=1)
    for place, (name, one) in enumerate(found.items()):
        colour = COLOURS[0] if name == highlight or highlight is None else "#333333"
        if low <= 100 * one.value <= high:
            axes.plot([100 * one.low, 100 * one.high], [place, place], color=colour, linewidth=1.5, clip_on=True)
            filled = not isinstance(one, Gain) or one.verdict == "gain"
            axes.scatter([100 * one.value], [place], facecolor=colour if filled else "white", edgecolor=colour, s=24, zorder=3)
        else:
            left = 100 * one.value < low
            words = f"{'← ' if left else ''}{100 * one.value:+.1f}{'' if left else ' →'}"
            axes.text(low if left else high, place, words, ha="left" if left else "right", va="center", fontsize=8)
    axes.set_yticks(range(len(found)), [_cut(name) for name in found], fontsize=8)
    axes.set(xlim=(low, high), ylim=(-0.7, len(found) - 0.3))
    axes.grid(axis="x", alpha=0.3)


def _tall(rows: int) -> tuple[float, float]:
    return 1.2 + 0.23 * rows, 1.2 + 0.26 * rows


def _legend_below(axes: Axes, wide: bool) -> None:
    if (old := axes.get_legend()) is not None:
        old.remove()
    columns = 2 if wide else 1
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def _beside(wide: bool) -> dict:
    if wide:
        return {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "frameon": False, "fontsize": 8}
    return {"loc": "upper center", "bbox_to_anchor": (0.4, -0.16), "ncols": 2, "frameon": False, "fontsize": 7}


def _short(model: str) -> str:
    return model.rpartition("/")[2]


def _cut(name: str, length: int = 26) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
