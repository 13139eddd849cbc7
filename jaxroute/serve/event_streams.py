"""A stream of server-sent events while it passes: its usage is read, and taken out where the client did not ask for it.

Events pass as the bytes that they are, as soon as they are whole. The chunk of chat completions and completions that holds the
usage and no choice is left out where nobody asked for it. Of other events only those are parsed whose bytes may hold a usage,
an error or the end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from jaxroute.endpoints.usage import Usage, read_usage
from jaxroute.endpoints.wire import DONE, MOST_BYTES
from jaxroute.serve.asking import Kind

END_OF_EVENT = re.compile(rb"\r\n\r\n|\n\n|\r\r")
MARKS = re.compile(rb'"usage"|"error"|"finish_reason"\s*:\s*"|\[DONE\]|"response\.(?:completed|incomplete|failed)"')
ENDS = ("response.completed", "response.incomplete")
FAILURES = ("response.failed", "error")


class TooLong(ValueError):
    """An event has more bytes than are held."""


class EventStream:
    """Feed it what comes; it gives what passes on, and knows afterwards how the stream ended."""

    def __init__(self, *, keep_usage: bool, answers: int = 1) -> None:
        self.keep_usage, self.answers = keep_usage, answers
        self.usage: object = None
        """The usage as the endpoint sent it; None where it has not."""
        self.error: Any = None
        """An error that the endpoint sent in place of what was to come."""
        self.done = False
        """Whether the stream has come to its end: [DONE], a reason for finishing of each of the answers, or a response that is
        completed."""
        self.response_id: str | None = None
        """Of the responses API: under which name the endpoint has stored it."""
        self._finished: set[object] = set()
        self._held, self._searched = bytearray(), 0

    def feed(self, data: bytes) -> bytes:
        """The bytes that pass on now. Raises `TooLong`."""
        self._held += data
        # An end may have begun in what came before.
        cut, start = 0, max(0, self._searched - 3)
        pieces: list[bytes] = []
        for end in END_OF_EVENT.finditer(self._held, start):
            event = bytes(self._held[cut : end.end()])
            cut = end.end()
            if self._passes(event):
                pieces.append(event)
        del self._held[:cut]
        self._searched = len(self._held)
        if len(self._held) > MOST_BYTES:
            raise TooLong(f"an event has more than {MOST_BYTES:,} bytes")
        return b"".join(pieces)

    def rest(self) -> bytes:
        """What has come after the last whole event, once nothing more comes."""
        rest = bytes(self._held)
        self._held.clear()
        return rest if not rest.strip() or self._passes(rest) else b""

    def _passes(self, event: bytes) -> bool:
        if MARKS.search(event) is None:
            return True
        payload = b"".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
        if payload == DONE:
            self.done = True
            return True
        try:
            content = json.loads(payload)
        except (ValueError, RecursionError):
            return True
        return self._read(content) if isinstance(content, Mapping) else True

    def _read(self, content: Mapping[str, Any]) -> bool:
        kind = content.get("type")
        if isinstance(kind, str):
            # An event of the responses API.
            response = content.get("response")
            if kind in FAILURES:
                inner = response.get("error") if isinstance(response, Mapping) else None
                self.error = inner or content.get("error") or content.get("message") or kind
            if isinstance(response, Mapping):
                self.done = self.done or kind in ENDS
                self.usage = response.get("usage") or self.usage
                self.response_id = response.get("id")
            return True
        if content.get("error") and not content.get("choices"):
            self.error = content["error"]
            return True
        if content.get("usage") is not None:
            self.usage = content["usage"]
        choices = content.get("choices")
        if isinstance(choices, list):
            finished = (one for one in choices if isinstance(one, Mapping) and one.get("finish_reason"))
            self._finished |= {str(one.get("index")) for one in finished}
            self.done = self.done or len(self._finished) >= self.answers
            return bool(choices) or self.keep_usage or content.get("usage") is None
        return True


def counted(kind: Kind, usage: object, most_output_tokens: int | None) -> Usage:
    """The tokens of a usage of that kind of request; see `read_usage`."""
    if not isinstance(usage, Mapping):
        return Usage()
    if kind == "response":
        usage = {
            "prompt_tokens": usage.get("input_tokens"),
            "prompt_tokens_details": usage.get("input_tokens_details"),
            "completion_tokens": usage.get("output_tokens"),
            "completion_tokens_details": usage.get("output_tokens_details"),
        }
    elif kind == "embedding":
        # They have no output.
        usage = {**usage, "completion_tokens": 0}
    return read_usage(usage, most_output_tokens)
