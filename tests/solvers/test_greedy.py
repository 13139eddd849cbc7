"""Routoo's selector, choice for choice against the formula, with what makes it worse than it looks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import Problem, ProblemError, exact, greedy_ratio

CAREFUL = settings(deadline=None, derandomize=True, max_examples=100)
POWERS = {0.0: lambda cost: 1.0, 0.5: math.sqrt, 1.0: lambda cost: cost, 2.0: lambda cost: cost * cost}


def by_the_formula(value: np.ndarray, cost: np.ndarray, budget: float, alpha: float) -> list[int]:
    """Query after query the largest value / cost^alpha that the rest of the budget pays for; -1 where none is."""
    paid: list[float] = []
    choices = []
    for values, costs in zip(value.tolist(), cost.tolist(), strict=True):
        best, best_key = -1, None
        for model, (worth, price) in enumerate(zip(values, costs, strict=True)):
            if math.isnan(worth) or math.fsum([*paid, price]) > budget * (1 + 1e-12):
                continue
            power = POWERS[alpha](price)
            ratio = worth / power if power else (math.inf if worth > 0 else 0.0)
            key = (ratio, -price)
            if best_key is None or key > best_key:
                best, best_key = model, key
        choices.append(best)
        if best >= 0:
            paid.append(costs[best])
    return choices


TENTHS = st.integers(0, 10).map(lambda count: count / 10)
CELLS = [st.sampled_from([0.0, 1.0]), TENTHS, st.floats(0.0, 1.0).filter(lambda number: number == 0 or number > 1e-6)]


@st.composite
def batches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, float]:
    """Values (NaN where a model may not answer), costs, and a budget that pays for the cheapest assignment."""
    shape = queries, models = draw(st.integers(1, 8)), draw(st.integers(1, 4))
    size = queries * models
    value = np.array(draw(st.lists(draw(st.sampled_from(CELLS)), min_size=size, max_size=size))).reshape(shape)
    cost = np.array(draw(st.lists(draw(st.sampled_from(CELLS)), min_size=size, max_size=size))).reshape(shape)
    masked = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size))).reshape(shape)
    masked[:, draw(st.integers(0, models - 1))] = False
    if draw(st.booleans()):
        value[masked] = np.nan
    cheapest = np.where(np.isnan(value), np.inf, cost).min(axis=1)
    least, most = math.fsum(cheapest), math.fsum(cost.max(axis=1))
    between = least + draw(st.floats(0.0, 1.0)) * (most - least)
    return value, cost, draw(st.sampled_from([least, between, most]))


@CAREFUL
@given(batches(), st.sampled_from(list(POWERS)))
def test_every_choice_is_the_one_that_the_formula_names(batch: tuple[np.ndarray, np.ndarray, float], alpha: float):
    value, cost, budget = batch
    problem = Problem(value, cost, budget, available=~np.isnan(value))
    found = greedy_ratio(problem, alpha=alpha, reserve=False)
    assert found.choice.tolist() == by_the_formula(value, cost, budget, alpha)


def test_a_long_batch_follows_the_formula_too():
    generator = np.random.default_rng(0)
    value, cost = generator.uniform(size=(500, 5)), generator.uniform(0.01, 1, size=(500, 5))
    for alpha in POWERS:
        for budget in (cost.min(axis=1).sum() * 1.1, 120.0, 200.0):
            found = greedy_ratio(Problem(value, cost, budget), alpha=alpha, reserve=False)
            assert found.choice.tolist() == by_the_formula(value, cost, budget, alpha)


def test_ties_go_to_the_cheaper_model():
    problem = Problem([[0.6, 0.3, 0.0], [0.0, 0.0, 0.0]], [[2.0, 1.0, 0.5], [3.0, 1.0, 2.0]], 10.0)
    assert greedy_ratio(problem).choice.tolist() == [1, 1]


def test_a_free_answer_that_is_worth_anything_is_taken_first():
    problem = Problem([[0.9, 0.1], [0.9, 0.0]], [[0.001, 0.0], [0.001, 0.0]], 1.0)
    assert greedy_ratio(problem).choice.tolist() == [1, 0]


def test_it_depends_on_the_order_of_the_queries():
    """The same thirty queries, back to front: another value, while the best value is the same."""
    generator = np.random.default_rng(1)
    value, cost = generator.uniform(size=(30, 3)), generator.uniform(0.05, 1, size=(30, 3))
    budget = cost.min(axis=1).sum() * 1.2
    there, back = Problem(value, cost, budget), Problem(value[::-1], cost[::-1], budget)
    for reserve in (True, False):
        forward, backward = (greedy_ratio(problem, alpha=0.1, reserve=reserve).value for problem in (there, back))
        assert abs(forward - backward) > 0.1
    assert exact(there).value == pytest.approx(exact(back).value, abs=1e-11)


def test_to_the_letter_it_spends_early_and_leaves_the_rest_unanswered():
    value, cost = np.tile([0.6, 0.9], (10, 1)), np.array([0.1, 1.0])
    problem = Problem(value, cost, 3.0)
    found = greedy_ratio(problem, alpha=0.0, reserve=False)
    assert found.choice.tolist() == [1, 1, 1] + [-1] * 7
    assert found.unanswered == 7
    assert (found.value, found.cost_usd) == (math.fsum([0.9] * 3), 3.0)


def test_with_a_reserve_everything_is_answered():
    value, cost = np.tile([0.6, 0.9], (10, 1)), np.array([0.1, 1.0])
    found = greedy_ratio(Problem(value, cost, 3.0), alpha=0.0)
    assert found.choice.tolist() == [1, 1] + [0] * 8
    assert found.unanswered == 0


def test_the_reserve_is_met_to_the_last_digit():
    """A budget of exactly the cheapest assignment leaves no choice, whatever ten times 0.1 adds up to."""
    for count in (3, 10, 1000):
        found = greedy_ratio(Problem(np.tile([0.1, 0.9], (count, 1)), [0.1, 0.3], math.fsum([0.1] * count)), alpha=0.0)
        assert found.choice.tolist() == [0] * count


@pytest.mark.parametrize("reserve", [True, False])
def test_with_right_or_wrong_as_value_alpha_has_no_effect(reserve: bool):
    generator = np.random.default_rng(2)
    value = (generator.uniform(size=(200, 4)) < 0.5).astype(float)
    cost = generator.choice([0.01, 0.02, 0.1, 0.5], size=(200, 4))
    problem = Problem(value, cost, float(cost.min(axis=1).sum() * 1.5))
    found = [greedy_ratio(problem, alpha=alpha, reserve=reserve) for alpha in (0, 0.01, 0.5, 1, 3)]
    assert len({tuple(one.choice.tolist()) for one in found}) == 1


def test_with_graded_values_alpha_does_have_an_effect():
    generator = np.random.default_rng(2)
    problem = Problem(generator.uniform(size=(200, 4)), generator.uniform(0.01, 1, size=(200, 4)), 100.0)
    assert greedy_ratio(problem, alpha=0.0).choice.tolist() != greedy_ratio(problem, alpha=3.0).choice.tolist()


@pytest.mark.parametrize("alpha", [-0.1, math.nan, math.inf, -math.inf])
def test_an_alpha_that_is_negative_or_no_number_is_rejected(alpha: float):
    with pytest.raises(ProblemError, match="alpha="):
        greedy_ratio(Problem([[1.0]], [[1.0]], 1.0), alpha=alpha)


def test_no_answer_is_the_last_resort_where_it_is_allowed():
    """A query that is worth nothing is still answered while the money lasts, and left out when it does not."""
    problem = Problem([[0.0], [0.5], [0.5]], [1.0], 2.0, allow_unanswered=True)
    assert greedy_ratio(problem).choice.tolist() == [0, 0, -1]


def test_a_model_that_may_not_answer_is_not_chosen_when_the_free_one_does_harm():
    """The only available model costs nothing and is worth less than nothing: it answers all the same."""
    available = np.array([[False, True]])
    problem = Problem([[np.nan, -1.0]], [[np.nan, 0.0]], 1.0, available=available)
    assert greedy_ratio(problem).choice.tolist() == [1]


@pytest.mark.parametrize("reserve", [True, False])
def test_a_sum_that_rounds_to_just_above_the_budget_is_not_spent(reserve: bool):
    """0.1 + 0.7 + 1.1 is one representable number above what this budget and its tolerance allow."""
    budget = 1.8999999999980997
    assert math.fsum([0.1, 0.7, 1.1]) > budget * (1 + 1e-12)
    problem = Problem([[0.0, 1.0]] * 3, [[0.0, 0.1], [0.0, 0.7], [0.0, 1.1]], budget)
    found = greedy_ratio(problem, alpha=0.0, reserve=reserve)
    assert found.choice.tolist() == [1, 1, 0]
    assert found.cost_usd <= budget * (1 + 1e-12)
