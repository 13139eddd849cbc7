"""Assignment: what every solver returns; one model per query, and a proof of how near to the best it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from solvers.problem import UNANSWERED, Problem


@dataclass(frozen=True, eq=False)
class Assignment:
    """One model per query, what it is worth, what it costs, and how far from the best it can be."""

    choice: Int[np.ndarray, " queries"]
    """Column of the model, -1 = unanswered; int32."""
    value: float
    cost_usd: float
    bound: float
    """Proved: no assignment of this problem is worth more; with a minimum value, none is cheaper."""
    multiplier: float
    """The price of value at which this was found: value per further dollar."""
    status: str
    """`optimal`: proved on the problem as given, within `gap`; `feasible`: within the constraints."""
    seconds: float
    solver: str
    tolls: Float[np.ndarray, " models"] | None = None
    """With capacities: what one more place in every model would add to the value, or save in dollars, by the bound."""
    objective: str = "value"
    """What `bound` and `gap` are about: `value`, or `cost_usd` where a minimum value was asked for."""
    reason: str = ""
    """Why `solver="auto"` took this solver."""

    @property
    def gap(self) -> float:
        """The most value that a better assignment could add, or the most dollars that it could save."""
        return max(0.0, self.bound - self.value if self.objective == "value" else self.cost_usd - self.bound)

    @property
    def relative_gap(self) -> float:
        if not self.gap:
            return 0.0
        return self.gap / abs(self.bound) if self.bound else math.inf

    @property
    def unanswered(self) -> int:
        return int((self.choice == UNANSWERED).sum())

    def __str__(self) -> str:
        lost = f", {self.unanswered} unanswered" if self.unanswered else ""
        off = "below the best" if self.objective == "value" else "above the cheapest"
        told = f" ({self.reason})" if self.reason else ""
        return (
            f"{self.solver}{told}: value {self.value:.6g} for {self.cost_usd:.6g} dollars on {len(self.choice):,} "
            f"queries{lost}; {self.status}, at most {self.relative_gap:.2g} {off}; {self.seconds:.3g} s"
        )


def assignment(
    problem: Problem,
    choice: Int[np.ndarray, " queries"],
    *,
    bound: float,
    price: float,
    tolls: Float[np.ndarray, " choices"] | None = None,
    status: str,
    seconds: float,
    solver: str,
) -> Assignment:
    """The Assignment of `choice`, columns of `problem.choices`, its sums exact; bound and price are the standard form's."""
    value, cost_usd = problem.totals(choice)
    objective, bound = "value", float(max(bound, value))
    if problem.minimum_value is not None:
        # The standard form maximises minus the dollars, and its price is dollars per value.
        objective, value, cost_usd, bound = "cost_usd", -cost_usd, -value, -bound
        price = 1 / price if price else math.inf
    models = problem.value.shape[1]
    return Assignment(
        choice=np.where(choice == models, UNANSWERED, choice).astype(np.int32),
        value=value,
        cost_usd=cost_usd,
        bound=bound,
        multiplier=float(price),
        tolls=None if tolls is None else tolls[:models],
        status=status,
        seconds=seconds,
        solver=solver,
        objective=objective,
    )
