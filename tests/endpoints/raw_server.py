"""A server that answers as bytes say, for what no simulation does, and the clock of a test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from jaxroute.endpoints import Endpoint, TokenPrice


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def raw_server(
    reply: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object],
) -> AsyncIterator[dict[str, Endpoint]]:
    """A server that does with a connection whatever the test says."""
    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield {"m": Endpoint("m", f"http://127.0.0.1:{port}/v1", "m", TokenPrice(1.0, 2.0))}
    finally:
        server.close()


async def read_request(reader: asyncio.StreamReader) -> tuple[str, dict]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length"))
    return head, json.loads(await reader.readexactly(length))


def http(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body
