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
from jaxtyping import Float, Int
from ortools.graph.python import min_cost_flow

from solvers.choices import Choices, best_of

INTEGER_BITS = 61
"""Sums of costs stay below 2^61: the flow counts in 64 bits."""


@dataclass(frozen=True)
class Shared:
    """The best choices at a price, and the tolls that prove it."""

    choice: Int[np.ndarray, " queries"]
    tolls: Float[np.ndarray, " choices"]
    left_over: Int[np.ndarray, " left"]
    """Queries for which no place is left; their choice means nothing."""


def share(choices: Choices, price: float) -> Shared:
    """The most value - price * cost within the capacities; at an infinite price the least cost."""
    reduced = _reduced(choices, price)
    choice = np.empty(len(choices), np.int32)
    for rows, _, cost in choices.chunks():
        choice[rows] = best_of(reduced[rows], -cost)
    if choices.places is None or (choices.spare(choice) >= 0).all():
        return Shared(choice, np.zeros(choices.width), np.zeros(0, np.int64))
    choice, left_over = _flow(reduced, choices.places)
    tolls = _tolls(reduced, choice, choices.places) if not left_over.size else np.zeros(choices.width)
    return Shared(choice, tolls, left_over)


def _reduced(choices: Choices, price: float) -> Float[np.ndarray, "queries choices"]:
    reduced = np.empty((len(choices), choices.width))
    for rows, value, cost in choices.chunks():
        reduced[rows] = np.where(np.isneginf(value), value, -cost) if math.isinf(price) else value - price * cost
    return reduced


def _flow(
    reduced: Float[np.ndarray, "queries choices"], places: Int[np.ndarray, " choices"]
) -> tuple[Int[np.ndarray, " queries"], Int[np.ndarray, " left"]]:
    """As many queries as possible through places in the models, at the least loss."""
    queries, width = reduced.shape
    row, column = np.nonzero(reduced > -np.inf)
    best = reduced.max(axis=1, initial=-np.inf)
    loss = best[row] - reduced[row, column]
    # Flow's own scaling multiplies every cost by the number of nodes.
    bits = INTEGER_BITS - (queries + width + 2).bit_length() - 1
    unit = 2.0 ** (math.frexp(float(loss.max(initial=0.0)) or 1.0)[1] - bits)
    whole = np.rint(loss / unit).astype(np.int64)
    # Its type stubs take shapes for dtypes.
    network: Any = min_cost_flow.SimpleMinCostFlow()
    network.add_arcs_with_capacity_and_unit_cost(row, queries + column, np.ones(len(row), np.int64), whole)
    sink = queries + width
    network.add_arcs_with_capacity_and_unit_cost(
        queries + np.arange(width), np.full(width, sink), np.minimum(places, queries), np.zeros(width, np.int64)
    )
    network.set_nodes_supplies(np.arange(queries), np.ones(queries, np.int64))
    network.set_node_supply(sink, -queries)
    status = network.solve_max_flow_with_min_cost()
    if status != network.OPTIMAL:
        raise RuntimeError(f"OR-Tools' min-cost flow ended with {status}")
    used = network.flows(np.arange(len(row))) > 0
    choice = np.full(queries, -1, np.int32)
    choice[row[used]] = column[used]
    return choice, np.flatnonzero(choice < 0)


def _tolls(
    reduced: Float[np.ndarray, "queries choices"], choice: Int[np.ndarray, " queries"], places: Int[np.ndarray, " choices"]
) -> Float[np.ndarray, " choices"]:
    """The dual of a flow: what the cheapest way of making room costs.

    A query moved from model i to model k loses at least w[i, k]. A model with room has toll 0, any other one the length of
    its shortest path to room (Bellman & Ford).
    """
    width = reduced.shape[1]
    moves = np.full((width, width), np.inf)
    order = np.argsort(choice, kind="stable")
    counts = np.bincount(choice, minlength=width)
    ends = np.cumsum(counts)
    for model in np.flatnonzero(counts):
        rows = order[ends[model] - counts[model] : ends[model]]
        moves[model] = (reduced[rows, model][:, None] - reduced[rows]).min(axis=0)
    finite = reduced[reduced > -np.inf]
    # Where there is no room at all, a toll that outweighs every other one.
    tolls = np.where(counts < places, 0.0, (finite.max() - finite.min()) * width)
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
