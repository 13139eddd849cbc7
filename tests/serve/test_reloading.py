"""Files that change while requests are answered."""

from __future__ import annotations

import itertools
import json
import math
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jaxroute.errors import EndpointError
from jaxroute.guarantees.asked import Asked as Asking
from jaxroute.guarantees.promise import Part, Promise
from jaxroute.serve.accounts import Budget
from jaxroute.serve.asking import Asked
from jaxroute.serve.choosing import Candidate, Ranked
from jaxroute.serve.clients import load_clients, new_key
from jaxroute.serve.promised import Promised
from jaxroute.serve.server import Listening, serving_in_thread
from jaxroute.serve.state import ServeConfig, read_state
from tests.serve.proxies import MESSAGES, FixedChooser, proxy, three_models

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


class Counting(FixedChooser):
    """Estimates of one checkpoint, which counts from 0."""

    read = 0

    async def rank(
        self, asked: Asked, candidates: Sequence[Candidate], multiplier: float, minimum_quality: float | None
    ) -> list[Ranked]:
        self.read += 1
        return await super().rank(asked, candidates, multiplier, minimum_quality)

    def figures(self) -> dict[str, float]:
        return {"prompts_read_total": float(self.read), "conversations_remembered": float(self.read)}


def test_what_was_counted_and_promised_outlasts_a_new_checkpoint(tmp_path: Path) -> None:
    endpoints: Any = dict.fromkeys(three_models().models)
    part = Part(None, 1.0, 100, 0.8, "sim-large", 0.8, 1e-4, math.nan, 0.01)
    promise = Promise(asked=Asking(within=0.02), models=list(endpoints), parts=[part], calibration="mine.csv", rows=100)
    outside = {"x-jaxroute-minimum-quality": "0.5"}

    def checkpoint(promised: bool) -> Any:
        plain = Counting(three_models().quality, three_models().cost_usd)
        return Promised(plain, promise, endpoints) if promised else plain

    def scraped() -> dict[str, float]:
        text = one.request("GET", "/metrics").body.decode()
        found = re.findall(r"^jaxroute_(\S+_total|conversations_remembered) (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    with proxy(tmp_path, chooser=checkpoint(True)) as one:
        service, seen, numbers = one.running.service, [scraped()], []
        for promised in (True, False, True):
            for headers in ({}, outside):
                numbers.append(one.post({**CHAT, "model": "auto"}, headers=headers).headers["x-jaxroute-id"])
            wait_until(lambda: service.answers.get(numbers[-1]) is not None)
            seen.append(scraped())
            service.exchange(replace(service.state, chooser=checkpoint(promised), checkpoint_digest=str(len(numbers))))
            seen.append(scraped())
        # No total ever falls, what is no total begins anew, and nothing is counted twice.
        for before, after in itertools.pairwise(seen):
            assert all(value <= after[name] for name, value in before.items() if name.endswith("_total"))
        assert [one["prompts_read_total"] for one in seen] == [0, 2, 2, 4, 4, 6, 6]
        assert [one["conversations_remembered"] for one in seen] == [0, 2, 0, 2, 0, 2, 0]
        # Only while a promise was kept to, but its count stays there.
        assert [one["requests_outside_promise_total"] for one in seen] == [0, 1, 1, 2, 2, 2, 2]
        # An answer of the first checkpoint can still be rated, and its estimate is still known.
        assert one.post({"id": numbers[0], "quality": 0.4}, "/v1/feedback").status == 200
        known = one.request("GET", f"/v1/feedback/{numbers[0]}").content
        assert known["quality"] == 0.4 and known["expected_quality"] == 0.9


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


def test_what_the_end_waits_for_no_longer_is_told_so_and_counts_at_its_worst(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from jaxroute.simulation import SimulationConfig

    with proxy(tmp_path, SimulationConfig(time_scale=30), stop_seconds=1) as one:
        replies = []
        contents = [{**CHAT, "stream": streamed} for streamed in (True, False)]
        threads = [threading.Thread(target=lambda body=body: replies.append(one.post(body))) for body in contents]
        for thread in threads:
            thread.start()
        wait_until(lambda: one.simulation.counts.requests.total() == 2)
        held = one.ledger.totals().reserved_usd
        one.running.stop()
        for thread in threads:
            thread.join()
    assert [(reply.status, reply.code) for reply in replies] == [(503, "proxy_ending")] * 2
    totals = one.ledger.totals()
    assert totals.reserved_usd == 0 and totals.settled_usd == pytest.approx(held) and held > 0
    # Nothing is wrong with the proxy.
    assert "Exception" not in caplog.text and "Traceback" not in caplog.text


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
