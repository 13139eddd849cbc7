"""Overgenerate and rerank: several models answer, a judge picks one, all are paid for (RouterBench, arXiv:2403.12031).

Point k asks the k cheapest models. The judge reads an answer's quality q, or 1 - q with probability `epsilon`, and the answer
that it rates highest is given, the cheaper model's on ties. All k calls are billed, and k judgements where there is a choice.
The paper describes the method, its published code does not run it; the judge's error is that of its cascade.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jaxroute.data.table import RoutingTable
from jaxroute.evaluation import Curve
from jaxroute.routers.cascade import judge_cost_usd


@dataclass(frozen=True)
class Config:
    """The judge."""

    epsilon: float = 0.1
    """How often the judge takes an answer for its opposite, from 0 to 1."""
    judge_usd: float = 0.0
    """What a judgement costs, in dollars."""
    judge: str = ""
    """A model of the table whose mean cost in training a judgement costs on top, as if it answered the query."""
    seed: int = 0
    """Decides when the judge is wrong."""


def curve(train: RoutingTable, test: RoutingTable, config: Config) -> Curve:
    order = np.argsort(train.mean_cost_usd(), kind="stable")
    quality, run = test.quality[:, order], ~np.isnan(test.quality[:, order])
    wrong = np.random.default_rng(config.seed).uniform(size=quality.shape) < config.epsilon
    rated = np.where(run, np.where(wrong, 1 - quality, quality), -np.inf)
    calls = np.cumsum(run, axis=1)
    spent = np.cumsum(np.where(run, test.cost_usd[:, order], 0.0), axis=1)
    spent += np.where(calls > 1, calls, 0) * judge_cost_usd(train, config.judge, config.judge_usd)
    rows = np.arange(len(test))
    given = [quality[rows, np.argmax(rated[:, : count + 1], axis=1)] for count in range(len(order))]
    return Curve(np.nan_to_num(np.stack(given)), spent.T)


def note(state: Mapping[str, np.ndarray], config: Config) -> str:
    return "its judge knows the outcomes, save for its errors: what it would gain, not what can be had"
