"""What the simulated endpoints have served, so that whoever asked can compare their dollars with ours."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from jaxroute.data.sources.simulated import simulated_prices

PICO = 1_000_000_000_000


@dataclass
class Counts:
    """Requests, answers and dollars. What was generated is billed, also where it did not arrive."""

    requests: Counter[str] = field(default_factory=Counter)
    """By model."""
    faults: Counter[str] = field(default_factory=Counter)
    """By kind."""
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Answers that were sent whole and with the right usage, by model and prompt."""
    tries: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Requests by model and prompt."""
    answered_pico: int = 0
    """Picodollars of these answers."""
    lost_pico: int = 0
    """Picodollars of what was generated and cut, malformed, reported wrongly, or left by the one who asked."""
    under_way: int = 0
    """Requests that are being served."""
    most_under_way: int = 0
    """The most at the same moment."""

    def as_json(self) -> dict[str, object]:
        """What `GET /simulation/counts` gives."""
        return {
            "requests": sum(self.requests.values()),
            "requests_by_model": dict(self.requests),
            "answers": sum(self.answers.values()),
            "answered_more_than_once": sum(1 for count in self.answers.values() if count > 1),
            "answered_usd": self.answered_pico / PICO,
            "lost_usd": self.lost_pico / PICO,
            "faults": dict(self.faults),
            "most_under_way": self.most_under_way,
        }


def picodollars(model: str, prompt_tokens: int, completion_tokens: int) -> int:
    """(prompt tokens x input price + completion tokens x output price) / 10^6 dollars, exactly."""
    price = simulated_prices()[model]
    # Dollars per million tokens are picodollars per millionth of a token's; prices here have at most six decimals.
    return prompt_tokens * round(price.input * 1_000_000) + completion_tokens * round(price.output * 1_000_000)
