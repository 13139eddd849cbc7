"""The price of quality for what is left of a window's budget: `solvers.Pacer`, which reads the ledger and forecasts requests.

Every few requests the multiplier becomes the one at which the latest requests would have spent, on average, what is left per
request to come (solvers/online.py has the formula). What goes into it:

- paid, held, begun: the ledger's totals of the window. Several workers share the rest too (`shared_price`), and so have one
  price, but for the requests of the last second.
- to come: the rate of requests, weighted exponentially by their age, times what is left of the window. A budget without an end
  needs the number of requests that it is for.
- the sample: quality and expected dollars of the latest requests that were routed, as numbers alone.
- kappa = paid / expected, over the latest requests that ended: where answers cost more or less than was estimated, all dollars
  are counted in what is estimated.
- requests by a model's name, and those ranked by price alone, pay too, and no price moves them: what they are expected to take
  is taken off the budget.

That is a plan, and a request is held at its worst case. So that the budget lasts for cheap answers to the requests to come, a
worst case may be at most what leaves the floor (endpoints/floor.py, as in `jaxroute run`), or that of its own cheapest answer:

    most = max(left - n min(SAFETY kappa e, w) - min(AT_ONCE, n) max(w - min(SAFETY kappa e, w), 0),  min(left, own w))

with n requests to come that will be routed, and e and w the mean expected cost and worst case of the cheapest answer to the
latest requests.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from jaxroute.endpoints.floor import SAFETY, spare_usd
from jaxroute.endpoints.ledger import Ledger
from jaxroute.serve.choosing import Pace, Ranked
from jaxroute.serve.observed import ENOUGH, SAMPLE_ROWS, Costs, Rate, Sample
from jaxroute.serve.shared_price import Estimates as Estimated
from jaxroute.serve.shared_price import Others, Price, SharedPrice
from solvers import Pacer

MOST_MULTIPLIER = 1e15
"""In place of an infinite one: quality plays no part any more, and 0 dollars times it are 0."""
MOST_SECONDS = 1.0
"""Between two looks, as long as requests come."""


class LedgerPace:
    """A `Pace` for the window of `ledger`; `saw` gives it the estimates of every routed request.

    `floor` is the least multiplier, quality per dollar. `expected_requests` is how many are to come within a window: needed
    where it never ends, elsewhere what is expected before the first of them have come. With `shared`, several workers have one
    price, by all that they know together. `before` stands in for requests that have not come yet: training prompts.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        floor: float = 0.0,
        expected_requests: int | None = None,
        every: int = 10,
        rows: int = SAMPLE_ROWS,
        shared: SharedPrice | None = None,
        before: Sequence[Estimated] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.ledger, self.floor, self.every, self.expected_requests = ledger, floor, every, expected_requests
        self._clock = clock
        self._sample, self._shared = Sample(rows, before), shared
        self._unsaid: list[dict[str, tuple[float, float]]] = []
        self._pacer: Pacer | None = None
        self._new_rows, self._since, self._looked = 0, every, -math.inf
        self._multiplier = floor
        self._expected_usd, self._held_usd, self._expected_share = 0.0, 0.0, 0.5
        self._estimated, self._others = Costs(), Costs()
        # In place of what is paid, the worst case.
        self._cheapest = Costs()
        self._kept_usd, self._margin_usd, self._routed_share = 0.0, 0.0, 1.0
        self._rate: Rate | None = None
        self._ends: float | None = None
        self._counted = 0
        self.to_come = 0.0
        """Forecast of the requests of the rest of the window, at the last look."""
        self._surely = 0.0
        """The same, where a first burst forecasts no flood."""

    @property
    def multiplier(self) -> float:
        """Quality per dollar."""
        self._look_if_due()
        return self._multiplier

    def most_usd(self, ledger: Ledger, left_usd: float, lowest_usd: float) -> float:
        """The largest worst case of a request whose cheapest answer has `lowest_usd`; of another ledger, all that is left."""
        if ledger is not self.ledger:
            return left_usd
        self._look_if_due()
        others = self._surely * self._routed_share
        return max(spare_usd(left_usd, others * self._kept_usd, self._margin_usd, others), min(left_usd, lowest_usd))

    def begin(self, expected_usd: float, worst_case_usd: float | None = None) -> None:
        worst = expected_usd if worst_case_usd is None else worst_case_usd
        self._expected_usd += expected_usd
        self._held_usd += worst
        self._since += 1
        if worst:
            self._expected_share += (expected_usd / worst - self._expected_share) / 100

    def end(self, expected_usd: float, worst_case_usd: float | None = None, *, paid_usd: float) -> None:
        worst = expected_usd if worst_case_usd is None else worst_case_usd
        self._expected_usd -= expected_usd
        self._held_usd -= worst
        # Of a model that was asked by its name nothing was expected but its worst case.
        one, other = (self._others, self._estimated) if expected_usd == worst else (self._estimated, self._others)
        one.add(expected_usd, paid_usd)
        # Their counts say which share of requests each kind has, so both forget at the same rate.
        other.fade()

    def saw(self, order: Sequence[Ranked]) -> None:
        """What was estimated of a request that is routed."""
        known = [one for one in order if one.quality is not None and one.cost_usd is not None]
        if known:
            # Net of tolls, as they are compared.
            estimates = {one.candidate.model: ((one.quality or 0.0) - one.candidate.toll, one.cost_usd or 0.0) for one in known}
            self._sample.add(estimates)
            self._new_rows += 1
            worst = [one.candidate.worst_case_usd for one in known if one.candidate.worst_case_usd is not None]
            self._cheapest.add(min(cost for _, cost in estimates.values()), min(worst, default=0.0))
            if self._shared is not None:
                self._unsaid.append(estimates)

    def figures(self) -> dict[str, float]:
        """For the metrics: name -> number."""
        return {"requests_to_come": self.to_come, "kept_usd": self._surely * self._routed_share * self._kept_usd}

    def _look_if_due(self) -> None:
        few = len(self._sample) < 2 * self.every
        if few or self._since >= self.every or self._clock() - self._looked >= MOST_SECONDS:
            self._look()

    def _look(self) -> None:
        """Set the multiplier by the ledger, the clock and the sample."""
        self._since, self._looked = 0, self._clock()
        totals, ends = self.ledger.totals(), self.ledger.next_window
        begun = totals.settlements + self._open(totals)
        others = self._exchange()
        self.to_come, self._surely = self._forecast(totals.reservations, begun)
        estimated, by_name, cheapest = self._estimated, self._others, self._cheapest
        if others is not None:
            estimated = Costs.together([estimated, *(Costs.read(one, "estimated") for one in others.sums)])
            by_name = Costs.together([by_name, *(Costs.read(one, "others") for one in others.sums)])
            cheapest = Costs.together([cheapest, *(Costs.read(one, "cheapest") for one in others.sums)])
        kappa = min(max(estimated.ratio, 0.05), 20.0)
        share = by_name.count / max(by_name.count + estimated.count, 1.0)
        fixed, moved = share * by_name.mean, 1 - share
        self._kept_usd = min(SAFETY * kappa * cheapest.expected_mean, cheapest.mean)
        self._margin_usd, self._routed_share = cheapest.mean - self._kept_usd, moved
        price = None if others is None else others.price
        if price is not None and price.ends == ends:
            since = totals.reservations - price.reservations
            if 0 <= since < self.every and 0 <= self._looked - price.made < MOST_SECONDS:
                self.to_come, self._multiplier = price.to_come, max(self.floor, price.multiplier)
                return
        if not len(self._sample):
            return
        if self._pacer is None:
            self._pacer = Pacer(self._sample.problem(), totals.limit_usd, 1)
            self._new_rows = 0
        elif self._new_rows >= max(1, self._sample.live // 10):
            self._pacer.sample(self._sample.problem())
            self._new_rows = 0
        if others is None:
            # Of what other processes hold it is not known what they expect.
            foreign = self._expected_share * max(totals.reserved_usd - self._held_usd, 0.0)
        else:
            foreign = sum(one["expected_usd"] for one in others.sums)
        planned = begun + self.to_come
        self._pacer.account(
            max(totals.limit_usd - planned * fixed, 0.0) / kappa,
            paid_usd=max(totals.settled_usd - begun * fixed, 0.0) / kappa,
            held_usd=totals.reserved_usd / kappa,
            expected_usd=max(self._expected_usd, 0.0) + foreign,
            in_flight=self._open(totals),
            begun=round(begun * moved),
            queries=max(round(self.to_come * moved), 1),
        )
        self._multiplier = min(max(self.floor, self._pacer.multiplier), MOST_MULTIPLIER)
        if self._shared is not None:
            self._shared.publish(Price(self._multiplier, self.to_come, self._looked, ends, totals.reservations))

    def _exchange(self) -> Others | None:
        """With the other workers, where there are any."""
        if self._shared is None:
            return None
        sums = self._estimated.named("estimated") | self._others.named("others") | self._cheapest.named("cheapest")
        sums["expected_usd"] = max(self._expected_usd, 0.0)
        others = self._shared.exchange(sums, self._unsaid)
        self._unsaid = []
        for estimates in others.rows:
            self._sample.add(estimates)
        self._new_rows += len(others.rows)
        return others

    @staticmethod
    def _open(totals) -> int:
        return totals.reservations - totals.settlements - totals.releases

    def _forecast(self, reservations: int, begun: int) -> tuple[float, float]:
        """Requests to come: what the price is for, and for how many something is kept."""
        ends, now = self.ledger.next_window, self._clock()
        if ends is None:
            # Where more have come than were expected, some more may.
            left = (self.expected_requests or 0) - begun
            found = float(left) if left > 0 else max(begun / 20, 1.0)
            return found, found
        if self._rate is None:
            self._rate = Rate(now, self._length(ends), self.expected_requests)
            self._counted = reservations
            if self.expected_requests is None and reservations >= ENOUGH:
                # A process before this one has counted since the window began.
                self._counted = 0
                self._rate.began(self._length(ends) - (ends - now))
        new = reservations if ends != self._ends and self._ends is not None else reservations - self._counted
        self._ends, self._counted = ends, reservations
        self._rate.saw(now, max(new, 0))
        return max(self._rate.per_second * (ends - now), 1.0), self._rate.spread_per_second * (ends - now)

    def _length(self, ends: float) -> float:
        """Seconds of the window that ends then; a month is taken as one of 30 days."""
        window = self.ledger.window
        return 30 * 86_400.0 if isinstance(window, str) or window is None else window


class PaceOfBoth:
    """For a client with a budget of its own: the price of the budget that is shorter, and both learn of what is paid.

    Each pace gives the price at which its own budget is spent evenly, so that the higher of them keeps to both.
    """

    def __init__(self, everyone: Pace, own: Pace) -> None:
        self.everyone, self.own = everyone, own

    @property
    def multiplier(self) -> float:
        """Quality per dollar."""
        return max(self.everyone.multiplier, self.own.multiplier)

    def most_usd(self, ledger: Ledger, left_usd: float, lowest_usd: float) -> float:
        """Each keeps what its own ledger's requests to come need."""
        return min(one.most_usd(ledger, left_usd, lowest_usd) for one in (self.everyone, self.own))

    def saw(self, order: Sequence[Ranked]) -> None:
        """What was estimated of a request that is routed."""
        self.everyone.saw(order)
        self.own.saw(order)

    def begin(self, expected_usd: float, worst_case_usd: float | None = None) -> None:
        self.everyone.begin(expected_usd, worst_case_usd)
        self.own.begin(expected_usd, worst_case_usd)

    def end(self, expected_usd: float, worst_case_usd: float | None = None, *, paid_usd: float) -> None:
        self.everyone.end(expected_usd, worst_case_usd, paid_usd=paid_usd)
        self.own.end(expected_usd, worst_case_usd, paid_usd=paid_usd)

    def figures(self) -> dict[str, float]:
        """Those of all."""
        return self.everyone.figures()
