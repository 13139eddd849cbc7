"""Money: whole picodollars (10^-12 dollars), so that sums are exact; what is held for a call; what an account holds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal

from jaxroute.errors import LedgerError, shortened

PICO = 1_000_000_000_000
MOST_USD = 9_000_000
"""SQLite's integers have 64 bits: 9.2 million dollars in picodollars."""


@dataclass(frozen=True)
class Reservation:
    """Money that is held for one call until it is settled or released."""

    id: int
    """Its number in the ledger, never used twice."""
    worst_case_usd: float
    """What is held, dollars."""
    made_at: float
    """Seconds since 1970, UTC."""
    note: str = ""
    """Whatever tells the caller which call it is for."""
    process: str = ""
    """Host, number and start of the process that made it."""


@dataclass(frozen=True)
class Totals:
    """What a ledger holds at one moment, of one window; dollars, and numbers of calls."""

    limit_usd: float
    """The limit of a window."""
    left_usd: float
    """What can still be reserved; 0 where more than the limit is booked."""
    reserved_usd: float
    """Worst cases of open reservations."""
    settled_usd: float
    """True costs."""
    overrun_usd: float
    """The part of `settled_usd` by which true costs exceeded what was reserved for them."""
    reservations: int
    """How many were made."""
    settlements: int
    """How many of these were settled."""
    releases: int
    """How many of these were released; the others are open."""


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


def enough(usd: float) -> str:
    """The dollars in six significant digits, rounded up: a budget that is named to a user must do."""
    exact = Decimal(round(usd * PICO)) / PICO
    return f"{exact.quantize(Decimal(1).scaleb(exact.adjusted() - 5), ROUND_CEILING).normalize():f}"


@contextmanager
def naming_budget() -> Iterator[None]:
    """A limit that is rejected is called as users give it, `budget_usd`."""
    try:
        yield
    except LedgerError as error:
        raise LedgerError(str(error).replace("limit_usd=", "budget_usd=")) from error
