"""Made-up batches and pools of any size, the same in every run: good models are expensive, prompts differ in difficulty."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from solvers import Problem

ROWS = 50_000


def batch(
    queries: int, models: int, *, share: float = 0.3, cost_per_query: bool = False, seed: int = 0
) -> tuple[Float[np.ndarray, "queries models"], np.ndarray, float]:
    """Value, cost in dollars, and a budget of `share` of the way from the cheapest to the most expensive assignment."""
    generator = np.random.default_rng(seed)
    ability = np.linspace(-1.5, 1.5, models)
    price = 10 ** np.linspace(-5, -1.5, models) * generator.uniform(0.5, 2, models)
    value = np.empty((queries, models))
    for start in range(0, queries, ROWS):
        rows = slice(start, min(start + ROWS, queries))
        difficulty = generator.normal(size=(rows.stop - start, 1))
        value[rows] = 1 / (1 + np.exp(-(ability - difficulty + 0.7 * generator.normal(size=(rows.stop - start, models)))))
    cost = price * generator.lognormal(0, 0.5, size=(queries, models)) if cost_per_query else price
    every = np.broadcast_to(cost, value.shape)
    least, most = every.min(axis=1).sum(), every[np.arange(queries), value.argmax(axis=1)].sum()
    return value, cost, float(least + share * (most - least))


def problem(queries: int, models: int, **options) -> Problem:
    return Problem(*batch(queries, models, **options))


def answers(queries: int, models: int, *, seed: int = 0) -> Bool[np.ndarray, "queries models"]:
    """Right or wrong: many models that each get some prompts right."""
    generator = np.random.default_rng(seed)
    ability = generator.normal(size=models) - 3.0
    found = np.empty((queries, models), bool)
    for start in range(0, queries, ROWS // 10):
        rows = slice(start, min(start + ROWS // 10, queries))
        difficulty = generator.normal(size=(rows.stop - start, 1))
        found[rows] = ability - difficulty + 1.5 * generator.normal(size=(rows.stop - start, models)) > 0
    return found


def graded(queries: int, models: int, *, spread: float = 2.5, seed: int = 0) -> Float[np.ndarray, "queries models"]:
    """Grades in [0, 1] as a judge gives them, many near 0 or 1; models of uneven ability, each with strong and weak sides."""
    generator = np.random.default_rng(seed)
    ability = np.sort(generator.normal(0, 1.2, models))
    logits = ability - generator.normal(size=(queries, 1)) + generator.normal(0, spread, (queries, models))
    return np.round(1 / (1 + np.exp(2 - 2 * logits)), 6)
