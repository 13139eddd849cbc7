"""Assignment: what every solver returns; one model per query, and a proof of how near to the best it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from solvers.problem import UNANSWERED, Problem


@dataclass(frozen=True, eq=False)
class Assignment:
    """One model per query, its value and cost, and a proof of how far from the best it can be.

    Value, cost and bound are computed in float64; value and cost are exact sums (`math.fsum`) over the queries.
    """

    choice: Int[np.ndarray, " queries"]
    """Per query the column of its model in `Problem.value`, int32; -1 = unanswered."""
    value: float
    """The sum of the chosen values."""
    cost_usd: float
    """The sum of the chosen costs in dollars."""
    bound: float
    """Proved: no assignment of this problem has a larger value. With a minimum value: none costs fewer dollars."""
    multiplier: float
    """Lambda, value per further dollar, at which the assignment was found; infinite where a dollar less would cost nothing."""
    status: str
    """`optimal`: proved best on the problem as given, within `gap`; `feasible`: within the constraints."""
    seconds: float
    """How long the solver took."""
    solver: str
    """The solver's name and its options."""
    tolls: Float[np.ndarray, " models"] | None = None
    """With capacities: what one more place in every model would add to the value, or save in dollars, by the bound."""
    objective: str = "value"
    """What `bound` and `gap` are about: `value`, or `cost_usd` where a minimum value was asked for."""
    reason: str = ""
    """Why `solver="auto"` took this solver."""

    @property
    def gap(self) -> float:
        """The most value that a better assignment could add, or the most dollars that it could save; >= 0."""
        return max(0.0, self.bound - self.value if self.objective == "value" else self.cost_usd - self.bound)

    @property
    def relative_gap(self) -> float:
        """`gap` as a share of the absolute bound; infinite where there is a gap and the bound is 0."""
        if not self.gap:
            return 0.0
        return self.gap / abs(self.bound) if self.bound else math.inf

    @property
    def unanswered(self) -> int:
        """How many queries are left without a model."""
        return int((self.choice == UNANSWERED).sum())

    def __str__(self) -> str:
        lost = f", {self.unanswered} unanswered" if self.unanswered else ""
        off = "below the best" if self.objective == "value" else "above the cheapest"
        reason = f" ({self.reason})" if self.reason else ""
        return (
            f"{self.solver}{reason}: value {self.value:.6g} for {self.cost_usd:.6g} dollars on {len(self.choice):,} "
            f"queries{lost}; {self.status}, at most {self.relative_gap:.2g} {off}; {self.seconds:.3g} s"
        )


def proved(
    problem: Problem,
    choice: Int[np.ndarray, " queries"],
    *,
    bound: float,
    multiplier: float,
    tolls: Float[np.ndarray, " choices"] | None = None,
    status: str,
    seconds: float,
    solver: str,
) -> Assignment:
    """The Assignment of `choice`, which holds columns of `problem.choices`, with exact sums.

    `bound` and `multiplier` are those of the standard form, which maximises: with a minimum value, minus the dollars.
    """
    value, cost_usd = problem.totals(choice)
    objective, bound = "value", float(max(bound, value))
    if problem.minimum_value is not None:
        objective, value, cost_usd, bound = "cost_usd", -cost_usd, -value, -bound
        # The standard form's multiplier is dollars per value.
        multiplier = 1 / multiplier if multiplier else math.inf
    models = problem.value.shape[1]
    return Assignment(
        choice=np.where(choice == models, UNANSWERED, choice).astype(np.int32),
        value=value,
        cost_usd=cost_usd,
        bound=bound,
        multiplier=float(multiplier),
        tolls=None if tolls is None else tolls[:models],
        status=status,
        seconds=seconds,
        solver=solver,
        objective=objective,
    )
