"""As many queries as possible into places in the models, at the least loss: a min-cost flow by OR-Tools, in integers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from solvers.mixing import shuffled

INTEGER_BITS, FEWEST_BITS = 61, 15
"""Sums of losses stay below 2^61, since OR-Tools counts in 64 bits. Fewer bits are tried where it finds that too many."""


def flow(
    reduced: Float[np.ndarray, "queries choices"],
    arcs: Bool[np.ndarray, "queries choices"],
    places: Int[np.ndarray, " choices"],
) -> tuple[Int[np.ndarray, " queries"], Int[np.ndarray, " left"]]:
    """The choices, along `arcs`, whose `reduced` values have the largest sum, and the queries for which no place is left.

    A query without a place has the choice -1.
    """
    queries, width = reduced.shape
    choice = np.full(queries, -1, np.int32)
    # A query with one choice takes it and needs no flow.
    counts = arcs.sum(axis=1)
    single = np.flatnonzero(counts == 1)
    choice[single] = arcs[single].argmax(axis=1)
    places = places - np.bincount(choice[single], minlength=width)
    for full in np.flatnonzero(places < 0):
        choice[np.flatnonzero((counts == 1) & (choice == full))[places[full] :]] = -1
    # Of flows that are equally good the solver takes one by the order of the queries, which must not be the table's.
    several = np.flatnonzero(counts > 1)
    several = several[shuffled(len(several))]
    if several.size:
        choice[several] = _refined(reduced[several], arcs[several], np.maximum(places, 0))
    return choice, np.flatnonzero(choice < 0)


def _refined(
    reduced: Float[np.ndarray, "queries choices"],
    arcs: Bool[np.ndarray, "queries choices"],
    places: Int[np.ndarray, " choices"],
) -> Int[np.ndarray, " queries"]:
    """Flows whose integers get finer until losses that are never made no longer set their size."""
    row, column = np.nonzero(arcs)
    loss = reduced.max(axis=1)[row] - reduced[row, column]
    while True:
        choice, used = _integer_flow(row, column, loss, places, len(reduced))
        total = float(loss[used].sum())
        if (choice < 0).any() or total >= loss.max(initial=0.0) / 2:
            return choice
        # An arc that loses more than this whole flow is in no better one; without it the integers are finer.
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
    """The flow of least loss, each loss rounded to a whole number: choices, -1 without a place, and the arcs in use."""
    width = len(places)
    largest = math.frexp(float(loss.max(initial=0.0)) or 1.0)[1]
    # OR-Tools multiplies every cost by the number of nodes, and a long chain of models adds costs up.
    most_bits = INTEGER_BITS - (queries + width + 1).bit_length() - 1
    for bits in range(most_bits, FEWEST_BITS, -4):
        losses = np.rint(np.ldexp(loss, bits - largest)).astype(np.int64)
        network = _network(row, column, losses, places, queries)
        status = network.solve_max_flow_with_min_cost()
        if status == network.OPTIMAL:
            used = np.flatnonzero(network.flows(np.arange(len(row))) > 0)
            choice = np.full(queries, -1, np.int32)
            choice[row[used]] = column[used]
            return choice, used
        if status != network.BAD_COST_RANGE:
            raise RuntimeError(f"OR-Tools' min-cost flow ended with {status}")
    raise RuntimeError(f"OR-Tools' min-cost flow rejects losses of {FEWEST_BITS} bits for {queries} queries")


def _network(
    row: Int[np.ndarray, " arcs"],
    column: Int[np.ndarray, " arcs"],
    losses: Int[np.ndarray, " arcs"],
    places: Int[np.ndarray, " choices"],
    queries: int,
) -> Any:
    """Every query sends one unit along one of its arcs to a model; a model sends at most as many as it has places to a sink."""
    from ortools.graph.python import min_cost_flow  # pyright: ignore[reportMissingTypeStubs]

    width = len(places)
    sink = queries + width
    # OR-Tools' own annotations take shapes for dtypes, hence `Any`.
    network: Any = min_cost_flow.SimpleMinCostFlow()
    network.add_arcs_with_capacity_and_unit_cost(row, queries + column, np.ones(len(row), np.int64), losses)
    network.add_arcs_with_capacity_and_unit_cost(
        queries + np.arange(width), np.full(width, sink), np.minimum(places, queries), np.zeros(width, np.int64)
    )
    network.set_nodes_supplies(np.arange(queries), np.ones(queries, np.int64))
    network.set_node_supply(sink, -queries)
    return network
