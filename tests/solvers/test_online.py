"""A stream within a budget: never above it, near to what could be done with hindsight, whatever is paid."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import Pacer, Problem, ProblemError, frontier, lagrangian

COST = np.array([0.01, 0.1, 1.0])


def outcomes(queries: int, seed: int) -> np.ndarray:
    """Values of three models, of which the more expensive ones are better by amounts that differ between queries."""
    generator = np.random.default_rng(seed)
    base = generator.uniform(0, 0.5, queries)
    return np.stack([base, base + generator.exponential(0.1, queries), base + generator.exponential(0.25, queries)], axis=1)


def answered(pacer: Pacer, value: np.ndarray, cost: np.ndarray = COST) -> np.ndarray:
    """The choice for each query in turn, each paid as expected."""
    choices = []
    for one in value:
        choice = pacer.choose(one, cost)
        choices.append(choice)
        if choice < 0:
            pacer.skip()
            continue
        pacer.begin(cost[choice])
        pacer.end(cost[choice], paid_usd=cost[choice])
    return np.array(choices)


def test_a_stream_gets_nearly_what_hindsight_gets():
    """Like the sample, in random order: 99 percent of what hindsight gains over the cheapest model."""
    sample, stream = outcomes(3000, 0), outcomes(3000, 1)
    for budget in (300.0, 900.0, 1800.0):
        choices = answered(Pacer(Problem(sample, COST), budget, len(stream)), stream)
        best = lagrangian(Problem(stream, COST, budget))
        cheapest = stream[:, 0].sum()
        gained = stream[np.arange(len(stream)), choices].sum() - cheapest
        assert 0.99 * (best.value - cheapest) <= gained <= best.bound - cheapest
        spent = math.fsum(COST[choices])
        assert 0.99 * budget <= spent <= budget * (1 + 1e-12)


def test_a_drifting_stream_wants_a_small_correction():
    """Easy queries first: what they leave unspent buys more at the end where the pacer has not given it away at once."""
    sample, stream = outcomes(3000, 2), outcomes(3000, 3)
    stream = stream[np.argsort(stream[:, 2] - stream[:, 0])]
    values = {}
    for correction in (1.0, 0.1):
        choices = answered(Pacer(Problem(sample, COST), 900.0, len(stream), correction=correction), stream)
        values[correction] = stream[np.arange(len(stream)), choices].sum()
    assert values[0.1] > values[1.0]


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    budget=st.floats(0, 5),
    events=st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1), st.booleans()), max_size=60),
    horizon=st.integers(1, 80),
    factor=st.floats(1, 8),
)
def test_nothing_is_ever_paid_above_the_budget(
    budget: float, events: list[tuple[int, float, bool]], horizon: int, factor: float
):
    """Any number of queries at once, any payment up to the worst case, and more queries than were said to come."""
    pacer = Pacer(Problem(outcomes(20, 4), COST), budget, horizon)
    worst, waiting, paid = factor * COST, [], []
    for seed, share, ends in events:
        choice = pacer.choose(outcomes(1, seed)[0], COST, worst)
        held = math.fsum(worst[one] for one in waiting)
        if choice < 0:
            # Refused only where not even the cheapest fits.
            assert math.fsum([held, *paid, worst[0]]) > budget
            pacer.skip()
        else:
            pacer.begin(COST[choice], worst[choice])
            waiting.append(choice)
        assert math.fsum([*paid, *(worst[one] for one in waiting)]) <= budget * (1 + 1e-12)
        if ends and waiting:
            one = waiting.pop(0)
            pacer.end(COST[one], worst[one], paid_usd=share * worst[one])
            paid.append(share * worst[one])
    assert pacer.paid_usd == pytest.approx(math.fsum(paid))


def test_the_reserve_lets_the_last_query_be_answered():
    """Queries that gain more than the sample's spend all early; with a reserve the cheapest model is left for everyone."""
    sample, stream = outcomes(500, 5), outcomes(500, 6) + np.array([0, 0, 5])
    unreserved = answered(Pacer(Problem(sample, COST), 20.0, 500, every=500), stream)
    reserved = answered(Pacer(Problem(sample, COST), 20.0, 500, every=500, reserve_usd=0.01), stream)
    assert (unreserved < 0).any() and (reserved >= 0).all()
    assert math.fsum(COST[reserved]) <= 20.0 * (1 + 1e-12)


def test_the_multiplier_is_that_of_the_sample_at_the_even_rate():
    sample = Problem(outcomes(400, 7), COST)
    pacer = Pacer(sample, 250.0, 1000)
    assert pacer.multiplier == frontier(sample).multiplier_at(0.25 * 400)
    pacer.expect(2000)
    assert pacer.multiplier == frontier(sample).multiplier_at(0.125 * 400)
    pacer.expect(10**9)
    assert pacer.multiplier == math.inf and pacer.choose(np.array([0.0, 1.0, 1.0]), COST) == 0


def test_what_is_in_flight_counts_as_spent_as_expected():
    """Before it ends at its expected cost, after it at what was paid."""
    sample = Problem(outcomes(400, 7), COST)
    pacer = Pacer(sample, 100.0, 400, every=1, correction=1.0)
    for _ in range(20):
        pacer.begin(1.0, 3.0)
    assert pacer.multiplier == frontier(sample).multiplier_at(80 / 380 * 400)
    for _ in range(20):
        pacer.end(1.0, 3.0, paid_usd=2.0)
    pacer.expect(400)
    assert pacer.multiplier == frontier(sample).multiplier_at(60)


def test_what_is_locked_in_worst_cases_is_not_planned_with():
    """Ten queries to come, but what fifty in flight hold beyond what is expected pays for 150 at their rate."""
    sample = Problem(outcomes(400, 7), COST)
    budget = 45.0
    pacer = Pacer(sample, budget, 60, every=1, correction=1.0)
    for _ in range(50):
        pacer.begin(0.2, 0.8)
    assert pacer.multiplier == frontier(sample).multiplier_at((budget - 10) / 150 * 400)
    assert pacer.multiplier > Pacer(sample, budget - 10, 10, correction=1.0).multiplier


def test_the_correction_grows_towards_the_end():
    """Half-way through, nothing spent: a quarter of the way from kappa to 1."""
    sample = Problem(outcomes(400, 7), COST)
    pacer = Pacer(sample, 40.0, 200, every=1, correction=0.2)
    for _ in range(100):
        pacer.skip()
    assert pacer.multiplier == frontier(sample).multiplier_at((0.2 + (0.2 + 0.8 / 4) * 0.2) * 400)


def test_a_price_that_doubles_is_followed():
    sample, stream = outcomes(1000, 8), outcomes(2000, 9)
    pacer = Pacer(Problem(sample, COST), 600.0, 2000)
    first = answered(pacer, stream[:1000])
    doubled = COST * [1, 1, 2]
    pacer.sample(Problem(sample, doubled))
    second = answered(pacer, stream[1000:], doubled)
    assert math.fsum(COST[first]) + math.fsum(doubled[second]) == pytest.approx(600, rel=0.01)
    assert (second == 2).sum() < 0.7 * (first == 2).sum()


def test_a_model_that_cannot_be_asked_is_not_chosen():
    pacer = Pacer(Problem(outcomes(50, 10), COST), 50.0, 50)
    assert pacer.choose(np.array([0.0, 1.0, 2.0]), COST, available=np.array([True, False, False])) == 0
    assert pacer.choose(np.array([0.0, 1.0, 2.0]), COST, available=np.zeros(3, bool)) == -1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"budget_usd": math.nan}, "budget_usd=nan"),
        ({"queries": 0}, "queries=0 must be at least 1"),
        ({"every": 0}, "every=0"),
        ({"correction": 0}, "correction=0 must be > 0"),
        ({"correction": math.nan}, "correction=nan"),
        ({"reserve_usd": -1}, "reserve_usd=-1"),
    ],
)
def test_what_cannot_work_is_named(wrong: dict, says: str):
    with pytest.raises(ProblemError, match=says):
        Pacer(**({"sample": Problem(outcomes(5, 0), COST), "budget_usd": 1.0, "queries": 5} | wrong))
    pacer = Pacer(Problem(outcomes(5, 0), COST), 1.0, 5)
    with pytest.raises(ProblemError, match="more than is left"):
        pacer.begin(0.1, 1.5)
