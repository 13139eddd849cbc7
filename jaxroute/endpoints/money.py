"""Money as whole picodollars (10^-12 dollars), so that sums are exact."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Decimal

from jaxroute.errors import LedgerError, shortened

PICO = 1_000_000_000_000
MOST_USD = 9_000_000
"""SQLite's integers have 64 bits: 9.2 million dollars in picodollars."""


def picodollars(field: str, usd: float | Decimal) -> int:
    """The nearest whole number of picodollars; 0.1 is read as it is written. Raises `LedgerError` naming `field`."""
    if isinstance(usd, bool) or not isinstance(usd, int | float | Decimal):
        try:
            usd = float(usd)
        except (TypeError, ValueError):
            raise LedgerError(f"{field}={shortened(usd)} is not a number of dollars") from None
    if not math.isfinite(usd) or not 0 <= usd <= MOST_USD:
        raise LedgerError(f"{field}={shortened(usd)} must be from 0 to {MOST_USD:,} dollars")
    # A float's shortest decimal is what was meant: 0.1, not 0.1000000000000000055. Ten times 0.1 then fit into 1.
    exact = usd if isinstance(usd, Decimal) else Decimal(repr(float(usd)))
    return int((exact * PICO).to_integral_value(ROUND_HALF_EVEN))


def dollars(pico: int) -> float:
    """The float nearest to this many picodollars."""
    return pico / PICO
