"""The floor: of what is left of a budget, how much is kept for cheap answers to the requests that are still to come.

One call may have a worst case of at most

    left - sum over the others of kept - AT_ONCE margin,      kept = min(SAFETY expected, lowest)

`expected` is what the cheapest answer to another request is expected to cost, `lowest` its worst case, and `margin` the largest
lowest - kept. Worst cases of cheap answers are ten times their costs and more: kept for every request, they would forbid
expensive calls until too few requests are left to use the money. So they are kept for AT_ONCE requests, which may be under way
together. A request's own cheapest answer needs no leave: it may take whatever is left.
"""

from __future__ import annotations

SAFETY = 2.0
"""How many times the expected cost of its cheapest answer is kept for a request."""
AT_ONCE = 16
"""And for so many of them the worst case."""


def spare_usd(left_usd: float, others_usd: float, margin_usd: float, others: float) -> float:
    """The largest worst case, in dollars, that leaves the floor to so many other requests, for which `others_usd` are kept.

    Negative where less than the floor is left.
    """
    return left_usd - margin_usd * min(AT_ONCE, max(0, others)) - others_usd
