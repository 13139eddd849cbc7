"""Files that change while requests are answered."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from jaxroute.errors import EndpointError
from jaxroute.serve.accounts import Budget
from jaxroute.serve.clients import load_clients, new_key
from jaxroute.serve.server import Listening, serving_in_thread
from jaxroute.serve.state import ServeConfig, read_state
from tests.serve.proxies import MESSAGES, proxy

CHAT = {"model": "sim-nano", "messages": MESSAGES}


def wait_until(done, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_models_come_and_go_and_no_request_is_lost(tmp_path: Path) -> None:
    with proxy(tmp_path, watch_seconds=0.05) as one:
        service, models = one.running.service, tmp_path / "models.yaml"
        text, statuses, stop = models.read_text(), [], threading.Event()

        def ask() -> None:
            while not stop.is_set():
                statuses.append(one.post(CHAT).status)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            models.write_text(text.replace("  sim-coder:", "  sim-tester:"))
            wait_until(lambda: "sim-tester" in service.state.upstreams)
            assert one.post({**CHAT, "model": "sim-coder"}).status == 404
            kept = service.state
            # The name at the endpoint is still another one, which the endpoint says itself.
            assert one.post({**CHAT, "model": "sim-tester"}).code == "model_not_found"
            models.write_text(text.replace("base_url", "base_ulr", 1))
            wait_until(lambda: service.wrong_files)
            assert service.state is kept and "did you mean base_url" in service.wrong_files
            models.write_text(text)
            wait_until(lambda: "sim-coder" in service.state.upstreams)
            assert not service.wrong_files and service.state.upstreams["sim-nano"] is kept.upstreams["sim-nano"]
        finally:
            stop.set()
            thread.join()
        assert len(statuses) > 5 and set(statuses) == {200}
        assert one.ledger.totals().settled_usd == pytest.approx(one.simulation.counts.answered_pico / 1e12)


def test_a_stream_that_has_begun_ends_after_the_end_was_asked_for(tmp_path: Path) -> None:
    from jaxroute.simulation import SimulationConfig

    with proxy(tmp_path, SimulationConfig(time_scale=0.3)) as one:
        replies = []
        body = json.dumps({**CHAT, "stream": True}).encode()
        thread = threading.Thread(target=lambda: replies.append(one.post(body)))
        thread.start()
        wait_until(lambda: one.simulation.counts.requests)
        one.running.stop()
        thread.join()
    assert replies[0].body.endswith(b"data: [DONE]\n\n")
    assert one.ledger.totals().reserved_usd == 0 and one.ledger.totals().settlements == 1


def test_nobody_else_may_ask_without_keys(tmp_path: Path) -> None:
    with proxy(tmp_path) as one:
        state = one.running.service.state
        with (
            pytest.raises(EndpointError, match=r"host=0\.0\.0\.0 lets other machines ask"),
            serving_in_thread(state, Listening("0.0.0.0", 0)),
        ):
            pass
        port = int(one.base_url.split(":")[2].split("/")[0])
        with pytest.raises(EndpointError, match="cannot be listened on"), serving_in_thread(state, Listening(port=port)):
            pass


def test_wrong_clients_are_named_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "clients.yaml"
    key, lines = new_key("alice")
    path.write_text(
        f"{lines}    models: [sim-huge]\n  bob:\n    key_sha256: {key}\n    per: week\n"
        + "  'e v':\n    key: 5\n  carl:\n    key_sha256: "
        + lines.split("key_sha256: ")[1].split()[0]
    )
    with pytest.raises(EndpointError) as raised:
        load_clients(path, ["sim-nano"])
    for part in ("models holds 'sim-huge'", "64 hexadecimal", "per must be one of", "is no name", "the same key"):
        assert part in str(raised.value)
    assert key not in str(raised.value)
    for text in ("clients: []", "{}", "other: 1"):
        path.write_text(text)
        with pytest.raises(EndpointError, match="clients"):
            load_clients(path, ["sim-nano"])


def test_a_model_cannot_be_called_auto(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("models:\n  auto:\n    base_url: http://x/v1\n    price: {input: 1, output: 1}\n")
    with pytest.raises(EndpointError, match="cannot have the name 'auto'"):
        read_state(ServeConfig(tmp_path / "models.yaml"))


def test_money_of_a_killed_process_is_settled_at_the_start(tmp_path: Path, monkeypatch) -> None:
    budget = Budget(1.0, "month")
    ledger = budget.ledger(tmp_path / "ledger.db")
    monkeypatch.setattr("jaxroute.endpoints.ledger.this_process", lambda: ledger._process.rsplit("/", 1)[0] + "/0")
    ledger._number_of_process = 0
    assert ledger.reserve(0.25)
    ledger.close()
    again = budget.ledger(tmp_path / "ledger.db")
    assert again.totals().settled_usd == 0.25 and again.totals().reserved_usd == 0
    again.close()
