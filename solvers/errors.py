"""What solvers raise: input that is no problem, and problems that no assignment solves. Messages stay short."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

MOST_SHOWN = 8
"""Items of a list that a message shows."""
MOST_LETTERS = 120
"""Letters of a text that a message shows."""
SAME = 1e-12
"""A relative difference that rounding alone explains."""


class ProblemError(ValueError):
    """Input that is not a problem: wrong shape, not finite, negative or empty. The message lists everything that is wrong."""


class InfeasibleProblem(ProblemError):
    """No assignment meets the constraints. The message says what would work."""


class InfeasibleBudget(InfeasibleProblem):
    """The budget is below the cost of the cheapest assignment, `least_budget_usd`, which is accepted when passed back."""

    budget_usd: float
    """The budget in dollars that was too small."""
    least_budget_usd: float
    """The smallest feasible budget in dollars; over shards with capacities the smallest that was found."""
    bound_usd: float
    """Proved: no assignment costs fewer dollars. `least_budget_usd` itself, unless that was searched."""

    def __init__(self, budget_usd: float, least_budget_usd: float, bound_usd: float | None = None):
        self.budget_usd, self.least_budget_usd = budget_usd, least_budget_usd
        self.bound_usd = least_budget_usd if bound_usd is None else bound_usd
        if least_budget_usd - self.bound_usd <= SAME * abs(least_budget_usd):
            said = f"budget_usd={budget_usd!r} is below the cheapest assignment, which costs {least_budget_usd!r}"
        elif budget_usd < self.bound_usd:
            said = (
                f"budget_usd={budget_usd!r} is too small: it is proved that no assignment costs less than {self.bound_usd!r}, "
                f"and the cheapest that was found costs {least_budget_usd!r}"
            )
        else:
            said = (
                f"budget_usd={budget_usd!r} is below the cheapest assignment that was found, which costs {least_budget_usd!r}; "
                f"it is proved that none costs less than {self.bound_usd!r}"
            )
        super().__init__(f"{said}: give at least budget_usd={least_budget_usd!r}, or allow unanswered queries")


class InfeasibleValue(InfeasibleProblem):
    """The minimum value is above that of the best assignment, `most_value`, which is accepted when passed back."""

    minimum_value: float
    """The minimum that was too large."""
    most_value: float
    """The largest feasible minimum; over shards with capacities the largest that was found."""
    bound: float
    """Proved: no assignment has a larger value. `most_value` itself, unless that was searched."""

    def __init__(self, minimum_value: float, most_value: float, bound: float | None = None):
        self.minimum_value, self.most_value = minimum_value, most_value
        self.bound = most_value if bound is None else bound
        if self.bound - most_value <= SAME * abs(most_value):
            said = f"minimum_value={minimum_value!r} is above the most valuable assignment, which is worth {most_value!r}"
        elif minimum_value > self.bound:
            said = (
                f"minimum_value={minimum_value!r} is too large: it is proved that no assignment is worth more than "
                f"{self.bound!r}, and the most valuable that was found is worth {most_value!r}"
            )
        else:
            said = (
                f"minimum_value={minimum_value!r} is above the most valuable assignment that was found, which is worth "
                f"{most_value!r}; it is proved that none is worth more than {self.bound!r}"
            )
        super().__init__(f"{said}: give at most minimum_value={most_value!r}")


@dataclass(frozen=True)
class Crowded:
    """Models to which alone more queries can go than they have places together: that no assignment exists follows from it."""

    models: list[int]
    queries: int
    places: int

    def described(self, names: Sequence[object]) -> str:
        """In words, with the models' names."""
        among = [str(names[model]) for model in self.models]
        listed = ", ".join(among[:MOST_SHOWN]) + (f" and {len(among) - MOST_SHOWN} more" if len(among) > MOST_SHOWN else "")
        which, have = ("model", "has") if len(among) == 1 else ("models", "together have")
        return f"{self.queries:,} can go to no other than {which} {listed}, which {have} {self.places:,} places"


class InfeasibleCapacity(InfeasibleProblem):
    """The capacities leave queries without a model. `enough_capacity` is accepted when passed back."""

    capacity: list[int]
    """The capacities, one per model, that were too small."""
    enough_capacity: list[int]
    """Capacities, one per model, with which every query has a place; not the only ones."""
    left_over: int
    """How many queries a best sharing of the places leaves without one."""
    crowded: Crowded | None
    """Over shards: the models that are too small together."""

    def __init__(
        self,
        capacity: Sequence[int],
        enough_capacity: Sequence[int],
        left_over: int,
        example: int,
        queries: int,
        crowded: Crowded | None = None,
    ):
        self.capacity, self.enough_capacity, self.left_over = list(capacity), list(enough_capacity), left_over
        self.crowded = crowded
        because = f"; {crowded.described(range(len(capacity)))}" if crowded else ""
        super().__init__(
            f"capacity={shown(self.capacity)} leaves {left_over} of {queries} queries without a place, such as query "
            f"{example}{because}: {self._remedy()} would do, or allow unanswered queries"
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
