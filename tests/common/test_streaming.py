"""Downloads leave in pieces, under both kinds of server."""

from django.test import AsyncRequestFactory, RequestFactory

from common.streaming import stream_csv

LINES = [f"line {number}\r\n" for number in range(1_200)]


def test_a_download_is_streamed_in_order() -> None:
    answer = stream_csv(RequestFactory().get("/"), iter(LINES), filename="a.csv")
    assert b"".join(answer).decode() == "".join(LINES)
    assert answer["Content-Disposition"] == 'attachment; filename="a.csv"'


async def test_under_asgi_nothing_is_read_before_it_is_sent() -> None:
    left = iter(LINES)
    answer = stream_csv(AsyncRequestFactory().get("/"), left, filename="a.csv")
    pieces = aiter(answer)
    first = await anext(pieces)
    assert next(left) == LINES[500]
    assert len(first.splitlines()) == 500
    rest = [piece async for piece in pieces]
    assert len(b"".join(rest).splitlines()) == 699
