"""RouteRequest: what may be asked of a batch, once for Python, the command line and servers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from jaxtyping import Bool, Int
from tyro.constructors import PrimitiveConstructorSpec

from jaxroute.data.prices import PriceList, load_prices, priced
from jaxroute.errors import TableError, listed, shortened
from jaxroute.guarantees.safe_choice import UNKNOWN_BELOW
from solvers import InfeasibleCapacity, InfeasibleProblem

DEFAULT_SOLVER = "lagrangian"
MOST_DIGITS = 15
"""Of a count that a command line takes."""


def read_capacity(listed: Sequence[str]) -> dict[str, int]:
    """MODEL=COUNT as typed on a command line. Raises `TableError` for one that is not."""
    capacity: dict[str, int] = {}
    for one in listed:
        model, _, count = one.rpartition("=")
        if not model or not (count.isascii() and count.isdigit()) or len(count) > MOST_DIGITS or model in capacity:
            raise TableError(
                f"capacity={shortened(one)} must be MODEL=COUNT, a whole number of at most {MOST_DIGITS} digits, once for any "
                "model"
            )
        capacity[model] = int(count)
    return capacity


def capacity_of(capacity: Mapping[str, int], models: Sequence[str], queries: int) -> Int[np.ndarray, " models"]:
    """A count per model; those that are not named take all queries. Raises `TableError` for an unknown model."""
    if unknown := [f"{model}={count}" for model, count in capacity.items() if model not in models]:
        raise TableError(f"capacity of unknown models: {listed(unknown)}; known are {listed(models)}")
    # More than all queries is all queries; what is no count is rejected by name where the problem is built.
    counts = [capacity.get(model, queries) for model in models]
    return np.array([min(count, queries) if isinstance(count, int) else count for count in counts])


@contextmanager
def naming_models(models: Sequence[str], queries: int) -> Iterator[None]:
    """Solvers count models; what they say of capacities is said with the models' names."""
    try:
        yield
    except InfeasibleCapacity as error:
        pairs = zip(models, error.capacity, error.enough_capacity, strict=True)
        raised = [f"{model}={enough}" for model, given, enough in pairs if enough != given]
        given = listed(f"{model}={count}" for model, count in zip(models, error.capacity, strict=True))
        because = f"; {error.crowded.described(models)}" if error.crowded else ""
        raise InfeasibleProblem(
            f"capacity {given} leaves {error.left_over} of {queries} queries without a place{because}: capacity "
            f"{listed(raised)} would do, or allow unanswered queries"
        ) from error


CAPACITY = PrimitiveConstructorSpec[Any](
    nargs="*",
    metavar="MODEL=COUNT",
    instance_from_str=read_capacity,
    is_instance=lambda value: value is None or isinstance(value, Mapping),
    str_from_instance=lambda value: [f"{model}={count}" for model, count in (value or {}).items()],
)
PRICES = PrimitiveConstructorSpec[Any](
    nargs=1,
    metavar="FILE",
    instance_from_str=lambda given: Path(given[0]),
    is_instance=lambda value: value is None or isinstance(value, Mapping | Path),
    str_from_instance=lambda value: [str(value)],
)


@dataclass(frozen=True)
class RouteRequest:
    """How prompts are to be assigned: a budget, a quality or a price, and limits."""

    budget_usd: float | None = None
    """Dollars for all prompts together."""
    minimum_quality: float | None = None
    """Instead of a budget: the mean estimated quality to reach, in [0, 1], at the least cost."""
    multiplier: float | None = None
    """Instead of either: quality per dollar, as an earlier assignment found it; every prompt is then routed on its own."""
    guarantee: bool = False
    """Instead of either: route as the checkpoint's promise says, which `jaxroute guarantee` has made, every prompt on its own.
    With a budget, that is rejected where the budget does not reach for it."""
    solver: Literal["auto", "lagrangian", "exact", "greedy_ratio"] | str = DEFAULT_SOLVER
    """How to assign: auto, lagrangian, exact or greedy_ratio."""
    models: tuple[str, ...] | None = None
    """Only these models, in this order; default: all that the checkpoint knows."""
    capacity: Annotated[Mapping[str, int] | None, CAPACITY] = None
    """MODEL=COUNT for every model that takes only so many prompts; others take all."""
    allow_unanswered: bool = False
    """Leave prompts without an answer (-1, on files null) where the budget or the capacities do not reach."""
    prices: Annotated[PriceList | Path | None, PRICES] = None
    """A price list, or its file, in place of the checkpoint's, dollars per million tokens; it must name every model that is
    asked."""
    output_tokens: float | None = None
    """Expected tokens of an answer, of every model and to every prompt; default: what training learnt of them."""
    unknown_below: float = UNKNOWN_BELOW
    """A prompt unlike all training prompts goes to the model that is best on the whole at the price: one whose p-value is under
    this, which holds for at most this share of prompts like the training prompts. 0: none does."""
    available: Annotated[Bool[np.ndarray, "queries models"] | None, tyro.conf.Suppress] = None
    """Which model may answer which prompt, `(queries, models)`; default: every model every prompt."""

    def __post_init__(self) -> None:
        if self.models is not None and not isinstance(self.models, str):
            object.__setattr__(self, "models", tuple(self.models))
        asked = {name: getattr(self, name) for name in ("budget_usd", "minimum_quality", "multiplier")}
        problems = []
        if not self.guarantee and sum(one is not None for one in asked.values()) != 1:
            problems.append(f"{', '.join(f'{name}={one}' for name, one in asked.items())}: give exactly one of them")
        others = ("minimum_quality", "multiplier", "models", "capacity", "prices", "output_tokens", "available")
        if self.guarantee and (given := [name for name in others if getattr(self, name) is not None]):
            problems.append(f"guarantee routes as was promised, which leaves no choice of {', '.join(given)}: leave them out")
        if self.guarantee and (self.allow_unanswered or self.solver != DEFAULT_SOLVER):
            problems.append("guarantee answers every prompt at the promised price: leave solver and allow_unanswered out")
        if self.models is not None and (isinstance(self.models, str) or not self.models):
            problems.append(f"models={shortened(self.models)} must be a list of at least one name, or left out for all")
        if self.multiplier is not None and not 0 <= self.multiplier < math.inf:
            problems.append(f"multiplier={self.multiplier} must be finite and >= 0, quality per dollar")
        if self.multiplier is not None and self.solver != DEFAULT_SOLVER:
            problems.append(
                f"solver={shortened(self.solver)} assigns within a budget: a fixed multiplier needs none, leave it out"
            )
        if self.minimum_quality is not None and not 0 <= self.minimum_quality <= 1:
            problems.append(f"minimum_quality={self.minimum_quality} must be in [0, 1]")
        if self.multiplier is not None and (self.capacity is not None or self.allow_unanswered):
            problems.append("a fixed multiplier routes every prompt on its own: it knows no capacity and answers everything")
        if self.output_tokens is not None and not self.output_tokens >= 0:
            problems.append(f"output_tokens={self.output_tokens} must be >= 0")
        if not 0 <= self.unknown_below < 1:
            problems.append(f"unknown_below={self.unknown_below} must be from 0 (off) to below 1")
        if problems:
            raise TableError("; ".join(problems))

    def price_list(self, models: Sequence[str]) -> PriceList | None:
        """The prices of these models; raises `TableError` naming those that have none."""
        if isinstance(self.prices, Path):
            return load_prices(self.prices, models)
        if self.prices is not None:
            priced(self.prices, models)
        return self.prices

    def limits(self, models: Sequence[str], queries: int) -> dict[str, Any]:
        """The keyword arguments of `Problem` that are not about money; raises `TableError` for an unknown model."""
        return {
            "available": self.available,
            "capacity": self._capacity(models, queries),
            "allow_unanswered": self.allow_unanswered,
        }

    def _capacity(self, models: Sequence[str], queries: int) -> Int[np.ndarray, " models"] | None:
        """A count per model; those that are not named take everything."""
        return capacity_of(self.capacity, models, queries) if self.capacity else None
