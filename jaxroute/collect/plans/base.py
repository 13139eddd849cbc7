"""Which cells are asked next: what a plan knows, what it answers, and how it is found by name.

A plan is one module with a frozen dataclass `Config` of its options and

    build(config) -> Plan

Where its `Config` has a field `cells`, `--cells` of the command sets it. A file of one's own may do the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Float

from jaxroute.data.table import Queries
from jaxroute.endpoints.models import Endpoint
from jaxroute.errors import PlanError, shortened
from jaxroute.storage.specs import Shelf

PLANS = Shelf("jaxroute.collect.plans", "plan", PlanError, others=("base",))
Cell = tuple[int, int]
"""A query's row and a model's column."""


@dataclass(frozen=True)
class Collected:
    """What there is to ask, and what was collected so far; arrays are (queries, models)."""

    queries: Queries
    """Prompts and domains, in the order of the file."""
    models: list[str]
    endpoints: Mapping[str, Endpoint]
    """By model, with prices."""
    quality: Float[np.ndarray, "queries models"]
    """Grades; NaN where there is none."""
    cost_usd: Float[np.ndarray, "queries models"]
    """True dollars of answers; NaN where there is none, or its tokens were not counted."""
    asked: Bool[np.ndarray, "queries models"]
    """Cells that were asked, answered or not: they are not asked again, and a plan that names one loses nothing."""
    worst_case_usd: Float[np.ndarray, "queries models"]
    """What the cell's answer can cost at most; 0 where it cannot be asked, and for plans that do not weigh costs."""
    left_usd: float
    """Of the budget."""
    possible: Bool[np.ndarray, "queries models"] | None = None
    """Cells that can be asked: the model accepts what the query holds, and it fits into its context; None = all of them."""

    @property
    def open(self) -> Bool[np.ndarray, "queries models"]:
        """Cells that can be asked and were not."""
        return ~self.asked if self.possible is None else ~self.asked & self.possible


class Plan(Protocol):
    """Decides batch by batch."""

    weighs_cost: bool
    """Whether it reads `Collected.worst_case_usd`, which takes time for many cells; a file of one's own may leave it out."""

    def next_cells(self, collected: Collected) -> Sequence[Cell]:
        """The cells to be asked next, in order; an empty batch ends the collection.

        Called in a thread when all cells of the batch before are asked and graded, so it may take its time. After a restart it
        is asked anew, with what is stored: it should depend on `collected` alone.
        """
        ...

    @property
    def note(self) -> str:
        """What it did and why it ended, for the summary; empty where there is nothing to say."""
        ...


def find_plan(spec: str, cells: int | None = None) -> Plan:
    """The plan that a name, or a file, and options say, of at most so many cells. Raises `PlanError` naming what is known."""
    module = PLANS.module(spec)
    if not callable(getattr(module, "build", None)) or not hasattr(module, "Config"):
        raise PlanError(f"plan={shortened(spec)}: {module.__name__} must hold build(config) and a dataclass Config")
    config: Any = PLANS.config(spec, module)
    if cells is not None:
        if "cells" not in (one.name for one in fields(config)):
            raise PlanError(f"cells={cells}: the plan {shortened(spec)} asks all cells; leave it out, or take another plan")
        if cells < 1:
            raise PlanError(f"cells={cells} must be at least 1")
        config = replace(config, cells=cells)
    return PLANS.own_words(spec, module, "build", lambda: module.build(config))


def plan_names() -> dict[str, str]:
    """Name and caption of every plan in this room."""
    return PLANS.captions()
