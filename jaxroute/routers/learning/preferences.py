"""Preferences: who answered a prompt better, from graded outcomes or judged battles (RouteLLM, arXiv:2406.18665, section 4.1).

A battle is a row of a `RoutingTable` in which two models have a quality: the winner 1, the loser 0, both 1/2 on a tie. So
judged battles and graded outcomes train the same routers, and golden labels are added to battles as more rows:

    augmented(judged_battles(prompts, first, second, winner), golden)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxroute.data.table import RoutingTable
from jaxroute.errors import TableError, listed

QUALITY = {"first": (1.0, 0.0), "second": (0.0, 1.0), "tie": (0.5, 0.5)}


def judged_battles(
    prompts: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    winner: Sequence[str],
    *,
    cost_usd: float = 0.0,
    name: str = "judged battles",
) -> RoutingTable:
    """A table with one row per battle: `winner` is `first`, `second` or `tie`.

    `cost_usd` is taken as the cost of every answer: what it was is not known, and training does not read it.
    """
    if len({len(prompts), len(first), len(second), len(winner)}) != 1:
        raise TableError("prompts, first, second and winner must have one entry per battle")
    wrong = [row for row, (one, other, won) in enumerate(zip(first, second, winner)) if won not in QUALITY or one == other]
    if wrong:
        row = wrong[0]
        raise TableError(
            f"battle {row} between {first[row]!r} and {second[row]!r} has winner={winner[row]!r}: give two models, and first, "
            f"second or tie ({len(wrong)} such battles)"
        )
    models = sorted({*first, *second})
    quality = np.full((len(prompts), len(models)), np.nan)
    for row, (one, other, won) in enumerate(zip(first, second, winner)):
        quality[row, [models.index(one), models.index(other)]] = QUALITY[won]
    return RoutingTable(list(prompts), models, quality, np.where(np.isnan(quality), np.nan, cost_usd), name=name)


def augmented(*tables: RoutingTable) -> RoutingTable:
    """The rows of all tables one after another, over all their models; cells that a table lacks are NaN.

    Golden-label augmentation (section 4.1.1): outcomes graded against known answers join the battles.
    """
    models = list(dict.fromkeys(model for table in tables for model in table.models))

    def wide(table: RoutingTable, values: np.ndarray) -> np.ndarray:
        cells = np.full((len(table), len(models)), np.nan)
        cells[:, [models.index(model) for model in table.models]] = values
        return cells

    return RoutingTable(
        prompts=[prompt for table in tables for prompt in table.prompts],
        models=models,
        quality=np.concatenate([wide(table, table.quality) for table in tables]),
        cost_usd=np.concatenate([wide(table, table.cost_usd) for table in tables]),
        domains=[domain for table in tables for domain in table.domains],
        name=" + ".join(table.name for table in tables),
        note="; ".join(dict.fromkeys(table.note for table in tables if table.note)),
    )


def wins(quality: Float[np.ndarray, "queries models"]) -> Float[np.ndarray, "queries models models"]:
    """1 where the first model answered better than the second, 1/2 on a tie, 0 otherwise or where either was not run."""
    one, other = quality[:, :, None], quality[:, None, :]
    both = ~np.isnan(one) & ~np.isnan(other) & ~np.eye(quality.shape[1], dtype=bool)
    return np.where(both, (one > other) + 0.5 * (one == other), 0.0)


def win_rates(strength: Float[np.ndarray, "queries models"]) -> Float[np.ndarray, "queries models"]:
    """Each model's chance to win, mean over the others: sigmoid(strength_m - strength_k) (Bradley & Terry 1952).

    Of two models, the strong one's rate is RouteLLM's score.
    """
    models = strength.shape[1]
    if models == 1:
        return np.full(strength.shape, 0.5)
    chance = sigmoid(strength[:, :, None] - strength[:, None, :])
    return (chance.sum(axis=2) - 0.5) / (models - 1)


def sigmoid(values: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-values)), without overflow."""
    return 0.5 * (1 + np.tanh(values / 2))


def strong_score(
    estimates: Float[np.ndarray, "queries models"], models: Sequence[str], *, weak: str, strong: str
) -> Float[np.ndarray, " queries"]:
    """How much better the strong model is expected to answer: what a threshold is compared with."""
    for name, model in (("weak", weak), ("strong", strong)):
        if model not in models:
            raise TableError(f"{name}={model!r} is none of the models {listed(models)}")
    return estimates[:, models.index(strong)] - estimates[:, models.index(weak)]
