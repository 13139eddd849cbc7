"""Answers in OpenAI's form, as they come over the wire: a whole one, or the chunks of a stream put together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jaxroute.endpoints.usage import Usage, read_usage

MOST_BYTES = 64 * 2**20
"""Of one answer, or of one event of a stream."""
DONE = b"[DONE]"


class Malformed(ValueError):
    """An answer that is not in OpenAI's form; the message says what is wrong."""


class EndpointSaysError(ValueError):
    """An error in place of an answer, or in the middle of a stream."""


class Events:
    """The `data:` lines of a stream of server-sent events, as parsed JSON."""

    def __init__(self) -> None:
        self.buffer, self.done = bytearray(), False

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The events that these bytes complete. Raises `Malformed`."""
        self.buffer += data
        if len(self.buffer) > MOST_BYTES:
            raise Malformed(f"an event has more than {MOST_BYTES:,} bytes")
        end = self.buffer.rfind(b"\n")
        if end < 0:
            return
        lines = bytes(self.buffer[:end]).split(b"\n")
        del self.buffer[: end + 1]
        for line in lines:
            # Other lines are comments that keep the connection open, names of events, and the blank ones between them.
            if line.startswith(b"data:") and (payload := line[5:].strip()):
                if payload == DONE:
                    self.done = True
                else:
                    yield parse(payload)


def parse(data: bytes | bytearray) -> dict[str, Any]:
    """A JSON object. Raises `Malformed`, or `EndpointSaysError` where it holds an error."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed("it is no JSON") from None
    if not isinstance(content, dict):
        raise Malformed("it is no JSON object")
    if content.get("error") and not content.get("choices"):
        raise EndpointSaysError(error_text(content))
    return content


def error_text(content: Any) -> str:
    """What an error in OpenAI's form says: `code: message`."""
    error = content.get("error", content) if isinstance(content, Mapping) else content
    if not isinstance(error, Mapping):
        return str(error)
    parts = [str(error[name]) for name in ("code", "message") if error.get(name)]
    return ": ".join(parts) or "without a message"


class Assembly:
    """The message, why it ended, its log-probabilities and its tokens, out of one completion or many chunks."""

    def __init__(self, output_limit: int) -> None:
        self.output_limit = output_limit
        self.message: dict[str, Any] = {"role": "assistant", "content": None}
        self.finish_reason: str | None = None
        self.usage = Usage()
        self.log_probabilities: list[float] | None = None
        self.choices = 0
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[int, dict[str, Any]] = {}

    def add(self, content: Mapping[str, Any]) -> None:
        """A completion or a chunk. Raises `Malformed`."""
        if content.get("usage") is not None:
            self.usage = read_usage(content["usage"], self.output_limit)
        choices = content.get("choices")
        if not isinstance(choices, list):
            raise Malformed("it has no choices")
        if not choices:
            return
        choice = choices[0]
        part = choice.get("delta", choice.get("message")) if isinstance(choice, Mapping) else None
        if not isinstance(part, Mapping):
            raise Malformed("its choice has no message")
        self.choices += 1
        self._add_log_probabilities(choice.get("logprobs"))
        if isinstance(choice.get("finish_reason"), str):
            self.finish_reason = choice["finish_reason"]
        if "message" in choice:
            self.message = dict(part)
        else:
            self._add_delta(part)

    @property
    def text(self) -> str:
        """The content; its text parts, where it is a list of parts."""
        content = self.message.get("content")
        if isinstance(content, list):
            return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
        return content if isinstance(content, str) else ""

    def end(self) -> None:
        """Put the pieces of a stream together."""
        self.message |= {name: "".join(pieces) for name, pieces in self._texts.items()}
        if self._calls:
            self.message["tool_calls"] = [call for _, call in sorted(self._calls.items())]

    def _add_delta(self, delta: Mapping[str, Any]) -> None:
        for name, value in delta.items():
            if name == "tool_calls" and isinstance(value, list):
                for piece in value:
                    self._add_call(piece)
            elif name == "role":
                self.message["role"] = value
            elif isinstance(value, str):
                # The content, a refusal, or the reasoning of those that send it.
                self._texts.setdefault(name, []).append(value)
            elif value is not None:
                self.message[name] = value

    def _add_call(self, piece: Any) -> None:
        """Calls of tools come in pieces too: those with the same index belong together, and arguments are appended."""
        if not isinstance(piece, Mapping):
            raise Malformed("a call of a tool is no object")
        index = piece.get("index", len(self._calls))
        call = self._calls.setdefault(index if isinstance(index, int) else 0, {"function": {"name": "", "arguments": ""}})
        call |= {name: value for name, value in piece.items() if name not in ("index", "function") and value is not None}
        function = piece.get("function")
        for name, value in function.items() if isinstance(function, Mapping) else ():
            if isinstance(value, str):
                call["function"][name] = call["function"].get(name, "") + value

    def _add_log_probabilities(self, given: Any) -> None:
        content = given.get("content") if isinstance(given, Mapping) else None
        if not isinstance(content, list):
            return
        values = [token.get("logprob") for token in content if isinstance(token, Mapping)]
        if self.log_probabilities is None:
            self.log_probabilities = []
        self.log_probabilities += [float(value) for value in values if isinstance(value, int | float)]
