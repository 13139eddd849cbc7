"""Queries of addresses, and responses that are stored at an endpoint: both pass to it, and to it alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jaxroute.serve.clients import new_key
from tests.serve.proxies import proxy

RESPONSE = {"id": "resp_1", "object": "response", "status": "completed", "usage": {"input_tokens": 3, "output_tokens": 2}}
ASKED = {"model": "kept", "input": "What is 12 plus 30?"}


class Recorder(BaseHTTPRequestHandler):
    """Answers everything with one response, and keeps what it was asked."""

    seen: list[tuple[str, str, str | None]]
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.seen.append((self.command, self.path, self.headers.get("authorization")))
        missing = "gone" in self.path
        content = json.dumps({"error": {"message": "no such response"}} if missing else RESPONSE).encode()
        self.send_response(404 if missing else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_DELETE = do_POST

    def log_message(self, *given: object) -> None:
        return


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str, str | None]]]:
    """What the endpoint of the model `kept` in `models.yaml` was asked."""
    monkeypatch.setenv("POOL_KEY", "the-endpoints")
    Recorder.seen = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}/v1"
        fields = f"{{base_url: {place}, api_key_env: POOL_KEY, context_tokens: 8000, price: {{input: 1, output: 1}}}}"
        (tmp_path / "models.yaml").write_text(f"models:\n  kept: {fields}\n")
        yield Recorder.seen
        server.shutdown()


def test_queries_pass_as_they_are_and_keys_in_them_do_not(tmp_path: Path, seen: list) -> None:
    with proxy(tmp_path) as one:
        for path, query, passed in (
            ("/chat/completions", "api-version=2024-10-21", "?api-version=2024-10-21"),
            ("/responses", "include[]=a.b&include%5B%5D=%C3%A4+c&x", "?include[]=a.b&include%5B%5D=%C3%A4+c&x"),
            ("/embeddings", "key=mine&user=1&API-Key=mine&%6Bey=mine", "?user=1"),
            ("/completions", "access_token=mine", ""),
            ("/completions", "", ""),
        ):
            name = {"/chat/completions": "messages", "/completions": "prompt"}.get(path, "input")
            given = [{"role": "user", "content": "Hi"}] if name == "messages" else "Hi"
            one.post({"model": "kept", name: given}, f"/v1{path}?{query}")
            assert seen[-1][:2] == ("POST", f"/v1{path}{passed}")
        before = len(seen)
        assert one.post(ASKED, "/v1/responses?a=" + "b" * 9_000).status == 414
        for wrong in ("a=%zz", "a={b}", "a=\\", 'a="'):
            reply = one.post(ASKED, f"/v1/responses?{wrong}")
            assert reply.status == 400 and reply.code == "invalid_query"
        assert len(seen) == before


def test_a_stored_response_is_read_cancelled_and_deleted_where_it_is(tmp_path: Path, seen: list) -> None:
    with proxy(tmp_path) as one:
        assert one.request("GET", "/v1/responses/resp_1").status == 404 and not seen
        assert one.post(ASKED, "/v1/responses").status == 200
        spent = one.ledger.totals()
        for method, address in (
            ("GET", "/v1/responses/resp_1?include=message.output_text.logprobs&stream=false"),
            ("GET", "/v1/responses/resp_1/input_items?limit=5&after=item_3"),
            ("POST", "/v1/responses/resp_1/cancel"),
            ("DELETE", "/v1/responses/resp_1"),
        ):
            reply = one.request(method, address)
            assert reply.status == 200 and reply.content == RESPONSE and reply.headers["x-jaxroute-model"] == "kept"
            assert seen[-1] == (method, address, "Bearer the-endpoints")
        assert one.ledger.totals() == spent
        before = len(seen)
        for address in ("/v1/responses/resp_2", "/v1/responses/..%2Fmodels", "/v1/responses/resp_1/other"):
            assert one.request("GET", address).status == 404
        assert one.request("PUT", "/v1/responses/resp_1").status == 405 and len(seen) == before


def test_a_stored_response_is_its_clients_alone(tmp_path: Path, seen: list) -> None:
    (alice, alices), (bob, bobs) = (new_key(name) for name in ("alice", "bob"))
    (tmp_path / "clients.yaml").write_text(alices + bobs.replace("clients:\n", ""))
    with proxy(tmp_path, clients=tmp_path / "clients.yaml") as one:
        assert one.post(ASKED, "/v1/responses", headers={"api-key": alice}).status == 200
        assert one.request("GET", "/v1/responses/resp_1", headers={"api-key": alice}).status == 200
        before = len(seen)
        assert one.request("GET", "/v1/responses/resp_1").status == 401
        assert one.request("GET", "/v1/responses/resp_1", headers={"api-key": bob}).status == 404
        assert one.request("DELETE", "/v1/responses/resp_1", headers={"api-key": bob}).status == 404
        more = {**ASKED, "previous_response_id": "resp_1"}
        assert one.post(more, "/v1/responses", headers={"api-key": bob}).status == 400 and len(seen) == before
        assert one.post(more, "/v1/responses", headers={"api-key": alice}).status == 200
