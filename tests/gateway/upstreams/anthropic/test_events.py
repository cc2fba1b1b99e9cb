"""The reader of Anthropic's streams: what came before a fault is kept, and nothing half is passed off as whole."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.tokens import TokenCounts
from gateway.errors import (
    UpstreamError,
    UpstreamInvalidAnswer,
    UpstreamMisconfigured,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)
from gateway.upstreams.anthropic.events import MessageReader
from gateway.upstreams.transcript import Transcript

START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [],
        "usage": {"input_tokens": 9, "cache_read_input_tokens": 90, "output_tokens": 1},
    },
}
OPEN = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}
END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}
STOP = {"type": "message_stop"}


def read(*events: dict[str, Any] | str) -> tuple[MessageReader, Transcript, list[Any]]:
    reader = MessageReader(created=1)
    transcript = Transcript()
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    chunks = [parsed for _, parsed in reader.feed("".join(f"data: {text}\n\n" for text in texts).encode())]
    for chunk in chunks:
        transcript.read_chunk(chunk)
    return reader, transcript, chunks


def test_the_finish_reason_comes_only_with_the_last_event() -> None:
    _, half, _ = read(START, OPEN, TEXT, END)
    assert not half.is_whole
    reader, whole, _ = read(START, OPEN, TEXT, END, STOP)
    assert (reader.is_done, whole.is_whole, whole.finish_reason) == (True, True, "stop")


def test_a_stream_that_ends_without_a_reason_is_not_whole() -> None:
    reader, transcript, _ = read(START, OPEN, TEXT, STOP)
    assert (reader.is_done, transcript.is_whole) == (True, False)


def test_the_input_is_known_before_the_answer() -> None:
    reader, _, _ = read(START)
    assert reader.known_input == TokenCounts(input=9, cache_read=90)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", UpstreamOverloaded),
        ("rate_limit_error", UpstreamRateLimited),
        ("invalid_request_error", UpstreamRejected),
        ("authentication_error", UpstreamMisconfigured),
        ("billing_error", UpstreamMisconfigured),
        ("timeout_error", UpstreamTimeout),
        ("api_error", UpstreamError),
        ("of_next_year", UpstreamError),
    ],
)
def test_an_error_event_is_the_error_that_it_names_and_keeps_what_came(
    kind: str, expected: type[UpstreamError]
) -> None:
    reader, transcript, _ = read(START, OPEN, TEXT, {"type": "error", "error": {"type": kind, "message": "host-7"}})
    assert type(reader.error) is expected
    assert "host-7" not in str(reader.error)
    assert transcript.characters == 5


@pytest.mark.parametrize(
    "event",
    [
        "{",
        "[]",
        "{}",
        {"type": "content_block_delta", "delta": {}},
        {"type": "content_block_delta", "delta": {"type": "text_delta"}},
        {"type": "content_block_start", "content_block": None},
        {"type": "message_start", "message": 7},
        {"type": "message_delta", "delta": None},
    ],
)
def test_what_cannot_be_read_is_an_error_and_never_an_exception(event: Any) -> None:
    reader, transcript, _ = read(START, OPEN, TEXT, event)
    assert isinstance(reader.error, UpstreamInvalidAnswer)
    assert transcript.characters == 5


def test_events_before_the_start_are_refused() -> None:
    reader, _, _ = read(OPEN)
    assert isinstance(reader.error, UpstreamInvalidAnswer)


def test_unknown_events_and_blocks_are_passed_over() -> None:
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "hologram"}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "hologram_delta"}}
    reader, transcript, chunks = read(START, {"type": "ping"}, {"type": "new"}, block, delta, END, STOP)
    assert (reader.error, transcript.is_whole, len(chunks)) == (None, True, 3)


@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_raise(noise: bytes) -> None:
    reader = MessageReader(created=1)
    reader.feed(b"data: " + noise + b"\n\n")
