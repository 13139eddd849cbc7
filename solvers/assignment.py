"""Assignment: what every solver returns; one model per query, and a proof of how near to the best it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from solvers.dual import PROVED
from solvers.errors import ProblemError
from solvers.on_demand import when_read
from solvers.problem import UNANSWERED, Problem
from solvers.proof import Proof, negated
from solvers.sums import exact_sum


@when_read("bound", "multiplier")
@dataclass(frozen=True, eq=False)
class Assignment(Proof):
    """One model per query, its value and cost, and a proof of how far from the best it can be.

    Value, cost and bound are computed in float64; value and cost are exact sums (`math.fsum`) over the queries. Where a solver
    needs no bound to find its choices, `bound` and `multiplier` are computed when they are first read, from the arrays of the
    `Problem`, which must still be the same: where the choices are no longer worth what they were, `ProblemError` says so.
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
    rounding: float = 0.0
    """A gap that rounding alone explains, in the unit of `bound`."""

    @property
    def unanswered(self) -> int:
        """How many queries are left without a model."""
        return int((self.choice == UNANSWERED).sum())

    def changed(self, **changes: Any) -> Assignment:
        """A copy with other fields, as by `dataclasses.replace`, which would compute a bound that nobody has asked for."""
        return Assignment(**(vars(self) | changes))

    def __str__(self) -> str:
        lost = f", {self.unanswered} unanswered" if self.unanswered else ""
        reason = f" ({self.reason})" if self.reason else ""
        return (
            f"{self.solver}{reason}: value {self.value:.6g} for {self.cost_usd:.6g} dollars on {len(self.choice):,} "
            f"queries{lost}; {self.proof}; {self.seconds:.3g} s"
        )


WhenRead = float | Callable[[], float]


def proved(
    problem: Problem,
    choice: Int[np.ndarray, " queries"],
    *,
    totals: tuple[float, float] | None = None,
    bound: WhenRead,
    multiplier: WhenRead,
    tolls: Float[np.ndarray, " choices"] | None = None,
    status: str,
    seconds: float,
    solver: str,
) -> Assignment:
    """The Assignment of `choice`, which holds columns of `problem.choices` or UNANSWERED, with exact sums.

    `totals` (value and cost, summed exactly, where they are known), `bound` and `multiplier` are those of the standard form,
    which maximises: with a minimum value, minus the dollars. Bound and multiplier may be calls, which are made when these
    fields are read.
    """
    value, cost_usd = totals or problem.totals(choice)
    minimised = problem.minimum_value is not None
    models = problem.value.shape[1]
    unchanged = partial(_check_unchanged, problem, choice, (value, cost_usd))
    found: dict[str, Any] = {
        "bound": _later(unchanged, partial(_bound, value, minimised), bound),
        "multiplier": _later(unchanged, partial(_multiplier, minimised), multiplier),
    }
    return Assignment(
        choice=np.where(choice == models, UNANSWERED, choice).astype(np.int32),
        value=negated(cost_usd) if minimised else value,
        cost_usd=negated(value) if minimised else cost_usd,
        tolls=None if tolls is None else tolls[:models],
        status=status,
        seconds=seconds,
        solver=solver,
        objective="cost_usd" if minimised else "value",
        rounding=2 * PROVED * problem.magnitude,
        **found,
    )


def _later(check: Callable[[], None], convert: Callable[[float], float], number: WhenRead) -> WhenRead:
    """The converted number, or a call that checks, computes and converts it."""
    if not callable(number):
        return convert(number)

    def compute() -> float:
        check()
        return float(convert(number()))

    return compute


def _check_unchanged(problem: Problem, choice: Int[np.ndarray, " queries"], totals: tuple[float, float]) -> None:
    """Raise `ProblemError` where an array of the problem was changed since its choices were summed."""
    answered = choice != UNANSWERED
    found = tuple(exact_sum(cells[answered]) for cells in problem.picked(np.where(answered, choice, 0)))
    if found != totals:
        raise ProblemError(
            "the arrays of the problem were changed before its bound was read: read the bound first, or pass copies"
        )


def _bound(value: float, minimised: bool, bound: float) -> float:
    """A bound is not below what was found, for rounding; with a minimum value it is one of dollars."""
    bound = float(max(bound, value))
    return negated(bound) if minimised else bound


def _multiplier(minimised: bool, multiplier: float) -> float:
    """Value per dollar: the standard form's multiplier is dollars per value where the cost is minimised."""
    if not minimised:
        return float(multiplier)
    return 1 / multiplier if multiplier else math.inf
