"""Router: load a checkpoint, route a batch within a budget."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxroute.data.prices import PriceList
from jaxroute.encoders import check_prompts
from jaxroute.errors import CheckpointError, TableError
from jaxroute.predictor.checkpoint import Checkpoint, load_checkpoint
from jaxroute.predictor.pricing import Pricing
from jaxroute.routers.base import RouterPredictor, TrainedRouter, is_router, load_router
from jaxroute.storage.files import replacing
from solvers import Assignment, InfeasibleProblem, InfeasibleValue, Problem, at_price, check_solver, solve


@dataclass(frozen=True)
class Routed:
    """An assignment with all it rests on; arrays are `(queries, models)` over `models`."""

    assignment: Assignment
    models: list[str]
    estimates: Float[np.ndarray, "queries models"]
    cost_usd: Float[np.ndarray, "queries models"]
    """Expected dollars, under `assumption`."""
    assumption: str
    cut: int
    """Prompts that were longer than the encoder reads."""


class Router:
    """A trained predictor, or another trained router, and its prices, ready for prompts."""

    def __init__(self, checkpoint: Checkpoint | TrainedRouter):
        self.predictor = RouterPredictor(checkpoint) if isinstance(checkpoint, TrainedRouter) else checkpoint.predictor
        self.pricing = checkpoint.pricing

    @classmethod
    def load(cls, checkpoint: Path | str, *, encoder: str | None = None) -> Router:
        """Read a folder that `jaxroute train` wrote; `encoder` names the encoder's place where it has moved.

        Raises `CheckpointError`.
        """
        if not is_router(Path(checkpoint)):
            return cls(load_checkpoint(checkpoint, encoder=encoder))
        if encoder is not None:
            raise CheckpointError(f"encoder={encoder!r}: the checkpoint {str(checkpoint)!r} is of another router: leave it out")
        return cls(load_router(checkpoint))

    @property
    def models(self) -> list[str]:
        return self.predictor.models

    def estimate(self, prompts: Sequence[str]) -> Float[np.ndarray, "queries models"]:
        """Estimated quality, in [0, 1], of every model's answer to every prompt; of other routers, what they rank models by."""
        check_prompts(prompts)
        return self.predictor.estimate(list(prompts)).values

    def route(
        self,
        prompts: Sequence[str],
        *,
        budget_usd: float | None = None,
        multiplier: float | None = None,
        solver: str = "lagrangian",
        models: Sequence[str] | None = None,
        prices: PriceList | None = None,
        output_tokens: float | None = None,
        available: Bool[np.ndarray, "queries models"] | None = None,
        capacity: Mapping[str, int] | None = None,
        minimum_quality: float | None = None,
        allow_unanswered: bool = False,
    ) -> Assignment:
        """Assign every prompt to a model; `choice` counts `models`, by default all of the router's.

        One of `budget_usd`, dollars for the whole batch; `minimum_quality`, the mean estimate that is to be reached at the
        least cost; or a fixed `multiplier` (quality per dollar, as an earlier assignment found it), with which every prompt is
        routed on its own. `prices` replaces those of the checkpoint and must name every model, `output_tokens` the expected
        length of an answer. `available` says which model may answer which prompt, `capacity` how many prompts a model
        takes, by name; with `allow_unanswered` prompts may be left out (-1). Raises `InfeasibleBudget` with the least budget
        that works, `InfeasibleProblem` with other limits that would.
        """
        return self.route_in_full(
            prompts,
            budget_usd=budget_usd,
            multiplier=multiplier,
            solver=solver,
            models=models,
            prices=prices,
            output_tokens=output_tokens,
            available=available,
            capacity=capacity,
            minimum_quality=minimum_quality,
            allow_unanswered=allow_unanswered,
        ).assignment

    def route_in_full(
        self,
        prompts: Sequence[str],
        *,
        budget_usd: float | None = None,
        multiplier: float | None = None,
        solver: str = "lagrangian",
        models: Sequence[str] | None = None,
        prices: PriceList | None = None,
        output_tokens: float | None = None,
        available: Bool[np.ndarray, "queries models"] | None = None,
        capacity: Mapping[str, int] | None = None,
        minimum_quality: float | None = None,
        allow_unanswered: bool = False,
    ) -> Routed:
        """`route` with the estimates, the expected costs and the assumption behind them."""
        asked = {"budget_usd": budget_usd, "minimum_quality": minimum_quality, "multiplier": multiplier}
        if sum(one is not None for one in asked.values()) != 1:
            raise TableError(f"{', '.join(f'{name}={one}' for name, one in asked.items())}: give exactly one of them")
        if minimum_quality is not None and not 0 <= minimum_quality <= 1:
            raise TableError(f"minimum_quality={minimum_quality} must be in [0, 1]")
        if multiplier is not None and (capacity is not None or allow_unanswered):
            raise TableError("a fixed multiplier routes every prompt on its own: it knows no capacity and answers everything")
        if output_tokens is not None and not output_tokens >= 0:
            raise TableError(f"output_tokens={output_tokens} must be >= 0")
        chosen = self._chosen(models)
        pricing = self._pricing(chosen, prices)
        check_prompts(prompts)
        prompts = list(prompts)
        tokens = self.predictor.count_tokens(prompts)
        cost, assumption = pricing.expected_cost_usd(tokens, output_tokens=output_tokens)
        limits: dict[str, Any] = {
            "available": available,
            "capacity": _by_model(capacity, chosen, len(prompts)),
            "allow_unanswered": allow_unanswered,
        }
        learned = pricing.head is not None and output_tokens is None
        if multiplier is None:
            # Limits that cannot work are refused before the encoder spends minutes on the prompts; a budget that is too
            # small only after that, where costs depend on what the encoder says.
            checked = max(budget_usd, float(cost.max(axis=1).sum())) if learned and budget_usd is not None else budget_usd
            check_solver(Problem(np.zeros_like(cost), cost, checked, **limits), solver)
        estimates = self.predictor.estimate(prompts)
        if learned:
            cost, assumption = pricing.expected_cost_usd(tokens, features=estimates.features)
        values = estimates.values[:, [self.models.index(model) for model in chosen]]
        if multiplier is not None:
            assigned = at_price(values, cost, multiplier, available=available)
        else:
            least = None if minimum_quality is None else minimum_quality * len(prompts)
            try:
                problem = Problem(values, cost, budget_usd, minimum_value=least, **limits)
            except InfeasibleValue as error:
                most = error.most_value / len(prompts)
                raise InfeasibleProblem(
                    f"minimum_quality={minimum_quality} is above the best mean estimate within the limits: "
                    f"give at most {most!r}"
                ) from error
            assigned = solve(problem, solver)
        return Routed(
            assignment=assigned,
            models=chosen,
            estimates=values,
            cost_usd=cost,
            assumption=assumption,
            cut=estimates.cut,
        )

    def _chosen(self, models: Sequence[str] | None) -> list[str]:
        chosen = self.models if models is None else list(models)
        unknown = [model for model in chosen if model not in self.models]
        if len(set(chosen)) != len(chosen):
            raise TableError(f"models={chosen}: name every model once")
        if unknown or not chosen:
            raise TableError(
                f"models={list(models or [])}: unknown {', '.join(unknown) or 'empty list'}; this checkpoint knows "
                f"{', '.join(self.models)}"
            )
        return chosen

    def _pricing(self, models: list[str], prices: PriceList | None) -> Pricing:
        if prices is not None and isinstance(self.predictor, RouterPredictor):
            raise TableError("prices are per token, and this router counts none: leave them out, and means are taken")
        pricing = self.pricing.select(models)
        return pricing if prices is None else replace(pricing, prices=prices)


def _by_model(capacity: Mapping[str, int] | None, models: list[str], queries: int) -> Int[np.ndarray, " models"] | None:
    """A count per model; those that are not named take everything."""
    if capacity is None:
        return None
    if unknown := [f"{model}={count}" for model, count in capacity.items() if model not in models]:
        raise TableError(f"capacity of unknown models: {', '.join(unknown)}; known are {', '.join(models)}")
    return np.array([capacity.get(model, queries) for model in models])


def write_assignment(
    path: Path,
    rows: list[dict],
    models: list[str],
    assignment: Assignment,
    estimates: Float[np.ndarray, "queries models"],
    cost_usd: Float[np.ndarray, "queries models"],
) -> None:
    """One JSON object per row: what it holds, with its `model`, `estimate` (quality) and `cost_usd` (expected) set."""
    # Half a surrogate pair in another field is written as the JSON escape that it came from.
    with replacing(path) as partial, partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for row, (given, column) in enumerate(zip(rows, assignment.choice, strict=True)):
            line = given | {
                "model": models[column] if column >= 0 else None,
                "estimate": round(float(estimates[row, column]), 6) if column >= 0 else None,
                "cost_usd": float(cost_usd[row, column]) if column >= 0 else 0.0,
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
