"""The money of one request: held in the ledger of all and in that of its client, and booked in both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from jaxroute.endpoints.ledger import MONTH, Ledger, Window
from jaxroute.endpoints.money import Reservation
from jaxroute.errors import EndpointError, LedgerError, shortened
from jaxroute.serve.choosing import Pace

if TYPE_CHECKING:
    from jaxroute.serve.clients import ServedClient

WINDOWS: dict[str, Window | None] = {"hour": 3_600.0, "day": 86_400.0, "month": MONTH, "total": None}
"""What a limit holds for, in UTC."""


@dataclass(frozen=True)
class Budget:
    """Dollars per window."""

    usd: float
    """The limit."""
    per: str = "total"
    """One of WINDOWS."""

    def __post_init__(self) -> None:
        if not 0 <= self.usd <= 9e6:
            raise EndpointError(f"budget_usd={self.usd} must be from 0 to 9,000,000 dollars")
        if self.per not in WINDOWS:
            raise EndpointError(f"per={shortened(self.per)} must be one of {', '.join(WINDOWS)}")

    def ledger(self, path: Path) -> Ledger:
        """The account at `path`, with this limit from now on; what killed processes left open is settled at its worst case.

        Raises `LedgerError` where it has other windows, or has spent more.
        """
        if path.exists():
            # A ledger keeps its windows, and takes the limit only of one who knows them.
            with Ledger(path) as before:
                if before.window != WINDOWS[self.per]:
                    name = next((per for per, window in WINDOWS.items() if window == before.window), f"{before.window} seconds")
                    raise LedgerError(
                        f"per={self.per}, but the ledger {path} counts per {name}: give that, or begin another ledger"
                    )
        ledger = Ledger(path, self.usd, WINDOWS[self.per])
        ledger.settle_abandoned()
        return ledger


def client_file(path: Path, name: str) -> Path:
    """Beside the ledger of all, that of a client with a budget of its own."""
    return path.with_name(f"{path.stem}-{name}{path.suffix}")


def account_files(path: Path, everyone: Budget | None, clients: Iterable[ServedClient] | None) -> list[tuple[Path, Budget]]:
    """All ledgers that there are, with their limits."""
    found = [] if everyone is None else [(path, everyone)]
    return found + [(client_file(path, one.name), one.budget) for one in clients or () if one.budget is not None]


class Held:
    """Dollars that are held for one try."""

    def __init__(self, parts: list[tuple[Ledger, Reservation]]) -> None:
        self._parts = parts

    def settle(self, usd: float) -> None:
        """Book what it cost."""
        parts, self._parts = self._parts, []
        for ledger, reservation in parts:
            ledger.settle(reservation, usd) if usd else ledger.release(reservation)


class Accounts:
    """The ledger of all, and those of clients with a budget of their own."""

    def __init__(self, everyone: Ledger | None = None, clients: Mapping[str, Ledger] | None = None) -> None:
        self.everyone, self.clients = everyone, dict(clients or {})

    def counts(self, client: str | None) -> bool:
        """Whether that client's requests are counted at all."""
        return bool(self._of(client))

    def most_usd(self, client: str | None, pace: Pace, lowest_usd: float) -> float:
        """The largest worst case that a request of that client may have, whose cheapest answer has `lowest_usd`; infinite where
        nothing limits it."""
        found = (pace.most_usd(ledger, ledger.left_usd, lowest_usd) for ledger in self._of(client))
        return min(found, default=float("inf"))

    def hold(self, client: str | None, worst_case_usd: float | None, note: str) -> Held | None:
        """Hold a try's worst case; None where it does not fit. One that is not bounded fits only where nothing is counted."""
        ledgers = self._of(client)
        if ledgers and worst_case_usd is None:
            return None
        held = Held([])
        for ledger in ledgers:
            reservation = ledger.reserve(worst_case_usd or 0.0, note)
            if reservation is None:
                held.settle(0.0)
                return None
            held._parts.append((ledger, reservation))
        return held

    def next_window(self, client: str | None, pace: Pace, worst_case_usd: float, lowest_usd: float) -> datetime | None:
        """From when on so many dollars may fit again; None where they never will."""
        moments = []
        for ledger in self._of(client):
            totals = ledger.totals()
            if pace.most_usd(ledger, totals.left_usd, lowest_usd) >= worst_case_usd:
                continue
            if totals.limit_usd < worst_case_usd or ledger.next_window is None:
                return None
            moments.append(ledger.next_window)
        return datetime.fromtimestamp(max(moments), UTC) if moments else None

    def close(self) -> None:
        """Close the files."""
        for ledger in (self.everyone, *self.clients.values()):
            if ledger is not None:
                ledger.close()

    def _of(self, client: str | None) -> list[Ledger]:
        own = self.clients.get(client) if client is not None else None
        return [ledger for ledger in (self.everyone, own) if ledger is not None]
