"""The account of money: never above its limit, exact to the picodollar, whatever happens to those who use it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.ledger_kills import Plan, run
from jaxroute.endpoints import Ledger
from jaxroute.endpoints.money import enough, picodollars
from jaxroute.errors import JaxrouteWarning, LedgerError

KILLED_HOLDER = """
import os, signal, sys
from jaxroute.endpoints import Ledger
ledger = Ledger(sys.argv[1])
ledger.settle(ledger.reserve(0.25, "answered"), 0.05)
ledger.reserve(0.5, "under way")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def test_a_call_is_reserved_and_settled(path: Path) -> None:
    ledger = Ledger(path, 1.0)
    held = ledger.reserve(0.6, note="question 1")
    assert held is not None and (held.worst_case_usd, held.note) == (0.6, "question 1")
    assert ledger.left_usd == 0.4
    assert ledger.reserve(0.5) is None
    ledger.settle(held, 0.1)
    assert ledger.left_usd == 0.9
    totals = ledger.totals()
    assert (totals.reserved_usd, totals.settled_usd, totals.reservations, totals.settlements) == (0.0, 0.1, 1, 1)


def test_ten_times_a_tenth_fits_into_one(path: Path) -> None:
    ledger = Ledger(path, 1)
    assert all(ledger.reserve(0.1) for _ in range(10))
    assert ledger.left_usd == 0.0
    assert ledger.reserve(1e-12) is None
    assert ledger.reserve(0) is not None


def test_a_failed_call_gives_everything_back(path: Path) -> None:
    ledger = Ledger(path, 1.0)
    held = ledger.reserve(1.0)
    assert held and ledger.reserve(0.1) is None
    ledger.release(held)
    assert ledger.left_usd == 1.0 and ledger.totals().releases == 1


def test_nothing_is_settled_or_released_twice(path: Path) -> None:
    ledger = Ledger(path, 1.0)
    held = ledger.reserve(0.5)
    assert held
    ledger.settle(held, 0.2)
    for again in (lambda: ledger.settle(held, 0.2), lambda: ledger.release(held)):
        with pytest.raises(LedgerError, match="reservation 1 is not open"):
            again()
    assert ledger.totals().settled_usd == 0.2


def test_a_cost_above_the_worst_case_is_booked_and_said(path: Path) -> None:
    ledger = Ledger(path, 1.0)
    held = ledger.reserve(0.5)
    assert held
    with pytest.warns(JaxrouteWarning, match=r"cost 1.25 dollars, more than its worst case of 0.5"):
        ledger.settle(held, 1.25)
    totals = ledger.totals()
    assert (totals.settled_usd, totals.overrun_usd, totals.left_usd) == (1.25, 0.75, 0.0)
    assert ledger.reserve(0.001) is None


AMOUNTS = st.integers(0, 40).map(lambda cents: cents / 100)
STEPS = st.lists(
    st.tuples(st.sampled_from(["reserve", "settle", "release", "reopen", "other"]), AMOUNTS, st.integers(0)), max_size=40
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=AMOUNTS, steps=STEPS)
def test_it_agrees_with_an_account_in_decimals(limit: float, steps: list, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two objects on one file, as of two processes, against sums of decimals."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    ledgers = [Ledger(path, limit), Ledger(path)]
    settled, held = Decimal(0), {}
    for what, amount, number in steps:
        ledger = ledgers[0]
        if what == "reserve":
            fits = settled + sum(held.values(), Decimal(0)) + Decimal(str(amount)) <= Decimal(str(limit))
            reservation = ledger.reserve(amount)
            assert (reservation is not None) == fits
            if reservation:
                held[reservation] = Decimal(str(amount))
        elif what == "reopen":
            ledger.close()
        elif what == "other":
            ledgers.reverse()
        elif held:
            reservation = list(held)[number % len(held)]
            worst = held.pop(reservation)
            true = min(Decimal(str(amount)), worst)
            ledger.release(reservation) if what == "release" else ledger.settle(reservation, true)
            settled += 0 if what == "release" else true
        totals = ledger.totals()
        reserved = sum(held.values(), Decimal(0))
        assert (totals.reserved_usd, totals.settled_usd) == (float(reserved), float(settled))
        assert totals.left_usd == float(Decimal(str(limit)) - reserved - settled) >= 0
        assert [one.id for one in ledger.open()] == sorted(one.id for one in held)
    for ledger in ledgers:
        ledger.close()


def test_threads_share_one_ledger(path: Path) -> None:
    ledger = Ledger(path, 0.1)
    got: list[object] = []

    def spend() -> None:
        for _ in range(20):
            if held := ledger.reserve(0.001):
                got.append(held)
                ledger.settle(held, 0.001)

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 100 and len({held.id for held in got}) == 100
    assert ledger.left_usd == 0.0


def test_a_killed_process_leaves_its_reservation_as_spent(path: Path) -> None:
    ledger = Ledger(path, 1.0)
    mine = ledger.reserve(0.1)
    killed = subprocess.run([sys.executable, "-c", KILLED_HOLDER, str(path)], capture_output=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert ledger.left_usd == 0.35
    [left] = ledger.abandoned()
    assert (left.worst_case_usd, left.note) == (0.5, "under way")
    assert {one.id for one in ledger.open()} == {left.id, mine.id if mine else None}
    assert ledger.settle_abandoned() == [left] and ledger.settle_abandoned() == []
    totals = ledger.totals()
    assert (totals.settled_usd, totals.reserved_usd, totals.left_usd) == (0.55, 0.1, 0.35)


def test_what_is_known_of_a_killed_call_is_booked(path: Path) -> None:
    ledger = Ledger(path, 1.0)
    subprocess.run([sys.executable, "-c", KILLED_HOLDER, str(path)], capture_output=True, timeout=60, check=False)
    ledger.settle(ledger.abandoned()[0], 0.02)
    assert ledger.left_usd == 0.93


def test_a_window_has_a_limit_of_its_own(path: Path) -> None:
    now = [86_399.0]
    ledger = Ledger(path, 1.0, window=86_400, clock=lambda: now[0])
    held = ledger.reserve(0.75)
    assert held and ledger.reserve(0.5) is None
    now[0] += 1
    assert ledger.left_usd == 1.0 and ledger.reserve(1.0) is not None
    # It counts in the window in which it was reserved.
    ledger.settle(held, 0.25)
    assert ledger.left_usd == 0.0
    now[0] -= 1
    assert ledger.left_usd == 0.75
    assert ledger.totals(every_window=True).settled_usd == 0.25
    assert ledger.totals(every_window=True).reserved_usd == 1.0


def test_it_is_found_again_with_its_limit_and_window(path: Path) -> None:
    Ledger(path, 2.0, window=60).close()
    again = Ledger(path)
    assert again.totals().limit_usd == 2.0
    with pytest.raises(LedgerError, match=r"window=3600, but .* has windows of 60 seconds"):
        Ledger(path, 2.0, window=3600)


def test_calendar_months(tmp_path: Path) -> None:
    now = [datetime(2027, 12, 31, 23, 59, tzinfo=UTC).timestamp()]
    ledger = Ledger(tmp_path / "ledger.db", 1.0, "month", clock=lambda: now[0])
    held = ledger.reserve(1.0)
    assert held is not None and ledger.reserve(0.1) is None
    assert ledger.next_window == datetime(2028, 1, 1, tzinfo=UTC).timestamp()
    now[0] += 60
    assert ledger.left_usd == 1.0 and ledger.next_window == datetime(2028, 2, 1, tzinfo=UTC).timestamp()
    # It counts in the month in which it was reserved.
    ledger.settle(held, 0.5)
    assert ledger.left_usd == 1.0 and ledger.reserve(1.0) is not None
    ledger.close()
    again = Ledger(tmp_path / "ledger.db", clock=lambda: now[0])
    assert again.left_usd == 0.0
    now[0] += 28 * 86_400
    assert again.left_usd == 0.0 and again.next_window is not None
    now[0] = again.next_window
    assert again.left_usd == 1.0
    with pytest.raises(LedgerError, match=r"window=60, but .* has a window per month"):
        Ledger(tmp_path / "ledger.db", window=60)


def test_the_next_window_of_seconds(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "hours.db", 1.0, 3600, clock=lambda: 7_300.0).next_window == 10_800.0
    assert Ledger(tmp_path / "total.db", 1.0).next_window is None


def test_a_limit_is_raised_and_not_set_below_what_is_spent(path: Path) -> None:
    first = Ledger(path, 1.0)
    held = first.reserve(0.8)
    assert held
    Ledger(path, 3.0)
    assert first.left_usd == 2.2
    with pytest.raises(LedgerError, match=r"limit_usd=0.5 is below the 0.8 dollars"):
        Ledger(path, 0.5)
    assert first.totals().limit_usd == 3.0


def test_a_ledger_is_sent_to_another_process(path: Path) -> None:
    ledger = Ledger(path, 1.0)
    assert ledger.reserve(0.25)
    assert pickle.loads(pickle.dumps(ledger)).left_usd == 0.75


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes fork on POSIX alone; elsewhere there is nothing to inherit")
def test_a_forked_process_opens_the_file_for_itself(path: Path) -> None:
    ledger = Ledger(path, 1.0)
    # Held by another thread while the process forks: in the child nobody would ever release it.
    with ledger._lock:
        child = os.fork()
        if child == 0:
            ok = ledger.reserve(0.25) is not None and len(ledger.abandoned()) == 0
            os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert ledger.left_usd == 0.75 and len(ledger.abandoned()) == 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: Ledger(path), "is not there: give limit_usd"),
        (lambda path: Ledger(path, -1), "limit_usd=-1 must be from 0"),
        (lambda path: Ledger(path, float("nan")), "limit_usd=nan must be from 0"),
        (lambda path: Ledger(path, "much"), "limit_usd='much' is not a number"),
        (lambda path: Ledger(path, 1, window=0), "window=0 must be a positive number of seconds"),
        (lambda path: Ledger(path, 1).reserve(float("inf")), "worst_case_usd=inf must be"),
        (lambda path: Ledger(path, 1).reserve(0.1, note="n" * 5000), "has more than 1,000 characters"),
        (lambda path: Ledger(path.parent / "no" / "folder.db", 1), "cannot be used as a ledger: unable to open"),
        (lambda path: Ledger(path.parent, 1), "cannot be used as a ledger"),
    ],
)
def test_wrong_input_is_named(path: Path, make, says: str) -> None:
    with pytest.raises(LedgerError) as raised:
        make(path)
    assert says in str(raised.value) and len(str(raised.value)) < 500


def test_a_file_of_something_else_is_left_as_it_is(path: Path) -> None:
    path.write_text("prompt,model\n" * 100)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="cannot be used as a ledger: file is not a database"):
        Ledger(path, 1.0)
    assert path.read_bytes() == before


def test_a_ledger_that_cannot_be_written_changes_nothing(path: Path) -> None:
    ledger = Ledger(path, 1.0)
    held = ledger.reserve(0.5)
    assert held
    # A full disk: no page may be added, and the one in use has no room left for a long note.
    connection = ledger._connection
    assert connection is not None
    connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(LedgerError, match="full"):
        for _ in range(20):
            ledger.reserve(0.001, note="n" * 1000)
    booked = ledger.totals()
    assert len(ledger.open()) == booked.reservations
    ledger.settle(held, 0.25)
    assert ledger.totals().settled_usd == 0.25


@pytest.mark.slow
def test_killed_processes_lose_and_invent_nothing(tmp_path: Path) -> None:
    account = run(Plan(operations=12_000, processes=8, tasks=16, kills=16), tmp_path)
    assert account.problems == []
    # On a quick machine the work may end before the last kills.
    assert account.kills >= 8 and account.refused > 0 and account.looks > 10
    assert account.reservations + account.refused >= 11_500


def test_a_budget_that_is_named_to_a_user_is_enough() -> None:
    for usd in (0.00012345612, 0.1 + 0.2, 0.00089178, 12.3456749, 3.0, 1e-12, 0.0):
        named = float(enough(usd))
        assert picodollars("named", named) >= picodollars("usd", usd) and named <= usd * (1 + 1e-5)
    assert enough(0.1 + 0.2) == "0.3"
