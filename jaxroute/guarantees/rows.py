"""Calibration rows: outcomes on prompts that an estimator was not trained on, with its estimates of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from jaxroute.data.estimates import Estimates, Estimator, check_models
from jaxroute.data.table import RoutingTable, text_key
from jaxroute.errors import GuaranteeError, counted, listed
from jaxroute.guarantees.asked import Asked
from jaxroute.guarantees.claims import Outcomes, any_nan


@dataclass(frozen=True, eq=False)
class Calibration:
    """Rows with estimates and outcomes, in a random order."""

    estimates: Estimates
    """Of the models that are routed among."""
    outcomes: Outcomes
    references: list[str]
    """The models that quality is compared with."""
    domains: list[str]
    name: str
    """Of the table."""
    most_usd: float
    """What the most expensive answer to these rows has cost."""
    notes: list[str] = field(default_factory=list)
    """What was left out, and what is assumed."""
    held_out: bool = True
    """Whether the estimator itself was trained on none of them; else their estimates are out of fold."""

    def __len__(self) -> int:
        return len(self.outcomes)

    def select(self, rows: np.ndarray) -> Calibration:
        """Some of the rows."""
        estimates = self.estimates
        part = Estimates(
            estimates.models, estimates.quality[rows], estimates.cost_usd[rows], estimates.assumption, estimates.cut[rows]
        )
        domains = [self.domains[row] for row in np.arange(len(self))[rows]]
        return Calibration(
            part, self.outcomes.select(rows), self.references, domains, self.name, self.most_usd, self.notes, self.held_out
        )


def calibration_rows(
    estimator: Estimator, table: RoutingTable, asked: Asked, *, models: tuple[str, ...] = (), seed: int = 0
) -> Calibration:
    """Estimate the table's rows, without repeated questions and without those that the estimator was trained on.

    `models` are those that are routed among, by default all of the estimator's. Raises `GuaranteeError` where no row is left,
    and for a reference that is no column of the table.
    """
    routed = routed_models(estimator, table, asked, models)
    kept, notes = distinct_rows(table)
    seen = estimator.seen
    if seen is None:
        notes.append("the checkpoint does not say what it was trained on: that none of these rows was among it is assumed")
    elif (trained := np.isin(table.prompt_numbers, seen) & kept).any():
        if trained.sum() == kept.sum():
            raise GuaranteeError(
                f"the checkpoint was trained on all {counted(int(kept.sum()), 'row')} of {table.name}: its estimates of them "
                "are too good. Give rows that it has not seen, or --out-of-fold, which trains it again without each part of "
                "them"
            )
        notes.append(f"{counted(int(trained.sum()), 'row')} dropped that the checkpoint was trained on")
        kept &= ~trained
    part = table.select(kept)
    return assembled(lambda rows: estimator.estimate(rows.queries).select(routed), part, routed, asked, notes, seed=seed)


def assembled(
    estimate: Callable[[RoutingTable], Estimates],
    table: RoutingTable,
    models: list[str],
    asked: Asked,
    notes: list[str],
    *,
    seed: int,
    held_out: bool = True,
) -> Calibration:
    """Rows in a random order; those on which a model was not run are dropped, or counted at the worst, as was asked.

    `estimate` takes a table and returns its `Estimates` of `models`.
    """
    references = [asked.reference] if asked.reference is not None else list(table.models)
    used = models + [model for model in references if asked.within is not None and model not in models]
    missing = any_nan(table.select(models=used).quality)
    notes = list(notes)
    if missing.any() and asked.missing == "drop":
        notes.append(
            f"{counted(int(missing.sum()), 'row')} dropped on which a model was not run: the others are taken to be like them"
        )
        table = table.select(~missing)
    elif missing.any():
        notes.append(f"{counted(int(missing.sum()), 'row')} on which a model was not run, counted at the worst")
    if not len(table):
        raise GuaranteeError(f"{table.name}: no row is left on which every model was run; give --missing worst, or more rows")
    table = table.select(np.random.default_rng(seed).permutation(len(table)))
    routed, compared = table.select(models=models), table.select(models=references)
    paid = routed.cost_usd[~np.isnan(routed.quality)]
    most = float(paid.max()) if len(paid) else 0.0
    worst = most if asked.most_usd is None else asked.most_usd
    outcomes = Outcomes(
        quality=np.where(np.isnan(routed.quality), 0.0, routed.quality),
        reference=np.where(np.isnan(compared.quality), 1.0, compared.quality),
        cost_usd=np.where(np.isnan(routed.quality), worst, routed.cost_usd),
    )
    estimates = estimate(table)
    if np.isnan(estimates.cost_usd).any():
        raise GuaranteeError(f"{estimates.assumption}: train on outcomes of these models, so that prices can be compared")
    return Calibration(estimates, outcomes, references, list(table.domains), table.name, most, notes, held_out)


def routed_models(estimator: Estimator, table: RoutingTable, asked: Asked, models: tuple[str, ...] = ()) -> list[str]:
    """Those that are routed among. Raises `GuaranteeError` where the table does not know one of them, or the reference."""
    if asked.reference is not None and asked.reference not in table.models:
        raise GuaranteeError(f"reference={asked.reference!r} is no model of {table.name}; it has {listed(table.models)}")
    routed = check_models(models or None, estimator.models)
    if lacking := [model for model in routed if model not in table.models]:
        raise GuaranteeError(
            f"{table.name} has no outcomes of {listed(lacking)}, which the checkpoint routes to; give a table with all of "
            f"{listed(estimator.models)}, or name those to route among with --models"
        )
    return routed


def distinct_rows(table: RoutingTable) -> tuple[np.ndarray, list[str]]:
    """Which rows are the first of their question: what is asked twice says little more than what is asked once."""
    known: set[str] = set()
    kept = np.zeros(len(table), bool)
    for row, prompt in enumerate(table.prompts):
        key = text_key(prompt)
        kept[row] = key not in known
        known.add(key)
    dropped = int((~kept).sum())
    return kept, [f"{counted(dropped, 'row')} dropped that repeat a question"] if dropped else []
