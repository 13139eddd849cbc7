"""Accounts of routers and models: cost, throughput, similarity, likelihood, shares; and the leaderboards' scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jaxroute import RoutingTable, TableError, load_source
from jaxroute.data.prices import Price
from jaxroute.data.sources.simulated import simulated_prices
from jaxroute.evaluation import (
    account,
    accounts_of_models,
    bert_similarity,
    llmrouterbench_gains,
    model_shares,
    outcome,
    routerarena_score,
    tier_shares,
)


def timed_table() -> RoutingTable:
    """Two models, two queries; tokens, seconds and log-likelihoods that can be added up in the head."""
    return RoutingTable(
        prompts=["a", "b"],
        models=["slow", "fast"],
        quality=np.array([[1.0, 0.0], [0.5, 1.0]]),
        cost_usd=np.array([[3.0, 1.0], [3.0, 1.0]]),
        input_tokens=np.array([[100.0, 100.0], [200.0, 200.0]]),
        output_tokens=np.array([[50.0, 60.0], [30.0, 90.0]]),
        latency_seconds=np.array([[5.0, 2.0], [1.0, 1.0]]),
        log_likelihood=np.array([[-2.0, -1.0], [-4.0, -0.5]]),
    )


def test_an_account_worked_out():
    """The slow model answers the first at 50 / 5 tokens a second, the fast one the second at 90 / 1: 50 on average."""
    prices = {"slow": Price(1e4, 2e4), "fast": Price(1e3, 1e3)}
    found = account(timed_table(), np.array([0, 1]), prices=prices, similarity=np.array([[0.8, 0.1], [0.2, 0.6]]))
    assert found.queries == {"slow": 1, "fast": 1}
    assert found.quality == 1.0
    assert found.throughput == pytest.approx(50.0)
    assert found.total_cost_usd == pytest.approx((100 * 1e4 + 50 * 2e4 + 200 * 1e3 + 90 * 1e3) / 1e6)
    assert found.bert_similarity == pytest.approx(0.7)
    assert found.negative_log_likelihood == pytest.approx(1.25)
    assert account(timed_table(), np.array([0, 1])).total_cost_usd == 4.0


def test_what_a_table_does_not_know_is_left_out_and_never_invented():
    bare = replace(timed_table(), latency_seconds=None, log_likelihood=None)
    assert set(account(bare, np.array([0, 1])).columns()) == {"quality", "total_cost_usd"}
    holed = replace(timed_table(), latency_seconds=np.array([[5.0, np.nan], [1.0, 1.0]]))
    alone = accounts_of_models(holed)
    assert alone["slow"].throughput == pytest.approx(20.0) and alone["fast"].throughput is None
    assert alone["slow"].queries == {"slow": 2}
    with pytest.raises(TableError, match="input_tokens"):
        account(replace(timed_table(), input_tokens=None), np.array([0, 1]), prices={"slow": Price(1, 1), "fast": Price(1, 1)})


def test_an_unanswered_query_costs_nothing_and_is_nobodys():
    found = account(timed_table(), np.array([-1, 0]))
    assert (found.queries, found.total_cost_usd, found.quality, found.throughput) == ({"slow": 1}, 3.0, 0.25, 30.0)


def test_tokens_and_prices_give_the_simulated_pools_own_cost():
    table = load_source("simulated", queries=200)
    for column, (model, found) in enumerate(accounts_of_models(table, prices=simulated_prices()).items()):
        assert found.total_cost_usd == pytest.approx(table.cost_usd[:, column].sum()), model
        assert found.throughput is not None and found.throughput > 0


def test_similarity_is_the_cosine_with_the_reference():
    answers = np.array([[[1.0, 0.0], [3.0, 4.0]], [[0.0, 2.0], [0.0, 0.0]]])
    references = np.array([[2.0, 0.0], [0.0, 1.0]])
    assert bert_similarity(answers, references) == pytest.approx(np.array([[1.0, 0.6], [1.0, 0.0]]))


def test_shares_of_queries_by_model_and_by_price():
    choice = np.array([[0, 0, 1, 2], [2, 2, 2, -1]])
    shares = model_shares(choice, ["small", "other", "large"])
    assert shares.tolist() == [[0.5, 0.25, 0.25], [0.0, 0.0, 0.75]]
    assert {name: share.tolist() for name, share in tier_shares(shares, np.array([0.2, 0.2, 20.0])).items()} == {
        "0.2": [0.75, 0.0],
        "20": [0.25, 0.75],
    }
    assert list(tier_shares(shares[0], ["open", "open", "closed"])) == ["closed", "open"]
    with pytest.raises(TableError, match="there are 3 models"):
        tier_shares(shares, ["open", "closed"])


def test_the_score_of_routerarena_worked_out():
    """At 1 dollar per thousand C = ln 200 / ln (200 / 0.0044); the ends of the scale are 1 and 0, whatever lies beyond."""
    cheap = np.log(200) / np.log(200 / 0.0044)
    assert routerarena_score(0.7, 1.0) == pytest.approx(1.1 * 0.7 * cheap / (0.07 + cheap))
    assert routerarena_score(0.7, 0.0044) == routerarena_score(0.7, 1e-9) == pytest.approx(1.1 * 0.7 / 1.07)
    assert routerarena_score(0.7, 200.0) == routerarena_score(0.7, 999.0) == routerarena_score(0.0, 1.0) == 0.0
    weighted = 1 / ((1 / 0.7 + 0.1 / cheap) / 1.1)
    assert routerarena_score(0.7, 1.0) == pytest.approx(weighted)
    for quality, cost in ((1.1, 1.0), (0.5, 0.0)):
        with pytest.raises(ValueError):
            routerarena_score(quality, cost)


def test_gains_over_random_best_and_the_gap_to_the_oracle_worked_out():
    """By domain, models (1, 0) and (0.5, 1): averages 0.75 and 0.5, random 0.625, oracle 1; one that averages 0.75."""
    table = replace(timed_table(), domains=["a", "b"])
    found = llmrouterbench_gains(table, outcome(table, np.array([0, 0])))
    assert found.average == 0.75
    assert (found.gain_over_random, found.gain_over_best, found.gap_to_oracle) == pytest.approx((0.2, 0.0, 0.25))
    best = llmrouterbench_gains(table, outcome(table, np.array([0, 1])))
    assert best.gap_to_oracle == 0.0 and best.gain_over_best == pytest.approx(1 / 3)
