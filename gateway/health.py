"""GET /healthz: this process lives. GET /readyz: it takes calls; fails first when it shuts down."""

from typing import Any

import orjson

from gateway.runtime import get_runtime


async def serve_health(scope: Any, send: Any) -> None:
    """Answer a probe: 200 or 503, with a body for people."""
    body: dict[str, str | bool | int]
    if scope["path"] == "/healthz":
        status, body = 200, {"status": "alive"}
    else:
        runtime = await get_runtime()
        status = 200 if runtime.is_ready else 503
        body = {
            "status": "ready" if runtime.is_ready else "not ready",
            "draining": runtime.is_draining,
            "database": "up" if runtime.clerk.is_healthy else "down",
            "calls_in_flight": runtime.calls_in_flight,
        }
    content = orjson.dumps(body)
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"content-length", str(len(content)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})
