"""Estimates of the training rows, each by a router that was trained without it: calibration without further questions.

It is no theorem: the final router was trained on all of these rows, and every fold's is another one, trained on fewer.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from jaxroute.data.estimates import Estimates, Estimator
from jaxroute.data.table import RoutingTable
from jaxroute.errors import GuaranteeError, counted
from jaxroute.guarantees.asked import Asked
from jaxroute.guarantees.rows import Calibration, assembled, distinct_rows, routed_models
from jaxroute.predictor.config import TrainConfig
from jaxroute.predictor.fitting import fold_numbers, train_head
from jaxroute.predictor.predictor import Predictor
from jaxroute.routers.base import TrainedRouter

FOLDS = 5
AS_TRAINED = ("levels", "head", "penalties", "corrections", "clear", "domains", "folds", "seed")
"""Options of a predictor's training that are taken from its checkpoint."""


def out_of_fold_rows(
    estimator: Estimator, table: RoutingTable, asked: Asked, *, models: tuple[str, ...] = (), seed: int = 0
) -> Calibration:
    """The table's rows with estimates by the same kind of router, trained again without each part of them.

    Raises `GuaranteeError` where the estimator cannot be trained again from its checkpoint.
    """
    routed = routed_models(estimator, table, asked, models)
    if lacking := [model for model in estimator.models if model not in table.models]:
        raise GuaranteeError(
            f"--out-of-fold trains the router again: {table.name} has no outcomes of {', '.join(lacking)[:200]}"
        )
    kept, notes = distinct_rows(table)
    table = table.select(kept)
    if len(table) < 2 * FOLDS:
        raise GuaranteeError(f"{table.name}: {counted(len(table), 'row')} are too few for {FOLDS} folds")
    part = table.select(models=estimator.models)
    quality = (
        _predictor_quality(estimator, part) if isinstance(estimator, Predictor) else _router_quality(estimator, part, seed)
    )
    cost, assumption = estimator.expected_cost_usd(part.queries)
    place = {query: row for row, query in enumerate(table.query_ids)}
    columns = [estimator.models.index(model) for model in routed]

    def estimate(rows: RoutingTable) -> Estimates:
        cells = np.ix_([place[query] for query in rows.query_ids], columns)
        return Estimates(list(routed), quality[cells], cost[cells], assumption, np.zeros(len(rows), bool))

    return assembled(estimate, table, routed, asked, notes, seed=seed, held_out=False)


def _predictor_quality(predictor: Predictor, table: RoutingTable) -> np.ndarray:
    if predictor.encoder.trained is not None:
        raise GuaranteeError(
            "--out-of-fold: this predictor's encoder was trained too, which would take hours per fold; give rows of their own"
        )
    trained = dict(predictor.about.get("training", {}))
    known = {one.name for one in fields(TrainConfig)}
    options = {
        name: tuple(trained[name]) if isinstance(trained[name], list) else trained[name]
        for name in AS_TRAINED
        if name in trained and name in known
    }
    config = TrainConfig(**{**options, "features": predictor.features, "levels": predictor.levels})
    features = predictor.read(predictor.encoder, table.prompts, predictor.features).values
    return np.asarray(train_head(features, table, config)[1].held_out_estimates, np.float64)


def _router_quality(estimator: Estimator, table: RoutingTable, seed: int) -> np.ndarray:
    if not isinstance(estimator, TrainedRouter):
        raise GuaranteeError(f"--out-of-fold: a {type(estimator).__name__} cannot be trained again; give rows of their own")
    fold = fold_numbers(table, FOLDS, seed=seed)
    quality = np.empty((len(table), len(table.models)))
    for one in range(FOLDS):
        held_out = np.flatnonzero(fold == one)
        if len(held_out):
            fitted = estimator.kind.fit(table.select(np.flatnonzero(fold != one)), costs=estimator.costs)
            quality[held_out] = fitted.estimate(table.select(held_out).queries).quality
    return quality
