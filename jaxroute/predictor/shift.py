"""A new kind of traffic: every model's level moves by a few graded prompts of it, and nothing else.

    minimise over x_m    - sum over the prompts of log p(outcome_jm | logits_jm + x_m v)  +  x_m^2 / 2

logits_jm are the head's, v the levels' places, so that with K = 2 x_m is a logit, whose prior is Normal(0, 1): a model with
10 outcomes moves about half as far as they say, one with 100 nearly all of the way. What the head says of differences between
prompts is kept; on prompts unlike all of training it may be worth nothing, and levels are what a few outcomes can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from jaxroute.data.table import RoutingTable
from jaxroute.encoders import check_prompts
from jaxroute.errors import TableError, counted, listed
from jaxroute.predictor.domain_effects import domain_numbers
from jaxroute.predictor.heads import level_targets
from jaxroute.predictor.new_rows import rebuilt_head
from jaxroute.predictor.predictor import Predictor
from jaxroute.predictor.softmax import centred_places, expected_quality, fit_directions

PRECISION = 1.0
"""Of the prior on a shift, 1 / logits^2."""
SHIFTED = "shifted"
"""In `Predictor.about`: by how many prompts levels were moved, and for which domain."""


@dataclass(frozen=True)
class Shift:
    """How far levels have moved, by model."""

    models: list[str]
    outcomes: list[int]
    before: list[float]
    """Estimated mean quality of each model on the prompts that it was asked."""
    seen: list[float]
    """Its mean quality on them."""
    after: list[float]
    """Estimated with the shift."""
    domain: str = ""
    """The only domain whose prompts are estimated otherwise; empty: all prompts."""

    def __str__(self) -> str:
        where = f"prompts of the domain {self.domain!r}" if self.domain else "all prompts"
        lines = [f"levels moved for {where}", f"  {'model':<46} {'asked':>6} {'seen':>6} {'before':>7} {'now':>6}"]
        rows = zip(self.models, self.outcomes, self.seen, self.before, self.after, strict=True)
        lines += [f"  {model[:46]:<46} {n:>6} {seen:>6.3f} {before:>7.3f} {now:>6.3f}" for model, n, seen, before, now in rows]
        return "\n".join(lines)


def shift(predictor: Predictor, table: RoutingTable, *, domain: str = "") -> tuple[Predictor, Shift]:
    """The predictor with every model's level moved by the outcomes of `table`.

    With `domain` only prompts of that domain are estimated otherwise, else all of them. Raises `TableError` where a model of
    the predictor has no outcome in `table`: it would be compared with models that have moved.
    """
    missing = [model for model in predictor.models if model not in table.models or _never(table, model)]
    if missing:
        raise TableError(
            f"{table.name}: no outcome of {listed(missing)}; ask every model of the checkpoint, or take it out with --remove"
        )
    check_prompts(table.prompts)
    features = predictor.read(predictor.encoder, table.prompts, predictor.features).values
    head = predictor.head
    labels = [domain] * len(table) if domain else table.domains
    logits = np.asarray(head(features, domain_numbers(labels, predictor.domains)), np.float64)
    places = centred_places(predictor.levels)
    moves, counts, means = [], [], []
    for column, model in enumerate(predictor.models):
        quality = table.quality[:, table.models.index(model)]
        run = np.flatnonzero(~np.isnan(quality))
        moves.append(move_of(quality[run], logits[run, column]))
        counts.append(len(run))
        both = [expected_quality(logits[run, column] + move * places).mean() for move in (0.0, moves[-1])]
        means.append([both[0], quality[run].mean(), both[1]])
    before, seen, after = (list(map(float, one)) for one in zip(*means, strict=True))
    moved = _moved(predictor, np.outer(moves, places), domain)
    about = {**predictor.about, SHIFTED: {"prompts": len(table), "domain": domain}}
    familiarity = predictor.familiarity
    if familiarity is not None:
        # These prompts are known from now on; where all estimates have moved, so have the models' means.
        change = 0.0 if domain else np.array(after) - np.array(before)
        means = np.clip(familiarity.mean_quality + change, 0.0, 1.0)
        familiarity = familiarity.with_mean_quality(means).with_reference(features)
    return replace(moved, about=about, familiarity=familiarity), Shift(predictor.models, counts, before, seen, after, domain)


def move_of(quality: Float[np.ndarray, " queries"], logits: Float[np.ndarray, "queries levels"]) -> float:
    """x of one model."""
    levels = logits.shape[1]
    target = level_targets(quality[:, None], levels)[:, 0].astype(np.float64)
    directions = np.broadcast_to(centred_places(levels)[:, None], (*logits.shape, 1))
    return float(fit_directions(target, directions, np.array([PRECISION]), np.zeros(1), logits)[0])


def _moved(predictor: Predictor, moves: Float[np.ndarray, "models levels"], domain: str) -> Predictor:
    state = nnx.to_pure_dict(nnx.state(predictor.head))
    if not domain:
        state["correction_bias"] = np.asarray(state["correction_bias"]) + moves.astype(np.float32)
        return replace(predictor, head=rebuilt_head(state))
    effects = np.asarray(state.get("domain_effect", np.zeros((0, *moves.shape))), np.float32)
    domains = list(predictor.domains)
    if domain not in domains:
        domains.append(domain)
        effects = np.concatenate([effects, np.zeros((1, *moves.shape), np.float32)])
    effects = effects.copy()
    effects[domains.index(domain)] += moves.astype(np.float32)
    return replace(predictor, head=rebuilt_head({**state, "domain_effect": jnp.asarray(effects)}), domains=domains)


def _never(table: RoutingTable, model: str) -> bool:
    return bool(np.isnan(table.quality[:, table.models.index(model)]).all())


def few_prompts(models: Sequence[str], counts: Sequence[int], least: int = 10) -> str:
    """A warning where a level rests on very few outcomes; empty where none does."""
    few = [f"{model} ({count})" for model, count in zip(models, counts, strict=True) if count < least]
    return (
        f"few outcomes: {listed(few)}; {counted(least, 'graded prompt')} of each model is the least to rely on" if few else ""
    )
