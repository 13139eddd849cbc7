"""One request and its response: bytes that pass, models that fail, clients that leave, and the money of it all."""

from __future__ import annotations

import http.client
import json
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from jaxroute.endpoints.client import ClientConfig
from jaxroute.endpoints.ledger import Ledger
from jaxroute.serve.accounts import Budget
from jaxroute.serve.clients import new_key
from jaxroute.simulation import SimulationConfig
from tests.serve.proxies import MESSAGES, QUESTION, FixedChooser, Proxy, proxy

CHAT = {"model": "auto", "messages": MESSAGES}


def cost_of(one: Proxy, model: str) -> float:
    outcome, price = one.simulation.pool.outcome(model, QUESTION), one.simulation.endpoints()[model].price
    return (outcome.prompt_tokens * price.input + outcome.completion_tokens * price.output) / 1e6


def test_bytes_are_those_of_the_endpoint(tmp_path: Path) -> None:
    with proxy(tmp_path) as one:
        direct = urlsplit(one.simulation.base_url)
        for fields in ({}, {"stream": True, "stream_options": {"include_usage": True}}):
            body = json.dumps({"model": "sim-nano", "messages": MESSAGES, **fields}).encode()
            connection = http.client.HTTPConnection(direct.hostname or "", direct.port)
            connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
            expected = connection.getresponse().read()
            connection.close()
            passed = one.post(body)
            # The simulation counts how often it was asked.
            assert passed.body == expected.replace(b"chatcmpl-1", b"chatcmpl-2").replace(b"chatcmpl-3", b"chatcmpl-4")


def test_the_next_model_answers_where_the_best_fails(tmp_path: Path) -> None:
    with proxy(tmp_path) as one:
        for fault, paid in (("rate_limit:0", False), ("server_error", False), ("cut", True), ("malformed", True)):
            before = one.ledger.totals().settled_usd
            one.simulation.next_faults.append(fault)
            reply = one.post(CHAT)
            assert reply.status == 200 and reply.headers["x-jaxroute-model"] == "sim-medium", fault
            assert reply.headers["x-jaxroute-tries"] == "2"
            spent = one.ledger.totals().settled_usd - before
            # What may have been generated and did not arrive counts at its worst case.
            price = one.simulation.endpoints()["sim-large"].price
            worst = price.worst_case_usd(len(json.dumps({**CHAT, "model": "auto"})) + 128, 1024)
            assert spent == pytest.approx(cost_of(one, "sim-medium") + (worst if paid else 0.0)), fault
            assert float(reply.headers["x-jaxroute-cost-usd"]) == pytest.approx(spent)
        assert one.ledger.totals().reserved_usd == 0


def test_all_fail_and_the_last_error_passes(tmp_path: Path) -> None:
    with proxy(tmp_path) as one:
        one.simulation.next_faults.extend(["server_error", "server_error", "rate_limit:7"])
        reply = one.post(CHAT)
        assert reply.status == 429 and reply.headers["retry-after"] == "7" and reply.code == "rate_limit_exceeded"
        assert one.ledger.totals().settled_usd == 0
        # It has asked us to wait: until then the next best answers.
        one.simulation.next_faults.extend(["rate_limit:9"])
        assert one.post(CHAT).headers["x-jaxroute-model"] == "sim-medium"
        assert one.post(CHAT).headers["x-jaxroute-tries"] == "1"
        one.simulation.next_faults.extend(["server_error"])
        assert one.post({**CHAT, "model": "sim-nano"}).status in (429, 500)


def test_a_stream_that_is_cut_ends_with_an_error_and_counts_at_its_worst(tmp_path: Path) -> None:
    with proxy(tmp_path) as one:
        one.simulation.next_faults.append("cut")
        body = json.dumps({**CHAT, "stream": True, "max_tokens": 50}).encode()
        reply = one.post(body)
        events = reply.body.strip().split(b"\n\n")
        assert reply.status == 200 and len(events) > 3
        assert json.loads(events[-1].removeprefix(b"data: "))["error"]["code"] == "upstream_cut"
        price = one.simulation.endpoints()["sim-large"].price
        assert one.ledger.totals().settled_usd == pytest.approx(price.worst_case_usd(len(body) + 128, 50))


def test_an_endpoint_that_counts_wrongly_costs_the_worst_case(tmp_path: Path) -> None:
    with proxy(tmp_path) as one:
        one.simulation.next_faults.append("wrong_usage")
        body = json.dumps({**CHAT, "max_completion_tokens": 300}).encode()
        assert one.post(body).status == 200
        price = one.simulation.endpoints()["sim-large"].price
        assert one.ledger.totals().settled_usd == pytest.approx(price.worst_case_usd(len(body) + 128, 300))


def test_money_runs_short_and_answers_become_cheaper_before_they_are_refused(tmp_path: Path) -> None:
    chooser = FixedChooser({"sim-medium": 0.6, "sim-large": 0.9}, {"sim-medium": 1e-5, "sim-large": 1e-3})
    with proxy(tmp_path, budget=Budget(0.02, "day"), chooser=chooser) as one:
        seen = []
        while (reply := one.post(CHAT)).status == 200:
            seen.append(reply.headers["x-jaxroute-model"])
            assert len(seen) < 500
        assert list(dict.fromkeys(seen)) == ["sim-large", "sim-medium"]
        totals = one.ledger.totals()
        assert totals.settled_usd <= 0.02 and totals.reserved_usd == 0
        assert reply.status == 402 and reply.code == "budget_exhausted"
        assert time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86_400)) in reply.headers["x-jaxroute-next-window"]
        assert totals.settled_usd == pytest.approx(one.simulation.counts.answered_pico / 1e12)
        # A short answer still fits.
        assert one.post({**CHAT, "max_tokens": 5}).status == 200


def test_what_never_fits_says_so(tmp_path: Path) -> None:
    with proxy(tmp_path, budget=Budget(1e-9)) as one:
        reply = one.post(CHAT)
        assert reply.status == 402 and "no later window" in reply.content["error"]["message"]
        assert "x-jaxroute-next-window" not in reply.headers and not one.simulation.counts.requests


def test_a_limit_is_added_only_where_money_is_counted_and_none_is_given(tmp_path: Path) -> None:
    with proxy(tmp_path) as one:
        text = (tmp_path / "models.yaml").read_text()
        (tmp_path / "models.yaml").write_text(text.replace("    price:", "    output_tokens: 3\n    price:"))
        one.read_again()
        asked = {"model": "sim-nano", "messages": MESSAGES}
        assert one.post(asked).content["usage"]["completion_tokens"] == 3
        assert one.post({**asked, "max_tokens": 9}).content["usage"]["completion_tokens"] == 9


def test_wishes_of_a_client(tmp_path: Path) -> None:
    with proxy(tmp_path) as one:

        def model(**wishes: str) -> str:
            headers = {f"x-jaxroute-{name.replace('_', '-')}": value for name, value in wishes.items()}
            reply = one.post(CHAT, headers=headers)
            return reply.headers.get("x-jaxroute-model") or reply.code

        assert model() == "sim-large"
        assert model(models="sim-nano, sim-medium") == "sim-medium"
        assert model(models="sim-coder") == model(models="gpt") == model(models=" , ") == "invalid_request"
        assert model(minimum_quality="0.5") == "sim-medium" and model(minimum_quality="0.95") == "sim-large"
        assert model(minimum_quality="2") == model(minimum_quality="nan") == "invalid_request"
        size = len(json.dumps(CHAT)) + 128
        large, medium = (
            one.simulation.endpoints()[name].price.worst_case_usd(size, 1024) for name in ("sim-large", "sim-medium")
        )
        assert model(max_cost_usd=str(large * 0.99)) == "sim-medium"
        assert model(max_cost_usd="0.0000001") == "max_cost_exceeded"
        # A failed try counts within the limit of its request.
        one.simulation.next_faults.append("cut")
        assert model(max_cost_usd=str(large + 1.01 * medium)) == "sim-medium"
        one.simulation.next_faults.append("cut")
        assert model(max_cost_usd=str(large + 0.99 * medium)) == "sim-nano"


def test_a_model_without_what_is_needed_is_not_asked(tmp_path: Path) -> None:
    with proxy(tmp_path) as one:
        text = (tmp_path / "models.yaml").read_text().split("  sim-large:")
        head, tail = text[1].split("accepts: [tools, images, json_schema]", 1)
        (tmp_path / "models.yaml").write_text(f"{text[0]}  sim-large:{head}accepts: [json_schema]{tail}")
        one.read_again()
        tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
        assert one.post({**CHAT, "tools": tools}).headers["x-jaxroute-model"] == "sim-medium"
        reply = one.post({**CHAT, "tools": tools}, headers={"x-jaxroute-models": "sim-large"})
        assert reply.status == 400 and reply.code == "unsupported"
        # By its own name it is asked whatever the request holds.
        assert one.post({**CHAT, "model": "sim-large", "tools": tools}).status == 200
        long = [{"role": "user", "content": "word " * 200_000}]
        assert one.post({**CHAT, "messages": long}).code == "unsupported"


def test_keys_have_budgets_and_models_of_their_own(tmp_path: Path) -> None:
    (alice, alices), (bob, bobs) = (new_key(name) for name in ("alice", "bob"))
    bobs = bobs.replace("clients:\n", "").replace("budget_usd: 5", "budget_usd: 0.0001")
    (tmp_path / "clients.yaml").write_text(f"{alices}    models: [sim-nano, sim-medium]\n{bobs}")
    assert alice not in alices and bob not in bobs
    with proxy(tmp_path, clients=tmp_path / "clients.yaml") as one:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": alice}, {"authorization": "Bearer "}):
            reply = one.post(CHAT, headers=headers)
            assert reply.status == 401 and reply.code == "invalid_api_key" and alice not in str(reply)
        assert one.request("GET", "/v1/models").status == 401
        assert not one.simulation.counts.requests
        reply = one.post(CHAT, headers={"authorization": f"Bearer {alice}"})
        assert reply.headers["x-jaxroute-model"] == "sim-medium"
        assert one.post({**CHAT, "model": "sim-large"}, headers={"api-key": alice}).status == 404
        listed = one.request("GET", "/v1/models", headers={"api-key": alice}).content["data"]
        assert [entry["id"] for entry in listed] == ["auto", "sim-medium", "sim-nano"]
        assert one.post({**CHAT, "max_tokens": 1}, headers={"api-key": bob}).headers["x-jaxroute-model"] == "sim-nano"
        assert one.post(CHAT, headers={"api-key": bob}).status == 402
        assert one.ledger.totals().settled_usd == pytest.approx(one.simulation.counts.answered_pico / 1e12)
        own = Ledger(tmp_path / "ledger-alice.db")
        assert own.totals().limit_usd == 5 and own.totals().settled_usd == pytest.approx(cost_of(one, "sim-medium"))
        own.close()


def test_the_clients_key_does_not_go_up_and_the_endpoints_does(tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setenv("POOL_KEY", "secret-of-the-pool")
    with proxy(tmp_path, SimulationConfig(time_scale=0, api_key="secret-of-the-pool")) as one:
        text = (tmp_path / "models.yaml").read_text()
        refused = one.post({**CHAT, "model": "sim-nano"}, headers={"authorization": "Bearer secret-of-the-pool"})
        # The endpoint does not get the client's header, though it would accept it.
        assert refused.status == 502 and refused.code == "upstream_unauthorized"
        (tmp_path / "models.yaml").write_text(text.replace("    price:", "    api_key_env: POOL_KEY\n    price:"))
        one.read_again()
        with caplog.at_level("DEBUG"):
            answered = one.post(CHAT, headers={"authorization": "Bearer mine", "cookie": "a=b"})
        assert answered.status == 200 and "secret" not in caplog.text + str(answered) + repr(one.running.service.state)


@pytest.mark.parametrize("drain_seconds", [5.0, 0.0])
def test_a_client_that_leaves_is_settled(tmp_path: Path, drain_seconds: float) -> None:
    """Read to the end the answer costs what it cost, cut it counts at its worst case."""
    pool = SimulationConfig(time_scale=0.2)
    chooser = FixedChooser({"sim-nano": 0.9, "sim-medium": 0.2}, {"sim-nano": 0.0, "sim-medium": 0.0})
    with proxy(tmp_path, pool, chooser=chooser, drain_seconds=drain_seconds) as one:
        body = json.dumps({**CHAT, "stream": True}).encode()
        place = urlsplit(one.base_url)
        with socket.create_connection((place.hostname, place.port)) as raw:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            raw.sendall(head.encode() + body)
            assert raw.recv(100).startswith(b"HTTP/1.1 200")
        deadline = time.monotonic() + 10
        while one.ledger.totals().reserved_usd or not one.ledger.totals().settlements:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        price = one.simulation.endpoints()["sim-nano"].price
        worst = price.worst_case_usd(len(body) + 128, 1024)
        assert one.ledger.totals().settled_usd == pytest.approx(cost_of(one, "sim-nano") if drain_seconds else worst)
        assert one.simulation.counts.requests.total() == 1


def test_time_outs(tmp_path: Path) -> None:
    timeouts = ClientConfig(first_byte_seconds=0.2, deadline_seconds=0.5)
    with proxy(tmp_path, timeouts=timeouts) as one:
        one.simulation.next_faults.extend(["slow_first_byte:2"])
        assert one.post(CHAT).headers["x-jaxroute-model"] == "sim-medium"
        one.simulation.next_faults.extend(["slow_first_byte:2"] * 3)
        reply = one.post(CHAT)
        assert reply.status == 504 and reply.code == "upstream_timeout"
        assert one.ledger.totals().reserved_usd == 0


def test_nothing_listens_there(tmp_path: Path) -> None:
    lines = ["models:", "  sim-nano:", "    base_url: http://127.0.0.1:9/v1", "    price: {input: 1, output: 1}"]
    (tmp_path / "models.yaml").write_text("\n".join(lines))
    with proxy(tmp_path) as one:
        reply = one.post({**CHAT, "model": "sim-nano"})
        assert reply.status == 502 and reply.code == "upstream_unreachable" and one.ledger.totals().settled_usd == 0


def test_without_a_checkpoint_models_answer_to_their_names(tmp_path: Path) -> None:
    with proxy(tmp_path, chooser=FixedChooser({}, {})) as one:
        assert one.post(CHAT).status == 400
        assert one.post({**CHAT, "model": "sim-nano"}).status == 200
        assert "auto" not in str(one.request("GET", "/v1/models").content)
