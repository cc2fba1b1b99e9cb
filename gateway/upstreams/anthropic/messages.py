"""The conversation: OpenAI's messages as Anthropic's system text and turns.

System and developer messages become the system text, wherever they stand. Results of tools are blocks of a user's turn,
and turns of one side that follow each other are one. Empty texts are left out, which Anthropic refuses. Names of
participants have no equivalent and are left out. A part's `cache_control` passes: it is how a client asks for caching.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from gateway.upstreams.anthropic.sources import document_source, image_source

Block = dict[str, Any]
# What Anthropic takes as the id of a tool use; other providers' ids may hold more.
_NO_ID_CHARACTER = re.compile(r"[^a-zA-Z0-9_-]")


class Conversation(NamedTuple):
    """What was said, in Anthropic's form."""

    system: list[Block]
    messages: list[dict[str, Any]]


def translate_conversation(messages: Iterable[Mapping[str, Any]]) -> Conversation:
    """Return system text and turns of messages without obstacles."""
    system: list[Block] = []
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] in ("system", "developer"):
            system += _content(message)
            continue
        role = "assistant" if message["role"] == "assistant" else "user"
        blocks = list(_blocks(message))
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    if not turns:
        # A call needs a turn: instructions alone are what the user says.
        return Conversation([], [{"role": "user", "content": system}])
    return Conversation(system, turns)


def _blocks(message: Mapping[str, Any]) -> Iterator[Block]:
    match message["role"]:
        case "tool":
            yield _result(_tool_id(message["tool_call_id"]), message)
        case "assistant":
            yield from _content(message)
            for call in message.get("tool_calls") or ():
                yield _tool_use(_tool_id(call["id"]), call["function"])
        case _:
            yield from _content(message)


def _content(message: Mapping[str, Any]) -> list[Block]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    blocks = [block for part in content or () if (block := _block(part)) is not None]
    if message.get("refusal"):
        blocks.append({"type": "text", "text": message["refusal"]})
    return blocks


def _block(part: Mapping[str, Any]) -> Block | None:
    match part["type"]:
        case "image_url":
            block = {"type": "image", "source": image_source(part["image_url"]["url"])}
        case "file":
            block = {"type": "document", "source": document_source(part["file"]["file_data"])}
            if part["file"].get("filename"):
                block["title"] = part["file"]["filename"]
        case "refusal":
            block = {"type": "text", "text": part["refusal"]}
        case _:
            block = {"type": "text", "text": part["text"]}
    if block.get("text") == "":
        return None
    return with_cache_control(block, part)


def with_cache_control(block: Block, part: Mapping[str, Any]) -> Block:
    """Return the block with the mark for caching that the client gave its part."""
    mark = part.get("cache_control")
    return {**block, "cache_control": mark} if isinstance(mark, dict) else block


def _tool_use(call_id: str, function: Mapping[str, Any]) -> Block:
    arguments = orjson.loads(function["arguments"] or "{}")
    return {"type": "tool_use", "id": call_id, "name": function["name"], "input": arguments}


def _result(call_id: str, message: Mapping[str, Any]) -> Block:
    block = {"type": "tool_result", "tool_use_id": call_id}
    content = _content(message)
    return {**block, "content": content} if content else block


def _tool_id(given: str) -> str:
    return _NO_ID_CHARACTER.sub("_", given)
