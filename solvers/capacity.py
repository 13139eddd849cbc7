"""Capacities: the best answers at a price when every model takes only so many queries.

    maximise  sum_j r[j, x_j]    subject to   #{j : x_j = i} <= capacity[i],      r = value - price * cost

a transportation problem, solved as a min-cost flow by OR-Tools (Ahuja, Magnanti & Orlin 1993, "Network Flows", section 1.2).
Its dual puts a toll >= 0 on every full model, the value of one more place there, and gives a bound for every price and
all tolls:

    L(price, tolls) = price * limit + sum_i tolls[i] * capacity[i] + sum_j max_i (r[j, i] - tolls[i])
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from ortools.graph.python import min_cost_flow

from solvers.choices import Choices, best_of

INTEGER_BITS, FEWEST_BITS = 61, 15
"""Sums of costs stay below 2^61: the flow counts in 64 bits. Fewer are tried where it finds that too many."""
WHOLE = 1_000_000
"""Up to so many choices the flow is given all of them."""
SAMPLE = 20_000
"""Queries whose tolls tell which choices a large problem's flow needs."""
NEAR, WIDER = 0.05, 8.0
"""The share of queries that the flow is first given a second choice for, and how much wider the net is cast if it fails."""
ROWS = 20_000
"""Queries that are looked at together."""
TOO_LITTLE = 1e-12
"""A difference, relative to the numbers, that rounding alone explains."""


@dataclass(frozen=True)
class Shared:
    """The best choices at a price, and the tolls that prove it."""

    choice: Int[np.ndarray, " queries"]
    tolls: Float[np.ndarray, " choices"]
    left_over: Int[np.ndarray, " left"]
    """Queries for which no place is left; their choice means nothing."""


def share(choices: Choices, price: float) -> Shared:
    """The most value - price * cost within the capacities; at an infinite price the least cost.

    A large problem's flow is first asked for on the choices that are near the best at the tolls of a sample; what its own
    tolls then show to be worth more is added until nothing is (column generation).
    """
    reduced = _reduced(choices, price)
    choice = np.empty(len(choices), np.int32)
    for rows, _, cost in choices.chunks():
        choice[rows] = best_of(reduced[rows], -cost)
    if choices.places is None or (choices.spare(choice) >= 0).all():
        return Shared(choice, np.zeros(choices.width), np.zeros(0, np.int64))
    usable = reduced > -np.inf
    large = reduced.size > WHOLE and len(reduced) > SAMPLE
    guess, near = _guess(reduced, choices.places) if large else (np.zeros(choices.width), math.inf)
    arcs = _worth_more(reduced, guess, within=near) & usable
    while True:
        choice, left_over = _flow(reduced, arcs, choices.places)
        if left_over.size and arcs.sum() == usable.sum():
            return Shared(choice, np.zeros(choices.width), left_over)
        if left_over.size:
            near = near * WIDER if near else math.inf
            arcs = _worth_more(reduced, guess, within=near) & usable
            continue
        tolls = _tolls(reduced, usable, choice, choices.places)
        missing = _worth_more(reduced, tolls, choice) & usable & ~arcs
        if not missing.any() and math.isfinite(near):
            # Moves that are not among the arcs can make the tolls of all moves contradict each other.
            missing = _worth_more(reduced, _tolls(reduced, arcs, choice, choices.places), choice) & usable & ~arcs
        if not missing.any():
            return Shared(choice, tolls, left_over)
        arcs |= missing


def _reduced(choices: Choices, price: float) -> Float[np.ndarray, "queries choices"]:
    reduced = np.empty((len(choices), choices.width))
    for rows, value, cost in choices.chunks():
        reduced[rows] = np.where(np.isneginf(value), value, -cost) if math.isinf(price) else value - price * cost
    return reduced


def _guess(
    reduced: Float[np.ndarray, "queries choices"], places: Int[np.ndarray, " choices"]
) -> tuple[Float[np.ndarray, " choices"], float]:
    """The tolls of an even sample; and how near its best another choice of a query comes at them, for one query in twenty."""
    rows = np.linspace(0, len(reduced) - 1, SAMPLE).astype(int)
    sample, some = reduced[rows], np.ceil(places * (SAMPLE / len(reduced))).astype(np.int64)
    arcs = sample > -np.inf
    choice, left_over = _flow(sample, arcs, some)
    tolls = _tolls(sample, arcs, choice, some) if not left_over.size else np.zeros(len(places))
    ordered = np.sort(sample - tolls, axis=1)
    # A query with a single choice has no second one at any distance.
    second = ordered[:, -1] - ordered[:, -2] if len(places) > 1 else np.zeros(1)
    return tolls, float(np.quantile(second, NEAR, method="lower"))


def _worth_more(
    reduced: Float[np.ndarray, "queries choices"],
    tolls: Float[np.ndarray, " choices"],
    choice: Int[np.ndarray, " queries"] | None = None,
    within: float = 0.0,
) -> Bool[np.ndarray, "queries choices"]:
    """The choices that are, at the tolls, worth more than the one that was made; or `within` so much of the best one."""
    found = np.empty(reduced.shape, bool)
    scale = float(np.abs(tolls).max()) + float(np.abs(reduced[reduced > -np.inf]).max(initial=0.0))
    for start in range(0, len(reduced), ROWS):
        rows = slice(start, start + ROWS)
        worth = reduced[rows] - tolls
        if choice is None:
            found[rows] = worth >= worth.max(axis=1, keepdims=True) - within
        else:
            own = worth[np.arange(len(worth)), choice[rows]][:, None]
            found[rows] = worth > own + TOO_LITTLE * scale
    return found


def _flow(
    reduced: Float[np.ndarray, "queries choices"],
    arcs: Bool[np.ndarray, "queries choices"],
    places: Int[np.ndarray, " choices"],
) -> tuple[Int[np.ndarray, " queries"], Int[np.ndarray, " left"]]:
    """As many queries as possible through places in the models, along `arcs`, at the least loss."""
    queries, width = reduced.shape
    choice = np.full(queries, -1, np.int32)
    # What has one choice takes it and needs no flow.
    counts = arcs.sum(axis=1)
    single = np.flatnonzero(counts == 1)
    choice[single] = arcs[single].argmax(axis=1)
    places = places - np.bincount(choice[single], minlength=width)
    for full in np.flatnonzero(places < 0):
        choice[np.flatnonzero((counts == 1) & (choice == full))[places[full] :]] = -1
    several = np.flatnonzero(counts > 1)
    if several.size:
        choice[several] = _routed(reduced[several], arcs[several], np.maximum(places, 0))
    return choice, np.flatnonzero(choice < 0)


def _routed(
    reduced: Float[np.ndarray, "queries choices"],
    arcs: Bool[np.ndarray, "queries choices"],
    places: Int[np.ndarray, " choices"],
) -> Int[np.ndarray, " queries"]:
    """The flow itself; -1 where no place is left."""
    row, column = np.nonzero(arcs)
    loss = reduced.max(axis=1)[row] - reduced[row, column]
    while True:
        choice, used = _integer_flow(row, column, loss, places, len(reduced))
        total = float(loss[used].sum())
        if (choice < 0).any() or total >= loss.max(initial=0.0) / 2:
            return choice
        # What alone loses more than all of this is in no better flow; without it the integers are finer.
        kept = loss <= total * (1 + 1e-9)
        row, column, loss = row[kept], column[kept], loss[kept]
        if not total:
            return choice


def _integer_flow(
    row: Int[np.ndarray, " arcs"],
    column: Int[np.ndarray, " arcs"],
    loss: Float[np.ndarray, " arcs"],
    places: Int[np.ndarray, " choices"],
    queries: int,
) -> tuple[Int[np.ndarray, " queries"], Int[np.ndarray, " used"]]:
    """Choices, -1 where no place is left, and the arcs that they use; losses are rounded to whole numbers."""
    width = len(places)
    sink = queries + width
    largest = math.frexp(float(loss.max(initial=0.0)) or 1.0)[1]
    # Flow's own scaling multiplies every cost by the number of nodes, and a long chain of models adds costs up.
    for bits in range(INTEGER_BITS - (sink + 1).bit_length() - 1, FEWEST_BITS, -4):
        # Its type stubs take shapes for dtypes.
        network: Any = min_cost_flow.SimpleMinCostFlow()
        whole = np.rint(np.ldexp(loss, bits - largest)).astype(np.int64)
        network.add_arcs_with_capacity_and_unit_cost(row, queries + column, np.ones(len(row), np.int64), whole)
        network.add_arcs_with_capacity_and_unit_cost(
            queries + np.arange(width), np.full(width, sink), np.minimum(places, queries), np.zeros(width, np.int64)
        )
        network.set_nodes_supplies(np.arange(queries), np.ones(queries, np.int64))
        network.set_node_supply(sink, -queries)
        status = network.solve_max_flow_with_min_cost()
        if status != network.BAD_COST_RANGE:
            break
    if status != network.OPTIMAL:
        raise RuntimeError(f"OR-Tools' min-cost flow ended with {status}")
    used = np.flatnonzero(network.flows(np.arange(len(row))) > 0)
    choice = np.full(queries, -1, np.int32)
    choice[row[used]] = column[used]
    return choice, used


def _tolls(
    reduced: Float[np.ndarray, "queries choices"],
    arcs: Bool[np.ndarray, "queries choices"],
    choice: Int[np.ndarray, " queries"],
    places: Int[np.ndarray, " choices"],
) -> Float[np.ndarray, " choices"]:
    """The dual of a flow: what the cheapest way of making room costs.

    A query moved from model i to model k loses at least w[i, k]. A model with room has toll 0, any other one the length of
    its shortest path to room (Bellman & Ford).
    """
    width = reduced.shape[1]
    moves = np.full((width, width), np.inf)
    most, least = -np.inf, np.inf
    for start in range(0, len(reduced), ROWS):
        rows = slice(start, start + ROWS)
        worth, made = np.where(arcs[rows], reduced[rows], -np.inf), choice[rows]
        loss = worth[np.arange(len(worth)), made][:, None] - worth
        order = np.argsort(made, kind="stable")
        models, first = np.unique(made[order], return_index=True)
        moves[models] = np.minimum(moves[models], np.minimum.reduceat(loss[order], first, axis=0))
        most = max(most, float(worth.max()))
        least = min(least, float(worth.min(where=arcs[rows], initial=np.inf)))
    # Where there is no room at all, a toll that outweighs every other one.
    tolls = np.where(np.bincount(choice, minlength=width) < places, 0.0, (most - least) * width)
    for _ in range(width):
        shorter = np.minimum(tolls, (moves + tolls).min(axis=1))
        if (shorter == tolls).all():
            break
        tolls = shorter
    # Rounding in the flow's integers can leave a path that gains next to nothing.
    return np.maximum(tolls, 0.0)


def blend(
    choices: Choices, cheap: Int[np.ndarray, " queries"], dear: Int[np.ndarray, " queries"]
) -> Int[np.ndarray, " queries"]:
    """As much of `dear` in place of `cheap`, which is within the limits, as these allow.

    The queries on which the two differ are edges from one model to another; they fall into cycles, and into paths from a model
    that has more queries in `cheap` to one that has more in `dear`. Any number of these can be exchanged within the
    capacities. Where both are best at one price, value and cost of every one of them rise together.
    """
    values, costs = (after - before for after, before in zip(choices.picked(dear), choices.picked(cheap), strict=True))
    exchanges = [(float(costs[rows].sum()), rows) for rows in _exchanges(cheap, dear, choices.width) if values[rows].sum() > 0]
    choice, spent = cheap.copy(), choices.totals(cheap)[1]
    for cost, rows in sorted(exchanges, key=lambda one: (one[0] > 0, -one[0])):
        if choices.fits(spent + cost):
            spent += cost
            choice[rows] = dear[rows]
    # Running sums are rounded.
    return choice if choices.fits(choices.totals(choice)[1]) else cheap


def _exchanges(cheap: Int[np.ndarray, " queries"], dear: Int[np.ndarray, " queries"], width: int) -> list[list[int]]:
    """The queries of every cycle and path."""
    differing = np.flatnonzero(cheap != dear)
    leaving: list[list[int]] = [[] for _ in range(width)]
    for query in differing.tolist():
        leaving[cheap[query]].append(query)
    surplus = np.bincount(cheap[differing], minlength=width) - np.bincount(dear[differing], minlength=width)
    found = []
    # Paths first, from models that give up queries; what is left then are cycles.
    for start in [*np.repeat(np.arange(width), np.maximum(surplus, 0)).tolist(), *range(width)]:
        walk: list[int] = []
        visited = {start: 0}
        at = start
        while leaving[at]:
            query = leaving[at].pop()
            walk.append(query)
            at = int(dear[query])
            if at in visited:
                found.append(walk[visited[at] :])
                del walk[visited[at] :]
                visited = {model: place for model, place in visited.items() if place <= visited[at]}
            else:
                visited[at] = len(walk)
        if walk:
            found.append(walk)
    return found
