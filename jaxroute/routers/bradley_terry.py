"""Similarity-weighted ranking: a Bradley-Terry ranking of the models per prompt (RouteLLM, arXiv:2406.18665, section 4.2).

    strengths(q) = argmin_xi  - sum_battles w_j(q) log sigmoid(xi_winner - xi_loser)
    w_j(q) = gamma ^ (1 + s_j(q) / max_k s_k(q))

with s the cosine between q and the battle's prompt; a tie is half a win for each. Battles come from outcomes
(`jaxroute.routers.learning.preferences`), and only their weighted counts are needed: one matrix product for all prompts, then
Newton's method on models, not on battles. The estimate is a model's chance to win, mean over the others; of two models that of
the strong one is the paper's score. A model that was rarely run leans on the others: one won battle is no proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from jaxroute.data.shrinkage import leaning, relative_reliability
from jaxroute.data.table import Queries, RoutingTable
from jaxroute.encoders.embedding import embed
from jaxroute.routers.learning.preferences import sigmoid, win_rates, wins

CHUNK = 512
"""Prompts ranked at once."""


@dataclass(frozen=True)
class Config:
    """How similarity counts, and which models are distinguished."""

    gamma: float = 10.0
    """How many times as much the most similar battle counts as one with a cosine of 0."""
    tiers: int = 0
    """Groups of similarly strong models that are ranked as one, the paper's remedy for few battles (it has 10); 0 = none."""
    ridge: float = 1e-6
    """Penalty on the strengths, per battle: finite even where a model never loses. The published code has none."""
    encoder: str = "minilm"
    """Of the sentence embeddings."""


def fit(train: RoutingTable, config: Config) -> dict[str, np.ndarray]:
    tier = np.arange(len(train.models))
    if config.tiers:
        overall = strengths(wins(train.quality).sum(axis=0)[None], config.ridge)[0]
        tier = least_variance_tiers(overall, config.tiers)
    return {
        "embeddings": embed(train.prompts, config.encoder),
        "quality": train.quality,
        "tier": tier,
        "reliability": relative_reliability(train.quality),
    }


def estimate(state: Mapping[str, np.ndarray], queries: Queries, config: Config) -> Float[np.ndarray, "queries models"]:
    asked, known, tier = embed(queries.prompts, config.encoder), state["embeddings"], state["tier"]
    member = np.eye(tier.max() + 1)[tier]
    won = np.einsum("jab,as,bt->jst", wins(state["quality"]), member, member, optimize=True)
    # Between models of one tier nothing is to be learnt.
    won = (won * ~np.eye(member.shape[1], dtype=bool)).reshape(len(known), -1)
    found = []
    for start in range(0, len(asked), CHUNK):
        cosine = asked[start : start + CHUNK].astype(np.float64) @ known.T
        most = cosine.max(axis=1, keepdims=True)
        weight = config.gamma ** (1 + cosine / np.where(most > 0, most, 1.0))
        found.append(strengths((weight @ won).reshape(len(cosine), *[member.shape[1]] * 2), config.ridge))
    return leaning(win_rates(np.concatenate(found)[:, tier]), state)


def strengths(won: Float[np.ndarray, "fits models models"], ridge: float) -> Float[np.ndarray, "fits models"]:
    """The strengths of least loss, given how often each model beat each other one; Newton's method with steps of at most 1."""
    won = won / np.maximum(won.sum(axis=(1, 2), keepdims=True), 1e-300)
    battles, own = won + won.swapaxes(1, 2), np.eye(won.shape[1])
    found = np.zeros(won.shape[:2])
    for _ in range(100):
        chance = sigmoid(found[:, :, None] - found[:, None, :])
        gradient = (won - battles * chance).sum(axis=2) - ridge * found
        curvature = battles * chance * (1 - chance)
        hessian = own * (curvature.sum(axis=2)[:, :, None] + ridge) - curvature
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        step /= np.maximum(np.abs(step).max(axis=1, keepdims=True), 1)
        found += step
        if np.abs(step).max() < 1e-9:
            break
    return found


def least_variance_tiers(strength: Float[np.ndarray, " models"], count: int) -> Int[np.ndarray, " models"]:
    """Each model's tier, from weak to strong: runs of the sorted strengths with the least sum of variances, as published."""
    order, models = np.argsort(strength), len(strength)
    ranked = strength[order]
    # least[t][end]: the least sum for the first `end` models in t + 1 tiers, and where the last of them begins.
    least = [{end: (float(np.var(ranked[:end])), 0) for end in range(1, models + 1)}]
    for done in range(1, min(count, models)):
        least.append(
            {
                end: min((least[-1][start][0] + float(np.var(ranked[start:end])), start) for start in range(done, end))
                for end in range(done + 1, models + 1)
            }
        )
    tier, end = np.empty(models, int), models
    for number in range(len(least) - 1, -1, -1):
        start = least[number][end][1]
        tier[order[start:end]] = number
        end = start
    return tier
