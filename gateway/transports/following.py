"""Handing the events of a kept stream to one reader, at the pace at which it takes them."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from gateway.errors import ClientStalled
from gateway.streams.buffer import Entry, EventSource


async def follow(source: EventSource, write: Callable[[list[Entry]], Awaitable[None]], *, stall_seconds: float) -> None:
    """Write what `source` has until the stream has ended; closing it is the caller's.

    Raises ClientStalled for a reader that accepts nothing, and what `source` raises.
    """
    while entries := await source.read():
        try:
            async with asyncio.timeout(stall_seconds):
                await write(entries)
        except TimeoutError:
            raise ClientStalled from None


def start_following(source: EventSource, following: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
    """Return the task of `following`; `source` is closed with it, even if it is cancelled before its first step."""
    task = asyncio.create_task(following, name=name)
    task.add_done_callback(lambda _: source.close())
    return task
