"""Savings: what a router that knows something saves is found, what none saves is not, and its own cost is taken off."""

from __future__ import annotations

import numpy as np
import pytest

from jaxroute import RoutingTable
from jaxroute.contest.judging import enter, judge
from jaxroute.contest.rows import make_contest
from jaxroute.contest.savings import RouterPrice, Savings, in_words, savings
from solvers import lagrangian


def contest_of(rows: int, *, signal: bool):
    """Half of the questions are hard, which only the strong model answers, at ten times the cost."""
    generator = np.random.default_rng(0)
    parts = []
    for name in ("train", "test"):
        hard = generator.random(rows) < 0.5
        share = np.stack([np.where(hard & signal, 0.2, 0.87 if signal else 0.75), np.full(rows, 0.85)], axis=1)
        parts.append(
            RoutingTable(
                prompts=[f"{name} {'hard' if one else 'easy'} {row}" for row, one in enumerate(hard)],
                models=["cheap", "strong"],
                quality=(generator.random((rows, 2)) < share).astype(float),
                cost_usd=np.tile([0.001, 0.01], (rows, 1)),
            )
        )
    return make_contest(*parts, resamples=100)


def found_by(contest, price: RouterPrice | None = None) -> Savings:
    hard = np.array(["hard" in prompt for prompt in contest.test.prompts])
    estimates = np.stack([np.where(hard, 0.2, 0.8), np.full(len(hard), 0.85)], axis=1)
    entry = enter(contest, "by difficulty", "", estimates, lagrangian, budgets=21)
    found = savings(contest, [judge(contest, entry, shuffles=99)], price or RouterPrice(), shuffles=99)
    assert found is not None
    return found


def test_a_router_that_knows_something_helps_and_says_how_much() -> None:
    contest = contest_of(600, signal=True)
    found = found_by(contest)
    assert found.helps(found.best)
    # Nearly half of the questions are answered at a tenth.
    assert found.best.over_best.value == pytest.approx(0.5 * 0.009, rel=0.4)
    assert "yes, by difficulty does" in in_words(contest, found)


def test_no_router_helps_where_there_is_nothing_to_know() -> None:
    contest = contest_of(600, signal=False)
    found = found_by(contest)
    words = in_words(contest, found)
    assert not found.helps(found.best) and "no router helps here" in words
    needed = found.further_outcomes()
    assert ("further test queries" in words) == (needed is not None)


def test_what_a_router_costs_itself_is_taken_off() -> None:
    contest = contest_of(600, signal=True)
    free, priced = found_by(contest), found_by(contest, RouterPrice(router_usd=0.02))
    assert free.best.over_best.value - priced.best.over_best.value == pytest.approx(0.02)
    assert not priced.helps(priced.best)
    words = in_words(contest, priced)
    assert "against always strong: costs " in words and "saves -" not in words


def test_a_router_that_asks_one_model_for_everything_is_said_to_be_that_model() -> None:
    contest = contest_of(600, signal=True)
    same = np.tile([0.2, 0.85], (len(contest.test), 1))
    entry = enter(contest, "always strong", "", same, lagrangian, budgets=21)
    found = savings(contest, [judge(contest, entry, shuffles=99)], RouterPrice(), shuffles=99)
    assert found is not None and found.best.always == "strong" and found_by(contest).best.always is None
    words = in_words(contest, found)
    assert "the one that was tried is not shown" in words and "saves 0 (0 to 0)" in words
    assert "it asks strong for every query here" in words and "leaves no gain open" not in words
