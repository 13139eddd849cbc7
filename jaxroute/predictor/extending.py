"""A predictor with further models, from a few graded answers each, or with fewer; no other model's numbers change.

What is added leans on the models that were trained together, never on others that were added: models can be added one after
the other or at once, in any order, and probed again, with the same result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from flax import nnx
from jaxtyping import Float

from jaxroute.data.prices import PriceList
from jaxroute.data.table import RoutingTable
from jaxroute.encoders import check_prompts
from jaxroute.errors import TableError, counted, listed
from jaxroute.predictor.domain_effects import domain_numbers
from jaxroute.predictor.new_costs import added_pricing
from jaxroute.predictor.new_models import NewRow
from jaxroute.predictor.new_rows import PER_MODEL, Base, rebuilt_head
from jaxroute.predictor.predictor import Predictor

ADDED = "added_models"
"""In `Predictor.about`: the models that were not trained with the others, with what is known of them."""
WANTED = 0.02
"""Half an interval of quality that is narrow enough to choose by."""


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
    base, base_models = _base(predictor, names)
    domain = domain_numbers(table.domains, predictor.domains)
    questions = base.questions(features, domain, table.prompt_numbers, _answered(table, base_models))
    pricing, costs = None, dict.fromkeys(names, "nothing is known of the costs of the other models")
    if predictor.pricing is not None:
        known = predictor.pricing
        counts = known.prices is not None or known.input_ratio is not None or known.head is not None
        tokens = predictor.encoder.count_tokens(table.prompts) if counts else np.zeros(len(table), np.int64)
        pricing, costs = added_pricing(known, table.select(models=names), features, tokens, prices)
    reports, rows = [], []
    for name in names:
        quality = table.quality[:, table.models.index(name)]
        cost = np.nan if pricing is None else pricing.mean_cost_usd[pricing.models.index(name)]
        rows.append(base.fitted(questions, quality, cost, corrected=correction))
        run = ~np.isnan(quality)
        reports.append(
            AddedModel(
                model=name,
                probes=int(run.sum()),
                quality=rows[-1].quality,
                low=rows[-1].low,
                high=rows[-1].high,
                known_questions=int((run & ~np.isnan(questions.residual)).sum()),
                like=[base_models[place] for place in base.alike(cost)],
                mean_cost_usd=float(table.mean_cost_usd()[table.models.index(name)]),
                costs=costs[name],
            )
        )
    known = [*predictor.models, *(name for name in names if name not in predictor.models)]
    new = dict(zip(names, rows, strict=True))
    added = {**predictor.about.get(ADDED, {}), **added_models(table, new)}
    head = base.head_with([new[name] if name in new else predictor.models.index(name) for name in known])
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


def _base(predictor: Predictor, names: Sequence[str]) -> tuple[Base, list[str]]:
    """What the rows of `names` lean on, and these models' names."""
    base = [model for model in trained_together(predictor) if model not in names]
    cost = None
    if predictor.pricing is not None:
        means = dict(zip(predictor.pricing.models, predictor.pricing.mean_cost_usd, strict=True))
        cost = np.array([means[name] for name in base])
    return Base.of(predictor.head, [predictor.models.index(name) for name in base], cost, predictor.pool), base


def _answered(table: RoutingTable, models: Sequence[str]) -> Float[np.ndarray, "queries models"]:
    """Outcomes of `models`; NaN where the table has none."""
    quality = np.full((len(table), len(models)), np.nan)
    for place, model in enumerate(models):
        if model in table.models:
            quality[:, place] = table.quality[:, table.models.index(model)]
    return quality


def added_models(table: RoutingTable, rows: Mapping[str, NewRow]) -> dict[str, dict[str, float | int]]:
    """What `Predictor.about` keeps of models that were added."""
    counts = dict(zip(table.models, (~np.isnan(table.quality)).sum(axis=0).tolist(), strict=True))
    return {
        name: {"probes": counts[name], "quality": row.quality, "low": row.low, "high": row.high} for name, row in rows.items()
    }
