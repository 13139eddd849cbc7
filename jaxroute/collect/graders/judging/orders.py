"""Two answers compared in both orders: what holds in both counts, and how often the order alone decides is measured.

Judges prefer what is shown first, or last (Zheng et al. 2023, "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", section
3.3 and 3.4). As they propose, an answer wins only where it wins in both orders; anything else is a tie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

WINS, LOSES, TIES = "wins in both orders", "loses in both orders", "a tie in both orders"
FIRST, SECOND = "the first shown wins in both orders", "the second shown wins in both orders"
MIXED = "a tie in one order"
SCORES = {WINS: 1.0, LOSES: 0.0, TIES: 0.5, FIRST: 0.5, SECOND: 0.5, MIXED: 0.5}
"""What the answer gets for each way in which a comparison may end."""
_ENDS = {("A", "B"): WINS, ("B", "A"): LOSES, ("TIE", "TIE"): TIES, ("A", "A"): FIRST, ("B", "B"): SECOND}


def both_orders(shown_first: str, shown_second: str) -> str:
    """How the comparison ends, a key of SCORES: the verdicts (A, B or TIE) where the answer was shown as A, and as B."""
    return _ENDS.get((shown_first, shown_second), MIXED)


@dataclass(frozen=True)
class OrderBias:
    """How much the order decides."""

    pairs: int
    """Comparisons that were made in both orders."""
    first: int
    """Those in which whatever was shown first won."""
    second: int
    """Those in which whatever was shown second won."""

    @property
    def share(self) -> float:
        """Of the pairs, those in which the order alone decides; NaN without pairs."""
        return (self.first + self.second) / self.pairs if self.pairs else float("nan")

    def __str__(self) -> str:
        return (
            f"the order decided {self.share:.1%} of {self.pairs:,} pairs: the first shown won {self.first:,}, the second "
            f"{self.second:,}"
            if self.pairs
            else "no pair was compared"
        )


def order_bias(ends: Iterable[str]) -> OrderBias:
    """Of many comparisons, each given by how it ended; texts that are no such end are left out."""
    counts = Counter(end for end in ends if end in SCORES)
    return OrderBias(counts.total(), counts[FIRST], counts[SECOND])
