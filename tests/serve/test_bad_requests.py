"""Requests that are wrong, too large, too slow or hostile: a clear 4xx in OpenAI's shape, and no cost."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from jaxroute.serve.headers import read_headers
from jaxroute.serve.patience import Patient
from tests.serve.proxies import MESSAGES, Proxy, proxy

CHAT = {"model": "auto", "messages": MESSAGES}


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Proxy]:
    with proxy(tmp_path_factory.mktemp("serve"), most_body_bytes=200_000, body_seconds=0.3) as one:
        yield one


@pytest.fixture(autouse=True)
def nothing_is_asked(running: Proxy) -> Iterator[None]:
    yield
    assert not running.simulation.counts.requests
    totals = running.ledger.totals()
    assert totals.settled_usd == totals.reserved_usd == totals.reservations == 0


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "invalid_json"),
        (b'{"model": "auto", "messages": [', "invalid_json"),
        (b'{"model": "auto", "model": "sim-large", "messages": []}', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"model": "auto", "messages": [{"role": "user", "content": "\xff"}]}', "invalid_json"),
        ({"messages": MESSAGES}, "invalid_request"),
        ({"model": 7, "messages": MESSAGES}, "invalid_request"),
        ({"model": "auto"}, "invalid_request"),
        ({"model": "auto", "messages": []}, "invalid_request"),
        ({"model": "auto", "messages": "hello"}, "invalid_request"),
        ({"model": "auto", "messages": ["hello"]}, "invalid_request"),
        ({**CHAT, "max_tokens": -5}, "invalid_request"),
        ({**CHAT, "max_completion_tokens": 10**12}, "invalid_request"),
        ({**CHAT, "max_tokens": 1.5}, "invalid_request"),
        ({**CHAT, "max_tokens": True}, "invalid_request"),
        (b'{"model": "auto", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1e30}', "invalid_request"),
        (b'{"model": "auto", "messages": [{"role": "user", "content": "a"}], "top_p": NaN}', "invalid_json"),
        (b'{"model": "auto", "messages": [' + b'{"content": ' * 10_000 + b'"a"' + b"}" * 10_000 + b"]}", "invalid_json"),
        ({**CHAT, "max_tokens": "5"}, "invalid_request"),
        ({**CHAT, "n": 0}, "invalid_request"),
        ({**CHAT, "n": 10**9}, "invalid_request"),
        ({**CHAT, "stream": "yes"}, "invalid_request"),
        ({**CHAT, "stream_options": [1]}, "invalid_request"),
        ({**CHAT, "model": "\ud800"}, "model_not_found"),
        ({**CHAT, "model": "x" * 100_000}, "model_not_found"),
        ({**CHAT, "model": "sim-large\r\nx-evil: 1"}, "model_not_found"),
    ],
)
def test_what_is_wrong_is_named(running: Proxy, content: object, code: str) -> None:
    reply = running.post(content)
    assert 400 <= reply.status < 500 and reply.code == code
    assert len(reply.body) < 2_000 and "x-evil" not in reply.headers


def test_inner_duplicates_do_not_reach_an_endpoint_with_our_option(running: Proxy) -> None:
    body = json.dumps({**CHAT, "stream": True})[:-1] + ', "stream_options": {"include_usage": false, "include_usage": false}}'
    assert running.post(body.encode()).code == "invalid_request"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/v1/completions", {"model": "auto", "prompt": []}),
        ("/v1/completions", {"model": "auto", "prompt": "a", "best_of": -1}),
        ("/v1/embeddings", {"model": "sim-nano"}),
        ("/v1/embeddings", {"model": "auto", "input": "a"}),
        ("/v1/responses", {"model": "auto", "input": 7}),
        ("/v1/responses", {"model": "auto", "input": "a", "max_output_tokens": 0}),
        ("/v1/feedback", {"id": "jr-unknown", "quality": 2}),
        ("/v1/feedback", {"id": 7, "quality": 1}),
        ("/v1/feedback", {"id": "jr-unknown", "quality": 1}),
        ("/v1/nothing", {}),
    ],
)
def test_other_paths(running: Proxy, path: str, content: dict) -> None:
    reply = running.post(content, path)
    assert 400 <= reply.status < 500 and reply.code


def test_other_methods(running: Proxy) -> None:
    assert running.request("GET", "/v1/chat/completions").status == 405
    assert running.request("DELETE", "/v1/models").code == "bad_request"


def test_a_large_body_is_refused_before_it_is_read(running: Proxy) -> None:
    with connection(running) as raw:
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 104857600\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 413")
    with connection(running) as raw:
        # Without a length, as soon as there is too much.
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        try:
            for _ in range(100):
                raw.sendall(chunk)
        except OSError:
            pass
        assert received(raw).startswith(b"HTTP/1.1 413")


def test_a_slow_body_is_refused(running: Proxy) -> None:
    with connection(running) as raw:
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        started = time.monotonic()
        assert raw.recv(1000).startswith(b"HTTP/1.1 408") and time.monotonic() - started < 3


def test_slow_and_endless_headers_are_refused(running: Proxy, monkeypatch) -> None:
    monkeypatch.setattr(Patient, "header_seconds", 0.2)
    with connection(running) as raw:
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-slow: ")
        refused(received(raw), 408, "headers_too_slow")
    with connection(running) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\n" + b"x: " + b"a" * 70_000 + b"\r\n\r\n")
        refused(received(raw), 431, "headers_too_large")


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-a: b\rx-evil: 1\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-a: b\x00c\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-a: b\x01c\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"nonsense\r\n\r\n",
    ],
)
def test_headers_that_hide_others_are_refused(running: Proxy, head: bytes) -> None:
    with connection(running) as raw:
        raw.sendall(head)
        data = raw.recv(10_000)
        refused(data, 400, "invalid_request" if b"control characters" in data else "invalid_http")


@pytest.mark.parametrize(
    "twice", [b"x-jaxroute-max-cost-usd: 1", b"x-jaxroute-models: sim-nano", b"authorization: Bearer a", b"api-key: a"]
)
def test_what_may_be_there_once_is_there_once(running: Proxy, twice: bytes) -> None:
    with connection(running) as raw:
        lines = b"\r\n".join([twice, twice.replace(b"1", b"9"), b"content-length: 2"])
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + lines + b"\r\n\r\n{}")
        refused(received(raw), 400, "invalid_request")


def test_a_list_in_several_headers_is_one_list() -> None:
    assert read_headers([(b"accept", b"a"), (b"x-other", b"c"), (b"accept", b"b")]) == {"accept": "a, b", "x-other": "c"}


def test_no_path_leads_to_another_host(running: Proxy) -> None:
    reply = running.request("GET", "/v1/models/", headers={"host": "evil.example"})
    assert reply.status == 404 and reply.code and "location" not in reply.headers


@pytest.mark.parametrize(
    "headers", [{"x-jaxroute-max-cost-usd": "many"}, {"x-jaxroute-max-cost-usd": "-1"}, {"x-jaxroute-minimum-quality": "7"}]
)
def test_wishes_that_cannot_be(running: Proxy, headers: dict) -> None:
    assert running.post(CHAT, headers=headers).code == "invalid_request"


def refused(data: bytes, status: int, code: str) -> None:
    """An answer as it came is an error in OpenAI's shape."""
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["code"] == code and error["message"]


def connection(running: Proxy) -> socket.socket:
    place = urlsplit(running.base_url)
    return socket.create_connection((place.hostname, place.port), timeout=5)


def received(raw: socket.socket) -> bytes:
    data = b""
    try:
        while more := raw.recv(65_536):
            data += more
    except OSError:
        pass
    return data
