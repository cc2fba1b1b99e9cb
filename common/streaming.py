"""Files that leave the server while they are being read from the database."""

import csv
import io
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

# Lines a chunk: one hop between threads and one write for each.
_CHUNK_LINES = 500


def stream_csv(request: HttpRequest, lines: Iterator[str], *, filename: str) -> StreamingHttpResponse:
    """Return `lines` as a download; memory holds one chunk of them, under ASGI too."""
    return stream_file(request, _chunks(lines), filename=filename, media_type="text/csv; charset=utf-8")


def stream_file(
    request: HttpRequest, chunks: Iterator[bytes], *, filename: str, media_type: str
) -> StreamingHttpResponse:
    """Return `chunks` as a download; memory holds one of them, under ASGI too."""
    content: Iterator[bytes] | AsyncIterator[bytes]
    content = _chunks_async(chunks) if isinstance(request, ASGIRequest) else chunks
    return StreamingHttpResponse(
        content,
        content_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="{filename}"', "Cache-Control": "no-store"},
    )


def csv_line(cells: Iterable[object]) -> str:
    """Return one line of CSV (RFC 4180) in which no spreadsheet takes a text for a formula (OWASP, CSV injection)."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(_harmless(cell) for cell in cells)
    return buffer.getvalue()


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _chunks(lines: Iterator[str]) -> Iterator[bytes]:
    while chunk := "".join(islice(lines, _CHUNK_LINES)):
        yield chunk.encode()


async def _chunks_async(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    # Django would read a plain iterator to its end before the first byte under ASGI.
    while (chunk := await sync_to_async(lambda: next(chunks, None))()) is not None:
        yield chunk
