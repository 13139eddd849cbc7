"""What cells are worth, and when nothing is left to gain."""

from __future__ import annotations

import numpy as np
import pytest

from jaxroute.collect.choosing.batches import best_first, first_design, next_round, takes
from jaxroute.collect.choosing.posterior import fit_posterior, principal
from jaxroute.collect.choosing.stopping import outlook
from jaxroute.collect.choosing.worth import direction, loss_weights, prices_at_work, rivals, worth
from tests.collect.choosing.pools import SimulatedCells


def posterior_of(pool: SimulatedCells, asked: np.ndarray):
    return fit_posterior(principal(pool.features), np.where(asked, pool.quality, np.nan))


def test_prices_spread_the_mean_cost_evenly() -> None:
    pool = SimulatedCells(queries=2000)
    prices = prices_at_work(pool.chance, pool.cost_usd, 5)
    chosen = (pool.chance - prices[:, None, None] * pool.cost_usd).argmax(axis=2)
    means = pool.cost_usd[chosen].mean(axis=1)
    low, high = pool.cost_usd.min(), pool.cost_usd.max()
    assert pool.cost_usd[pool.chance.argmax(axis=1)].mean() < 0.9 * high
    assert means[:4] == pytest.approx(low + (high - low) * np.array([0.1, 0.3, 0.5, 0.7]), rel=0.02)
    assert prices[4] == 0.0


def test_a_model_that_seems_worst_may_turn_out_better() -> None:
    """Nothing is assigned to the most expensive model, of which little is known: its cells are worth something all the same."""
    pool = SimulatedCells(queries=300)
    pool.quality[:15, 2] = np.arange(15) % 2
    asked = np.ones(pool.quality.shape, bool)
    asked[15:, 2] = False
    posterior = posterior_of(pool, asked)
    pool.quality[:, :2] = 1.0
    sure = posterior_of(pool, asked)
    assert (sure.chance.argmax(axis=1) != 2).all()
    for one in (posterior, sure):
        assert outlook(one, pool.cost_usd).rise > 0


def test_a_model_that_is_surely_no_rival_is_worth_nothing() -> None:
    pool = SimulatedCells(queries=400)
    pool.quality[:, 1] = 0.0
    asked = np.zeros(pool.quality.shape, bool)
    asked[:300] = True
    posterior = posterior_of(pool, asked)
    value = worth(
        posterior, loss_weights(posterior, pool.cost_usd, prices_at_work(posterior.chance, pool.cost_usd), np.arange(400))
    )
    assert value[300:, 1].mean() < 0.05 * value[300:, 2].mean()


def test_a_flip_is_as_likely_as_the_posterior_has_it() -> None:
    pool = SimulatedCells(queries=80)
    asked = np.random.default_rng(1).random(pool.quality.shape) < 0.5
    posterior = posterior_of(pool, asked)
    rows = np.arange(80)
    found = rivals(posterior, pool.cost_usd, np.zeros(1), rows)
    draws = np.random.default_rng(0).multivariate_normal(posterior.mean, posterior.covariance, 4000)
    logits = np.stack([posterior.logits(one) for one in draws])
    best = found.best[0]
    for column in range(3):
        others = rows[best != column]
        better = (logits[:, others, column] > logits[:, others, best[others]]).mean(axis=0)
        assert found.flips[0, others, column] == pytest.approx(better, abs=0.06)


def test_what_all_cells_would_bring_shrinks_to_nothing() -> None:
    pool, rises = SimulatedCells(queries=400), []
    for share in (0.1, 0.3, 0.7, 1.0):
        asked = np.random.default_rng(0).random(pool.quality.shape) < share
        rises.append(outlook(posterior_of(pool, asked), pool.cost_usd))
    assert rises[0].rise > rises[1].rise > rises[2].rise > rises[3].rise
    assert rises[3].at_most < 1e-3 and rises[3].enough and not rises[0].enough
    assert rises[0].at_most > rises[0].rise


def test_the_rise_is_what_asking_everything_brings() -> None:
    """On average over pools, by the true chances."""
    expected, real = [], []
    for seed in range(8):
        pool = SimulatedCells(queries=300, strength=1.0, seed=seed)
        some = np.zeros(pool.quality.shape, bool)
        some[np.random.default_rng(seed).permutation(300)[:40]] = True
        now, then = posterior_of(pool, some), posterior_of(pool, np.ones_like(some))
        expected.append(outlook(now, pool.cost_usd).rise)
        prices = prices_at_work(now.chance, pool.cost_usd)
        utility = pool.chance - prices[:, None, None] * pool.cost_usd
        chosen = [(one.chance - prices[:, None, None] * pool.cost_usd).argmax(axis=2)[..., None] for one in (now, then)]
        before, after = (np.take_along_axis(utility, choice, axis=2).mean() for choice in chosen)
        real.append(after - before)
    assert np.mean(real) > 0
    assert np.mean(expected) == pytest.approx(np.mean(real), rel=0.6)


def test_a_round_asks_nothing_twice_and_uses_what_it_may() -> None:
    pool = SimulatedCells()
    asked = np.zeros(pool.quality.shape, bool)
    for cell in first_design(300, 3, 30, seed=0):
        asked[cell] = True
    assert (asked.sum(axis=0) == 30).all()
    posterior, taken = posterior_of(pool, asked), takes(pool.cost_usd, "dollars")
    cells = next_round(posterior, asked, pool.cost_usd, taken, 10.0, random=0.5, most=500, seed=1)
    assert len(set(cells)) == len(cells) and not any(asked[cell] for cell in cells)
    used = sum(taken[column] for _, column in cells)
    assert 5.0 < used <= 10.0
    assert len(next_round(posterior, asked, pool.cost_usd, taken, 1e9, random=0.5, most=7, seed=1)) == 7
    assert len(next_round(posterior, asked, pool.cost_usd, taken, 0.0, random=0.5, most=7, seed=1)) == 1
    everything = next_round(posterior, asked, pool.cost_usd, taken, 1e9, random=0.3, most=asked.size, seed=1)
    assert sorted(everything) == sorted(map(tuple, np.argwhere(~asked).tolist()))
    assert cells == next_round(posterior, asked, pool.cost_usd, taken, 10.0, random=0.5, most=500, seed=1)


def test_the_best_are_taken_for_what_they_take() -> None:
    score = np.array([[1.0, 9.0], [3.0, 8.0], [2.0, 50.0]])
    asked = np.zeros((3, 2), bool)
    asked[1, 0] = True
    assert best_first(score, asked, np.array([1.0, 10.0]), 13.0, most=9) == [(2, 1), (2, 0), (0, 0)]
    assert best_first(score, asked, np.array([1.0, 1.0]), 2.0, most=9) == [(2, 1), (0, 1)]


def test_free_models_take_a_little() -> None:
    assert takes(np.zeros(3), "dollars") == pytest.approx([1, 1, 1])
    dollars = takes(np.array([0.0, 0.01, 1.0]), "dollars")
    assert dollars[0] > 0 and dollars[2] / dollars[1] == pytest.approx(100)
    assert takes(np.array([0.0, 1.0]), "cells") == pytest.approx([1, 1])
    assert takes(np.array([1.0, 3.0]), "both") == pytest.approx([0.75, 1.25])


def test_with_one_model_there_is_nothing_to_gain() -> None:
    pool = SimulatedCells(queries=50, models=1)
    asked = np.zeros(pool.quality.shape, bool)
    asked[:10] = True
    assert outlook(posterior_of(pool, asked), pool.cost_usd).enough


def test_what_another_price_makes_good_is_no_loss() -> None:
    """An error that moves the difference of two models alike on all queries changes no assignment at a given budget."""
    pool = SimulatedCells(queries=60, models=2)
    posterior = posterior_of(pool, np.random.default_rng(0).random(pool.quality.shape) < 0.7)
    rows, price = np.arange(4), prices_at_work(posterior.chance, pool.cost_usd, 1)
    inputs, slope = posterior.places[rows], posterior.slope[rows]
    difference = slope[:, 1:] * direction(inputs, 2, 1) - slope[:, :1] * direction(inputs, 2, 0)
    alike, mixed = (np.linalg.pinv(difference) @ error for error in (np.ones(4), np.array([1.0, -1.0, 1.0, -1.0])))
    weights = loss_weights(posterior, pool.cost_usd, price, rows)
    assert mixed @ weights @ mixed > 0
    assert abs(alike @ weights @ alike) < 1e-9 * (mixed @ weights @ mixed)
