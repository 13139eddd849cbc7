"""Questions with rare words are harder: a router of one's own, in one file.

    uv run python examples/own_router.py

The file is a router: `Config`, `fit` and `estimate` are all that `jaxroute evaluate --router examples/own_router.py` needs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from jaxroute import RoutingTable, load_source
from jaxroute.data.table import Queries
from jaxroute.routers.base import find_router


@dataclass(frozen=True)
class Config:
    """Options, set on the command line as in own_router.py:strength=30."""

    strength: float = 10.0
    """How many prompts' worth of the overall mean goes into every group's mean."""


def fit(train: RoutingTable, config: Config) -> dict[str, np.ndarray]:
    words = Counter(word for prompt in train.prompts for word in set(prompt.lower().split()))
    known = np.array(sorted(words))
    count = np.array([words[word] for word in known])
    state = {"words": known, "count": count}
    rarity = _rarity(state, train.prompts)
    edges = np.quantile(rarity, (0.25, 0.5, 0.75))
    group = np.searchsorted(edges, rarity)
    overall = np.nanmean(train.quality, axis=0)
    means = [_mean(train.quality[group == one], overall, config.strength) for one in range(4)]
    return state | {"edges": edges, "means": np.array(means)}


def estimate(state: Mapping[str, np.ndarray], queries: Queries, config: Config) -> np.ndarray:
    return state["means"][np.searchsorted(state["edges"], _rarity(state, queries.prompts))]


def _mean(quality: np.ndarray, overall: np.ndarray, strength: float) -> np.ndarray:
    """Every model's mean, shrunk to its overall mean; a cell that is NaN was never run."""
    run = ~np.isnan(quality)
    return (np.where(run, quality, 0.0).sum(axis=0) + strength * overall) / (run.sum(axis=0) + strength)


def _rarity(state: Mapping[str, np.ndarray], prompts: list[str]) -> np.ndarray:
    """The share of a prompt's words that training saw at most twice."""
    common = set(state["words"][state["count"] > 2])
    return np.array([np.mean([word not in common for word in prompt.lower().split()]) for prompt in prompts])


def main() -> np.ndarray:
    table = load_source("simulated", queries=300, seed=0)
    # One cost per model, so that nothing has to be learnt of costs.
    train, test = replace(table, cost_usd=table.mean_cost_usd()).split(0.7, seed=0)
    trained = find_router(__file__).fit(train)
    estimates = trained.estimate(test.queries)
    print(f"{trained.name}: estimates of {estimates.quality.shape[1]} models on {len(test)} prompts; {estimates.assumption}")
    return estimates.quality


if __name__ == "__main__":
    main()
