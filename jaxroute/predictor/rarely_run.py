"""Models with far fewer outcomes than the others: their rows lean on a head that is trained without them.

In one fit for all, penalties suit the models that have most of the outcomes: what is learnt of a model with 50 of them is
noise, or nothing. So a model is rarely run if it has fewer than `MOST` outcomes and at least three models have four times as
many; the others are trained as if it were not there, and its row is fitted against theirs as `extending.py` does it. The
result is that of training without the model and adding it afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from jaxroute.data.table import RoutingTable
from jaxroute.predictor.domain_effects import domain_numbers
from jaxroute.predictor.heads import Head, level_targets
from jaxroute.predictor.new_models import NewRow
from jaxroute.predictor.new_rows import Base
from jaxroute.predictor.pool_questions import FEW, PoolQuestions
from jaxroute.predictor.predictor import head_estimates
from jaxroute.predictor.regression import cell_losses
from jaxroute.predictor.softmax import expected_quality

MOST = 400
"""A model with as many outcomes is as well served by one fit for all."""
TIMES = 4
"""So many times as many outcomes have those that it leans on."""
LEAST = 200
"""Outcomes of a model that others may lean on."""


def rarely_run(quality: Float[np.ndarray, "queries models"]) -> Int[np.ndarray, " rare"]:
    """Columns of the models that are to lean on the others; none where all have about as many outcomes."""
    counts = (~np.isnan(quality)).sum(axis=0)
    if len(counts) <= FEW:
        return np.zeros(0, int)
    many = np.sort(counts)[-FEW]
    return np.flatnonzero((counts < MOST) & (TIMES * counts <= many) & (many >= LEAST))


@dataclass(frozen=True)
class Leaning:
    """The head with the rows of rarely run models, and what each query is estimated by a fit that did not see it."""

    head: Head
    rows: dict[str, NewRow]
    shared: Float[np.ndarray, "queries levels"]
    estimates: Float[np.ndarray, "queries models"]
    losses: Float[np.ndarray, "queries rare"]
    """Of the estimates of rarely run models, in nats; 0 where there is no outcome."""


def with_rarely_run(
    features: Float[np.ndarray, "queries features"],
    table: RoutingTable,
    rare: Sequence[str],
    fold: Int[np.ndarray, " queries"],
    *,
    head: Head,
    domains: Sequence[str],
    pool: PoolQuestions | None,
    held_out: Float[np.ndarray, "queries known"],
) -> Leaning:
    """`head`, `domains`, `pool` and `held_out` are those of the other models, in the table's order; NaN where not estimated."""
    known = [model for model in table.models if model not in rare]
    cost = dict(zip(table.models, table.mean_cost_usd(), strict=True))
    columns = [table.models.index(model) for model in known]
    base = Base.of(head, range(len(known)), np.array([cost[model] for model in known]), pool)
    domain = domain_numbers(table.domains, domains)
    questions = base.questions(features, domain, table.prompt_numbers, table.quality[:, columns])
    estimates = np.empty(table.quality.shape)
    estimates[:, columns] = np.where(np.isnan(held_out), head_estimates(head, features, domain=domain), held_out)
    rows, losses = {}, np.zeros((len(table), len(rare)))
    for place, model in enumerate(rare):
        column = table.models.index(model)
        quality = table.quality[:, column]
        rows[model] = base.fitted(questions, quality, cost[model])
        target = level_targets(quality[:, None], base.levels)[:, 0].astype(np.float64)
        for part in np.unique(fold):
            out = fold == part
            row = base.fitted(questions, np.where(out, np.nan, quality), cost[model])
            logits = base.logits(questions, row)[out]
            estimates[out, column] = expected_quality(logits)
            losses[out, place] = cell_losses(logits, target[out], (~np.isnan(quality[out])).astype(float))
    order = [rows[model] if model in rows else known.index(model) for model in table.models]
    return Leaning(base.head_with(order), rows, questions.shared, estimates, losses)
