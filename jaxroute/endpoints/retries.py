"""When to try again: full jitter, and what an endpoint asks for with `Retry-After`.

Full jitter (Brooker 2015, "Exponential Backoff And Jitter", AWS Architecture Blog): before try n + 1 a client sleeps

    uniform(0, min(most, base 2^(n - 1))) seconds.

Where the endpoint says how long to wait, that is waited in full, and uniform(0, base) more, so that not all come back at once.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MOST_SECONDS = 24 * 3600.0


def backoff_seconds(failures: int, retry_after: float | None, base: float, most: float, dice: random.Random) -> float:
    """Seconds to wait after so many failures (1, 2, ...) of the same call."""
    if retry_after is not None:
        return retry_after + dice.uniform(0.0, base)
    return dice.uniform(0.0, min(most, base * 2.0 ** min(failures - 1, 60)))


def retry_after_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """What `retry-after-ms` or `Retry-After` asks for (RFC 9110, section 10.2.3: seconds or a date); None where they do not."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            return _bounded(float(milliseconds) / 1000)
        if (given := headers.get("Retry-After")) is None:
            return None
        try:
            return _bounded(float(given))
        except ValueError:
            date = parsedate_to_datetime(given)
    except (ValueError, TypeError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return _bounded((date - (now or datetime.now(UTC))).total_seconds())


def _bounded(seconds: float) -> float | None:
    return min(max(seconds, 0.0), MOST_SECONDS) if seconds == seconds else None
