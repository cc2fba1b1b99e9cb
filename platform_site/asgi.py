"""The ASGI entry: the data plane first, then health, static files and Django.

A request of the data plane never enters Django's request cycle (see ARCHITECTURE in docs/explanation).
"""

import gc
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "platform_site.settings")

from channels.routing import URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path

django_application = get_asgi_application()

from gateway.health import serve_health  # noqa: E402 - needs the app registry
from gateway.operations import STREAM_PATH, find_route  # noqa: E402
from gateway.runtime import start_runtime, stop_runtime  # noqa: E402
from gateway.transports.http import Receive, Scope, Send  # noqa: E402
from gateway.transports.serving import serve_operation  # noqa: E402
from gateway.transports.streams import STREAMS_PATH, serve_stream  # noqa: E402
from gateway.transports.websocket import StreamConsumer  # noqa: E402
from platform_site.static_files import serve_static  # noqa: E402

_HEALTH = frozenset(("/healthz", "/readyz"))
_sockets = URLRouter([path(STREAM_PATH.removeprefix("/"), StreamConsumer.as_asgi())])


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Route one ASGI connection."""
    if scope["type"] == "http":
        route = find_route(scope["path"])
        if route is not None:
            await serve_operation(route, scope, receive, send)
        elif scope["path"].startswith(STREAMS_PATH):
            await serve_stream(scope, receive, send)
        elif scope["path"] in _HEALTH:
            await serve_health(scope, send)
        elif scope["path"].startswith(settings.STATIC_URL):
            await serve_static(scope, receive, send)
        else:
            # Its stubs want plain dicts.
            await django_application(scope, receive, send)  # type: ignore[arg-type]
    elif scope["type"] == "websocket":
        await _serve_socket(scope, receive, send)
    elif scope["type"] == "lifespan":
        await _serve_lifespan(receive, send)


def _spare_the_collector() -> None:
    """Take what has been imported (half a million objects) out of the garbage collector's sight.

    With it in sight, every full collection stops the event loop for 100 ms, several times a second under load.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _serve_socket(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] != STREAM_PATH:
        await receive()
        await send({"type": "websocket.close", "code": 4404, "reason": f"the WebSocket is at {STREAM_PATH}"})
        return
    await _sockets(scope, receive, send)


async def _serve_lifespan(receive: Receive, send: Send) -> None:
    """Start the runtime before the first request; at the end, drain what the server left and book everything."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await start_runtime()
                _spare_the_collector()
            except Exception as error:  # noqa: BLE001 - whatever it is, the server must not come up
                await send({"type": "lifespan.startup.failed", "message": f"cannot start: {error}"})
                return
            await send({"type": "lifespan.startup.complete"})
        else:
            await stop_runtime(drain_seconds=0)
            await send({"type": "lifespan.shutdown.complete"})
            return
