"""What is kept of a stream: numbered without a gap, read by any number, bounded alone and together, ended once."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control import CallControl, CallStopped, StopReason
from gateway.streams.buffer import Form, KeptStream, StreamBounds, StreamLabel, StreamReader
from gateway.streams.errors import StreamEventsGone
from gateway.streams.keeping import KeptStreams

FRAME = b"x" * 850
# Of so many bytes each with what Python keeps for it.
ENTRY_BYTES = 1_000


def make_streams(*, buffer: int = 10, total: int = 1_000, away: float = 60, keep: float = 60) -> KeptStreams:
    """Return streams that hold so many events each, and together."""
    return KeptStreams(
        StreamBounds(
            keep_seconds=keep,
            away_seconds=away,
            buffer_bytes=buffer * ENTRY_BYTES,
            total_bytes=total * ENTRY_BYTES,
        )
    )


def label(request_id: str = "req_1", *, first_seq: int = 0) -> StreamLabel:
    return StreamLabel(
        request_id=request_id,
        customer_id=1,
        environment="live",
        scope="chat:write",
        model="m",
        prompt="",
        form=Form.EVENTS,
        first_seq=first_seq,
    )


async def read_all(reader: StreamReader) -> list[int]:
    found: list[int] = []
    while entries := await reader.read():
        found += [entry.seq for entry in entries]
    return found


async def _let_timers_run() -> None:
    """Let timers of no time at all run, which they do in the next rounds of the loop."""
    for _ in range(3):
        await asyncio.sleep(0)


async def fill(stream: KeptStream, count: int) -> None:
    for _ in range(count):
        await stream.append([FRAME])


@given(cuts=st.lists(st.integers(min_value=0, max_value=5), max_size=12), after=st.integers(min_value=-3, max_value=40))
def test_a_reader_gets_what_follows_its_place_however_the_events_came(cuts: list[int], after: int) -> None:
    async def run() -> None:
        stream = make_streams(buffer=100).open(label(first_seq=-1), CallControl())
        reader = stream.attach(after)
        reading = asyncio.create_task(read_all(reader))
        for count in cuts:
            await stream.append([FRAME] * count)
            await asyncio.sleep(0)
        await stream.append([b"end"], is_last=True)
        assert await reading == list(range(max(after + 1, -1), sum(cuts)))
        assert reader.is_through

    asyncio.run(run())


async def test_without_readers_the_oldest_events_go_and_are_missed() -> None:
    stream = make_streams().open(label(), CallControl())
    await fill(stream, 25)
    assert stream.first_kept == 15
    with pytest.raises(StreamEventsGone) as gone:
        stream.attach(13)
    assert gone.value.details == {"first_kept": 15}
    assert (await stream.attach(14).read())[0].seq == 15


async def test_the_call_waits_for_a_reader_that_has_not_seen_what_would_go() -> None:
    stream = make_streams().open(label(), CallControl())
    reader = stream.attach(-1)
    filling = asyncio.create_task(fill(stream, 15))
    await asyncio.sleep(0)
    assert (filling.done(), stream.first_kept, stream.next_seq) == (False, 0, 11)
    # Handing out says nothing about what was taken; asking for more does.
    await reader.read()
    await reader.read()
    await filling
    assert stream.next_seq == 15


async def test_a_reader_that_leaves_holds_nothing_up() -> None:
    stream = make_streams().open(label(), CallControl())
    reader = stream.attach(-1)
    filling = asyncio.create_task(fill(stream, 30))
    await asyncio.sleep(0)
    assert not filling.done()
    reader.close()
    await filling
    assert stream.first_kept == 20


async def test_the_last_event_never_waits() -> None:
    stream = make_streams(buffer=2).open(label(), CallControl())
    stream.attach(-1)
    await stream.append([FRAME] * 2)
    await stream.append([FRAME] * 3, is_last=True)
    assert stream.has_ended


async def test_all_streams_together_are_bounded_and_ended_ones_go_first() -> None:
    streams = make_streams(buffer=20, total=30)
    ended, running = streams.open(label("req_old"), CallControl()), streams.open(label("req_new"), CallControl())
    await ended.append([FRAME] * 15)
    await ended.append([FRAME], is_last=True)
    await fill(running, 14)
    assert streams.find_own("req_old") is ended
    await fill(running, 5)
    assert (streams.find_own("req_old"), streams.find_own("req_new")) == (None, running)
    others = [streams.open(label(f"req_{number}"), CallControl()) for number in range(10)]
    for other in others:
        await fill(other, 10)
    assert streams.total_bytes <= 31 * ENTRY_BYTES
    assert streams.total_bytes == sum(stream.size_bytes for stream in (running, *others))


async def test_with_nobody_reading_a_call_ends_after_a_while_where_that_stops_its_bill() -> None:
    streams = make_streams(away=0)
    stopping, draining, read = CallControl(), CallControl(), CallControl()
    draining.stops_when_client_leaves = False
    for number, control in enumerate((stopping, draining)):
        streams.open(label(f"req_of_{number}"), control)
        assert control.outlives_client
    reader = streams.open(label(), read).attach(-1)
    await _let_timers_run()
    assert (stopping.reason, draining.reason, read.reason) == (StopReason.CLIENT_LEFT, None, None)
    reader.close()
    await _let_timers_run()
    assert read.reason is StopReason.CLIENT_LEFT


async def test_a_connection_that_ends_does_not_end_a_kept_call_but_cancelling_does() -> None:
    control = CallControl()
    stream = make_streams().open(label(), control)
    control.client_left()
    assert (control.is_client_gone, control.reason) == (False, None)
    stream.cancel()
    with pytest.raises(CallStopped), control.interruptible():
        pass


async def test_a_stream_is_forgotten_when_its_time_is_over_and_counts_no_more() -> None:
    streams = make_streams(keep=0)
    stream = streams.open(label(), CallControl())
    await stream.append([FRAME], is_last=True)
    assert streams.find_own("req_1") is stream
    await _let_timers_run()
    assert (streams.find_own("req_1"), streams.total_bytes) == (None, 0)
