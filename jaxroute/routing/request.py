"""RouteRequest: what may be asked of a batch, once for Python, the command line and servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from jaxtyping import Bool, Int
from tyro.constructors import PrimitiveConstructorSpec

from jaxroute.data.prices import PriceList, load_prices, priced
from jaxroute.errors import TableError, listed


def read_capacity(listed: Sequence[str]) -> dict[str, int]:
    """MODEL=COUNT as typed on a command line. Raises `TableError` for one that is not."""
    capacity: dict[str, int] = {}
    for one in listed:
        model, _, count = one.rpartition("=")
        if not model or not count.isdigit() or model in capacity:
            raise TableError(f"capacity={one!r} must be MODEL=COUNT, once for any model")
        capacity[model] = int(count)
    return capacity


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
    solver: Literal["auto", "lagrangian", "exact", "greedy_ratio"] | str = "lagrangian"
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
    available: Annotated[Bool[np.ndarray, "queries models"] | None, tyro.conf.Suppress] = None
    """Which model may answer which prompt, `(queries, models)`; default: every model every prompt."""

    def __post_init__(self) -> None:
        if self.models is not None:
            object.__setattr__(self, "models", tuple(self.models))
        asked = {name: getattr(self, name) for name in ("budget_usd", "minimum_quality", "multiplier")}
        problems = []
        if sum(one is not None for one in asked.values()) != 1:
            problems.append(f"{', '.join(f'{name}={one}' for name, one in asked.items())}: give exactly one of them")
        if self.minimum_quality is not None and not 0 <= self.minimum_quality <= 1:
            problems.append(f"minimum_quality={self.minimum_quality} must be in [0, 1]")
        if self.multiplier is not None and (self.capacity is not None or self.allow_unanswered):
            problems.append("a fixed multiplier routes every prompt on its own: it knows no capacity and answers everything")
        if self.output_tokens is not None and not self.output_tokens >= 0:
            problems.append(f"output_tokens={self.output_tokens} must be >= 0")
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
        if not self.capacity:
            return None
        if unknown := [f"{model}={count}" for model, count in self.capacity.items() if model not in models]:
            raise TableError(f"capacity of unknown models: {listed(unknown)}; known are {listed(models)}")
        return np.array([self.capacity.get(model, queries) for model in models])
