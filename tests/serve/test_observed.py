"""What is observed of a stream of requests: the latest count most, and workers add up to one that has seen all."""

from __future__ import annotations

import pytest

from jaxroute.serve.observed import COSTS_REMEMBERED, REPLACED, Costs, Rate, Sample


def test_a_sample_keeps_the_latest_and_knows_who_was_no_candidate():
    sample = Sample(rows=3)
    for number in range(5):
        sample.add({"small": (number / 10, 1.0)} | ({"large": (0.9, 2.0)} if number == 4 else {}))
    problem = sample.problem()
    assert len(sample) == len(problem) == 3
    assert sorted(problem.value[:, 0].tolist()) == [0.2, 0.3, 0.4]
    assert problem.available is not None and problem.available[:, 1].sum() == 1


def test_a_request_takes_the_place_of_training_prompts():
    before = [{"small": (0.5, 0.01), "large": (0.5 + 0.4 * row / 100, 1.0)} for row in range(100)]
    sample = Sample(rows=10, before=before)
    sample.add({"other": (0.9, 2.0)})
    assert len(sample) == 1 + 100 - REPLACED and sample.problem().value.shape == (len(sample), 3)


def test_costs_follow_what_is_paid_and_those_of_workers_add_up():
    workers = [Costs(), Costs()]
    assert workers[0].ratio == 1
    for _ in range(int(5 * COSTS_REMEMBERED)):
        workers[0].add(1.0, 2.0)
    assert workers[0].ratio == pytest.approx(2, rel=0.05) and workers[0].count == pytest.approx(COSTS_REMEMBERED, rel=0.01)
    workers[1].add(3.0, 3.0)
    named = {name: value for number, one in enumerate(workers) for name, value in one.named(f"w{number}").items()}
    together = Costs.together([Costs.read(named, f"w{number}") for number in range(2)])
    assert together.paid_usd == workers[0].paid_usd + 3 and together.count == workers[0].count + 1


def test_a_rate_forgets_and_a_first_burst_is_spread():
    rate = Rate(0.0, 1_000.0, None)
    rate.saw(0.1, 20)
    # Too few to say more than that they came within the first part of the window.
    assert rate.per_second == rate.spread_per_second == pytest.approx(20 / 5, rel=0.01)
    for second in range(1, 500):
        rate.saw(float(second), 1 if second < 200 else 3)
    assert rate.per_second == pytest.approx(3, rel=0.1)
