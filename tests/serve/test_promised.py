"""A promised price is kept to whatever the pace says, and requests outside of the promise are counted."""

from __future__ import annotations

import asyncio
import json
import math

import pytest

from jaxroute.endpoints.models import Endpoint
from jaxroute.endpoints.prices import TokenPrice
from jaxroute.errors import EndpointError
from jaxroute.guarantees.asked import Asked as AskedPromise
from jaxroute.guarantees.promise import Part, Promise
from jaxroute.serve.asking import Asked
from jaxroute.serve.choosing import Candidate
from jaxroute.serve.promised import Promised
from tests.serve.proxies import MESSAGES, three_models

MODELS = list(three_models().models)
ENDPOINTS = {name: Endpoint(name, "http://127.0.0.1", name, TokenPrice(1.0, 2.0)) for name in MODELS}
REQUEST = Asked.read("chat", json.dumps({"model": "auto", "messages": MESSAGES}).encode())


def promised(multiplier: float, **asked) -> Promised:
    part = Part(None, multiplier, 100, 0.8, "sim-large", 0.8, 1e-4, math.nan, 0.01)
    promise = Promise(asked=AskedPromise(**{"within": 0.02, **asked}), models=MODELS, parts=[part])
    return Promised(three_models(), promise, ENDPOINTS)


def first(chooser: Promised, names: list[str], **wishes) -> str:
    candidates = [Candidate(ENDPOINTS[name], 1e-7, saved_usd=1.0) for name in names]
    order = asyncio.run(chooser.rank(REQUEST, candidates, 1e9, wishes.get("minimum_quality")))
    # What the ledger reserves is still the worst case.
    assert all(one.candidate.worst_case_usd == 1e-7 for one in order)
    return order[0].candidate.model


def test_the_promised_price_chooses_and_nothing_else() -> None:
    assert first(promised(0.0), MODELS) == "sim-large"
    assert first(promised(1e3), MODELS) == "sim-medium"
    assert first(promised(1e7), MODELS) == "sim-nano"


def test_requests_outside_of_the_promise_are_answered_and_counted() -> None:
    chooser = promised(0.0)
    first(chooser, MODELS)
    assert chooser.figures()["requests_outside_promise_total"] == 0
    first(chooser, MODELS[:2])
    first(chooser, MODELS, minimum_quality=0.5)
    assert chooser.figures()["requests_outside_promise_total"] == 2


def test_what_it_routes_to_must_be_served_and_needs_one_price() -> None:
    with pytest.raises(EndpointError, match="lacks sim-large"):
        Promised(three_models(), promised(0.0).promise, {name: ENDPOINTS[name] for name in MODELS[:2]})
    with pytest.raises(ValueError, match="a price for every domain"):
        promised(0.0, per_domain=True)
