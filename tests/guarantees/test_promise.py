"""Promises: kept, cheaper the less is promised, and refused with a reason where rows do not show them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from jaxroute import Router, RoutingTable
from jaxroute.errors import GuaranteeError
from jaxroute.guarantees.asked import Asked
from jaxroute.guarantees.claims import QualityClaim, least_rows
from jaxroute.guarantees.out_of_fold import out_of_fold_rows
from jaxroute.guarantees.promise import _enough_rows, make_promise
from jaxroute.guarantees.promise_files import read_promise, write_promise
from jaxroute.guarantees.rows import calibration_rows
from jaxroute.guarantees.sequence import choices_at, policies
from jaxroute.predictor.checkpoint import is_estimator
from jaxroute.predictor.pricing import CostModel, table_pricing
from jaxroute.routers.base import find_router

SHARES = {"easy": (0.9, 0.92), "hard": (0.3, 0.9), "odd": (0.5, 0.7)}
"""Of right answers, by domain: a cheap model and a strong one, which costs ten times as much."""


def table(rows: int, seed: int = 0, *, graded: bool = False) -> RoutingTable:
    generator = np.random.default_rng(seed)
    domains = [list(SHARES)[one] for one in generator.choice(3, rows, p=[0.64, 0.35, 0.01])]
    share = np.array([SHARES[domain] for domain in domains])
    quality = (generator.random(share.shape) < share).astype(float)
    return RoutingTable(
        prompts=[f"question {seed} {row} of {domain}" for row, domain in enumerate(domains)],
        models=["cheap", "strong"],
        quality=0.5 * quality + 0.25 if graded else quality,
        cost_usd=np.tile([0.001, 0.01], (rows, 1)),
        domains=domains,
    )


def trained(spec: str = "domain_mean", rows: int = 300):
    train = table(rows, seed=99)
    return find_router(spec).fit(train, costs=CostModel(table_pricing(train, None)))


def promised(asked: Asked, rows: int = 1500, **options):
    return make_promise(calibration_rows(trained(), table(rows, **options), asked), asked)


def test_a_promise_saves_and_says_so() -> None:
    promise = promised(Asked(within=0.05))
    part = promise.parts[0]
    assert part.cost_usd < 0.6 * part.reference_cost_usd
    assert part.quality > part.reference_quality - 0.05
    assert part.reference == "strong"
    assert "90 percent" in str(promise) and "5 points" in str(promise) and "until drift takes" in str(promise)


@pytest.mark.slow
def test_promises_are_broken_no_more_often_than_they_may() -> None:
    """The zero router at its worst: two models of which one is exactly the allowed distance below the other."""
    generator = np.random.default_rng(0)
    asked, broken, times = Asked(within=0.1, reference="strong", confidence=0.9), 0, 80
    estimator = trained("best_single")
    for _ in range(times):
        rows = table(150)
        better = (generator.random(150) < 0.8).astype(float)
        worse = (generator.random(150) < 0.699).astype(float)
        one = RoutingTable(rows.prompts, rows.models, np.stack([worse, better], axis=1), rows.cost_usd)
        try:
            promise = make_promise(calibration_rows(estimator, one, asked), asked)
        except GuaranteeError:
            continue
        # At every price all prompts go to one model.
        broken += promise.parts[0].cost_usd < 0.005
    assert broken / times <= 0.1 + 3 * np.sqrt(0.09 / times)
    assert broken > 0


@pytest.mark.slow
@pytest.mark.parametrize("graded", [False, True])
def test_less_is_cheaper(graded: bool) -> None:
    def cost(**asked) -> float:
        return promised(Asked(**asked), graded=graded).parts[0].cost_usd

    assert cost(within=0.3) <= cost(within=0.05) <= cost(within=0.03)
    assert cost(within=0.05, confidence=0.8) <= cost(within=0.05, confidence=0.999)
    assert cost(at_least=0.6) <= cost(at_least=0.65)


def test_a_cost_is_promised_and_both_together() -> None:
    rows, kept = 2500, 0.006
    cost_alone = promised(Asked(spend_at_most_usd=kept), rows=rows).parts[0]
    both = promised(Asked(within=0.06, spend_at_most_usd=kept), rows=rows).parts[0]
    assert cost_alone.cost_usd <= kept and both.cost_usd <= kept
    assert both.quality > both.reference_quality - 0.06
    assert both.cost_usd <= cost_alone.cost_usd
    with pytest.raises(GuaranteeError, match="both cannot be promised"):
        promised(Asked(within=0.03, spend_at_most_usd=0.002), rows=rows)
    with pytest.raises(GuaranteeError, match="the cheapest way costs"):
        promised(Asked(spend_at_most_usd=0.0005), rows=rows)


def test_every_domain_has_its_own_price_and_too_small_ones_none() -> None:
    promise = promised(Asked(within=0.1, per_domain=True))
    multiplier = {part.domain: part.multiplier for part in promise.parts}
    cost = {part.domain: part.cost_usd for part in promise.parts}
    assert set(cost) == {"easy", "hard"} and cost["easy"] < cost["hard"]
    assert "more rows" in promise.unpromised["odd"]
    assert promise.multipliers(["easy", "odd", "unknown"]).tolist() == [multiplier["easy"], 0.0, 0.0]
    assert promise.uncovered(["easy", "odd", "unknown"]) == 2


def test_as_many_domains_share_the_error_as_can_all_be_shown() -> None:
    claim = QualityClaim(0.1, None, exact=True)
    alone, three = least_rows(claim, 0.1), least_rows(claim, 0.1 / 3)
    assert alone < three
    assert _enough_rows(claim, {"a": three, "b": 1, "c": three, "d": three}, 0.1)[0] == ["a", "c", "d"]
    # A domain that would do alone is left out where all of them would not, and still needs more rows.
    tested, needed = _enough_rows(claim, {"a": three, "b": three, "c": alone}, 0.1)
    assert tested == ["a", "b"] and needed == three > alone
    assert _enough_rows(claim, {"a": 1, "b": 2}, 0.1) == ([], alone)


def test_too_few_rows_end_in_a_number_of_further_ones() -> None:
    with pytest.raises(GuaranteeError, match="needs about") as raised:
        promised(Asked(within=0.02), rows=60)
    found = re.search(r"about ([\d,]+) more", str(raised.value))
    assert found
    more = int(found.group(1).replace(",", ""))
    assert promised(Asked(within=0.02), rows=60 + 2 * more)
    with pytest.raises(GuaranteeError, match="needs about"):
        promised(Asked(within=0.02), rows=3)


def test_rows_that_speak_against_it_end_in_no_promise() -> None:
    with pytest.raises(GuaranteeError, match="would not help"):
        promised(Asked(at_least=0.99))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "at least one"),
        ({"within": -0.02}, "within=-0.02"),
        ({"within": float("nan")}, "within=nan"),
        ({"within": 2.0}, "two points are 0.02"),
        ({"within": 0.02, "confidence": 1.0}, "confidence=1.0"),
        ({"within": 0.02, "confidence": 0.0}, "confidence=0.0"),
        ({"at_least": 0.5, "reference": "strong"}, "goes with within"),
        ({"within": 0.1, "per_domain": True, "spend_at_most_usd": 1.0}, "leave one out"),
    ],
)
def test_what_cannot_be_promised_is_named(asked: dict, message: str) -> None:
    with pytest.raises(GuaranteeError, match=message):
        Asked(**asked)


def test_wrong_rows_are_named() -> None:
    estimator, asked = trained(), Asked(within=0.1)
    with pytest.raises(GuaranteeError, match="reference='gpt-9' is no model"):
        calibration_rows(estimator, table(50), Asked(within=0.1, reference="gpt-9"))
    with pytest.raises(GuaranteeError, match="trained on all 300 rows"):
        calibration_rows(estimator, table(300, seed=99), asked)
    with pytest.raises(GuaranteeError, match="no outcomes of strong"):
        calibration_rows(estimator, table(50).select(models=["cheap"]), asked)
    with pytest.raises(GuaranteeError, match="needs outcomes of 0 and 1"):
        promised(Asked(within=0.1, bound="exact"), graded=True)


def test_rows_that_were_seen_repeated_or_not_run_are_dropped_and_counted() -> None:
    estimator, asked = trained(), Asked(within=0.1)
    fresh, seen = table(100), table(300, seed=99).select(range(40))
    quality = fresh.quality.copy()
    quality[:10, 1] = np.nan
    rows = RoutingTable(
        fresh.prompts + seen.prompts + fresh.prompts[-5:],
        fresh.models,
        np.concatenate([quality, seen.quality, quality[-5:]]),
        np.full((145, 2), 0.01),
        domains=fresh.domains + seen.domains + fresh.domains[-5:],
    )
    dropped = calibration_rows(estimator, rows, asked)
    assert len(dropped) == 90
    assert [note.split()[0] for note in dropped.notes] == ["5", "40", "10"]
    worst = calibration_rows(estimator, rows, Asked(within=0.1, missing="worst"))
    assert len(worst) == 100
    # The router had 0 and the reference 1, wherever it was not run.
    assert (worst.outcomes.reference[:, 1] > worst.outcomes.quality[:, 1]).sum() == 10


def test_out_of_fold_rows_are_no_theorem_and_say_so() -> None:
    asked = Asked(within=0.1)
    promise = make_promise(out_of_fold_rows(trained(), table(300, seed=99), asked), asked)
    assert not promise.held_out and "no theorem" in str(promise)


def test_a_promise_lies_beside_its_estimator_and_belongs_to_no_other(tmp_path: Path) -> None:
    folder, promise = tmp_path / "router", promised(Asked(within=0.05))
    trained().save(folder)
    with pytest.raises(GuaranteeError, match="holds no promise"):
        read_promise(folder)
    path = write_promise(folder, promise)
    assert read_promise(folder) == promise and is_estimator(folder)
    # Another estimator in its place: the promise goes with the old one, and one that is put back is void.
    content = path.read_text()
    trained(rows=200).save(folder)
    assert not path.exists()
    path.write_text(content)
    with pytest.raises(GuaranteeError, match="another estimator"):
        read_promise(folder)
    path.write_text(content[:100])
    with pytest.raises(GuaranteeError, match="cannot be read"):
        read_promise(folder)


def test_a_router_routes_as_was_promised(tmp_path: Path) -> None:
    estimator, promise = trained(), promised(Asked(within=0.1, per_domain=True))
    estimator.save(tmp_path / "router")
    write_promise(tmp_path / "router", promise)
    router, new = Router.load(tmp_path / "router"), table(400, seed=5)
    routed = router.route_in_full(new.queries, guarantee=True)
    estimates = estimator.estimate(new.queries)
    expected = choices_at(estimates.quality, estimates.cost_usd, promise.multipliers(new.domains))
    assert (routed.assignment.choice == expected).all()
    assert "prompts are of domains of which nothing is promised" in routed.notes[1]
    with pytest.raises(GuaranteeError, match="does not reach"):
        router.route(new.queries, guarantee=True, budget_usd=1e-6)
    with pytest.raises(ValueError, match="no choice of models"):
        router.route(new.queries, guarantee=True, models=["cheap"])


def test_other_prompts_are_seen_to_be_others() -> None:
    promise, estimator = promised(Asked(within=0.05)), trained()

    def unlike(queries) -> str:
        estimates = estimator.estimate(queries)
        return promise.unlike(estimates, promise.choices(estimates, queries.domains))

    new = table(300, seed=6)
    assert unlike(new.queries) == ""
    hard = new.select(np.array([domain == "hard" for domain in new.domains]))
    assert "not like the calibration rows" in unlike(hard.queries)


def test_prices_run_from_the_best_estimates_to_the_cheapest_answers() -> None:
    generator = np.random.default_rng(0)
    quality, cost = generator.random((50, 3)), np.tile([1.0, 2.0, 5.0], (50, 1))
    ways = policies(quality, cost)
    spent = [float(np.take_along_axis(cost, choice[:, None], axis=1).sum()) for choice in ways.choices]
    assert (ways.choices[0] == quality.argmax(axis=1)).all() and (ways.choices[-1] == 0).all()
    assert spent == sorted(spent, reverse=True) and ways.multipliers == sorted(ways.multipliers)
    assert len(policies(quality[:, :1], cost[:, :1])) == 1
