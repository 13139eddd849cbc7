"""The controller of a hard budget: what holds for any costs up to the worst case, in any order of settling."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxroute.batch.hard_budget as hard_budget
from jaxroute.batch.hard_budget import NO_MODEL, NOTHING_FITS, Batch, Call, HardBudget, Pace
from solvers import Problem, lagrangian, solve


def answer_all(controller: HardBudget, cost: np.ndarray, *, failing: Collection = (), seed: int = 0) -> None:
    """Settle calls under way in a random order; `failing` cells cost their worst case and give no answer."""
    order = np.random.default_rng(seed)
    under_way: list[Call] = []
    while not controller.finished:
        under_way += controller.calls()
        assert controller.settled_usd + math.fsum(call.worst_usd for call in under_way) <= controller.budget_usd * (1 + 1e-9)
        if under_way:
            call = under_way.pop(int(order.integers(len(under_way))))
            failed = (call.query, call.model) in failing
            paid = call.worst_usd if failed else float(cost[call.query, call.model])
            controller.settle(call, paid, answered=not failed)


def drawn(seed: int, queries: int, models: int) -> tuple[Batch, np.ndarray]:
    """A batch of models that cost powers of ten, expected well or badly, and the true costs."""
    generator = np.random.default_rng(seed)
    scale = 10.0 ** np.arange(models) * 1e-4
    expected = scale * generator.lognormal(0.0, 0.3, (queries, models))
    worst = expected * generator.uniform(1.0, 20.0, (queries, models))
    true = expected + (worst - expected) * generator.beta(0.5, generator.choice([0.5, 3.0]), (queries, models))
    quality = generator.uniform(size=(queries, models)) + 0.2 * np.arange(models)
    return Batch(quality, expected, worst), true


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 25),
    models=st.integers(1, 4),
    share=st.floats(0.0, 1.5),
    guarantee=st.booleans(),
    at_worst=st.booleans(),
)
def test_the_budget_holds_for_any_costs_up_to_the_worst_case(
    seed: int, queries: int, models: int, share: float, guarantee: bool, at_worst: bool
) -> None:
    batch, true = drawn(seed, queries, models)
    budget = share * float(batch.worst_usd.mean(axis=1).sum())
    controller = HardBudget(batch, budget, Pace(concurrent_calls=5, guarantee=guarantee, seed=seed % 7))
    answer_all(controller, batch.worst_usd if at_worst else true, seed=seed)
    assert controller.settled_usd <= budget * (1 + 1e-9)
    assert set(controller.unanswered) == set(np.flatnonzero(controller.choice < 0))
    for query in controller.unanswered:
        # It says that nothing fits only where nothing does, also at the end.
        assert batch.worst_usd[query].min() > budget - controller.settled_usd - 1e-15


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), queries=st.integers(1, 25), spare=st.floats(1.0, 5.0), at_worst=st.booleans())
def test_with_a_guarantee_every_prompt_is_answered_where_the_cheapest_worst_cases_fit(
    seed: int, queries: int, spare: float, at_worst: bool
) -> None:
    batch, true = drawn(seed, queries, 3)
    budget = spare * math.fsum(batch.worst_usd.min(axis=1))
    controller = HardBudget(batch, budget, Pace(concurrent_calls=8, guarantee=True))
    answer_all(controller, batch.worst_usd if at_worst else true, seed=seed)
    assert not controller.unanswered


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_costs_as_expected_give_the_assignment_made_once(share: float) -> None:
    batch, _ = drawn(1, 60, 3)
    certain = Batch(batch.quality, batch.expected_usd, batch.expected_usd)
    least, most = (float(end(certain.expected_usd, axis=1).sum()) for end in (np.min, np.max))
    budget = least + share * (most - least)
    controller = HardBudget(certain, budget, Pace(concurrent_calls=7))
    answer_all(controller, certain.expected_usd)
    once = lagrangian(Problem(certain.quality, certain.expected_usd, budget))
    assert controller.choice.tolist() == once.choice.tolist()
    assert controller.plans == 1


def test_more_money_never_buys_less() -> None:
    batch, _ = drawn(2, 40, 3)
    certain = Batch(batch.quality, batch.expected_usd, batch.expected_usd)
    bought = []
    for budget in np.geomspace(batch.expected_usd.min(axis=1).sum() * 0.3, batch.expected_usd.max(axis=1).sum(), 9):
        controller = HardBudget(certain, float(budget), Pace(solver="exact"))
        answer_all(controller, certain.expected_usd)
        done = controller.choice >= 0
        bought.append((int(done.sum()), float(batch.quality[done, controller.choice[done]].sum())))
    assert bought == sorted(bought) and bought[0][0] < bought[-1][0] == 40


def test_overruns_are_paid_by_cheaper_models_and_savings_buy_quality() -> None:
    batch, _ = drawn(3, 300, 3)
    budget = 0.3 * float(batch.expected_usd[:, 2].sum())
    once = solve(Problem(batch.quality, batch.expected_usd, budget)).choice
    worst = Batch(batch.quality, batch.expected_usd, 4 * batch.expected_usd)
    means = {}
    for factor in (0.6, 1.5):
        controller = HardBudget(worst, budget, Pace(concurrent_calls=10))
        answer_all(controller, factor * batch.expected_usd)
        assert 0.97 * budget < controller.settled_usd <= budget
        assert not controller.unanswered
        assert controller.ratios == pytest.approx(factor, rel=0.2)
        means[factor] = batch.quality[np.arange(300), controller.choice].mean()
    assert means[0.6] > batch.quality[np.arange(300), once].mean() > means[1.5]


def test_a_failed_call_goes_to_the_next_best_model_and_is_never_repeated() -> None:
    batch, true = drawn(4, 30, 3)
    failing = {(query, model) for query in range(30) for model in range(3) if (query + model) % 3 == 0 or query == 7}
    controller = HardBudget(batch, 1e9)
    answer_all(controller, true, failing=failing)
    assert controller.unanswered == {7: NO_MODEL}
    answered = [query for query in range(30) if query != 7]
    assert not {(query, int(controller.choice[query])) for query in answered} & failing
    best = np.where([[(q, m) in failing for m in range(3)] for q in answered], -np.inf, batch.quality[answered]).argmax(axis=1)
    assert controller.choice[answered].tolist() == best.tolist()


def test_masks_capacities_and_places_hold() -> None:
    batch, true = drawn(5, 40, 3)
    available = np.ones((40, 3), bool)
    available[:10, 2] = False
    limited = Batch(batch.quality, batch.expected_usd, batch.worst_usd, available, np.array([40, 12, 5]))
    controller = HardBudget(limited, 1e9, places=[2, 3, 1])
    most, under_way = np.zeros(3, int), []
    while not controller.finished:
        under_way += controller.calls()
        most = np.maximum(most, np.bincount([call.model for call in under_way], minlength=3))
        call = under_way.pop()
        controller.settle(call, float(true[call.query, call.model]))
    counts = np.bincount(controller.choice, minlength=3)
    assert counts[1] == 12 and counts[2] == 5 and not (controller.choice[:10] == 2).any()
    assert most.tolist() == [2, 3, 1]


def test_what_an_earlier_run_did_is_not_done_again() -> None:
    batch, true = drawn(6, 30, 3)
    budget = 0.4 * float(batch.expected_usd[:, 2].sum())
    controller = HardBudget(batch, budget, spent_usd=0.25 * budget)
    for query in range(10):
        controller.restore(query, 1, float(true[query, 1]), answered=True)
    controller.restore(10, 0, 0.0, answered=False)
    answer_all(controller, true)
    assert (controller.choice[:10] == 1).all() and controller.choice[10] != 0
    assert controller.settled_usd <= budget and controller.settled_usd > 0.25 * budget


def test_a_prompt_that_nothing_fits_says_so_and_the_others_are_answered() -> None:
    worst = np.array([[1.0, 2.0], [5.0, 9.0], [1.0, 2.0]])
    controller = HardBudget(Batch(np.array([[0.2, 0.9]] * 3), worst / 2, worst), 4.0)
    answer_all(controller, worst / 2)
    assert controller.unanswered == {1: NOTHING_FITS}
    assert controller.choice[[0, 2]].min() >= 0


@pytest.mark.parametrize("solver", ["lagrangian", "exact", "auto"])
def test_answers_under_way_wait_for_no_long_search(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a plan is searched for, no answer is read: a search of a minute would end calls by time-outs, which are paid."""
    searched = []

    def watched(problem: Problem, name: str, max_seconds: float | None = None):
        searched.append(max_seconds)
        return solve(problem, name) if max_seconds is None else solve(problem, name, max_seconds=max_seconds)

    monkeypatch.setattr(hard_budget, "solve", watched)
    batch, true = drawn(3, 10, 3)
    answer_all(HardBudget(batch, float(true.sum()), Pace(solver=solver)), true)
    assert searched and all(one is None if solver == "lagrangian" else one <= 1 for one in searched)
