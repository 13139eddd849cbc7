"""Verdicts: a gain over the zero router that neither luck nor hindsight explains.

Three things make a number of a router look better than the router is: a hull over points of the test rows, an opponent that
is chosen there, and a test that repeats both. So

- the router's curve is taken as it is, its points joined by straight lines (`areas.py`),
- the zero router's models are the corners of the training rows' hull (`outcomes.zero_router`),
- and a gain is called one only where shuffling the router's choices across the queries hardly ever does as well.

Choices and zero router are then fixed before an outcome of the test is read: the difference of their curves is not above 0 in
expectation for a router that knows nothing, and its bootstrap interval is that of two given policies. Shuffling keeps how often
every model is chosen and breaks only the link to the queries; where a router knows nothing of them, every order of the rows is
equally likely, and the share of shuffles that do as well is a p-value (Fisher 1935; Phipson & Smyth 2010 for the 1 added).

Rows that repeat a question are not exchangeable with others: they are shuffled and drawn together. Domains are exchangeable
here, since to know a domain is to know something of the query: a verdict holds for new queries of the same domains in the
same shares, and says nothing of other domains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from jaxroute.data.table import RoutingTable
from jaxroute.errors import TableError
from jaxroute.evaluation.areas import areas
from jaxroute.evaluation.bootstrap import Interval, interval_of
from jaxroute.evaluation.outcomes import Curve

SIGNIFICANT = 0.05
SHUFFLES = 999
CELLS = 2**19
"""Of one block of shuffles: a few megabytes."""
Points = tuple[Float[np.ndarray, "*times points"], Float[np.ndarray, "*times points"]]
"""Mean costs and mean qualities of a curve's points, once or many times."""
OfPoints = Callable[..., np.ndarray]
"""A number of mean costs and mean qualities, along their last axis: `areas` or `heights`."""


@dataclass(frozen=True)
class Gain(Interval):
    """What a router has over the zero router, its interval, and how often shuffled choices have as much."""

    p_value: float | None = None
    """None where choices cannot be shuffled: a cascade's depend on the outcomes."""

    @property
    def verdict(self) -> str:
        """`gain` where p < 0.05 and the interval lies above 0, `loss` where it lies below, else `tie`; empty without p."""
        if self.p_value is None:
            return ""
        if self.high < 0:
            return "loss"
        return "gain" if self.p_value < SIGNIFICANT and self.low > 0 else "tie"

    def __str__(self) -> str:
        return f"{self.in_points}{f', {self.verdict}' if self.verdict else ''}"


def area_gain(
    table: RoutingTable,
    curve: Curve,
    zero: Curve,
    weights: Float[np.ndarray, "resamples queries"],
    *,
    low: float,
    high: float,
    shuffles: int = SHUFFLES,
    seed: int = 0,
    questions: Int[np.ndarray, " queries"] | None = None,
) -> Gain:
    """Mean height of the curve less that of `zero`, a `zero_router`, from `low` to `high` mean dollars per query.

    `table` are the test rows, `weights` their bootstrap draws; `questions` as for `bootstrap_weights`.
    """
    shuffled = None
    if curve.choice is not None:
        shuffled = shuffled_means(table, curve, shuffles=shuffles, seed=seed, questions=questions)
    return gain_of(partial(areas, low=low, high=high), curve, zero, weights, shuffled)


def gain_of(
    measure: OfPoints,
    curve: Curve,
    zero: Curve,
    weights: Float[np.ndarray, "resamples queries"],
    shuffled: Points | None,
) -> Gain:
    """The same by any measure of points, with `shuffled_means` that are made already; None = the choices are not known."""
    difference = curve_difference(measure, curve, zero, weights)
    return Gain(**vars(difference), p_value=None if shuffled is None else p_value(measure, curve, shuffled))


def curve_difference(
    measure: OfPoints, curve: Curve, other: Curve, weights: Float[np.ndarray, "resamples queries"]
) -> Interval:
    """A measure of one curve less that of another one, paired."""
    value = measure(*curve.means()) - measure(*other.means())
    return interval_of(float(value), measure(*curve.means(weights)) - measure(*other.means(weights)))


def p_value(measure: OfPoints, curve: Curve, shuffled: Points) -> float:
    """(1 + shuffles that do as well) / (1 + shuffles); what is equal but for rounding does as well."""
    null = measure(*shuffled)
    return float((1 + np.sum(null >= measure(*curve.means()) - 1e-12)) / (1 + len(null)))


def shuffled_means(
    table: RoutingTable,
    curve: Curve,
    *,
    shuffles: int = SHUFFLES,
    seed: int = 0,
    questions: Int[np.ndarray, " queries"] | None = None,
) -> Points:
    """Mean cost and quality of every point where each query gets the choices of another one, `(shuffles, points)` each.

    The same other one at all points. From one point to the next few queries change their model, so only the changes are
    added up: O(shuffles x changes), half a second per router for 4,000 queries and 201 points.
    """
    if curve.choice is None or curve.choice.shape[1] != len(table):
        raise TableError(
            f"the curve does not say which model answers each of the table's {len(table)} queries: nothing to shuffle"
        )
    # An unanswered query, -1, is the last column.
    quality, cost = (np.pad(cells, ((0, 0), (0, 1))) for cells in (table.quality, table.cost_usd))
    models = quality.shape[1]
    choice = curve.choice % models
    point, query = np.nonzero(choice[1:] != choice[:-1])
    before, after = choice[point, query], choice[point + 1, query]
    changes = np.searchsorted(point, np.arange(len(choice) - 1), side="right")
    found = np.empty((2, shuffles, len(choice)))
    generator, alike = np.random.default_rng(seed), _alike(len(table), questions)
    # Where a model costs the same on every query, so does every shuffle.
    found[0] = len(table) * curve.means()[0]
    summed = range(int((table.cost_usd == table.cost_usd[:1]).all()), 2)
    step = max(1, CELLS // (len(table) + len(query)))
    for start in tqdm(range(0, shuffles, step), desc="shuffled choices", unit=" blocks", delay=2):
        rows = _shuffled_rows(min(step, shuffles - start), len(table), alike, generator)
        judged_on, changed_on = models * rows, models * rows[:, query]
        for part in summed:
            sums, cells = found[part, start : start + step], (cost, quality)[part].ravel()
            steps = np.cumsum(cells[changed_on + after] - cells[changed_on + before], axis=1)
            sums[:, 0] = cells[judged_on + choice[0]].sum(axis=1)
            sums[:, 1:] = sums[:, :1] + np.pad(steps, ((0, 0), (1, 0)))[:, changes]
    return found[0] / len(table), found[1] / len(table)


def _alike(queries: int, questions: Int[np.ndarray, " queries"] | None) -> list[Int[np.ndarray, "_ _"]]:
    """The rows of questions that are asked equally often, a question a line: what may change places."""
    if questions is None:
        return [np.arange(queries)[:, None]]
    _, place, repeats = np.unique(questions, return_inverse=True, return_counts=True)
    order = np.argsort(place, kind="stable")
    size = repeats[place[order]]
    return [order[size == count].reshape(-1, count) for count in np.unique(repeats)]


def _shuffled_rows(
    shuffles: int, queries: int, alike: list[np.ndarray], generator: np.random.Generator
) -> Int[np.ndarray, "shuffles queries"]:
    """The row on which each row's choices are judged instead."""
    rows = np.empty((shuffles, queries), np.int64)
    for lines in alike:
        places = np.tile(np.arange(len(lines)), (shuffles, 1))
        rows[:, lines] = lines[generator.permuted(places, axis=1)]
    return rows
