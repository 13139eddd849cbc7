"""The cascade: models from cheap to expensive until a judge accepts or the money is spent (RouterBench, arXiv:2403.12031).

As section 5 and the published code have it: an answer is right when its quality reaches the 95th percentile of all
qualities; the judge says so, but is wrong with probability `epsilon`; a model whose call would exceed the query's cap is
not asked, but for the first. The last answer is given. Every try is billed, and every judgement that decides whether to go
on. One point per cap.

Unlike the code, qualities and mean costs, which decide the bar and the order, are those of training, and a judgement may cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jaxroute.data.table import RoutingTable
from jaxroute.errors import RouterError, listed
from jaxroute.evaluation import BUDGETS, Curve


@dataclass(frozen=True)
class Config:
    """The judge and the caps."""

    epsilon: float = 0.1
    """How often the judge is wrong, from 0 to 1."""
    judge_usd: float = 0.0
    """What a judgement costs, in dollars; the paper's judge is free."""
    judge: str = ""
    """A model of the table whose mean cost in training a judgement costs on top, as if it answered the query."""
    accept: float = 0.95
    """The quantile of all qualities that makes an answer right."""
    points: int = BUDGETS
    """Caps, at even quantiles of what whole cascades have cost after each try."""
    seed: int = 0
    """Decides when the judge is wrong."""


def curve(train: RoutingTable, test: RoutingTable, config: Config) -> Curve:
    order = np.argsort(train.mean_cost_usd(), kind="stable")
    quality, cost = test.quality[:, order], test.cost_usd[:, order]
    judge_usd = judge_cost_usd(train, config.judge, config.judge_usd)
    right = quality >= np.nanquantile(train.quality, config.accept)
    wrong = np.random.default_rng(config.seed).uniform(size=quality.shape) < config.epsilon
    spent = np.cumsum(np.nan_to_num(cost) + judge_usd, axis=1)
    caps = np.quantile(spent, np.linspace(0, 1, config.points))
    points = [_cascade(quality, cost, right ^ wrong, judge_usd, cap) for cap in caps]
    return Curve(np.stack([one for one, _ in points]), np.stack([two for _, two in points]), caps)


def note(state: Mapping[str, np.ndarray], config: Config) -> str:
    return "its judge knows the outcomes, save for its errors: what it would gain, not what can be had"


def judge_cost_usd(train: RoutingTable, judge: str, judge_usd: float) -> float:
    """Dollars per judgement: `judge_usd`, and the mean cost of the model `judge` if one is named."""
    if not judge:
        return judge_usd
    if judge not in train.models:
        raise RouterError(f"judge={judge!r} is none of the models {listed(train.models)}")
    return judge_usd + float(train.mean_cost_usd()[train.models.index(judge)])


def _cascade(
    quality: np.ndarray, cost: np.ndarray, accepted: np.ndarray, judge_usd: float, cap: float
) -> tuple[np.ndarray, np.ndarray]:
    """Quality of the last answer and the bill, query by query; a model that was never run on a query is passed over."""
    got, spent = np.zeros(len(quality)), np.zeros(len(quality))
    going, tried, satisfied = np.ones(len(quality), bool), np.zeros(len(quality), bool), np.zeros(len(quality), bool)
    for model in range(quality.shape[1]):
        run, price = ~np.isnan(quality[:, model]), np.nan_to_num(cost[:, model])
        # The answer at hand is judged only where another could still be paid for.
        going &= ~run | ~tried | (spent + judge_usd + price <= cap * (1 + 1e-12))
        judged = going & run & tried
        spent += judge_usd * judged
        going &= ~(judged & satisfied)
        called = going & run
        spent += price * called
        got = np.where(called, quality[:, model], got)
        satisfied = np.where(called, accepted[:, model], satisfied)
        tried |= called
    return got, spent
