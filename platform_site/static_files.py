"""Static files of admin and documentation, by servestatic: found where the packages keep them, nothing to collect."""

from functools import lru_cache
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from servestatic import ServeStaticASGI


async def serve_static(scope: Any, receive: Any, send: Any) -> None:
    """Serve one file below STATIC_URL."""
    await _application()(scope, receive, send)


@lru_cache(maxsize=1)
def _application() -> Any:
    application = ServeStaticASGI(_not_found, max_age=3600, autorefresh=settings.DEBUG)
    for finder in get_finders():
        for storage in getattr(finder, "storages", {}).values():
            application.add_files(storage.location, prefix=settings.STATIC_URL.strip("/"))
    return application


async def _not_found(_scope: Any, _receive: Any, send: Any) -> None:
    body = b"no such static file\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": body})
