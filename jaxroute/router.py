"""Router: load a checkpoint, route a batch within a budget."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from jaxroute.checkpoint import Checkpoint, load_checkpoint
from jaxroute.encoders import check_prompts
from jaxroute.errors import TableError
from jaxroute.files import replacing
from jaxroute.prices import PriceList, Pricing
from solvers import Assignment, Problem, at_price, solve


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
    """A trained predictor and its prices, ready for prompts."""

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint = checkpoint
        self.predictor = checkpoint.predictor

    @classmethod
    def load(cls, checkpoint: Path | str, *, encoder: str | None = None) -> Router:
        """Read a checkpoint folder; `encoder` names the encoder's place where it has moved. Raises `CheckpointError`."""
        return cls(load_checkpoint(checkpoint, encoder=encoder))

    @property
    def models(self) -> list[str]:
        return self.predictor.models

    def estimate(self, prompts: Sequence[str]) -> Float[np.ndarray, "queries models"]:
        """Estimated quality, in [0, 1], of every model's answer to every prompt."""
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
    ) -> Assignment:
        """Assign every prompt to a model; `choice` counts `models`, by default all of the router's.

        Either `budget_usd`, dollars for the whole batch, or a fixed `multiplier` (quality per dollar, as an earlier
        assignment found it), with which every prompt is routed on its own. `prices` replaces those of the checkpoint
        and must name every model, `output_tokens` the expected length of an answer. Raises `InfeasibleBudget` with the least
        budget that works.
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
    ) -> Routed:
        """`route` with the estimates, the expected costs and the assumption behind them."""
        if (budget_usd is None) == (multiplier is None):
            raise TableError(f"budget_usd={budget_usd} and multiplier={multiplier}: give exactly one of them")
        if output_tokens is not None and not output_tokens >= 0:
            raise TableError(f"output_tokens={output_tokens} must be >= 0")
        chosen = self._chosen(models)
        pricing = self._pricing(chosen, prices)
        check_prompts(prompts)
        prompts = list(prompts)
        tokens = self.predictor.encoder.count_tokens(prompts)
        cost, assumption = pricing.expected_cost_usd(tokens, output_tokens=output_tokens)
        if budget_usd is not None:
            # A budget that cannot work is refused before the encoder spends minutes on the prompts.
            Problem(np.zeros_like(cost), cost, budget_usd, available=available)
        estimates = self.predictor.estimate(prompts)
        values = estimates.values[:, [self.models.index(model) for model in chosen]]
        if multiplier is not None:
            assigned = at_price(values, cost, multiplier, available=available)
        else:
            assert budget_usd is not None
            assigned = solve(Problem(values, cost, budget_usd, available=available), solver)
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
        pricing = self.checkpoint.pricing.select(models)
        return pricing if prices is None else replace(pricing, prices=prices)


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
