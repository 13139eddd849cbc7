"""What is known of a request once it has ended: for the log, the metrics, the status page and the record."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from jaxroute.endpoints.usage import Usage
from jaxroute.serve.choosing import Ranked


@dataclass
class Finished:
    """One request; seconds count from when its body was read."""

    id: str
    """What the client gets as `x-jaxroute-id`."""
    kind: str
    """`chat`, `completion`, `response` or `embedding`."""
    routed: bool = False
    """Whether it asked for `auto`."""
    client: str | None = None
    """The name of the key's owner."""
    model: str | None = None
    """Which one was asked last; None where none was."""
    status: int = 0
    """Of the response; 0 where there was none."""
    reason: str = ""
    """Why there is no answer, or only a part of one; empty where there is."""
    quality: float | None = None
    """Estimated."""
    expected_usd: float | None = None
    """Expected dollars."""
    p_value: float | None = None
    """How like the training prompts the prompt is; None where that is not known."""
    cost_usd: float | None = None
    """True dollars of the answer; None where the endpoint has not counted it credibly."""
    spent_usd: float = 0.0
    """What counts as spent on all tries."""
    usage: Usage = field(default_factory=Usage)
    """Tokens of the answer."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Tries that failed: model and reason."""
    first_byte_seconds: float | None = None
    """Until the response began."""
    total_seconds: float = 0.0
    """Until it ended."""
    routing_seconds: float = 0.0
    """Of ranking the models."""
    overhead_seconds: float = 0.0
    """All but waiting for endpoints."""
    rated: float | None = None
    """The quality that somebody has given, in [0, 1]."""
    checkpoint_digest: str = ""
    """Of the checkpoint whose estimates these are: a rating says nothing of another one's."""

    def as_json(self) -> dict[str, object]:
        """What its client may know of it."""
        return {
            "id": self.id,
            "model": self.model,
            "routed": self.routed,
            "status": self.status,
            "reason": self.reason or None,
            "expected_quality": self.quality,
            "expected_usd": self.expected_usd,
            "p_value": self.p_value,
            "cost_usd": self.cost_usd,
            "spent_usd": self.spent_usd,
            "prompt_tokens": self.usage.prompt_tokens,
            "completion_tokens": self.usage.completion_tokens,
            "first_byte_ms": None if self.first_byte_seconds is None else round(1000 * self.first_byte_seconds, 3),
            "total_ms": round(1000 * self.total_seconds, 3),
            "overhead_ms": round(1000 * self.overhead_seconds, 3),
            "quality": self.rated,
        }

    @staticmethod
    def read(text: str) -> Finished:
        """Of the JSON of its fields."""
        content = json.loads(text)
        failures = [(model, reason) for model, reason in content["failures"]]
        return Finished(**{**content, "usage": Usage(**content["usage"]), "failures": failures})

    def begin(self, model: str, ranked: Ranked) -> None:
        """A try begins."""
        self.model, self.quality, self.expected_usd = model, ranked.quality, ranked.cost_usd
        self.p_value = ranked.p_value
