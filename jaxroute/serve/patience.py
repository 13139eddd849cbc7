"""The connections of clients: headers have to come within a time and a size, so that slow ones hold nothing for long."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from jaxroute.serve.refusals import Refused

HEADER_SECONDS = 15.0
MOST_HEADER_BYTES = 65_536


class Patient(HttpToolsProtocol):
    """Closes a connection whose headers do not come to their end. Bodies have limits of their own (`read_body`)."""

    header_seconds = HEADER_SECONDS
    _timer: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _refused = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = 0
        if self._timer is None:
            self._wait()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MOST_HEADER_BYTES:
            self._refuse(Refused(431, "headers_too_large", f"The headers have more than {MOST_HEADER_BYTES:,} bytes."))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        if not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._refused:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What was sent is no HTTP. In the middle of an answer nothing else can be said."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()
        else:
            self._refuse(Refused(400, "invalid_http", "What was sent is no HTTP request."))

    def _wait(self) -> None:
        slow = Refused(408, "headers_too_slow", f"The headers have not arrived within {self.header_seconds:g} seconds.")
        self._timer = self.loop.call_later(self.header_seconds, self._refuse, slow)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, refused: Refused) -> None:
        self._stop_waiting()
        self._refused = True
        if not self.transport.is_closing():
            body = refused.body()
            head = (
                f"HTTP/1.1 {refused.status} Refused\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
                "connection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
            self.transport.close()
