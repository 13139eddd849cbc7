"""A new kind of traffic: every model's level moves by a few graded prompts of it, and nothing else.

    log p(outcomes_m | x_m) = sum over the prompts of log p(outcome_jm | logits_jm + x_m v)
    x_m ~ Normal(c, spread^2),      c ~ Normal(0, 1),      spread one of `SPREADS`, each as likely as the others

logits_jm are the head's, v the levels' places, so that with K = 2 x_m is a logit. What is hard, or easy, for all models moves
all of them by c, which changes little of who is best; how far models move apart is learnt from how far they seem to, so that
few outcomes, which always differ by chance, do not overturn an order that training knows well (a random-effects model: Gelman
et al. 2013, "Bayesian Data Analysis", section 5.5). Every x_m is its posterior mean, by sums over a grid. What the head says of
differences between prompts is kept; on prompts unlike all of training it may be worth nothing, and levels are what a few
outcomes can tell.
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
from jaxroute.predictor.regression import cell_losses
from jaxroute.predictor.softmax import centred_places, expected_quality

COMMON_SPREAD = 1.0
"""Of what all models move by, in logits."""
SPREADS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""How far single models may move beyond that."""
GRID = np.linspace(-6.0, 6.0, 241)
"""Of moves, in logits."""
TINY = 1e-300
"""Below every chance that counts."""
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
    asked = table.quality[:, [table.models.index(model) for model in predictor.models]]
    moves = moves_of(asked, logits)
    counts, means = [], []
    for quality, cells, move in zip(asked.T, logits.swapaxes(0, 1), moves, strict=True):
        run = ~np.isnan(quality)
        counts.append(int(run.sum()))
        both = [expected_quality(cells[run] + by * places).mean() for by in (0.0, move)]
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
    moved = replace(moved, about=about, familiarity=familiarity, sample=None)
    return moved, Shift(predictor.models, counts, before, seen, after, domain)


def moves_of(
    quality: Float[np.ndarray, "queries models"], logits: Float[np.ndarray, "queries models levels"]
) -> Float[np.ndarray, " models"]:
    """x of every model; outcomes that are NaN say nothing."""
    likelihood = np.stack([_log_likelihood(one, cells) for one, cells in zip(quality.T, logits.swapaxes(0, 1), strict=True)])
    likelihood -= likelihood.max(axis=1, keepdims=True)
    weights, means = [], []
    for spread in SPREADS:
        # Of x on the grid, given c on the grid.
        prior = np.exp(-((GRID - GRID[:, None]) ** 2) / (2 * spread**2))
        prior /= prior.sum(axis=1, keepdims=True)
        chance = np.exp(likelihood) @ prior.T
        means.append((np.exp(likelihood) * GRID) @ prior.T / np.maximum(chance, TINY))
        weights.append(np.log(np.maximum(chance, TINY)).sum(axis=0) - (GRID / COMMON_SPREAD) ** 2 / 2)
    weight = np.exp(np.array(weights) - np.max(weights))
    return np.einsum("smc,sc->m", np.array(means), weight / weight.sum())


def _log_likelihood(
    quality: Float[np.ndarray, " queries"], logits: Float[np.ndarray, "queries levels"]
) -> Float[np.ndarray, " moves"]:
    """Of one model's outcomes, for every move on the grid."""
    run = ~np.isnan(quality)
    levels = logits.shape[1]
    target, places = level_targets(quality[run, None], levels)[:, 0].astype(np.float64), centred_places(levels)
    return np.array([-cell_losses(logits[run] + move * places, target, np.ones(len(target))).sum() for move in GRID])


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
