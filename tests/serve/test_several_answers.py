"""Requests for several answers at once (`n`): all of them pass, all are paid, and a cut is no end."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.serve.proxies import MESSAGES, proxy

USAGE = {"prompt_tokens": 10, "completion_tokens": 30, "total_tokens": 40}


def events(answers: int, *, whole: bool) -> bytes:
    """Answers side by side; the first ends first, and where it is not `whole`, nothing comes after that."""
    parts = [(index, text, None) for text in ("a", "b") for index in range(answers)]
    parts += [(index, "", "stop") for index in range(answers if whole else 1)]
    chunks: list[dict] = [
        {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": reason}]} for index, text, reason in parts
    ]
    chunks += [{"choices": [], "usage": USAGE}] if whole else []
    return b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in chunks) + b"data: [DONE]\n\n" * whole


@contextmanager
def endpoint() -> Iterator[tuple[str, list[dict]]]:
    """One that streams as many answers as it is asked for, and cuts its first stream; its address, and what it was asked."""
    asked: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            self.wfile.write(events(asked[-1]["n"], whole=len(asked) > 1))

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", asked
        finally:
            server.shutdown()


def test_all_answers_are_streamed_and_paid_and_a_cut_is_said(tmp_path: Path) -> None:
    with endpoint() as (address, asked), proxy(tmp_path) as one:
        (tmp_path / "models.yaml").write_text(
            f"models:\n  sim-nano:\n    base_url: {address}\n    price: {{input: 1, output: 2}}\n    output_tokens: 50\n"
        )
        one.read_again()
        body = {"model": "auto", "messages": MESSAGES, "stream": True, "n": 3, "max_tokens": 20}
        cut, whole = one.post(body), one.post(body)
        # The first answer had come to its end, and the others had not.
        assert b'"error"' in cut.body and b"[DONE]" not in cut.body
        assert whole.body == events(3, whole=True).replace(
            b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\n", b""
        )
        assert asked[1]["n"] == 3 and asked[1]["stream_options"] == {"include_usage": True}
        totals = one.ledger.totals()
        paid = (10 * 1 + 30 * 2) / 1e6
        # The worst case counts all answers at their longest; more tokens than that would be no credible count.
        worst = totals.settled_usd - paid
        assert totals.settlements == 2 and totals.reserved_usd == 0 and worst >= 3 * 20 * 2 / 1e6
