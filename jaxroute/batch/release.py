"""A plan of a batch within a hard budget, and which of its calls comes next: what fits, what waits, what is held back."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxroute.endpoints.floor import spare_usd

if TYPE_CHECKING:
    from jaxroute.batch.hard_budget import HardBudget

LARGE = 0.05
"""A worst case above this part of the money that is left is a large one."""
COVER = 1.3
"""Cheaper calls are held back where their dollars are below so many times the largest worst case that waits: costs vary."""
DRIFT = 0.002
"""The plan is made again when the settled costs have left it by this part of the money that is left."""
REFRESH = 16
"""And, wherever they have left it at all, after one in so many of the prompts that are still to come."""
ROUNDING = 1e-12
"""As the budget of a `Problem` has it: ten times 0.1 fits into 1."""


class Entry(NamedTuple):
    """One waiting prompt."""

    query: int
    expected: float
    """Dollars of the planned call."""
    kept: float
    """Dollars that are kept for it while others are asked."""
    lowest: float
    """The worst case of its cheapest answer."""
    reserve: float
    """Dollars of its best answer with a small worst case."""


@dataclass(frozen=True, eq=False)
class Floor:
    """Dollars that are kept for the prompts that are still to come, one row each."""

    lowest: Float[np.ndarray, " rows"]
    """Worst cases of the cheapest answers."""
    kept: Float[np.ndarray, " rows"]
    """The same, or what cheapest answers are likely to cost."""

    @property
    def margin(self) -> float:
        """What one call may take beyond what is kept for it."""
        return float((self.lowest - self.kept).max(initial=0.0))

    def select(self, keep: Bool[np.ndarray, " rows"]) -> Floor:
        return Floor(self.lowest[keep], self.kept[keep])

    def most(self, left_usd: float) -> Float[np.ndarray, " rows"]:
        """The largest worst case that each row's call may have, of so much money."""
        total, rows = float(self.kept.sum()), len(self.kept)
        pairs = zip(self.kept.tolist(), self.lowest.tolist())
        return np.array([most_for(left_usd, kept, lowest, total, self.margin, rows) for kept, lowest in pairs])


def most_for(left_usd: float, kept: float, lowest: float, total: float, margin: float, waiting: int) -> float:
    """The largest worst case of one call that leaves enough for the `waiting - 1` others; its cheapest answer always may."""
    if spare_usd(left_usd, total, margin, waiting - 1) < 0:
        return left_usd
    return max(spare_usd(left_usd, total - kept, margin, waiting - 1), min(left_usd, lowest))


class Plan:
    """Which model each waiting prompt is to be asked, as queues by model; the first that fits comes next."""

    def __init__(
        self,
        owner: HardBudget,
        rows: np.ndarray,
        choice: np.ndarray,
        cost: np.ndarray,
        floor: Floor,
        room: np.ndarray,
        reserve: np.ndarray,
    ) -> None:
        self.owner, self.waiting, self.drift, self.ended, self.off = owner, len(rows), 0.0, 0, False
        order = np.argsort(owner.rank[rows])
        self.queues: dict[int, deque[Entry]] = {}
        for place in order[choice[order] >= 0]:
            model = int(choice[place])
            entry = Entry(
                int(rows[place]),
                float(cost[place, model]),
                float(floor.kept[place]),
                float(floor.lowest[place]),
                float(reserve[place]),
            )
            self.queues.setdefault(model, deque()).append(entry)
        self.room = {model: float(room[choice == model].min()) for model in self.queues}
        self.kept, self.margin, self.reserve = math.fsum(floor.kept), floor.margin, math.fsum(reserve)
        planned = choice >= 0
        worst = owner.batch.worst_usd[rows[planned], choice[planned]]
        self.rich = owner.multiplier == 0 and bool(planned.all()) and math.fsum(worst) <= owner.left_usd

    def _largest_waiting(self, likely: float) -> float:
        """The largest worst case that will fit once the calls under way have settled; up to that much may be left over."""
        found = 0.0
        for model, queue in self.queues.items():
            if queue:
                worst = float(self.owner.batch.worst_usd[queue[0].query, model])
                if LARGE * likely < worst <= self._most(queue[0], likely):
                    found = max(found, worst)
        return found

    def _most(self, entry: Entry, left: float) -> float:
        """The largest worst case that this prompt's call may have, of so much money."""
        return most_for(left, entry.kept, entry.lowest, self.kept, self.margin, self.waiting)

    def _larger(self, model: int, worst: float) -> bool:
        """Whether the next call of that model has a larger worst case."""
        queue = self.queues[model]
        return bool(queue) and self.owner.batch.worst_usd[queue[0][0], model] > worst

    def moved(self, usd: float) -> None:
        """A call has cost so much more than was planned."""
        self.drift += usd
        self.ended += 1
        self.off |= abs(usd) > ROUNDING * self.owner.budget_usd

    def put_first(self, query: int, model: int, expected: float, lowest: float) -> None:
        """One more prompt, the next of its model."""
        self.queues.setdefault(model, deque()).appendleft(Entry(query, expected, lowest, lowest, 0.0))
        self.room.setdefault(model, math.inf)
        self.kept += lowest
        self.waiting += 1
        self.drift += expected

    def stale(self, waiting: int, left_usd: float) -> bool:
        """Whether it is time for another plan."""
        return self.off and (abs(self.drift) > DRIFT * max(0.0, left_usd) or self.ended * REFRESH >= waiting)

    def next(self) -> tuple[int, int, float] | None:
        """Query, model and expected dollars of the next call that fits; None where none does."""
        owner, left = self.owner, self.owner.left_usd
        busy = [0] * len(owner.places)
        for call in owner.under_way.values():
            busy[call.model] += 1
        likely = owner.likely_left()
        held_back = self._largest_waiting(likely)
        best: tuple[float, float] | None = None
        chosen = -1
        for model, queue in self.queues.items():
            if not queue or busy[model] >= owner.places[model]:
                continue
            one = queue[0]
            worst = float(owner.batch.worst_usd[one.query, model])
            needed = worst + float(owner.fallback(np.array(worst), np.array(one.lowest)))
            if needed > self._most(one, left) + ROUNDING * owner.budget_usd:
                continue
            if any(self._larger(other, worst) and self.room[other] < one.expected for other in self.queues if other != model):
                continue
            if one.reserve and worst < held_back and self.reserve - one.reserve < COVER * held_back:
                continue
            key = (-worst, 0.0) if worst > LARGE * likely else (0.0, float(owner.rank[one.query]))
            if best is None or key < best:
                best, chosen = key, model
        if chosen < 0:
            return None
        one = self.queues[chosen].popleft()
        worst = float(owner.batch.worst_usd[one.query, chosen])
        for other in self.queues:
            if other != chosen and self._larger(other, worst):
                self.room[other] -= one.expected
        self.kept = max(0.0, self.kept - one.kept)
        self.reserve -= one.reserve
        self.waiting -= 1
        return one.query, chosen, one.expected


def room_left(choice: np.ndarray, cost: np.ndarray, worst: np.ndarray, money: float) -> Float[np.ndarray, " rows"]:
    """What is left over when each row's call starts, after those with larger worst cases have cost what is expected."""
    places = np.flatnonzero(choice >= 0)
    mine, most = cost[places, choice[places]], worst[places, choice[places]]
    order = np.argsort(-most, kind="stable")
    before = np.concatenate([[0.0], np.cumsum(mine[order])[:-1]]) if len(order) else np.zeros(0)
    room = np.full(len(choice), np.inf)
    large = most[order] > LARGE * money
    room[places[order[large]]] = (money - before - most[order])[large]
    return room
