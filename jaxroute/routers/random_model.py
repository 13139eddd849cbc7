"""Every query to a model drawn at random, all equally likely: TensorOpera's random router (arXiv:2408.12320), 10 trials.

`curve` is the mean over the trials, one point; `trials` has a point per trial, from which their spread can be read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from jaxroute.data.table import RoutingTable
from jaxroute.evaluation import Curve


@dataclass(frozen=True)
class Config:
    """How often, and which draws."""

    trials: int = 10
    """Runs to average."""
    seed: int = 42
    """Decides the draws."""


def curve(train: RoutingTable, test: RoutingTable, config: Config) -> Curve:
    every = trials(test, config)
    return Curve(every.quality.mean(axis=0, keepdims=True), every.cost_usd.mean(axis=0, keepdims=True))


def trials(test: RoutingTable, config: Config) -> Curve:
    """One point per trial."""
    choice = choices(test, config)
    rows = np.arange(len(test))
    return Curve(np.nan_to_num(test.quality[rows, choice]), np.nan_to_num(test.cost_usd[rows, choice]))


def choices(test: RoutingTable, config: Config) -> Int[np.ndarray, "trials queries"]:
    """The models drawn; of a query's models, only those that were run on it are."""
    generator = np.random.default_rng(config.seed)
    drawn = generator.uniform(size=(config.trials, *test.quality.shape))
    return np.argmax(np.where(np.isnan(test.quality), -1.0, drawn), axis=2)
