"""What a pace observes of a stream of requests: a sample of their estimates, sums of what they cost, and their rate.

Numbers alone; nothing of what was asked. Nothing here decides anything: `pacing.py` does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float

from jaxroute.serve.shared_price import Estimates as Estimated
from solvers import Problem

SAMPLE_ROWS = 1_000
REPLACED = 20
"""Training prompts in whose place one request comes."""
MEMORY = 0.1
"""After this part of a window, an observed rate of requests counts 1/e."""
FIRST = 0.005
"""Of a window: what a rate is taken over at the very beginning, so that a first burst forecasts no flood."""
ENOUGH = 30
"""Requests that say at what rate they come, however short the time."""
COSTS_REMEMBERED = 500.0
"""Requests, after which what they cost counts 1/e."""


class Sample:
    """Estimates of the latest requests; where a model was no candidate, there are none of it.

    Rows of `before` stand in for requests as long as few have come: each request takes the place of REPLACED of them.
    """

    def __init__(self, rows: int = SAMPLE_ROWS, before: Sequence[Estimated] = ()) -> None:
        self._models: dict[str, int] = {}
        self._values: Float[np.ndarray, "two rows models"] = np.full((2, rows, 0), np.nan)
        self._before: Float[np.ndarray, "two rows models"] = np.full((2, 0, 0), np.nan)
        self._seen = 0
        if before:
            sample = Sample(len(before))
            for estimates in before:
                sample.add(estimates)
            self._models, self._before = sample._models, sample._values
            self._values = np.full((2, rows, len(self._models)), np.nan)

    def __len__(self) -> int:
        return self.live + self._kept

    @property
    def live(self) -> int:
        """Rows of requests."""
        return min(self._seen, self._values.shape[1])

    @property
    def _kept(self) -> int:
        return max(self._before.shape[1] - REPLACED * self.live, 0)

    def add(self, estimates: Estimated) -> None:
        """Quality and dollars by model."""
        for model in estimates.keys() - self._models.keys():
            self._models[model] = len(self._models)
            self._values, self._before = (_with_column(one) for one in (self._values, self._before))
        row = self._values[:, self._seen % self._values.shape[1]]
        row[:] = np.nan
        for model, (quality, cost_usd) in estimates.items():
            row[:, self._models[model]] = quality, cost_usd
        self._seen += 1

    def problem(self) -> Problem:
        """A row per request."""
        value, cost = np.concatenate([self._values[:, : self.live], self._before[:, : self._kept]], axis=1)
        return Problem(value, cost, available=~np.isnan(value))


def _with_column(values: Float[np.ndarray, "two rows models"]) -> np.ndarray:
    return np.concatenate([values, np.full((*values.shape[:2], 1), np.nan)], axis=2)


@dataclass
class Costs:
    """What requests were expected to cost and cost, the latest counting most."""

    expected_usd: float = 0.0
    paid_usd: float = 0.0
    count: float = 0.0

    def add(self, expected_usd: float, paid_usd: float) -> None:
        self.fade()
        self.expected_usd += expected_usd
        self.paid_usd += paid_usd
        self.count += 1

    def fade(self) -> None:
        """A request of another kind has ended."""
        keep = 1 - 1 / COSTS_REMEMBERED
        self.expected_usd, self.paid_usd, self.count = keep * self.expected_usd, keep * self.paid_usd, keep * self.count

    @property
    def ratio(self) -> float:
        """Paid over expected; as if ten requests more had cost what they were expected to."""
        if not self.count or not self.expected_usd:
            return 1.0
        prior = 10 * self.expected_usd / self.count
        return (self.paid_usd + prior) / (self.expected_usd + prior)

    @property
    def mean(self) -> float:
        return self.paid_usd / self.count if self.count else 0.0

    @property
    def expected_mean(self) -> float:
        return self.expected_usd / self.count if self.count else 0.0

    def named(self, name: str) -> dict[str, float]:
        """As numbers for other workers."""
        return {f"{name}_{one.name}": getattr(self, one.name) for one in fields(self)}

    @staticmethod
    def read(numbers: Mapping[str, float], name: str) -> Costs:
        """The opposite of `named`."""
        return Costs(*(numbers.get(f"{name}_{one.name}", 0.0) for one in fields(Costs)))

    @staticmethod
    def together(several: Sequence[Costs]) -> Costs:
        """Of all of them."""
        return Costs(*(sum(getattr(costs, one.name) for costs in several) for one in fields(Costs)))


class Rate:
    """Requests per second, each counting exp(-its age / memory)."""

    def __init__(self, now: float, window_seconds: float, expected: int | None) -> None:
        self.memory, self._now = MEMORY * window_seconds, now
        self._first = FIRST * window_seconds
        self._seconds = 0.0 if expected is None else self.memory
        self._count = 0.0 if expected is None else expected / window_seconds * self.memory

    def began(self, seconds: float) -> None:
        """What is counted next has come within so many seconds."""
        self._now -= seconds

    def saw(self, now: float, count: int) -> None:
        """So many since the last time."""
        passed = max(now - self._now, 1e-9)
        keep = math.exp(-passed / self.memory)
        # Spread evenly over the time that has passed.
        weight = self.memory * (1 - keep) / passed
        self._count = keep * self._count + weight * count
        self._seconds = keep * self._seconds + self.memory * (1 - keep)
        self._now = now

    @property
    def per_second(self) -> float:
        return self._count / self._seconds if self._count >= ENOUGH else self.spread_per_second

    @property
    def spread_per_second(self) -> float:
        """As if all had come over no less than the first part of a window."""
        return self._count / max(self._seconds, self._first)
