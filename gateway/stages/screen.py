"""What may this call say? Content rules look at what the caller wrote, and take out what is to stay here.

Before a prompt is filled in: its own text is its owner's and trusted, the inputs are the caller's. Done again when a
call is planned again, from what was sent: a policy that was changed in the meantime counts.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from gateway.calls import Exchange
from gateway.chat.counting import count_input
from gateway.guards.screening import Screening
from gateway.guards.texts import Change, change_body, change_inputs, change_messages
from gateway.runtime import Runtime

_T = TypeVar("_T")
# Longer bodies are looked at in a thread: what searches them leaves the interpreter to others meanwhile.
MOST_INLINE_BYTES = 16_000


async def screen(runtime: Runtime, exchange: Exchange) -> None:
    """Check the call's texts and replace what is to be redacted. Raises ContentBlocked."""
    _begin_again(exchange)
    book, principal, request = runtime.clerk.catalogue.guards, exchange.principal, exchange.prompt_request
    assert principal is not None
    if book is None or exchange.operation.is_check:
        return
    guard = book.find(principal, request.name if request is not None else "")
    if not guard:
        return
    screening = Screening(guard, call=exchange.call, count=exchange.input_count, request=request)
    exchange.screening = screening
    if request is not None:
        screening.inputs = await _check(exchange, screening, partial(change_inputs, request.inputs))
        messages = await _check(exchange, screening, partial(change_messages, request.messages))
        exchange.prompt_request = request._replace(messages=messages)
        return
    call = exchange.call
    assert call is not None
    body = await _check(exchange, screening, partial(change_body, call.body))
    if body is not call.body:
        exchange.call = call._replace(body=body)
        # What is held is the upper bound of what is sent: placeholders may be longer than what they stand for.
        exchange.input_count = await count_input(body, enough=runtime.clerk.catalogue.largest_window)


def _begin_again(exchange: Exchange) -> None:
    before, exchange.screening = exchange.screening, None
    if before is None:
        return
    if before.request is not None:
        exchange.prompt_request = before.request
        return
    exchange.call, exchange.input_count = before.call, before.count
    exchange.dropped_messages = 0


async def _check(exchange: Exchange, screening: Screening, change_all: Callable[[Change], _T]) -> _T:
    if len(exchange.raw_body) <= MOST_INLINE_BYTES:
        return screening.check(change_all)
    return await asyncio.to_thread(screening.check, change_all)
