"""What solvers raise: input that is no problem, and problems that no assignment solves. Messages stay short."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import cast

MOST_SHOWN = 8
"""Items of a list that a message shows."""
MOST_LETTERS = 120
"""Letters of a text that a message shows."""


class ProblemError(ValueError):
    """Input that is not a problem: wrong shape, not finite, negative or empty. The message lists everything that is wrong."""


class InfeasibleProblem(ProblemError):
    """No assignment meets the constraints. The message says what would work."""


class InfeasibleBudget(InfeasibleProblem):
    """The budget is below the cost of the cheapest assignment, `least_budget_usd`, which is accepted when passed back."""

    budget_usd: float
    """The budget in dollars that was too small."""
    least_budget_usd: float
    """The smallest feasible budget in dollars."""

    def __init__(self, budget_usd: float, least_budget_usd: float):
        self.budget_usd, self.least_budget_usd = budget_usd, least_budget_usd
        super().__init__(
            f"budget_usd={budget_usd!r} is below the cheapest assignment, which costs {least_budget_usd!r}: "
            f"give at least budget_usd={least_budget_usd!r}, or allow unanswered queries"
        )


class InfeasibleValue(InfeasibleProblem):
    """The minimum value is above that of the best assignment, `most_value`, which is accepted when passed back."""

    minimum_value: float
    """The minimum that was too large."""
    most_value: float
    """The largest feasible minimum."""

    def __init__(self, minimum_value: float, most_value: float):
        self.minimum_value, self.most_value = minimum_value, most_value
        super().__init__(
            f"minimum_value={minimum_value!r} is above the most valuable assignment, which is worth {most_value!r}: "
            f"give at most minimum_value={most_value!r}"
        )


class InfeasibleCapacity(InfeasibleProblem):
    """The capacities leave queries without a model. `enough_capacity` is accepted when passed back."""

    capacity: list[int]
    """The capacities, one per model, that were too small."""
    enough_capacity: list[int]
    """Capacities, one per model, with which every query has a place; not the only ones."""
    left_over: list[int]
    """The queries that a best sharing of the places leaves without one."""

    def __init__(self, capacity: Sequence[int], enough_capacity: Sequence[int], left_over: Sequence[int], queries: int):
        self.capacity, self.enough_capacity, self.left_over = list(capacity), list(enough_capacity), list(left_over)
        super().__init__(
            f"capacity={shown(self.capacity)} leaves {len(left_over)} of {queries} queries without a place, such as "
            f"query {left_over[0]}: {self._remedy()} would do, or allow unanswered queries"
        )

    def _remedy(self) -> str:
        if len(self.capacity) <= MOST_SHOWN:
            return f"capacity={self.enough_capacity}"
        pairs = enumerate(zip(self.capacity, self.enough_capacity, strict=True))
        raised = [f"{enough} for model {model}" for model, (given, enough) in pairs if enough != given]
        more = f" and {len(raised) - MOST_SHOWN} more (`enough_capacity` of this error)" if len(raised) > MOST_SHOWN else ""
        return f"a capacity of {', '.join(raised[:MOST_SHOWN])}{more}"


def shown(value: object) -> str:
    """`value` as a message shows it: the first items of a list, the first letters of a text."""
    if isinstance(value, list | tuple):
        items = cast("Sequence[object]", value)
        if len(items) > MOST_SHOWN:
            return f"[{', '.join(map(shown, items[:MOST_SHOWN]))}, ... {len(items)} in all]"
    bounded = reprlib.Repr()
    bounded.maxstring = bounded.maxother = bounded.maxlong = MOST_LETTERS
    bounded.maxlist = bounded.maxtuple = bounded.maxset = bounded.maxdict = MOST_SHOWN
    return bounded.repr(value)
