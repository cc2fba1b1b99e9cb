"""Text files that leave the server while they are being read from the database."""

from collections.abc import AsyncIterator, Iterator
from itertools import islice

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

# Lines a chunk: one hop between threads and one write for each.
_CHUNK_LINES = 500


def stream_csv(request: HttpRequest, lines: Iterator[str], *, filename: str) -> StreamingHttpResponse:
    """Return `lines` as a download; memory holds one chunk of them, under ASGI too."""
    content: Iterator[str] | AsyncIterator[str]
    content = _chunks_async(lines) if isinstance(request, ASGIRequest) else _chunks(lines)
    return StreamingHttpResponse(
        content,
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{filename}"', "Cache-Control": "no-store"},
    )


def _chunks(lines: Iterator[str]) -> Iterator[str]:
    while chunk := "".join(islice(lines, _CHUNK_LINES)):
        yield chunk


async def _chunks_async(lines: Iterator[str]) -> AsyncIterator[str]:
    # Django would read a plain iterator to its end before the first byte under ASGI.
    while chunk := await sync_to_async(lambda: "".join(islice(lines, _CHUNK_LINES)))():
        yield chunk
