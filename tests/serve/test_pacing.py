"""The price follows the ledger: streams in virtual time gain nearly what hindsight does, and no load overspends."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.pace_simulation import HOUR, Stream, answer, random_stream, temporary_ledger
from jaxroute.commands.simulate import models_yaml
from jaxroute.endpoints.ledger import Ledger
from jaxroute.endpoints.models import Endpoint
from jaxroute.endpoints.prices import TokenPrice
from jaxroute.serve.accounts import Accounts, Budget
from jaxroute.serve.choosing import Candidate, FixedPace, Ranked
from jaxroute.serve.clients import new_key
from jaxroute.serve.pacing import MOST_MULTIPLIER, LedgerPace, PaceOfBoth
from jaxroute.serve.shared_price import SharedPrice
from jaxroute.serve.state import ServeConfig, read_state
from tests.serve.proxies import MESSAGES, proxy, three_models


def estimates(quality: dict[str, float], cost_usd: dict[str, float]) -> list[Ranked]:
    return [
        Ranked(Candidate(Endpoint(name, "http://127.0.0.1", name, TokenPrice(1.0, 1.0)), 1.0), quality[name], cost_usd[name])
        for name in quality
    ]


def seen(pace: LedgerPace | PaceOfBoth, requests: int = 100) -> None:
    """Requests whose better answer is worth more on some than on others."""
    for request in range(requests):
        pace.saw(estimates({"small": 0.5, "large": 0.5 + 0.4 * request / requests}, {"small": 0.01, "large": 1.0}))


class Clock:
    now = 10 * HOUR

    def __call__(self) -> float:
        return self.now


def test_an_hour_gains_nearly_what_hindsight_does():
    stream = random_stream(3_000, seed=0)
    exact = Stream(stream.value, stream.cost_usd, np.ones(3_000), stream.cap)
    budget = 0.4 * float(stream.cost_usd[:, -1].sum())
    outcome = answer(exact, budget)
    assert exact.gain(outcome.value, budget) > 0.97
    assert outcome.spent_usd <= budget and not outcome.overspend_usd


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("endless", [False, True])
def test_ten_thousand_in_random_order_gain_99_percent(share: float, endless: bool):
    stream = random_stream(10_000, seed=3)
    exact = Stream(stream.value, stream.cost_usd, np.ones(10_000), stream.cap)
    budget = share * float(stream.cost_usd[:, -1].sum())
    outcome = answer(exact, budget, window=None, expected_requests=10_000) if endless else answer(exact, budget)
    assert exact.gain(outcome.value, budget) >= 0.99 and not outcome.overspend_usd


def test_bursts_cuts_wrong_usage_and_kills_never_overspend():
    stream = random_stream(1_500, seed=1)
    for share in (0.02, 0.3):
        budget = share * float(stream.cost_usd[:, -1].sum())
        outcome = answer(stream, budget, adversarial=True, at_once=40)
        assert outcome.overspend_usd == 0 and outcome.spent_usd <= budget and outcome.abandoned
    without = answer(stream, budget, adversarial=True, at_once=40, reserve=False)
    assert outcome.least_refused <= outcome.refused <= without.refused and without.overspend_usd == 0


@pytest.mark.parametrize("adversarial", [False, True])
def test_money_is_left_for_cheap_answers_to_a_load_that_nobody_has_forecast(adversarial: bool):
    stream = random_stream(500, seed=2)
    budget = 0.1 * float(stream.cost_usd[:, -1].sum())

    def refused(*, reserve: bool) -> tuple[float, int]:
        outcome = answer(stream, budget, adversarial=adversarial, rising=2.0, at_once=20, reserve=reserve)
        assert not outcome.overspend_usd
        return (outcome.refused - outcome.refused_by_name) / (500 - outcome.by_name), outcome.refused

    share, count = refused(reserve=True)
    assert share < 0.03 and count < refused(reserve=False)[1] / 2


def test_what_is_kept_grows_with_the_requests_to_come_and_the_cheapest_answer_needs_no_leave():
    allowed = []
    for expected in (10, 100, 1_000, 10_000):
        clock = Clock()
        with temporary_ledger(100.0, None, clock) as ledger, temporary_ledger(5.0, None, clock) as other:
            pace = LedgerPace(ledger, expected_requests=expected, clock=clock)
            assert pace.most_usd(ledger, 100.0, 1.0) == 100.0, "nothing is known of requests yet"
            seen(pace)
            clock.now += 2
            allowed.append(pace.most_usd(ledger, 100.0, 0.5))
            assert pace.most_usd(ledger, 0.3, 0.5) == 0.3 and pace.most_usd(other, 5.0, 0.5) == 5.0
            assert pace.most_usd(ledger, 100.0, 1e9) == 100.0
    # Expected to cost 0.01, at most 1: kept are 0.02 for each, and 1 for sixteen.
    assert allowed == pytest.approx([100 - 10 * 1.0, 100 - 100 * 0.02 - 16 * 0.98, 100 - 1_000 * 0.02 - 16 * 0.98, 0.5])


def test_the_share_of_requests_by_name_is_what_it_was_however_many_have_come():
    clock = Clock()
    with temporary_ledger(1e6, None, clock) as ledger:
        pace = LedgerPace(ledger, expected_requests=100_000, clock=clock)
        seen(pace)
        for request in range(8_000):
            expected = 2.0 if request % 10 == 0 else 1.0
            pace.begin(expected, 2.0)
            pace.end(expected, 2.0, paid_usd=1.0)
        clock.now += 2
        # Nine tenths of the requests to come will be routed, and money is kept for these.
        assert 1e6 - pace.most_usd(ledger, 1e6, 0.0) == pytest.approx(0.9 * 100_000 * 0.02, rel=0.02)
        assert pace.figures()["kept_usd"] == pytest.approx(0.9 * 100_000 * 0.02, rel=0.02)


def test_a_burst_at_the_beginning_of_a_window_keeps_no_money_for_a_flood():
    clock = Clock()
    with temporary_ledger(1_000.0, HOUR, clock) as ledger:
        pace = LedgerPace(ledger, clock=clock)
        for _ in range(60):
            seen(pace, 1)
            assert pace.multiplier >= 0
            reservation = ledger.reserve(0.01)
            assert reservation is not None
            pace.begin(0.01, 1.0)
            ledger.settle(reservation, 0.01)
            clock.now += 1e-3
        assert pace.to_come * 0.02 > 1_000 and pace.most_usd(ledger, 1_000.0, 0.0) > 700


def test_a_client_with_a_budget_of_its_own_leaves_the_floor_in_both():
    clock = Clock()
    with temporary_ledger(100.0, None, clock) as everyones, temporary_ledger(50.0, None, clock) as own:
        both = PaceOfBoth(*(LedgerPace(one, expected_requests=500, clock=clock) for one in (everyones, own)))
        seen(both)
        clock.now += 2
        assert [both.most_usd(one, 50.0, 0.0) for one in (everyones, own)] == pytest.approx([50 - 500 * 0.02 - 16 * 0.98] * 2)
        accounts = Accounts(everyones, {"alice": own})
        assert accounts.most_usd("alice", both, 0.0) == pytest.approx(50 - 500 * 0.02 - 16 * 0.98)
        assert accounts.most_usd(None, both, 0.0) == pytest.approx(100 - 500 * 0.02 - 16 * 0.98)
        assert Accounts().most_usd(None, both, 0.0) == math.inf


def test_workers_keep_as_much_as_one_that_has_seen_all(tmp_path: Path):
    clock = Clock()
    with Ledger(tmp_path / "ledger.db", 100.0, clock=clock) as one, Ledger(tmp_path / "ledger.db", clock=clock) as other:
        paces = [
            LedgerPace(ledger, expected_requests=500, shared=SharedPrice(ledger, number, 2, 100), clock=clock)
            for number, ledger in enumerate((one, other))
        ]
        seen(paces[0])
        found = []
        for _ in range(2):
            clock.now += 2
            found = [pace.most_usd(pace.ledger, 100.0, 0.0) for pace in paces]
        assert found[0] == pytest.approx(found[1]) and found[1] == pytest.approx(100 - 500 * 0.02 - 16 * 0.98)


def test_training_prompts_stand_in_for_requests_and_make_room_for_them():
    before = [{"small": (0.5, 0.01), "large": (0.5 + 0.4 * row / 100, 1.0)} for row in range(100)]
    prices = []
    for given in (before, ()):
        clock = Clock()
        with temporary_ledger(100.0, HOUR, clock) as ledger:
            pace = LedgerPace(ledger, expected_requests=1_000, before=given, clock=clock)
            first = pace.multiplier
            seen(pace, 100)
            clock.now += 2
            prices.append((first, pace.multiplier))
    # The price that a hundred requests like them would have found, before there is one.
    assert prices[0][0] == pytest.approx(prices[1][1], rel=0.1) and prices[1][0] == 0
    assert prices[0][1] == prices[1][1]


def test_less_money_makes_a_higher_price():
    prices = []
    for budget in (1000.0, 400.0, 100.0, 1.0):
        clock = Clock()
        with temporary_ledger(budget, HOUR, clock) as ledger:
            pace = LedgerPace(ledger, expected_requests=1_000, clock=clock)
            seen(pace)
            prices.append(pace.multiplier)
    assert prices == sorted(prices) and prices[0] == 0 and prices[-1] == MOST_MULTIPLIER


def test_workers_that_share_a_ledger_have_one_price(tmp_path: Path):
    clock = Clock()
    with Ledger(tmp_path / "ledger.db", 100.0, HOUR, clock=clock) as one, Ledger(tmp_path / "ledger.db", clock=clock) as other:
        paces = [LedgerPace(ledger, expected_requests=300, clock=clock) for ledger in (one, other)]
        for pace in paces:
            seen(pace)
        before = [pace.multiplier for pace in paces]
        for _ in range(40):
            reservation = one.reserve(1.0)
            assert reservation is not None
            paces[0].begin(1.0, 2.0)
            one.settle(reservation, 1.0)
            paces[0].end(1.0, 2.0, paid_usd=1.0)
        clock.now += 2
        after = [pace.multiplier for pace in paces]
        assert before[0] == before[1] and after[0] == pytest.approx(after[1], rel=0.05) and after[1] != before[1]


def test_a_new_window_has_its_whole_budget_again():
    clock = Clock()
    with temporary_ledger(10.0, HOUR, clock) as ledger:
        pace = LedgerPace(ledger, expected_requests=100, clock=clock)
        seen(pace)
        reservation = ledger.reserve(9.9)
        assert reservation is not None
        ledger.settle(reservation, 9.9)
        clock.now += 0.5 * HOUR
        short = pace.multiplier
        clock.now += 0.6 * HOUR
        assert pace.multiplier < short


def test_the_floor_is_the_least_price():
    clock = Clock()
    with temporary_ledger(1e6, HOUR, clock) as ledger:
        pace = LedgerPace(ledger, floor=0.3, clock=clock)
        assert pace.multiplier == 0.3
        seen(pace)
        clock.now += 2
        assert pace.multiplier == 0.3


def test_who_asks_for_an_expensive_model_is_refused_what_is_kept_for_cheap_answers(tmp_path: Path):
    # Of 0.1 dollars about 0.07 are kept for cheap answers to 350 requests; the expensive one may cost 0.04.
    chooser = replace(three_models(), cost_usd={"sim-nano": 1e-4, "sim-medium": 1e-3, "sim-large": 1e-2})
    with proxy(tmp_path, budget=Budget(0.1), chooser=chooser, paced=True, expected_requests=350) as one:
        routed = {"model": "auto", "messages": MESSAGES, "max_tokens": 4_000}
        named = routed | {"model": "sim-large"}
        assert one.post(routed).status == 200
        for refused in (one.post(named), one.post(routed, headers={"x-jaxroute-models": "sim-large"})):
            assert refused.status == 402 and refused.code == "budget_exhausted"
            assert "beside what is kept for cheaper answers" in refused.content["error"]["message"]
        assert one.ledger.left_usd > 0.05, "it would fit, were nothing kept"
        assert {one.post(content).status for content in (routed, routed | {"model": "sim-nano"})} == {200}
        assert one.post(named | {"max_tokens": 1_000}).status == 200
        # What is too expensive is ranked too: the pace learns from it.
        assert one.chooser.asked[-1][1] == ["sim-nano", "sim-medium", "sim-large"]


def test_answers_become_cheaper_when_money_is_short(tmp_path: Path):
    # The largest model's answers take 0.0002 dollars, and there are 0.00005 for each of 200, however late in the hour it is.
    with proxy(tmp_path, budget=Budget(0.01), paced=True, expected_requests=200) as one:
        body = {"model": "auto", "messages": MESSAGES, "max_tokens": 20}
        models = [one.post(body).headers["x-jaxroute-model"] for _ in range(12)]
    assert models[0] == "sim-large" and models[-1] in ("sim-nano", "sim-medium")


def test_a_budget_without_an_end_is_paced_where_it_is_known_for_how_many(tmp_path: Path):
    (tmp_path / "models.yaml").write_text(models_yaml("http://127.0.0.1:9/v1"))
    config = ServeConfig(tmp_path / "models.yaml", budget=Budget(1.0), ledger=tmp_path / "one.db", multiplier=0.5)
    fixed = read_state(config, chooser=three_models())
    assert fixed.pace == FixedPace(0.5)
    state = read_state(replace(config, expected_requests=100), chooser=three_models())
    again = read_state(state.config, state)
    assert isinstance(state.pace, LedgerPace) and again.pace is state.pace and again.chooser is state.chooser
    for one in (fixed, state):
        one.accounts.close()


def test_a_client_whose_own_budget_is_short_pays_its_own_price(tmp_path: Path):
    keys = {name: new_key(name) for name in ("alice", "bob")}
    lines = [keys["alice"][1].replace("budget_usd: 5", "budget_usd: 0.002").replace("per: day", "per: month")]
    lines.append(keys["bob"][1].removeprefix("clients:\n").replace("budget_usd: 5", "budget_usd: 500"))
    (tmp_path / "clients.yaml").write_text("".join(lines))
    answered: dict[str, list[str]] = {}
    with proxy(tmp_path, budget=Budget(1_000.0, "month"), clients=tmp_path / "clients.yaml", paced=True) as one:
        for name, (key, _) in keys.items():
            replies = [
                one.post({"model": "auto", "messages": MESSAGES, "max_tokens": 20}, headers={"api-key": key}) for _ in range(12)
            ]
            assert {reply.status for reply in replies} == {200}
            answered[name] = [reply.headers["x-jaxroute-model"] for reply in replies]
        state = one.running.service.state
        assert state.pace_of("alice").multiplier > state.pace_of("bob").multiplier == state.pace_of(None).multiplier
        # Files that are read again leave both as they are.
        kept = state.pace_of("alice")
        one.read_again()
        assert one.running.service.state.pace_of("alice") is kept
    assert set(answered["bob"]) == {"sim-large"} and "sim-large" not in answered["alice"][-5:]
