"""Golden files: what is said to Anthropic, and what is made of its answers, checked with both packages' types.

Regenerating one is editing it: each is meant to be read.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter

from gateway.chat.normalizing import normalize
from gateway.chat.parameters import check_parameters
from gateway.upstreams.anthropic.answers import translate_message
from gateway.upstreams.anthropic.events import MessageReader
from gateway.upstreams.anthropic.obstacles import find_obstacle
from gateway.upstreams.anthropic.requests import translate_body

GOLDEN = Path(__file__).parent / "golden"
CREATED = 1_700_000_000
# One piece for all, and pieces that split lines and characters.
PIECE_SIZES = (1_000_000, 7, 1)


def read(kind: str, name: str) -> Any:
    return json.loads((GOLDEN / kind / f"{name}.json").read_text(encoding="utf-8"))


def names(kind: str) -> list[str]:
    return sorted(path.stem for path in (GOLDEN / kind).glob("*.json"))


def to_wire(events: list[dict[str, Any]]) -> bytes:
    texts = [f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events]
    return "".join(texts).encode()


@pytest.mark.parametrize("name", names("requests"))
def test_a_request_is_said_in_anthropics_words(name: str) -> None:
    golden = read("requests", name)
    check_parameters(golden["openai"])
    body = normalize(golden["openai"])
    assert find_obstacle(body) is None
    is_stream = bool(body.get("stream"))
    said = translate_body(body, model="claude", max_tokens=256, is_stream=is_stream, takes_sampling=False)
    assert said == golden["anthropic"]
    shape: TypeAdapter[Any] = TypeAdapter(
        MessageCreateParamsStreaming if is_stream else MessageCreateParamsNonStreaming
    )
    assert set(said) <= set(shape.validate_python(said))


@pytest.mark.parametrize("size", PIECE_SIZES)
@pytest.mark.parametrize("name", names("streams"))
def test_a_stream_becomes_chunks_however_it_is_cut_up(name: str, size: int) -> None:
    golden = read("streams", name)
    event_type: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    for event in golden["events"]:
        if event["type"] != "ping":
            event_type.validate_python(event)
    wire = to_wire(golden["events"])
    reader = MessageReader(created=CREATED)
    chunks = []
    for start in range(0, len(wire), size):
        for raw, parsed in reader.feed(wire[start : start + size]):
            assert json.loads(raw) == parsed
            ChatCompletionChunk.model_validate(parsed)
            chunks.append(parsed)
    assert chunks == golden["chunks"]
    assert (reader.is_done, reader.error) == (True, None)


@pytest.mark.parametrize("name", names("answers"))
def test_a_message_becomes_a_completion(name: str) -> None:
    golden = read("answers", name)
    Message.model_validate(golden["message"])
    completion = translate_message(golden["message"], created=CREATED)
    assert completion == golden["completion"]
    ChatCompletion.model_validate(completion)
