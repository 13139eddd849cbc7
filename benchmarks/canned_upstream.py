"""An endpoint that says always the same, as fast as it can: what a proxy adds is then what is measured.

    python -m benchmarks.canned_upstream            prints its address

A stream has CHUNKS pieces, one every PAUSE_SECONDS; each holds the moment at which it was sent, by the clock that all processes
of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import time

CHUNKS = 40
PAUSE_SECONDS = 0.005
MODEL = "canned"
USAGE = {"prompt_tokens": 9, "completion_tokens": 40, "total_tokens": 49}
MESSAGE = {"role": "assistant", "content": "word " * 40}
IDENTITY = {"id": "chatcmpl-0", "created": 0, "model": MODEL}
CHOICE = {"index": 0, "message": MESSAGE, "finish_reason": "stop"}
BODY = json.dumps({**IDENTITY, "object": "chat.completion", "choices": [CHOICE], "usage": USAGE}).encode()
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Canned(asyncio.Protocol):
    """One connection; reads no more of a request than where it ends and whether it wants a stream."""

    def __init__(self) -> None:
        self.held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.held += data
        while (head := self.held.find(b"\r\n\r\n")) >= 0:
            lines = self.held[:head].lower().split(b"\r\n")
            length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
            if len(self.held) < head + 4 + length:
                return
            body, self.held = self.held[head + 4 : head + 4 + length], self.held[head + 4 + length :]
            if json.loads(body or b"{}").get("stream"):
                self.task = asyncio.get_running_loop().create_task(self.stream())
            else:
                self.transport.write(WHOLE)

    async def stream(self) -> None:
        self.transport.write(STREAM)
        for number in range(CHUNKS):
            await asyncio.sleep(PAUSE_SECONDS)
            delta = {"content": f"{time.monotonic_ns()} "}
            self._piece(_event({"index": 0, "delta": delta, "finish_reason": None if number < CHUNKS - 1 else "stop"}))
        usage = {**IDENTITY, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}
        self._piece(b"data: " + json.dumps(usage).encode() + b"\n\n")
        self._piece(b"data: [DONE]\n\n")
        self.transport.write(b"0\r\n\r\n")

    def _piece(self, data: bytes) -> None:
        self.transport.write(b"%x\r\n%s\r\n" % (len(data), data))


def _event(choice: dict) -> bytes:
    return b"data: " + json.dumps({**IDENTITY, "object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


async def main() -> None:
    """Serve until it is killed."""
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
