"""A batch before anything is asked: read, checked, matched with its endpoints, estimated, and its worst cases known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float

from jaxroute.batch.answer_lines import BATCH, FIELDS, FURTHER
from jaxroute.batch.asked import Asked, read_asked, worst_cases
from jaxroute.batch.hard_budget import Batch
from jaxroute.batch.run_config import RunConfig
from jaxroute.data.estimates import Estimates, Estimator, check_models
from jaxroute.data.prices import Price
from jaxroute.data.prompts import Prompts, read_prompts
from jaxroute.data.table import Queries
from jaxroute.endpoints import Endpoint, load_models, read_keys
from jaxroute.endpoints.money import enough
from jaxroute.errors import EndpointError, TableError, counted, listed
from jaxroute.guarantees.safe_choice import unknown_words, with_safe_choice
from jaxroute.routing.request import capacity_of, naming_models
from jaxroute.routing.router import Router, promise_notes
from jaxroute.storage.files import check_file
from solvers import Problem


@dataclass(frozen=True, eq=False)
class Prepared:
    """A batch that was checked and estimated; nothing has been asked yet."""

    config: RunConfig
    prompts: Prompts
    asked: list[Asked]
    endpoints: dict[str, Endpoint]
    """The models that are asked, in the order of the checkpoint."""
    estimates: Estimates
    batch: Batch
    reasons: dict[int, str]
    """Why no model can answer these rows."""
    notes: list[str] = field(default_factory=list)
    """What a user should know before anything is asked."""


def prepare(config: RunConfig) -> Prepared:
    """Read, check and estimate everything. Raises a `JaxrouteError` for wrong input; nothing is asked, written or paid."""
    for path in (config.output, config.state):
        for source in (config.prompts, config.models):
            check_file("output", path, source=source)
    listed_models = load_models(config.models)
    prompts = read_prompts(config.prompts)
    asked = read_asked(config.prompts, prompts, batch=config.options.format == BATCH)
    router = Router.load(config.checkpoint, encoder=config.encoder)
    endpoints, notes = _matched(config, router.models, listed_models)
    if config.options.promise:
        endpoints = _promised_endpoints(config, router.promise.models, endpoints)
    read_keys(endpoints.values())
    worst, available, reasons = worst_cases(asked, endpoints, config.options.output_tokens)
    capacity = None
    if config.options.capacity:
        capacity = capacity_of(config.options.capacity, list(endpoints), len(asked))
        rows = available.any(axis=1)
        if rows.any():
            with naming_models(list(endpoints), int(rows.sum())):
                Problem(np.zeros((int(rows.sum()), len(endpoints))), worst[rows], available=available[rows], capacity=capacity)
    taken = {name for fields in prompts.fields for name in (*FIELDS, *FURTHER) if name in fields}
    if taken and config.options.format != BATCH:
        notes.append(f"the output has the answers' own {listed(sorted(taken))} in place of the rows': rename them to keep them")
    notes += _budget_notes(config, np.where(available, worst, np.inf).min(axis=1), reasons)
    estimates = _estimates(router.estimator, prompts.queries, endpoints, notes)
    if config.options.promise:
        # A promise says who answers prompts of all kinds.
        available = available & _promised(router, prompts.queries, config.budget_usd, estimates, notes)
    else:
        below = config.options.unknown_below
        estimates, unknown = with_safe_choice(estimates, below)
        if unknown:
            notes.append(unknown_words(unknown, len(asked), below))
    expected = np.minimum(estimates.cost_usd, np.where(available, worst, np.inf))
    batch = Batch(estimates.quality, expected, worst, available, capacity)
    return Prepared(config, prompts, asked, endpoints, estimates, batch, reasons, notes)


def _matched(config: RunConfig, known: list[str], endpoints: dict[str, Endpoint]) -> tuple[dict[str, Endpoint], list[str]]:
    """The endpoints of the models that are asked, in the order of the checkpoint."""
    both = [model for model in known if model in endpoints]
    if not both:
        raise EndpointError(
            f"models={str(config.models)!r} names none of the checkpoint's models: it has {listed(endpoints)}; the checkpoint "
            f"knows {listed(known)}: give the same names"
        )
    if config.options.only is not None and (wrong := [model for model in config.options.only if model not in both]):
        raise EndpointError(
            f"only={listed(wrong)}: not among the models that both the checkpoint and models.yaml know: {listed(both)}"
        )
    chosen = [model for model in both if model in (config.options.only or both)]
    check_models(config.options.only, both)
    notes = []
    if config.options.only is None and (lacking := [model for model in known if model not in endpoints]):
        notes.append(f"not in {config.models}, so not asked: {listed(lacking)}")
    if further := [model for model in endpoints if model not in known]:
        notes.append(f"unknown to the checkpoint, so not asked: {listed(further)}")
    return {model: endpoints[model] for model in chosen}, notes


def _promised_endpoints(config: RunConfig, promised: list[str], endpoints: dict[str, Endpoint]) -> dict[str, Endpoint]:
    if lacking := [model for model in promised if model not in endpoints]:
        raise EndpointError(
            f"models={str(config.models)!r} lacks {listed(lacking)}, which the promise routes to: add them, or make the "
            "promise with --models"
        )
    return {model: endpoints[model] for model in promised}


def _promised(
    router: Router, queries: Queries, budget_usd: float, estimates: Estimates, notes: list[str]
) -> Bool[np.ndarray, "queries models"]:
    """The promised model of every prompt. It was chosen at the checkpoint's own costs, and so it is here."""
    cost, assumption = router.estimator.expected_cost_usd(queries)
    columns = [router.models.index(model) for model in router.promise.models]
    as_promised = replace(estimates, cost_usd=cost[:, columns], assumption=assumption)
    choice = router.promise.choices(as_promised, queries.domains)
    notes += promise_notes(router.promise, as_promised, choice, queries.domains)
    expected = float(estimates.cost_usd[np.arange(len(choice)), choice].sum())
    if expected > budget_usd:
        notes.append(
            f"as was promised, these prompts are expected to cost {expected:.6g} dollars, more than the budget of "
            f"{budget_usd:g}: some will stay unanswered, and nothing is promised of those that are answered"
        )
    only = np.zeros(estimates.quality.shape, bool)
    only[np.arange(len(choice)), choice] = True
    return only


def _budget_notes(config: RunConfig, lowest: Float[np.ndarray, " queries"], reasons: dict[int, str]) -> list[str]:
    """Raises `TableError` where not one call fits into the budget."""
    some = lowest[np.isfinite(lowest)]
    notes = []
    if reasons:
        row, why = next(iter(reasons.items()))
        notes.append(f"no model can answer {counted(len(reasons), 'prompt')}, the first of them row {row + 1}: {why}")
    if not len(some):
        raise EndpointError(f"no model can answer any of the prompts: {next(iter(reasons.values()))}")
    if some.min() > config.budget_usd and not config.state.exists():
        raise TableError(
            f"budget_usd={config.budget_usd:g} is below the worst case of any call: give at least {enough(some.min())}, "
            "or lower output_tokens"
        )
    if some.sum() > config.budget_usd:
        notes.append(
            f"the cheapest worst cases of all prompts add up to {some.sum():.6g} dollars, more than the budget: answers "
            "usually cost far less, but some prompts may stay unanswered"
        )
    return notes


def _estimates(estimator: Estimator, queries: Queries, endpoints: dict[str, Endpoint], notes: list[str]) -> Estimates:
    """Of the models that are asked, at the prices of models.yaml where the checkpoint counts tokens."""
    models = list(endpoints)
    prices = {name: Price(one.price.input, one.price.output) for name, one in endpoints.items()}
    try:
        estimator = estimator.priced(prices)
    except TableError:
        notes.append("expected costs are the checkpoint's own, not at the prices of models.yaml: it does not count tokens")
    estimates = estimator.estimate(queries).select(models)
    if np.isnan(estimates.cost_usd).any():
        raise TableError(f"{estimates.assumption}: train on outcomes of these models")
    local: Sequence[bool] = [endpoint.local for endpoint in endpoints.values()]
    return replace(estimates, cost_usd=np.where(local, 0.0, estimates.cost_usd))
