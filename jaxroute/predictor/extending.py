"""A predictor with further models, from a few graded answers each, or with fewer; no other model's numbers change.

What is added leans on the models that were trained together, never on others that were added: models can be added one after
the other or at once, in any order, and probed again, with the same result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from jaxroute.data.prices import PriceList
from jaxroute.data.table import RoutingTable
from jaxroute.encoders import check_prompts
from jaxroute.errors import TableError, counted, listed
from jaxroute.predictor.domain_effects import domain_numbers
from jaxroute.predictor.heads import Head, level_targets
from jaxroute.predictor.new_costs import added_pricing
from jaxroute.predictor.new_models import NewRow, Probes, fit_row, scalar_of
from jaxroute.predictor.predictor import Predictor, head_estimates
from jaxroute.predictor.pricing import Pricing
from jaxroute.predictor.softmax import centred_places

ADDED = "added_models"
"""In `Predictor.about`: the models that were not trained with the others, with what is known of them."""
ALIKE = 2.0
"""Models whose mean costs differ by no more than this factor cost about the same."""
WANTED = 0.02
"""Half an interval of quality that is narrow enough to choose by."""
PER_MODEL = ("model_embedding", "correction", "correction_bias")
MOSTLY = 0.5
"""The share of the pool that must have answered a new question for its residual to be known."""


@dataclass(frozen=True)
class AddedModel:
    """What is known of a model that was added."""

    model: str
    probes: int
    quality: float
    """Expected, over the training questions where the checkpoint knows them, else over the probes."""
    low: float
    high: float
    """An interval of 95 percent for it."""
    known_questions: int
    """Probes of which the answers of other models are known: these say more."""
    like: list[str]
    """Models of the pool that cost about the same; where there is one, there is no correction of its own."""
    mean_cost_usd: float
    costs: str
    """How its costs are estimated, in words."""

    @property
    def more_probes(self) -> int:
        """How many more would narrow the interval to 2 points on either side; its width falls as 1 / sqrt(probes)."""
        half = (self.high - self.low) / 2
        return max(int(np.ceil(self.probes * ((half / WANTED) ** 2 - 1))), 0)

    def __str__(self) -> str:
        more = f"{self.more_probes} more would make that 2 points either way" if self.more_probes else "more matter little"
        like = (
            f"no correction of its own, since {listed(self.like, 3)} costs about as much"
            if self.like
            else "with a correction of its own by prompt, which gains up to about 300 probes"
        )
        return (
            f"{self.model}: quality {100 * self.quality:.1f} percent ({100 * self.low:.1f} to {100 * self.high:.1f}) by "
            f"{counted(self.probes, 'probe')}, {self.known_questions} of them answered by other models too; {more}\n"
            f"  {like}\n  {self.mean_cost_usd:.3g} dollars per answer on average; {self.costs}"
        )


def extend(
    predictor: Predictor,
    table: RoutingTable,
    *,
    models: Sequence[str] | None = None,
    prices: PriceList | None = None,
    correction: bool = True,
) -> tuple[Predictor, list[AddedModel]]:
    """The predictor with the models of `table` that it does not know, or with `models`; known ones are replaced.

    `table` holds their outcomes on some prompts, best those that the predictor was trained on, and perhaps other models'
    outcomes on the same prompts. `correction` off leaves models without corrections of their own. `prices` are needed of
    the new models where the predictor has prices per token. Raises `TableError` for a table without a new model, or without
    outcomes or costs of one.
    """
    names = _wanted(predictor, table, models)
    check_prompts(table.prompts)
    features = predictor.read(predictor.encoder, table.prompts, predictor.features).values
    questions = _Questions.of(predictor, table, features)
    pricing, costs = None, dict.fromkeys(names, "nothing is known of the costs of the other models")
    if predictor.pricing is not None:
        known = predictor.pricing
        counts = known.prices is not None or known.input_ratio is not None or known.head is not None
        tokens = predictor.encoder.count_tokens(table.prompts) if counts else np.zeros(len(table), np.int64)
        pricing, costs = added_pricing(known, table.select(models=names), features, tokens, prices)
    reports, rows = [], []
    for name in names:
        quality = table.quality[:, table.models.index(name)]
        like = _alike(predictor, pricing, name)
        rows.append(questions.fitted(quality, corrected=correction and not like))
        run = ~np.isnan(quality)
        reports.append(
            AddedModel(
                model=name,
                probes=int(run.sum()),
                quality=rows[-1].quality,
                low=rows[-1].low,
                high=rows[-1].high,
                known_questions=int((run & ~np.isnan(questions.residual)).sum()),
                like=like,
                mean_cost_usd=float(table.mean_cost_usd()[table.models.index(name)]),
                costs=costs[name],
            )
        )
    added = {**predictor.about.get(ADDED, {}), **{one.model: _described(one) for one in reports}}
    known = [*predictor.models, *(name for name in names if name not in predictor.models)]
    head = _with_rows(predictor, dict(zip(names, rows, strict=True)), known)
    familiarity = predictor.familiarity
    if familiarity is not None:
        qualities = {one.model: one.quality for one in reports}
        means = dict(zip(predictor.models, familiarity.mean_quality, strict=False)) | qualities
        familiarity = familiarity.with_mean_quality([means.get(name, np.nan) for name in known])
    about = {**predictor.about, ADDED: added}
    return replace(predictor, models=known, head=head, pricing=pricing, about=about, familiarity=familiarity), reports


def without(predictor: Predictor, models: Sequence[str]) -> Predictor:
    """The predictor without some of its models. Raises `TableError` for unknown ones, and where none would be left."""
    unknown = [model for model in models if model not in predictor.models]
    if unknown:
        raise TableError(f"remove={listed(unknown)}: not in the checkpoint, which knows {listed(predictor.models)}")
    left = [model for model in predictor.models if model not in models]
    if not left:
        raise TableError(f"remove={listed(models)}: no model would be left; keep at least one")
    columns = [predictor.models.index(model) for model in left]
    state = nnx.to_pure_dict(nnx.state(predictor.head))
    changed = {name: state[name][np.array(columns)] for name in PER_MODEL}
    if "domain_effect" in state:
        changed["domain_effect"] = state["domain_effect"][:, np.array(columns)]
    about = dict(predictor.about)
    if ADDED in about:
        about[ADDED] = {name: one for name, one in about[ADDED].items() if name in left}
    pricing = None if predictor.pricing is None else predictor.pricing.select(left)
    familiarity = predictor.familiarity
    if familiarity is not None:
        familiarity = familiarity.with_mean_quality(familiarity.mean_quality[columns])
    head = rebuilt_head(state | changed)
    return replace(predictor, models=left, head=head, pricing=pricing, about=about, familiarity=familiarity)


def trained_together(predictor: Predictor) -> list[str]:
    """The models that were not added later."""
    return [model for model in predictor.models if model not in predictor.about.get(ADDED, {})]


def _wanted(predictor: Predictor, table: RoutingTable, models: Sequence[str] | None) -> list[str]:
    """The models to add or to replace, each with at least one outcome."""
    if models:
        if absent := [model for model in models if model not in table.models]:
            raise TableError(f"models={listed(absent)}: {table.name} has no outcomes of it, only of {listed(table.models)}")
        names = list(dict.fromkeys(models))
    else:
        names = [model for model in table.models if model not in predictor.models]
        if not names:
            raise TableError(
                f"{table.name}: the checkpoint knows all of its models already, {listed(table.models)}; name those that were "
                "probed again as --models"
            )
    if empty := [name for name in names if np.isnan(table.quality[:, table.models.index(name)]).all()]:
        raise TableError(f"{table.name}: {listed(empty)} has no outcome; ask it the probes, or leave it out with --models")
    if set(names) >= set(trained_together(predictor)):
        raise TableError(f"models={listed(names)}: no model would be left that these can lean on; train again")
    return names


def _alike(predictor: Predictor, pricing: Pricing | None, name: str) -> list[str]:
    """Models of the pool whose answers cost about as much."""
    if pricing is None:
        return []
    cost = dict(zip(pricing.models, pricing.mean_cost_usd, strict=True))
    others = [model for model in trained_together(predictor) if model != name]
    return [model for model in others if max(cost[model], cost[name]) <= ALIKE * min(cost[model], cost[name])]


@dataclass(frozen=True, eq=False)
class _Questions:
    """Everything about the probes' questions that does not depend on the new model."""

    predictor: Predictor
    shared: Float[np.ndarray, "queries levels"]
    residual: Float[np.ndarray, " queries"]
    hidden: Float[np.ndarray, "queries features"]
    others: Float[np.ndarray, "features others"]
    middle: Float[np.ndarray, " levels"]

    @staticmethod
    def of(predictor: Predictor, table: RoutingTable, features: Float[np.ndarray, "queries features"]) -> _Questions:
        state = _state(predictor.head)
        domain = domain_numbers(table.domains, predictor.domains)
        base = [predictor.models.index(model) for model in trained_together(predictor)]
        hidden = (np.clip(features, state["low"], state["high"]) - state["mean"]) / state["scale"]
        shared = hidden @ state["weight"] + _mean_effect(state, base)[domain]
        residual = _residual_of_new(predictor, table, features, domain)
        if predictor.pool is not None:
            row, known = predictor.pool.rows(table.prompt_numbers)
            shared = np.where(known[:, None], predictor.pool.shared[row], shared)
            residual = np.where(known, predictor.pool.residual[row], residual)
        level = state["bias"] - state["model_embedding"] @ state["weight"] + state["correction_bias"]
        places = centred_places(predictor.levels)
        own = state["correction"][base] @ places / (places @ places)
        middle = np.median(level[base] - level[base].mean(axis=1, keepdims=True), axis=0)
        return _Questions(
            predictor=predictor,
            shared=shared,
            residual=residual,
            hidden=hidden,
            others=own[(own != 0).any(axis=1)].T,
            middle=middle - middle.mean(),
        )

    def fitted(self, quality: Float[np.ndarray, " queries"], *, corrected: bool) -> NewRow:
        """The row of a model with these outcomes, NaN where it was not asked."""
        run = np.flatnonzero(~np.isnan(quality))
        probes = Probes(
            target=level_targets(quality[run, None], self.predictor.levels)[:, 0].astype(np.float64),
            shared=self.shared[run],
            residual=self.residual[run],
            hidden=self.hidden[run],
            others=self.others,
        )
        return fit_row(probes, self.middle, self.predictor.pool, corrected=corrected)


def _residual_of_new(
    predictor: Predictor, table: RoutingTable, features: np.ndarray, domain: np.ndarray
) -> Float[np.ndarray, " queries"]:
    """u of questions that were not in training, where the table says how most of the pool's models answered them."""
    base = trained_together(predictor)
    columns = [table.models.index(model) for model in base if model in table.models]
    if not columns or predictor.pool is None:
        return np.full(len(table), np.nan)
    places = [predictor.models.index(table.models[column]) for column in columns]
    error = table.quality[:, columns] - head_estimates(predictor.head, features, domain=domain)[:, places]
    count = (~np.isnan(error)).sum(axis=1)
    return np.where(count >= MOSTLY * len(base), np.nansum(error, axis=1) / (count + 1), np.nan)


def _mean_effect(state: dict[str, np.ndarray], base: list[int]) -> Float[np.ndarray, "domains levels"]:
    """The mean over the pool's models of every domain's effect, and nothing of an unknown one, the last."""
    none = np.zeros((1, len(state["bias"])))
    return np.concatenate([state["domain_effect"][:, base].mean(axis=1), none]) if "domain_effect" in state else none


def _with_rows(predictor: Predictor, rows: dict[str, NewRow], models: list[str]) -> Head:
    """A head whose rows are the old ones, but for those of `rows`, in the order of `models`."""
    state, wide = nnx.to_pure_dict(nnx.state(predictor.head)), _state(predictor.head)
    base = [predictor.models.index(model) for model in trained_together(predictor)]
    places = centred_places(predictor.levels)
    new = {name: np.zeros((len(models), *state[name].shape[1:]), np.float32) for name in PER_MODEL}
    effects = np.zeros((0, 0, 0))
    if "domain_effect" in state:
        effects = np.zeros((len(state["domain_effect"]), len(models), predictor.levels), np.float32)
    for place, model in enumerate(models):
        if model in rows:
            row = rows[model]
            scalar = wide["weight"] @ places / (places @ places)
            # W stands for all models: what is not 1 of its slope is a part of the correction.
            new["correction"][place] = row.correction + (row.slope - 1) * wide["weight"] + np.outer(scalar, row.tilt)
            new["correction_bias"][place] = row.level - wide["bias"]
            if len(effects):
                mean = _mean_effect(wide, base)[:-1]
                effects[:, place] = row.slope * mean + np.outer(scalar_of(mean), row.tilt)
        else:
            column = predictor.models.index(model)
            for name in PER_MODEL:
                new[name][place] = state[name][column]
            if len(effects):
                effects[:, place] = state["domain_effect"][:, column]
    return rebuilt_head(state | new | ({"domain_effect": effects} if len(effects) else {}))


def rebuilt_head(state: Mapping[str, Any]) -> Head:
    """A head with these numbers, of a shape that fits them."""
    features, levels = state["weight"].shape
    head = Head(features, len(state["model_embedding"]), levels, len(state.get("domain_effect", [])))
    nnx.update(head, {name: jnp.asarray(array) for name, array in state.items()})
    return head


def _state(head: Head) -> dict[str, np.ndarray]:
    """The head's numbers in float64, on the host."""
    return {name: np.asarray(array, np.float64) for name, array in nnx.to_pure_dict(nnx.state(head)).items()}


def _described(one: AddedModel) -> dict[str, float | int]:
    return {"probes": one.probes, "quality": one.quality, "low": one.low, "high": one.high}
