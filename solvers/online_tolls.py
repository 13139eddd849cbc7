"""Tolls: what a place at a model costs while queries arrive in time and the model can begin only so many a second.

Beside the budget, model i has a capacity of r_i queries a second. With a toll t_i for a place, in units of value, the choice
for a query is x = argmax_i q[i] - lambda c[i] - t_i. The dual of the program over T seconds,

    minimise over t >= 0    sum_i t_i r_i T + sum_j max_i (q[j, i] - lambda c[j, i] - t_i),

has the subgradient r_i T - #{j : x_j = i}. Following it as queries come is dual ascent on utilisation:

    t_i <- t_i + eta (1[x_j = i] / r_i - seconds passed),   t_i >= 0

(Balseiro, Lu & Mirrokni 2023, "The best of many worlds: dual mirror descent for online allocation problems", here with capacity
per second in place of per query, since it is not known how many queries come). A model that twice as many want as it can take
rises by eta a second; one that nobody wants falls by as much.

What counts is who wants the model at the tolls in force, not who gets it: a full model takes no more than its capacity, so
that its use alone would never raise its toll, and its places would go to whoever comes first, not to whom they are worth most.
"""

from __future__ import annotations

import math

from solvers.errors import ProblemError
from solvers.inputs import at_least, number

STEP = 0.02
"""Value per second of one capacity's excess."""
MOST = 0.02
"""By which one query moves a toll: a model that takes a query a minute shall not swing with each."""


class Toll:
    """Of one model; `now` is seconds of any clock, and never goes back.

    `per_second` is how many queries it can begin, and may be changed at any time; infinite where nothing limits it, and then
    the toll falls to 0. Raises `ProblemError`.
    """

    def __init__(self, per_second: float = math.inf, *, now: float = 0.0, step: float = STEP) -> None:
        self.step = at_least("step", step, 0)
        self.per_second = per_second
        self._value, self._now = 0.0, number("now", now)

    @property
    def per_second(self) -> float:
        """Its capacity."""
        return self._per_second

    @per_second.setter
    def per_second(self, rate: float) -> None:
        if not rate > 0:
            raise ProblemError(f"per_second={rate:g} must be > 0")
        self._per_second = float(rate)

    def at(self, now: float) -> float:
        """The toll at that moment, in units of value."""
        passed = max(now - self._now, 0.0)
        self._now = max(now, self._now)
        # One query less per 1 / rate seconds.
        fall = self.step if math.isinf(self._per_second) else self._move() * self._per_second
        self._value = max(self._value - fall * passed, 0.0)
        return self._value

    def wanted(self, now: float) -> None:
        """A query has this model as its best at the tolls in force, whether or not it gets a place."""
        self._value = self.at(now) + self._move()

    def _move(self) -> float:
        return min(self.step / self._per_second, MOST)
