"""The posterior against one in which nothing is eliminated."""

from __future__ import annotations

import numpy as np
import pytest

from jaxroute.collect.choosing.posterior import HARD, OWN, SHARED, fit_posterior, principal
from jaxroute.collect.choosing.worth import direction, loss_weights, prices_at_work, worth
from tests.collect.choosing.pools import SimulatedCells

QUERIES, MODELS, DIRECTIONS = 12, 3, 2


def small() -> tuple[np.ndarray, np.ndarray]:
    """Places and outcomes, about half of them known; one is graded."""
    generator = np.random.default_rng(3)
    quality = generator.integers(0, 2, (QUERIES, MODELS)).astype(float)
    quality[generator.random(quality.shape) < 0.5] = np.nan
    quality[0] = 0.4
    return generator.standard_normal((QUERIES, DIRECTIONS)), quality


def cells_of(places: np.ndarray) -> np.ndarray:
    """(queries, models, parameters and hardness of each query): what every logit is made of."""
    inputs = np.column_stack([places, np.ones(len(places))])
    rows = [np.hstack([direction(inputs, MODELS, column), np.eye(QUERIES)]) for column in range(MODELS)]
    return np.stack(rows, axis=1)


def prior() -> np.ndarray:
    per_model = [1 / OWN**2] * DIRECTIONS + [1.0]
    precision = np.diag([1 / SHARED**2] * DIRECTIONS + per_model * MODELS + [1 / HARD**2] * QUERIES)
    levels = [DIRECTIONS + column * (DIRECTIONS + 1) + DIRECTIONS for column in range(MODELS)]
    precision[np.ix_(levels, levels)] -= 0.99 / MODELS
    return precision


def optimum(places: np.ndarray, quality: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and Hessian of all parameters, the queries' hardness among them, by plain Newton steps."""
    cells, known = cells_of(places), ~np.isnan(quality)
    found, hessian = np.zeros(cells.shape[2]), prior()
    for _ in range(200):
        chance = 1 / (1 + np.exp(-cells @ found))
        variance = np.where(known, chance * (1 - chance), 0.0)
        hessian = prior() + np.einsum("jmp,jm,jmr->pr", cells, variance, cells)
        gradient = np.einsum("jmp,jm->p", cells, np.where(known, np.nan_to_num(quality) - chance, 0.0)) - prior() @ found
        found = found + np.linalg.solve(hessian, gradient)
    return found, hessian


def test_the_posterior_is_the_one_in_which_nothing_is_eliminated() -> None:
    places, quality = small()
    found, hessian = optimum(places, quality)
    posterior = fit_posterior(places, quality)
    size = len(posterior.mean)
    assert posterior.mean == pytest.approx(found[:size], abs=1e-6)
    assert posterior.hard == pytest.approx(found[size:], abs=1e-6)
    assert posterior.covariance == pytest.approx(np.linalg.inv(hessian)[:size, :size], abs=1e-6)


def test_with_all_cells_known_nothing_is_left_to_learn_of() -> None:
    pool = SimulatedCells(queries=60)
    posterior = fit_posterior(principal(pool.features, 3), pool.quality)
    assert posterior.covariance_of_all == pytest.approx(posterior.covariance, abs=1e-5)


def test_worth_is_how_much_one_more_cell_lowers_the_loss() -> None:
    places, quality = small()
    posterior = fit_posterior(places, quality)
    cost = np.array([1.0, 2.0, 10.0])
    weights = loss_weights(posterior, cost, prices_at_work(posterior.chance, cost), np.arange(QUERIES))
    value = worth(posterior, weights)
    _, hessian = optimum(places, quality)
    cells, size = cells_of(places), len(posterior.mean)
    before = np.trace(weights @ np.linalg.inv(hessian)[:size, :size])
    for row, column in [(1, 0), (5, 2), (11, 1)]:
        variance = posterior.chance[row, column] * (1 - posterior.chance[row, column])
        more = hessian + variance * np.outer(cells[row, column], cells[row, column])
        after = np.trace(weights @ np.linalg.inv(more)[:size, :size])
        assert value[row, column] == pytest.approx(before - after, rel=1e-4)


def test_features_are_told_by_their_directions_whatever_their_number() -> None:
    generator = np.random.default_rng(0)
    hidden = generator.standard_normal((200, 4))
    once, twice = principal(hidden, 4), principal(np.hstack([hidden, hidden]), 4)
    assert np.abs(once) == pytest.approx(np.abs(twice), abs=1e-9)
    constant = principal(np.hstack([hidden, np.ones((200, 1))]), 4)
    assert np.isfinite(constant).all()
