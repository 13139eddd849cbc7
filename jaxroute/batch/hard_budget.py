"""A batch within a budget that holds for what is really paid: who may be asked next, decided again as true costs come in.

Prompts j, models i. Before any answer there are a quality q[j, i], expected dollars e[j, i], and a worst case w[j, i] that no
answer exceeds. At any moment S dollars are settled, the prompts F are under way, and the prompts R are still to come.

    hard      S + sum_F w  <=  B                                      before and after every call

    plan      maximise  sum_R q[j, x_j]     subject to
              sum_R c[j, x_j]  <=  B - S - sum_F c - slack,           c = min(r_i e, w)

    floor     w[j, x_j]  <=  B - S - sum_F w - kept for R without j

The plan is the program of `solvers.Problem`, for the prompts that are left, at one price. It is made again when what was paid
has moved away from it, so that savings buy quality and overruns are paid by cheaper models. r_i says how much of what was
expected of model i it really costs: the ratio of the sums of its settled calls, shrunk towards the ratio over all models, and
that towards 1.

The floor keeps money for the cheapest answer of every prompt that is still to come. With `guarantee` that is its worst case
m[k] = min_i w[k, i], so no prompt stays without an answer for want of money, whatever the others cost up to their worst cases.
Without, it is what such answers are likely to cost, min(SAFETY min_i c[k, i], m[k]), and the worst case of AT_ONCE of them:
worst cases of cheap models are ten times their costs and more, and would forbid expensive calls until too few prompts are left
to use the money. Where the budget is below the floor only the hard limit is left.

Worst cases are far above what answers cost, so near the end an expensive call may no longer fit, though the money for it is
there. Therefore (`release.py`)

- a planned call whose worst case is a large part of what is left (LARGE) goes first, the one with the largest first of all;
- cheaper calls are held back where large ones need their money as a cover, or where too few would be left to use what large
  worst cases leave over;
- what would come too late to fit is planned otherwise, and a call that does not fit now waits for others to settle. Only when
  none is under way, the plan is made with what fits;
- no more calls are under way than a share of the prompts that are still to come, so that the last ones use what is left.

Other calls go in a random order: the first ones are typical of all, and no model is upgraded first and downgraded later.
Nothing here asks a model: `calls` says what to start now, `settle` takes what it has cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxroute.batch.release import LARGE, ROUNDING, Floor, Plan, room_left
from jaxroute.endpoints.floor import SAFETY
from solvers import InfeasibleProblem, Problem, solve

SHRINKAGE = 20.0
"""How many calls, at the expected cost, the prior of a ratio counts."""
LATE = 0.3
MOST_ROUNDS = 8
"""How often a plan is made without the calls that would come too late to fit."""
SEARCH_SECONDS = 1.0
"""The longest search of `exact` for one assignment. Nothing else happens meanwhile: answers under way would run out of time."""
NOTHING_FITS = "budget"
NO_MODEL = "no_model"


@dataclass(frozen=True, eq=False)
class Batch:
    """What is known of every prompt and model before any is asked; all arrays `(queries, models)`."""

    quality: Float[np.ndarray, "queries models"]
    """Estimated quality."""
    expected_usd: Float[np.ndarray, "queries models"]
    """Expected dollars of an answer."""
    worst_usd: Float[np.ndarray, "queries models"]
    """The most dollars that an answer can cost."""
    available: Bool[np.ndarray, "queries models"] | None = None
    """Which model may answer which prompt; other cells are not read."""
    capacity: Int[np.ndarray, " models"] | None = None
    """The largest number of prompts per model."""


@dataclass(frozen=True)
class Pace:
    """How many calls are under way, and how the batch is assigned."""

    concurrent_calls: int = 64
    """The most calls under way at once, of all models together."""
    share: float = 0.125
    """And the most, as a share of the prompts that are still to come; at least one call."""
    solver: str = "lagrangian"
    """Of every plan: auto, lagrangian or exact."""
    guarantee: bool = False
    """Keep the cheapest worst case of every prompt that is still to come, not what its cheapest answer is likely to cost."""
    seed: int = 0
    """Of the order of the calls."""


@dataclass(frozen=True)
class Call:
    """One prompt to one model, to be started now."""

    query: int
    model: int
    worst_usd: float
    """What is held for it."""
    expected_usd: float
    """What the plan reckons with."""


@dataclass
class Spending:
    """Calls that have ended, by model."""

    calls: Int[np.ndarray, " models"]
    spent_usd: Float[np.ndarray, " models"]
    """On all of them, failed ones too."""
    expected_usd: Float[np.ndarray, " models"]
    """Of those that were answered, as estimated."""


class HardBudget:
    """Assigns a batch while it is being answered. Start what `calls` returns, `settle` each; repeat until `finished`."""

    def __init__(
        self,
        batch: Batch,
        budget_usd: float,
        pace: Pace | None = None,
        *,
        places: Iterable[int] | None = None,
        spent_usd: float = 0.0,
    ) -> None:
        """`places` are how many calls of each model may be under way; `spent_usd` was settled before, by an earlier run."""
        queries, models = batch.quality.shape
        self.batch, self.budget_usd, self.pace = batch, budget_usd, pace or Pace()
        self.settled_usd, self.held_usd = spent_usd, 0.0
        self.places = [queries] * models if places is None else list(places)
        self.available = np.ones((queries, models), bool) if batch.available is None else batch.available.copy()
        self.under_way: dict[int, Call] = {}
        self.choice = np.full(queries, -1)
        """The model that has answered each prompt; -1 as long as none has."""
        self.unanswered: dict[int, str] = {}
        """Why each of these prompts stays without an answer: NOTHING_FITS, NO_MODEL, or what `drop` was given."""
        self.multiplier = 0.0
        """Quality per dollar of the present plan."""
        self.plans = 0
        self._taken = np.zeros(models, int)
        self.rank = np.random.default_rng(self.pace.seed).permutation(queries)
        self._spending = Spending(np.zeros(models, int), np.zeros(models), np.zeros(models))
        self._mean = np.array([_mean(batch.expected_usd[:, one][self.available[:, one]]) for one in range(models)])
        self._waiting = np.ones(queries, bool)
        self._plan: Plan | None = None
        self._paused = self._paid_failures = False

    @property
    def finished(self) -> bool:
        """Whether every prompt has an answer or a reason why not."""
        return not self._waiting.any() and not self.under_way

    @property
    def left_usd(self) -> float:
        """What may still be held for further calls."""
        return self.budget_usd * (1 + ROUNDING) - self.settled_usd - self.held_usd

    @property
    def ratios(self) -> Float[np.ndarray, " models"]:
        """What calls cost, per dollar that was expected, by model."""
        done, prior = self._spending, SHRINKAGE * self._mean
        weight = done.calls / max(1, done.calls.sum())
        base = float(weight @ prior)
        overall = _ratio(done.spent_usd.sum() + base, done.expected_usd.sum() + base)
        return np.array([_ratio(s + p * overall, e + p) for s, e, p in zip(done.spent_usd, done.expected_usd, prior)])

    def calls(self) -> list[Call]:
        """What to start now. Empty where calls under way must settle first, and when nothing is left to be done."""
        if self._paused and self.under_way:
            return []
        self._paused = False
        if self._plan is None or self._plan.stale(int(self._waiting.sum()), self.likely_left()):
            self._make_plan()
        started = self._start()
        while not started and not self.under_way and self._waiting.any():
            # Nothing will settle any more, so what does not fit now never will.
            self._make_plan(fitting_now=True)
            started = self._start()
            for query in np.flatnonzero(self._waiting) if not started else ():
                self._give_up(int(query), NOTHING_FITS)
        return started

    def settle(self, call: Call, spent_usd: float, *, answered: bool = True) -> None:
        """The call has ended and cost that much. A prompt without an answer is assigned again, without that model."""
        self._paused = False
        del self.under_way[call.query]
        self.held_usd = math.fsum(one.worst_usd for one in self.under_way.values())
        self.settled_usd += spent_usd
        self.record(call.query, call.model, spent_usd, answered=answered)
        if self._plan is not None:
            self._plan.moved(spent_usd - call.expected_usd)
        if not answered:
            self._taken[call.model] -= 1
            self._return(call.query)

    def postpone(self, call: Call) -> None:
        """The call could not be paid just now: its prompt waits again, and nothing starts before another call has settled."""
        self._paused = True
        del self.under_way[call.query]
        self.held_usd = math.fsum(one.worst_usd for one in self.under_way.values())
        self._taken[call.model] -= 1
        self._waiting[call.query] = True
        self._plan = None

    def record(self, query: int, model: int, spent_usd: float, *, answered: bool) -> None:
        """Learn from a call that has ended, here or in an earlier run; its dollars are booked elsewhere."""
        self._spending.calls[model] += 1
        self._spending.spent_usd[model] += spent_usd
        if answered:
            self._spending.expected_usd[model] += self.batch.expected_usd[query, model]
            self.choice[query] = model
            self._waiting[query] = False
        else:
            self.available[query, model] = False
            self._paid_failures |= spent_usd > 0

    def restore(self, query: int, model: int, spent_usd: float, *, answered: bool) -> None:
        """The same for a call of an earlier run, before the first `calls`."""
        self.record(query, model, spent_usd, answered=answered)
        self._taken[model] += answered

    def drop(self, query: int, reason: str) -> None:
        """Leave a prompt that is not under way without an answer."""
        self._waiting[query] = False
        self.unanswered[query] = reason
        self._plan = None

    def leave_out(self, model: int) -> None:
        """Ask that model nothing more."""
        self.available[:, model] = False
        self._plan = None

    def _return(self, query: int) -> None:
        """Assign a prompt whose model has failed to the next best one at the price in force, ahead of the others."""
        self._waiting[query] = True
        allowed = self.available[query]
        if self.batch.capacity is not None:
            allowed = allowed & (self._taken < self.batch.capacity)
        if self._plan is None or not allowed.any():
            self._plan = None
            return
        models = np.flatnonzero(allowed)
        worst = self.batch.worst_usd[query, models]
        cost = np.minimum(self.batch.expected_usd[query, models] * self.ratios[models], worst)
        finite = math.isfinite(self.multiplier)
        worth = self.batch.quality[query, models] - self.multiplier * cost if finite else -cost
        best = int(worth.argmax())
        self._plan.put_first(query, int(models[best]), float(cost[best]), float(worst.min()))

    def fallback(self, worst: np.ndarray, lowest: np.ndarray) -> np.ndarray:
        """What is kept for the same prompt's cheapest answer, should the call be paid and fail, as others were before."""
        return np.where(worst > lowest, lowest, 0.0) if self._paid_failures else np.zeros(())

    def likely_left(self) -> float:
        """The budget less what is settled and what calls under way are expected to cost."""
        return self.budget_usd - self.settled_usd - math.fsum(one.expected_usd for one in self.under_way.values())

    def _make_plan(self, *, fitting_now: bool = False) -> None:
        rows = np.flatnonzero(self._waiting)
        allowed = self.available[rows]
        if self.batch.capacity is not None and not self.under_way:
            # No place will come free any more.
            allowed = allowed & (self._taken < self.batch.capacity)
        for row in rows[~allowed.any(axis=1)]:
            self._give_up(int(row), NO_MODEL)
        rows, allowed = rows[allowed.any(axis=1)], allowed[allowed.any(axis=1)]
        worst = np.where(allowed, self.batch.worst_usd[rows], np.inf)
        cost = np.minimum(np.where(allowed, self.batch.expected_usd[rows] * self.ratios, np.inf), worst)
        least, lowest = cost.min(axis=1, initial=np.inf), self._lowest(rows, worst)
        floor = Floor(lowest, lowest if self.pace.guarantee else np.minimum(lowest, SAFETY * least))
        money = self.likely_left()
        if fitting_now:
            fits = worst + self.fallback(worst, lowest[:, None]) <= floor.most(self.left_usd)[:, None]
        else:
            # What is left when all others had their cheapest answers: no call will ever fit that does not fit then.
            fits = worst <= (money * (1 + ROUNDING) - (least.sum() - least))[:, None] + ROUNDING * self.budget_usd
            fits |= worst <= lowest[:, None]
        impossible = ~fits.any(axis=1)
        if fitting_now:
            for row in rows[impossible]:
                self._give_up(int(row), NOTHING_FITS)
        slack = float((lowest - least).max(initial=0.0))
        keep = np.logical_not(impossible)
        rows, fits, cost, worst, floor = rows[keep], fits[keep], cost[keep], worst[keep], floor.select(keep)
        choice, room = np.full(len(rows), -1), np.full(len(rows), np.inf)
        for _ in range(MOST_ROUNDS if len(rows) else 0):
            choice, self.multiplier = self._assign(rows, np.where(fits, cost, 0.0), fits, money - slack)
            room = room_left(choice, cost, worst, money)
            late = room < -ROUNDING * self.budget_usd
            cheaper = fits & (worst < worst[np.arange(len(rows)), choice][:, None])
            late &= cheaper.any(axis=1) & (worst[np.arange(len(rows)), choice] > LATE * money)
            if not late.any():
                break
            fits[late] = cheaper[late]
        if fitting_now and len(rows) and (choice < 0).all():
            # The plan has no money in expectation, yet a worst case fits: the cheapest answers, as far as they go.
            choice = np.where(fits, worst, np.inf).argmin(axis=1)
            if self.batch.capacity is not None:
                choice[1:] = -1
        self.plans += 1
        self._plan = Plan(self, rows, choice, cost, floor, room, self._reserve(rows, choice, fits, cost, money))

    def _lowest(self, rows: Int[np.ndarray, " rows"], worst: Float[np.ndarray, "rows models"]) -> Float[np.ndarray, " rows"]:
        """The worst case of each prompt's cheapest answer, all together within the capacities."""
        lowest = worst.min(axis=1, initial=np.inf)
        if self.batch.capacity is None or not len(rows):
            return lowest
        try:
            allowed = np.isfinite(worst)
            shared = Problem(np.zeros_like(worst), worst, available=allowed, capacity=self._capacity())
        except InfeasibleProblem:
            return lowest
        return worst[np.arange(len(rows)), shared.cheapest]

    def _reserve(
        self, rows: np.ndarray, choice: np.ndarray, allowed: np.ndarray, cost: np.ndarray, money: float
    ) -> Float[np.ndarray, " rows"]:
        """What the best answer with a small worst case would cost, for each row whose call has a small one."""
        if not len(rows):
            return np.zeros(0)
        places = np.arange(len(rows))
        quality = self.batch.quality[rows]
        planned = self.batch.worst_usd[rows, choice][choice >= 0]
        small = allowed & (self.batch.worst_usd[rows] <= max(LARGE * money, planned.max(initial=0.0) / 2))
        best = np.where(small, quality, -np.inf).argmax(axis=1)
        most = np.maximum(cost[places, best], cost[places, choice])
        return np.where((choice >= 0) & small[places, choice] & small[places, best], most, 0.0)

    def _capacity(self) -> Int[np.ndarray, " models"] | None:
        return None if self.batch.capacity is None else np.maximum(self.batch.capacity - self._taken, 0)

    def _assign(
        self, rows: np.ndarray, cost: np.ndarray, allowed: np.ndarray, budget_usd: float
    ) -> tuple[Int[np.ndarray, " rows"], float]:
        quality = self.batch.quality[rows]
        try:
            problem = Problem(quality, cost, max(0.0, budget_usd), available=allowed, capacity=self._capacity())
        except InfeasibleProblem:
            # As many answers as there is money for: one more is worth more than any difference of quality.
            read = np.where(allowed, quality, np.nan)
            low, high = float(np.nanmin(read)), float(np.nanmax(read))
            problem = Problem(
                quality - low + (high - low) + 1.0,
                cost,
                max(0.0, budget_usd),
                available=allowed,
                capacity=self._capacity(),
                allow_unanswered=True,
            )
        limit = {} if self.pace.solver == "lagrangian" else {"max_seconds": SEARCH_SECONDS}
        assigned = solve(problem, self.pace.solver, **limit)
        return assigned.choice, assigned.multiplier

    def _start(self) -> list[Call]:
        assert self._plan is not None
        started = []
        while self._may_start() and (found := self._plan.next()) is not None:
            query, model, expected = found
            call = Call(query, model, float(self.batch.worst_usd[query, model]), expected)
            self.under_way[query] = call
            self.held_usd += call.worst_usd
            self._waiting[query] = False
            self._taken[model] += 1
            started.append(call)
        return started

    def _may_start(self) -> bool:
        assert self._plan is not None
        most, waiting = self.pace.concurrent_calls, self._plan.waiting
        if not self._plan.rich:
            most = min(most, max(1, math.ceil(self.pace.share * waiting)))
        return len(self.under_way) < most

    def _give_up(self, query: int, reason: str) -> None:
        self._waiting[query] = False
        self.unanswered[query] = reason


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0


def _ratio(paid: float, expected: float) -> float:
    return paid / expected if expected > 0 else 1.0
