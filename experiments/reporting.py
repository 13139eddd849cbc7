"""What experiments say of intervals: in result.json, and in a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxroute.errors import RouterError
from jaxroute.evaluation import Interval
from jaxroute.evaluation.plots import COLOURS, save_figure


def check_names(field: str, names: Sequence[str]) -> None:
    """At least one, each once. Raises `RouterError`."""
    if not names or len(set(names)) < len(names):
        raise RouterError(f"{field}={' '.join(names)!r}: name at least one, and none twice")


def named(name: str, interval: Interval) -> dict[str, float | str]:
    """A number and both ends of its interval, for result.json."""
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def intervals_figure(path: Path, gains: Mapping[str, Interval], label: str) -> None:
    """One row per name, a dot and its interval in percent points, in the given order from top to bottom."""
    from matplotlib import pyplot

    values = 100 * np.array([(one.value, one.value - one.low, one.high - one.value) for one in gains.values()])
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.3 * len(gains)), layout="constrained")
    axes.axvline(0, color="#888888", linewidth=1)
    axes.errorbar(values[:, 0], range(len(gains)), xerr=values[:, 1:].T, fmt="o", color=COLOURS[0], capsize=3)
    axes.set_yticks(range(len(gains)), list(gains))
    axes.set_ylim(len(gains) - 0.5, -0.5)
    figure.supxlabel(label, fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)
