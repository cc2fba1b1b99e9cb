"""A whole answer in one write is the same bytes that uvicorn's own messages make, and refuses what it cannot do."""

import asyncio
import logging
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.transports.rendering import split_lines
from gateway.transports.uvicorn_cycle import abort_connection, write_whole_answer

_LINES = "content-type: application/json\r\nx-request-id: req_1\r\ncontent-length: 2\r\n"


class _Transport:
    def __init__(self) -> None:
        self.written = b""
        self.is_aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.is_aborted = True

    def close(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class _Request:
    """A request as uvicorn's protocol begins it, on a transport that keeps what is written."""

    def __init__(self, **changes: Any) -> None:
        self.transport = _Transport()
        self.ended = 0
        self.cycle = RequestResponseCycle(
            scope={"type": "http", "method": "POST", "headers": [], "path": "/"},  # type: ignore[typeddict-item]
            transport=self.transport,  # type: ignore[arg-type]
            flow=FlowControl(self.transport),  # type: ignore[arg-type]
            logger=logging.getLogger("test"),
            access_logger=logging.getLogger("test"),
            access_log=False,
            default_headers=[(b"date", b"Sat, 21 Nov 2026 12:00:00 GMT")],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=True,
            on_response=self._end,
        )
        for name, value in changes.items():
            setattr(self.cycle, name, value)

    def _end(self) -> None:
        self.ended += 1


async def test_the_bytes_are_those_of_the_ordinary_messages() -> None:
    ordinary, whole = _Request(), _Request()
    headers = split_lines(_LINES)
    await ordinary.cycle.send({"type": "http.response.start", "status": 429, "headers": headers, "trailers": False})
    await ordinary.cycle.send({"type": "http.response.body", "body": b"{}", "more_body": False})
    assert write_whole_answer(whole.cycle.send, 429, _LINES, b"{}")  # type: ignore[arg-type]
    assert whole.transport.written == ordinary.transport.written
    assert (whole.ended, whole.cycle.response_complete) == (ordinary.ended, True) == (1, True)
    assert whole.cycle.message_event.is_set()


@pytest.mark.parametrize("state", [{"response_started": True}, {"disconnected": True}, {"keep_alive": False}])
async def test_what_is_not_ordinary_is_left_to_the_messages(state: dict[str, bool]) -> None:
    request = _Request(**state)
    assert not write_whole_answer(request.cycle.send, 200, _LINES, b"{}")  # type: ignore[arg-type]
    assert request.transport.written == b""


async def test_a_full_socket_is_left_to_the_messages() -> None:
    request = _Request()
    request.cycle.flow.pause_writing()
    assert not write_whole_answer(request.cycle.send, 200, _LINES, b"{}")  # type: ignore[arg-type]


async def test_another_server_gets_the_messages() -> None:
    async def send(message: Any) -> None:
        raise AssertionError(message)

    assert not write_whole_answer(send, 200, _LINES, b"{}")
    abort_connection(send)


async def test_a_connection_is_cut() -> None:
    request = _Request()
    abort_connection(request.cycle.send)  # type: ignore[arg-type]
    assert request.transport.is_aborted
