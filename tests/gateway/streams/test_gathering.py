import asyncio
from typing import Any

import orjson

from gateway.flight import Chunk
from gateway.streams.composing import ChunkComposer, TextComposer, ValueComposer
from gateway.streams.gathering import Gathering
from gateway.streams.pulse import Pulse
from gateway.structured.schemas import compile_output_schema


def chunk(text: str | None = None, **choice: Any) -> Chunk:
    delta = {} if text is None else {"content": text}
    parsed = {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None, **choice}]}
    return orjson.dumps(parsed), parsed


class Sent:
    """Notes what goes out together."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.has_three = asyncio.Event()

    async def send(self, chunks: list[Chunk]) -> None:
        self.batches.append([c[1]["choices"][0]["delta"]["content"] for c in chunks])
        if len(self.batches) == 3:
            self.has_three.set()


async def test_the_first_two_go_at_once_then_four_at_a_time_and_the_rest_at_the_end() -> None:
    sent = Sent()
    gathering = Gathering(Pulse(beat_seconds=60), sent.send)
    for letter in "abcdefghi":
        await gathering.add([chunk(letter)])
    assert sent.batches == [["a"], ["b"], ["c", "d", "e", "f"]]
    await gathering.flush()
    assert sent.batches[3:] == [["g", "h", "i"]]


async def test_many_that_came_at_once_go_out_four_at_a_time() -> None:
    sent = Sent()
    await Gathering(Pulse(), sent.send).add([chunk(letter) for letter in "abcdefghij"])
    assert sent.batches == [["a", "b", "c", "d"], ["e", "f", "g", "h"], ["i", "j"]]


async def test_what_waits_goes_out_at_the_next_beat() -> None:
    sent, pulse = Sent(), Pulse(beat_seconds=0)
    gathering = Gathering(pulse, sent.send)
    for letter in "abc":
        await gathering.add([chunk(letter)])
    assert sent.batches == [["a"], ["b"]]
    async with asyncio.timeout(5):
        await sent.has_three.wait()
    assert sent.batches[2:] == [["c"]]


async def test_one_timer_serves_all_streams() -> None:
    pulse = Pulse(beat_seconds=60)
    gatherings = [Gathering(pulse, Sent().send) for _ in range(50)]
    before = _timers()
    for gathering in gatherings:
        for letter in "abc":
            await gathering.add([chunk(letter)])
    assert _timers() - before == 1


def _timers() -> int:
    return len(asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]


async def test_the_pulse_does_not_overtake_a_send_that_waits_for_its_client() -> None:
    order: list[str] = []
    may_go = asyncio.Event()

    async def send_slowly(chunks: list[Chunk]) -> None:
        await may_go.wait()
        order.extend(c[1]["choices"][0]["delta"]["content"] for c in chunks)

    gathering = Gathering(Pulse(beat_seconds=60), send_slowly)
    first = asyncio.create_task(gathering.add([chunk("a")]))
    await asyncio.sleep(0)
    second = asyncio.create_task(gathering.add([chunk("b")]))
    gathering.beat()
    may_go.set()
    await asyncio.gather(first, second)
    assert order == ["a", "b"]


def test_chunks_that_only_carry_text_become_one() -> None:
    role = chunk(delta={"role": "assistant", "content": ""})
    end = chunk(finish_reason="stop")
    events = ChunkComposer().compose([role, chunk("a"), chunk("b"), end])
    data = [orjson.loads(b"{" + event.fields + b"}")["data"] for event in events]
    assert [d["choices"][0]["delta"].get("content") for d in data] == ["", "ab", None]
    assert data[2]["choices"][0]["finish_reason"] == "stop"


def test_tool_calls_and_further_choices_stay_chunks_of_their_own() -> None:
    tool = chunk(delta={"content": None, "tool_calls": [{"index": 0}]})
    other = chunk("x", index=1)
    assert len(ChunkComposer().compose([chunk("a"), tool, other, other])) == 4


def test_text_is_joined() -> None:
    assert TextComposer().compose([chunk("a"), chunk("b"), chunk(finish_reason="stop")])[0].fields == b'"text":"ab"'


def test_all_partials_together_are_a_bounded_multiple_of_the_value() -> None:
    composer = ValueComposer(compile_output_schema({"type": "object"}, param="schema"))
    text = orjson.dumps({"text": "x" * 50_000}).decode()
    events = [e for at in range(0, len(text), 4) for e in composer.compose([chunk(text[at : at + 4])])]
    assert sum(len(event.fields) for event in events) < 40 * len(text)
