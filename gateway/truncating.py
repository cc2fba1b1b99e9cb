"""Make a conversation fit its model by leaving out its oldest turns, where the call asks for it (`truncation: auto`).

A turn begins with a user's message and goes on to the next one, so a tool's result is never left without the call that
it answers. What system and developer say always stays, and so does the newest turn: a call whose question does not fit
is refused as ever.
"""

from typing import Any, NamedTuple

from gateway.calls import ChatCall
from gateway.catalogue import ModelEntry
from gateway.chat.counting import InputCount, count_input
from gateway.errors import BodyInvalid
from gateway.stages.resolve import estimated_input
from gateway.structured.asking import INSTRUCTION_TOKENS

_ALWAYS_KEPT = frozenset({"system", "developer"})
_CHOICES = ("auto", "disabled")


class Shortened(NamedTuple):
    """A call that fits, and what it lost."""

    call: ChatCall
    counted: InputCount
    dropped_messages: int


def take_truncation(body: dict[str, Any]) -> bool:
    """Take `truncation` out of a body; return whether turns may be left out. Raises BodyInvalid."""
    value = body.pop("truncation", None)
    if value is not None and value not in _CHOICES:
        raise BodyInvalid("'truncation' must be 'auto' or 'disabled'.", param="truncation")
    return bool(value == "auto")


async def shorten(call: ChatCall, model: ModelEntry) -> Shortened | None:
    """Return the call without as many of its oldest turns as it takes; None where it does not fit without them all."""
    messages = call.body["messages"]
    enough = model.context_window
    others = {**call.body, "messages": [m for m in messages if m["role"] in _ALWAYS_KEPT]}
    total = await count_input(others, enough=enough)
    per_call = await count_input({"messages": []}, enough=enough)
    kept: set[int] = set()
    for turn in reversed(_turns(messages)):
        counted = await count_input({"messages": [messages[index] for index in turn]}, enough=enough)
        grown = InputCount(
            text_tokens=total.text_tokens + counted.text_tokens - per_call.text_tokens,
            images=total.images + counted.images,
        )
        if not _fits(call, model, grown):
            break
        total = grown
        kept.update(turn)
    if not kept:
        return None
    left = [m for index, m in enumerate(messages) if index in kept or m["role"] in _ALWAYS_KEPT]
    return Shortened(call._replace(body={**call.body, "messages": left}), total, len(messages) - len(left))


def _turns(messages: list[dict[str, Any]]) -> list[list[int]]:
    """Return the places of the messages of each turn, oldest first."""
    turns: list[list[int]] = []
    for index, message in enumerate(messages):
        if message["role"] in _ALWAYS_KEPT:
            continue
        if message["role"] == "user" or not turns:
            turns.append([])
        turns[-1].append(index)
    return turns


def _fits(call: ChatCall, model: ModelEntry, counted: InputCount) -> bool:
    output = call.max_output_tokens or min(model.default_output_tokens, model.max_output_tokens)
    instruction = 0 if call.contract is None else model.scale_tokens(INSTRUCTION_TOKENS)
    return estimated_input(model, counted) + instruction + output <= model.context_window
