"""One call through the whole pipeline from code that is not asynchronous: admin pages, REST views, commands.

Inside a server the call runs in the server's own event loop. A command has none, so it gets a runtime of its own, in a
thread, for as long as it needs it.
"""

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import orjson
from django.conf import settings

from gateway.calls import Exchange, Receipt
from gateway.collecting import CollectingSink
from gateway.control import CallControl
from gateway.local_model import PORT_VARIABLE, LocalModel, find_weights
from gateway.models import Dialect, Upstream
from gateway.operations import PROMPT_TESTS
from gateway.pipeline import run_call
from gateway.runtime import Runtime, current_runtime

_LONGEST_SECONDS = 900


def call_and_wait(runtime: Runtime, token: str, body: dict[str, Any]) -> tuple[Exchange, CollectingSink]:
    """Carry out a chat completion in the runtime's loop and return its record. Not for the loop's own thread."""

    async def call() -> tuple[Exchange, CollectingSink]:
        sink = CollectingSink()
        exchange = Exchange(operation=PROMPT_TESTS, token=token, raw_body=orjson.dumps(body))
        control = CallControl()
        task = asyncio.create_task(run_call(runtime, exchange, control, sink), name=exchange.request_id)
        control.begin(task)
        await task
        return exchange, sink

    return asyncio.run_coroutine_threadsafe(call(), runtime.loop).result(_LONGEST_SECONDS)


def cost_of_receipt(exchange: Exchange, receipt: Receipt) -> int:
    """Return what a call that nobody is charged for would have cost a customer."""
    if exchange.plan is None:
        return 0
    if receipt.attempts:
        return sum(attempt.cost_nanousd for attempt in receipt.attempts)
    return exchange.plan.price.table.cost(receipt.tokens) if any(receipt.tokens) else 0


@contextmanager
def borrowed_runtime() -> Iterator[Runtime]:
    """Yield this process's runtime, or one that is started for the purpose."""
    running = current_runtime()
    if running is not None:
        yield running
        return
    with _own_local_model():
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="prompt-tests", daemon=True)
        thread.start()
        try:
            runtime = _in(loop, _start())
            try:
                yield runtime
            finally:
                _in(loop, runtime.stop(drain_seconds=5))
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


async def _start() -> Runtime:
    runtime = Runtime()
    await runtime.start()
    return runtime


def _in(loop: asyncio.AbstractEventLoop, coroutine: Any) -> Any:
    future: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, loop)
    return future.result()


@contextmanager
def _own_local_model() -> Iterator[None]:
    """Run the embedded model beside a command, where there is one and no server has started it for us."""
    is_wanted = (
        PORT_VARIABLE not in os.environ
        and settings.ENVIRONMENT.local_model == "on"
        and Upstream.objects.filter(dialect=Dialect.LOCAL, is_active=True).exists()
        and find_weights() is not None
    )
    if not is_wanted:
        yield
        return
    model = LocalModel(port=0, threads=settings.ENVIRONMENT.local_model_threads, slots=1)
    model.start()
    try:
        model.wait_until_ready()
        yield
    finally:
        model.stop()
        os.environ.pop(PORT_VARIABLE, None)
