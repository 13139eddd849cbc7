"""Streams of requests in virtual time, a ledger and its pace, no HTTP: what is gained, and whether it overspends."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxroute.endpoints.ledger import Ledger
from jaxroute.endpoints.models import Endpoint
from jaxroute.endpoints.money import Reservation
from jaxroute.endpoints.prices import TokenPrice
from jaxroute.evaluation import hull_quality
from jaxroute.serve.choosing import Candidate, ranked
from jaxroute.serve.pacing import LedgerPace
from solvers import Problem, lagrangian

HOUR = 3_600.0
NANO = 1e-9
"""Dollars that are no overspending: an account counts in picodollars."""


@dataclass(frozen=True)
class Stream:
    """Requests in their order."""

    value: Float[np.ndarray, "requests models"]
    """Estimated quality."""
    cost_usd: Float[np.ndarray, "requests models"]
    """Expected dollars."""
    paid: Float[np.ndarray, " requests"]
    """What each costs, as a multiple of what is expected."""
    cap: float
    """Its worst case, as such a multiple."""

    def gain(self, value: float, budget_usd: float) -> float:
        """Of what hindsight gains over the best mix of models that looks at no request, what share `value` gains."""
        means = self.cost_usd.mean(axis=0), self.value.mean(axis=0)
        least = float(hull_quality(*means, budget_usd / len(self.value))) * len(self.value)
        most = lagrangian(Problem(self.value, self.cost_usd, budget_usd)).bound
        return (value - least) / (most - least)


@dataclass(frozen=True)
class Outcome:
    """What became of a stream."""

    value: float
    """Summed over the requests that were answered."""
    spent_usd: float
    each_usd: Float[np.ndarray, " requests"]
    """What each request has cost, or will have when it ends."""
    overspend_usd: float
    """The most by which the limit was ever exceeded, worst cases in flight included."""
    refused: int
    """Requests that no model fitted."""
    by_name: int
    """Requests for the most expensive model by its name."""
    refused_by_name: int
    """How many of these were refused."""
    least_refused: int
    """What any way of answering must refuse, even one that knows all payments before and waits for nothing to settle: all that
    remains when the smallest payments, each of the cheapest model that may answer, have spent the budget."""
    abandoned: int
    """Requests whose worker was killed."""


def random_stream(requests: int, *, seed: int, models: int = 6, cap: float = 4.0) -> Stream:
    """Logistic qualities with a difficulty per request, prices over two decades, lengths that vary by request."""
    generator = np.random.default_rng(seed)
    price = np.geomspace(2e-5, 2e-3, models)
    strength = np.linspace(-0.5, 2.0, models)
    difficulty = generator.normal(0, 1.5, (requests, 1))
    profile = generator.normal(0, 0.5, (requests, models))
    value = 1 / (1 + np.exp(difficulty - strength + profile))
    cost = price * generator.lognormal(0, 0.5, (requests, 1))
    paid = np.minimum(generator.exponential(1.0, requests), cap) / (1 - np.exp(-cap))
    return Stream(value, cost, np.minimum(paid, cap), cap)


@contextmanager
def temporary_ledger(budget_usd: float, window: float | None, clock) -> Iterator[Ledger]:
    """An account in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.db", budget_usd, window, clock=clock) as ledger:
        yield ledger


def answer(
    stream: Stream,
    budget_usd: float,
    *,
    seed: int = 0,
    at_once: float = 4.0,
    adversarial: bool = False,
    window: float | None = HOUR,
    expected_requests: int | None = None,
    reserve: bool = True,
    rising: float = 1.0,
    before: Stream | None = None,
) -> Outcome:
    """Route the stream within one window, as the proxy does: ranked at the multiplier in force, the worst case held, then paid.

    `at_once` requests are in flight on average. An adversarial load comes in bursts: streams are cut and usage is wrong, which
    costs the worst case; others cost nothing; some clients ask for the most expensive model by its name; and workers are
    killed, whose reservations somebody finds later. Without `reserve` nothing is kept for requests to come. Of a
    `rising` load, of 2 say, the rate grows linearly from 0, so that the forecast is too low all the time. `before` are
    training prompts, whose estimates the pace begins with.
    """
    generator = np.random.default_rng([seed, 1])
    requests, models = stream.value.shape
    # A little less than the window, so that all of it belongs to one.
    gaps = generator.exponential(1.0, requests)
    arrivals = (np.cumsum(gaps) / gaps.sum()) ** (1 / rising) * 0.999 * HOUR
    if adversarial:
        arrivals = np.sort(np.floor(arrivals / 30) * 30 + generator.exponential(0.2, requests)).clip(0, 0.9995 * HOUR)
    seconds = generator.exponential(at_once * HOUR / requests, requests)
    now = [0.0]
    named = generator.random(requests) < (0.1 if adversarial else 0.0)
    # Cut or with wrong usage: the worst case. Refused by the endpoint: nothing.
    kind = generator.random(requests) if adversarial else np.full(requests, 0.5)
    killed = kind > 0.99
    multiple = np.where((kind < 0.3) | killed, stream.cap, np.where(kind < 0.4, 0.0, np.minimum(stream.paid, stream.cap)))
    least = np.sort(multiple * np.where(named, stream.cost_usd[:, -1], stream.cost_usd.min(axis=1)))
    least_refused = requests - int(np.searchsorted(np.cumsum(least), budget_usd, side="right"))
    names = [f"model-{number}" for number in range(models)]
    price = TokenPrice(1.0, 1.0)
    endpoints = [Endpoint(name=name, base_url="http://127.0.0.1", model=name, price=price) for name in names]
    sampled = []
    if before is not None:
        pairs = zip(before.value.tolist(), before.cost_usd.tolist(), strict=True)
        sampled = [dict(zip(names, zip(value, cost, strict=True), strict=True)) for value, cost in pairs]
    number = {name: column for column, name in enumerate(names)}
    each = np.zeros(requests)
    value, refused, refused_by_name, abandoned, worst_excess, total = 0.0, 0, 0, 0, Fraction(0), Fraction(0)
    with temporary_ledger(budget_usd, window, lambda: now[0]) as ledger:
        pace = LedgerPace(ledger, clock=lambda: now[0], expected_requests=expected_requests, before=sampled)
        flight: list[tuple[float, int, Reservation, float, float, float]] = []
        held = Fraction(0)

        def land() -> None:
            nonlocal held, total
            _, _, reservation, expected, worst, paid = heapq.heappop(flight)
            ledger.settle(reservation, paid) if paid else ledger.release(reservation)
            pace.end(expected, worst, paid_usd=paid)
            held -= Fraction(worst)
            total += Fraction(paid)

        lost: list[tuple[Reservation, float]] = []
        for row in range(requests):
            while flight and flight[0][0] <= arrivals[row]:
                now[0] = flight[0][0]
                land()
            now[0] = arrivals[row]
            if lost and row % 1000 == 999:
                # Somebody starts again, and settles what the killed one held.
                for reservation, worst in lost:
                    ledger.settle(reservation, worst)
                lost.clear()
            worst = stream.cap * stream.cost_usd[row]
            left, lowest = ledger.left_usd, float(worst.min())
            allowed = pace.most_usd(ledger, left, lowest) if reserve else left
            if named[row]:
                expected = most = float(worst[-1])
                column = models - 1
            else:
                candidates = [Candidate(endpoint, float(most)) for endpoint, most in zip(endpoints, worst, strict=True)]
                order = ranked(candidates, stream.value[row], stream.cost_usd[row], pace.multiplier, None)
                pace.saw(order)
                fitting = [one for one in order if (one.candidate.worst_case_usd or 0.0) <= allowed]
                chosen = fitting[0] if fitting else order[0]
                expected, most = float(chosen.cost_usd or 0.0), float(chosen.candidate.worst_case_usd or 0.0)
                column = number[chosen.candidate.model]
            reservation = ledger.reserve(most) if most <= allowed else None
            if reservation is None:
                refused, refused_by_name = refused + 1, refused_by_name + int(named[row])
                continue
            pace.begin(expected, most)
            held += Fraction(most)
            worst_excess = max(worst_excess, total + held - Fraction(budget_usd))
            value += float(stream.value[row, column])
            paid = float(multiple[row] * stream.cost_usd[row, column])
            each[row] = paid
            if killed[row]:
                lost.append((reservation, most))
                pace.end(expected, most, paid_usd=most)
                held -= Fraction(most)
                total += Fraction(most)
                abandoned += 1
                continue
            heapq.heappush(flight, (arrivals[row] + seconds[row], row, reservation, expected, most, min(paid, most)))
        while flight:
            land()
        totals = ledger.totals(every_window=True)
        worst_excess = max(worst_excess, Fraction(totals.settled_usd + totals.reserved_usd) - Fraction(budget_usd))
    excess = float(worst_excess)
    return Outcome(
        value=value,
        spent_usd=float(total),
        each_usd=each,
        overspend_usd=excess if excess > NANO else 0.0,
        refused=refused,
        by_name=int(named.sum()),
        refused_by_name=refused_by_name,
        least_refused=least_refused,
        abandoned=abandoned,
    )
