"""Router: an estimator ready for prompts, which assigns a batch within a budget or one prompt at a price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxroute.data.estimates import Estimates, Estimator, as_queries, check_models
from jaxroute.data.table import Queries
from jaxroute.encoders import check_prompts
from jaxroute.errors import GuaranteeError, TableError
from jaxroute.guarantees.promise import Promise
from jaxroute.guarantees.promise_files import read_promise
from jaxroute.guarantees.safe_choice import with_safe_choice
from jaxroute.predictor.checkpoint import Checkpoint
from jaxroute.routers.base import load
from jaxroute.routing.request import RouteRequest, naming_models
from solvers import Assignment, InfeasibleProblem, InfeasibleValue, Problem, at_price, check_solver, solve


class Router:
    """An estimator with a solver behind it. `Router.load` reads what `jaxroute train` wrote."""

    def __init__(self, estimator: Estimator | Checkpoint, *, folder: Path | None = None):
        self.folder = folder
        if isinstance(estimator, Checkpoint):
            estimator = replace(estimator.predictor, pricing=estimator.pricing, about=estimator.about)
        self.estimator = estimator

    @classmethod
    def load(cls, checkpoint: Path | str, *, encoder: str | None = None) -> Router:
        """Read a folder that `jaxroute train` wrote; `encoder` names the encoder's place where it has moved.

        Raises `CheckpointError`.
        """
        return cls(load(checkpoint, encoder=encoder), folder=Path(checkpoint))

    @property
    def models(self) -> list[str]:
        return self.estimator.models

    @cached_property
    def promise(self) -> Promise:
        """What `jaxroute guarantee` has promised of it. Raises `GuaranteeError` where it has promised nothing."""
        if self.folder is None:
            raise GuaranteeError("this router was not read from a checkpoint, so nothing is promised of it: use Router.load")
        return read_promise(self.folder)

    def estimate(self, prompts: Queries | Sequence[str]) -> Float[np.ndarray, "queries models"]:
        """Estimated quality, in [0, 1], of every model's answer to every prompt; of other routers, what they rank models by."""
        check_prompts(prompts.prompts if isinstance(prompts, Queries) else prompts)
        return self.estimator.estimate(as_queries(prompts)).quality

    def route(self, prompts: Queries | Sequence[str], request: RouteRequest | None = None, /, **parameters: Any) -> Assignment:
        """Assign every prompt to a model; `choice` counts `models`, by default all of the router's.

        `parameters` are the fields of `RouteRequest`, as in `route(prompts, budget_usd=1.5, solver="exact")`: one of
        `budget_usd`, `minimum_quality`, `multiplier` and `guarantee`, and `solver`, `models`, `prices`, `output_tokens`,
        `available`, `capacity`, `allow_unanswered`. Raises `InfeasibleBudget` with the least budget that works,
        `InfeasibleProblem` with other limits that would, `TableError` for a request that contradicts itself, `GuaranteeError`
        where nothing was promised.
        """
        return self.route_in_full(prompts, request, **parameters).assignment

    def route_in_full(
        self, prompts: Queries | Sequence[str], request: RouteRequest | None = None, /, **parameters: Any
    ) -> Routed:
        """`route` with the estimates, the expected costs and the assumption behind them."""
        request = replace(request, **parameters) if request else RouteRequest(**parameters)
        check_prompts(prompts.prompts if isinstance(prompts, Queries) else prompts)
        queries = as_queries(prompts)
        if request.guarantee:
            return _promised(self.promise, self.estimator, queries, request.budget_usd)
        models = check_models(request.models, self.models)
        estimator = self._estimator(models, request)
        _check_before_estimating(estimator, queries, models, request)
        estimates = estimator.estimate(queries).select(models)
        if np.isnan(estimates.cost_usd).any():
            raise TableError(
                f"{estimates.assumption}: train on outcomes of these models, or assign the estimates at costs of your own with "
                "`solvers.solve`"
            )
        estimates, unknown = with_safe_choice(estimates, request.unknown_below)
        return Routed(_assigned(estimates, request), estimates, unknown=unknown)

    def _estimator(self, models: list[str], request: RouteRequest) -> Estimator:
        if request.prices is None and request.output_tokens is None:
            return self.estimator
        return self.estimator.priced(request.price_list(models), output_tokens=request.output_tokens)


@dataclass(frozen=True)
class Routed:
    """An assignment with all it rests on."""

    assignment: Assignment
    estimates: Estimates
    """Of the models that were asked: `choice` counts their columns. As they were assigned: the models' means on prompts that
    took the safe choice."""
    notes: tuple[str, ...] = ()
    """Of a promise: what holds, and whether these prompts are like those that it is about."""
    unknown: int = 0
    """Prompts that are unlike the training prompts and took the safe choice (`guarantees.safe_choice`)."""

    @property
    def models(self) -> list[str]:
        return self.estimates.models

    @property
    def cost_usd(self) -> Float[np.ndarray, "queries models"]:
        """Expected dollars, under `assumption`."""
        return self.estimates.cost_usd

    @property
    def assumption(self) -> str:
        return self.estimates.assumption

    @property
    def cut(self) -> int:
        """Prompts that were longer than the encoder reads."""
        return int(self.estimates.cut.sum())


def _promised(promise: Promise, estimator: Estimator, queries: Queries, budget_usd: float | None) -> Routed:
    """Every prompt as was promised. Raises `GuaranteeError` where that is expected to cost more than the budget."""
    estimates = estimator.estimate(queries).select(promise.models)
    choice = promise.choices(estimates, queries.domains)
    only = np.zeros(estimates.quality.shape, bool)
    only[np.arange(len(choice)), choice] = True
    assignment = at_price(estimates.quality, estimates.cost_usd, 0.0, available=only)
    assignment = assignment.changed(solver="as promised")
    if not promise.asked.per_domain:
        assignment = assignment.changed(multiplier=promise.multiplier)
    if budget_usd is not None and assignment.cost_usd > budget_usd:
        raise GuaranteeError(
            f"budget_usd={budget_usd:g} does not reach: as was promised, these {len(choice):,} prompts are expected to cost "
            f"{assignment.cost_usd:.6g} dollars; give as much, or route within the budget without --guarantee"
        )
    return Routed(assignment, estimates, tuple(promise_notes(promise, estimates, choice, queries.domains)))


def promise_notes(promise: Promise, estimates: Estimates, choice: np.ndarray, domains: list[str]) -> list[str]:
    """What was promised, and which of these prompts it does not cover."""
    notes = [str(promise)]
    if outside := promise.uncovered(domains):
        notes.append(f"{outside:,} of {len(domains):,} prompts are of domains of which nothing is promised")
    if unlike := promise.unlike(estimates, choice):
        notes.append(unlike)
    return notes


def _check_before_estimating(estimator: Estimator, queries: Queries, models: list[str], request: RouteRequest) -> None:
    """Reject limits that cannot work before the encoder spends minutes on the prompts.

    A budget that is too small is found here where costs do not depend on what the encoder says, else after it.
    """
    if request.multiplier is not None:
        return
    columns = [estimator.models.index(model) for model in models]
    budget, cost = request.budget_usd, np.zeros((len(queries), len(models)))
    if estimator.knows_costs:
        cost = estimator.expected_cost_usd(queries)[0][:, columns]
    with naming_models(models, len(queries)):
        problem = Problem(np.zeros_like(cost), np.nan_to_num(cost), budget, **request.limits(models, len(queries)))
    check_solver(problem, request.solver)


def _assigned(estimates: Estimates, request: RouteRequest) -> Assignment:
    quality, cost = estimates.quality, estimates.cost_usd
    if request.multiplier is not None:
        return at_price(quality, cost, request.multiplier, available=request.available)
    least = None if request.minimum_quality is None else request.minimum_quality * len(quality)
    limits = request.limits(estimates.models, len(quality))
    try:
        with naming_models(estimates.models, len(quality)):
            problem = Problem(quality, cost, request.budget_usd, minimum_value=least, **limits)
    except InfeasibleValue as error:
        most = error.most_value / len(quality)
        raise InfeasibleProblem(
            f"minimum_quality={request.minimum_quality} is above the best mean estimate within the limits: "
            f"give at most {most!r}"
        ) from error
    return solve(problem, request.solver)
