"""What is kept of requests, and how it becomes a table that routers learn from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from jaxroute.data.table import RoutingTable
from jaxroute.errors import JaxrouteWarning, OutputError
from jaxroute.serve.clients import new_key
from jaxroute.serve.records import write_outcomes
from tests.serve.proxies import MESSAGES, QUESTION, proxy

CHAT = {"model": "auto", "messages": MESSAGES}


def test_what_is_rated_can_be_trained_on(tmp_path: Path) -> None:
    record = tmp_path / "record.db"
    with proxy(tmp_path, record="full", record_file=record) as one:
        for model, quality in (("auto", 0.5), ("auto", 1.0), ("sim-nano", 0), ("sim-medium", None)):
            reply = one.post({**CHAT, "model": model})
            if quality is not None:
                rated = one.post({"id": reply.headers["x-jaxroute-id"], "quality": quality}, "/v1/feedback")
                assert rated.status == 200 and rated.content["recorded"]
        one.simulation.next_faults.append("rate_limit:0")
        failed = one.post({**CHAT, "model": "sim-nano"})
        assert one.post({"id": failed.headers["x-jaxroute-id"], "quality": 1}, "/v1/feedback").content["recorded"] is False
        one.post({**CHAT, "stream": True})
    assert write_outcomes(record, tmp_path / "outcomes.jsonl") == 2
    table = RoutingTable.load(tmp_path / "outcomes.jsonl")
    assert table.prompts == [QUESTION] and table.models == ["sim-large", "sim-nano"]
    assert table.quality.tolist() == [[0.75, 0.0]] and (table.cost_usd > 0).all()
    assert table.input_tokens is not None and table.output_tokens is not None


def test_hashes_alone(tmp_path: Path) -> None:
    record = tmp_path / "record.db"
    with proxy(tmp_path, record="hash", record_file=record) as one:
        reply = one.post(CHAT)
        one.post({"id": reply.headers["x-jaxroute-id"], "quality": True}, "/v1/feedback")
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("record.db*"))
    assert QUESTION.encode() not in kept
    with pytest.warns(JaxrouteWarning, match=r"of 1 outcome 1 have sha256:"):
        write_outcomes(record, tmp_path / "outcomes.jsonl")
    [line] = (tmp_path / "outcomes.jsonl").read_text().splitlines()
    assert json.loads(line)["prompt"] == "sha256:" + hashlib.sha256(QUESTION.encode()).hexdigest()


def test_nothing_is_kept_unless_asked(tmp_path: Path) -> None:
    with proxy(tmp_path) as one:
        reply = one.post({**CHAT, "messages": [{"role": "user", "content": "a secret"}]})
        asked = one.request("GET", f"/v1/feedback/{reply.headers['x-jaxroute-id']}").content
        assert asked["model"] == "sim-large" and asked["cost_usd"] == float(reply.headers["x-jaxroute-cost-usd"])
        rated = one.post({"id": asked["id"], "quality": 0.25}, "/v1/feedback")
        assert rated.content == {"id": asked["id"], "quality": 0.25, "recorded": False}
        assert one.request("GET", f"/v1/feedback/{asked['id']}").content["quality"] == 0.25
    assert not any(b"secret" in path.read_bytes() for path in tmp_path.iterdir())


def test_answers_are_their_clients_own(tmp_path: Path) -> None:
    (alice, lines), (bob, more) = new_key("alice"), new_key("bob")
    (tmp_path / "clients.yaml").write_text(lines + more.replace("clients:\n", ""))
    with proxy(tmp_path, clients=tmp_path / "clients.yaml", record="full", record_file=tmp_path / "record.db") as one:
        number = one.post(CHAT, headers={"api-key": alice}).headers["x-jaxroute-id"]
        assert one.post({"id": number, "quality": 0}, "/v1/feedback", {"api-key": bob}).status == 404
        assert one.request("GET", f"/v1/feedback/{number}", headers={"api-key": bob}).status == 404
        assert one.post({"id": number, "quality": 1}, "/v1/feedback").status == 401
        assert one.post({"id": number, "quality": 1}, "/v1/feedback", {"api-key": alice}).content["recorded"]


def test_metrics_count_what_has_ended_and_name_nobody(tmp_path: Path) -> None:
    key, lines = new_key("alice")
    (tmp_path / "clients.yaml").write_text(lines)
    with proxy(tmp_path, clients=tmp_path / "clients.yaml") as one:
        headers = {"api-key": key}
        one.simulation.next_faults.append("rate_limit:0")
        one.post(CHAT, headers=headers)
        one.post({**CHAT, "model": "nothing"}, headers=headers)
        text = one.request("GET", "/metrics").body.decode()
        for line in (
            'jaxroute_requests_total{kind="chat",model="sim-medium",routed="auto",status="200"} 1.0',
            'jaxroute_requests_total{kind="chat",model="none",routed="named",status="404"} 1.0',
            'jaxroute_failed_tries_total{model="sim-large",reason="rate_limit"} 1.0',
            'jaxroute_errors_total{model="none",reason="model_not_found"} 1.0',
            "jaxroute_budget_limit_dollars 1.0",
            "jaxroute_requests_under_way 0.0",
        ):
            assert line in text
        assert "alice" not in text and key not in text and QUESTION not in text
        spent = next(line for line in text.splitlines() if line.startswith('jaxroute_dollars_total{model="sim-medium"'))
        assert float(spent.split()[-1]) == pytest.approx(one.ledger.totals().settled_usd)


def test_a_record_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "record.db").write_text("something else, which is long enough to be read as a file of a database" * 20)
    for name in ("record.db", "missing.db"):
        with pytest.raises(OutputError, match="record_file"):
            write_outcomes(tmp_path / name, tmp_path / "outcomes.jsonl")
