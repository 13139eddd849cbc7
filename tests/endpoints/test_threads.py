"""A server in a thread: it is open within the block, and what goes wrong at its start is the caller's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from jaxroute.endpoints.threads import in_thread


def test_it_is_open_within_the_block_and_closed_behind_it() -> None:
    said = []

    @asynccontextmanager
    async def served(wrong: bool) -> AsyncIterator[asyncio.AbstractEventLoop]:
        if wrong:
            raise ValueError("the port is taken")
        said.append("open")
        yield asyncio.get_running_loop()
        await asyncio.sleep(0)
        said.append("closed")

    async def add(one: int) -> int:
        return one + 1

    with in_thread(served(False)) as loop:
        assert asyncio.run_coroutine_threadsafe(add(1), loop).result(5) == 2 and said == ["open"]
    assert said == ["open", "closed"]
    with pytest.raises(ValueError, match="the port is taken"), in_thread(served(True)):
        raise AssertionError("never begun")
