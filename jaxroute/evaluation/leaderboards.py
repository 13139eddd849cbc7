"""The scores of two public leaderboards, RouterArena's and LLMRouterBench's, for tables of one's own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from jaxroute.data.table import RoutingTable
from jaxroute.evaluation.domains import macro_mean
from jaxroute.evaluation.outcomes import Outcome


def routerarena_score(
    quality: float,
    usd_per_thousand: float,
    *,
    beta: float = 0.1,
    least_usd: float = 0.0044,
    most_usd: float = 200.0,
) -> float:
    """RouterArena's score: accuracy and cheapness in one number, cheapness on a logarithmic scale.

        S = (1 + beta) A C / (beta A + C),    C = (log2 most - log2 cost) / (log2 most - log2 least)

    A is accuracy in [0, 1] and cost is dollars per 1,000 queries, moved into [least, most] (Lu et al. 2025, arXiv:2510.00202;
    formula and constants as in `compute_arena_score` of llm_evaluation/run.py in github.com/RouteWorks/RouterArena). It is the
    weighted harmonic mean of A and C, with weights 1 / (1 + beta) on A and beta / (1 + beta) on C. The constants span its own
    pool of models: the score says little where the most expensive model costs a dollar.
    """
    if not 0 <= quality <= 1:
        raise ValueError(f"quality={quality} must lie in [0, 1]")
    if not (usd_per_thousand > 0 and 0 < least_usd < most_usd):
        raise ValueError(f"usd_per_thousand={usd_per_thousand} must be above 0, and 0 < {least_usd=} < {most_usd=}")
    cost = min(max(usd_per_thousand, least_usd), most_usd)
    cheap = (math.log2(most_usd) - math.log2(cost)) / (math.log2(most_usd) - math.log2(least_usd))
    return (1 + beta) * quality * cheap / (beta * quality + cheap) if quality and cheap else 0.0


@dataclass(frozen=True)
class LeaderboardGains:
    """LLMRouterBench's measures of one router; shares, 0.05 = five percent."""

    average: float
    """AvgAcc: mean over the data sets (domains) of the mean quality in each."""
    gain_over_random: float
    """Gain@R = AvgAcc / AvgAcc of a model drawn uniformly for every query - 1."""
    gain_over_best: float
    """Gain@B = AvgAcc / AvgAcc of the best single model - 1."""
    gap_to_oracle: float
    """Gap@O = 1 - AvgAcc / AvgAcc of the best model for every query."""


def llmrouterbench_gains(table: RoutingTable, found: Outcome) -> LeaderboardGains:
    """Gain@R, Gain@B and Gap@O (Li et al. 2026, arXiv:2601.07206), with the table's domains as data sets.

    The authors' README names them: average accuracy over data sets, improvement relative to the random router and to the best
    single model (highest average accuracy), gap to the oracle. That each is a ratio of averages, as here, and not an average
    over data sets of ratios, is how others quote section 3.2; the paper's own formula could not be read, so this is
    unverified. The random router is taken at its expectation.
    """
    average = macro_mean(found.quality, table.domains)
    singles = np.array([macro_mean(column, table.domains) for column in table.quality.T])
    oracle = macro_mean(table.quality.max(axis=1), table.domains)
    return LeaderboardGains(
        average=average,
        gain_over_random=_over(average, float(singles.mean())),
        gain_over_best=_over(average, float(singles.max())),
        gap_to_oracle=-_over(average, oracle),
    )


def _over(value: float, base: float) -> float:
    return value / base - 1 if base else math.nan
