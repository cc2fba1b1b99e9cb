"""The OpenAI dialect over HTTP: OpenAI itself and everything that speaks like it, the embedded model included.

https://platform.openai.com/docs/api-reference/chat (2026-11). Errors are mapped by status first; what a provider
writes into them is logged, not passed on.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

import aiohttp
import orjson
from yarl import URL

from gateway.calls import ChatCall, Plan
from gateway.catalogue import DeploymentEntry
from gateway.control import CallControl, DeadlinePassed
from gateway.errors import (
    UpstreamError,
    UpstreamInterrupted,
    UpstreamInvalidAnswer,
    UpstreamMisconfigured,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.local_model import local_base_url
from gateway.models import Dialect
from gateway.upstreams.events import EventSplitter

MAX_ANSWER_BYTES = 64_000_000
_MAX_ERROR_BYTES = 16_000
_TAIL_SECONDS = 1.0
_DONE = b"[DONE]"


class UpstreamAnswer:
    """An upstream's 200 whose body has not been read yet."""

    def __init__(self, response: aiohttp.ClientResponse, deployment: DeploymentEntry, control: CallControl) -> None:
        self._response = response
        self._upstream = deployment.upstream
        self._control = control

    async def read_completion(self) -> tuple[bytes, dict[str, Any]]:
        """Return the body of a whole completion, raw and parsed.

        Raises UpstreamInvalidAnswer when it is not a JSON object with choices, UpstreamInterrupted when it is cut.
        """
        try:
            parts = []
            size = 0
            while chunk := await self._response.content.readany():
                self._control.expect("the rest of the answer", self._upstream.idle_timeout_seconds)
                parts.append(chunk)
                size += len(chunk)
                if size > MAX_ANSWER_BYTES:
                    raise UpstreamInvalidAnswer(internal_detail=f"the answer exceeds {MAX_ANSWER_BYTES} bytes")
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamInterrupted(internal_detail=repr(error)) from error
        raw = b"".join(parts) if len(parts) != 1 else parts[0]
        parsed = _parse(raw)
        if not isinstance(parsed.get("choices"), list):
            raise _error_of_body(parsed)
        return raw, parsed

    async def read_events(self) -> AsyncIterator[list[tuple[bytes, dict[str, Any]]]]:
        """Yield the chunks of a stream, raw and parsed, as they come: one list for each piece off the wire.

        Returns after [DONE] or at the end of the body; whether the stream was whole is for its reader to judge.
        Raises UpstreamInterrupted for a cut, UpstreamInvalidAnswer for what is not a chunk, or the error that an
        error event stands for.
        """
        splitter = EventSplitter()
        try:
            while piece := await self._response.content.readany():
                self._control.expect("the next event", self._upstream.idle_timeout_seconds)
                events: list[tuple[bytes, dict[str, Any]]] = []
                for data in splitter.feed(piece):
                    if data == _DONE:
                        if events:
                            yield events
                        return
                    parsed = _parse(data)
                    if type(parsed.get("choices")) is not list:
                        if events:
                            yield events
                        raise _error_of_body(parsed)
                    # An event of several data lines would fall apart in ours, which have one.
                    events.append((orjson.dumps(parsed) if b"\n" in data else data, parsed))
                if events:
                    yield events
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamInterrupted(internal_detail=repr(error)) from error


@asynccontextmanager
async def open_answer(
    session: aiohttp.ClientSession,
    deployment: DeploymentEntry,
    call: ChatCall,
    plan: Plan,
    control: CallControl,
    *,
    is_stream: bool,
) -> AsyncIterator[UpstreamAnswer]:
    """Send the call and yield the answer once its head is a 200; closing hangs up unless it was read to its end.

    Raises the UpstreamError of what went wrong before that.
    """
    upstream = deployment.upstream
    base_url = local_base_url() if upstream.dialect is Dialect.LOCAL else upstream.base_url.rstrip("/")
    url = _chat_url(base_url)
    headers = {"content-type": "application/json"}
    if upstream.secret:
        headers["authorization"] = f"Bearer {upstream.secret}"
    body = orjson.dumps(_upstream_body(call, deployment, plan, is_stream=is_stream))
    control.expect("the first token", upstream.connect_timeout_seconds + upstream.first_token_timeout_seconds)
    timeout = _connect_timeout(upstream.connect_timeout_seconds)
    try:
        # Redirects would send the secret elsewhere.
        response = await session.post(url, data=body, headers=headers, timeout=timeout, allow_redirects=False)
    except aiohttp.ServerDisconnectedError as error:
        raise UpstreamUnreachable(internal_detail=f"{upstream.name}: {error!r}") from error
    except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
        raise UpstreamUnreachable(internal_detail=f"{upstream.name}: {error!r}") from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise UpstreamError(internal_detail=f"{upstream.name}: {error!r}") from error
    try:
        if response.status != 200:
            raise await _error_of_response(response, upstream.name)
        expected = "text/event-stream" if is_stream else "application/json"
        if response.content_type != expected:
            raise UpstreamInvalidAnswer(
                internal_detail=f"{upstream.name}: content type {response.content_type!r}, expected {expected!r}"
            )
        yield UpstreamAnswer(response, deployment, control)
    except BaseException:
        response.close()  # hangs up
        raise
    if response.content.at_eof():
        response.release()
    else:
        # After [DONE] only the end of the body is missing: the answer does not wait for it, the connection does.
        tail = asyncio.create_task(_read_tail(response))
        _tails.add(tail)
        tail.add_done_callback(_tails.discard)


_tails: set[asyncio.Task[None]] = set()


async def _read_tail(response: aiohttp.ClientResponse) -> None:
    """Give a connection back to the pool once its body has ended; hang up on one that goes on talking."""
    try:
        async with asyncio.timeout(_TAIL_SECONDS):
            if not await response.content.readany() and response.content.at_eof():
                response.release()
                return
    except (aiohttp.ClientError, OSError, TimeoutError):
        pass
    response.close()


@lru_cache(maxsize=256)
def _chat_url(base_url: str) -> URL:
    return URL(f"{base_url}/chat/completions")


@lru_cache(maxsize=256)
def _connect_timeout(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=seconds)


def timeout_error(passed: DeadlinePassed, upstream_name: str) -> UpstreamTimeout:
    """Return the error of a deadline that passed while waiting for an upstream."""
    return UpstreamTimeout(phase=f"waiting for {passed.phase}", internal_detail=f"{upstream_name}: {passed.phase}")


def _upstream_body(call: ChatCall, deployment: DeploymentEntry, plan: Plan, *, is_stream: bool) -> dict[str, Any]:
    """Return the customer's body with what belongs to us replaced: model, output limit, stream and its usage."""
    body = dict(call.body)
    body["model"] = deployment.upstream_model
    body.pop("max_tokens", None)
    body.pop("max_completion_tokens", None)
    # What is held is what the upstream is told: without a limit of its own the model's default goes out.
    body[deployment.upstream.output_limit_parameter] = plan.output_tokens_per_choice
    if is_stream:
        body["stream"] = True
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    else:
        body.pop("stream", None)
        body.pop("stream_options", None)
    return body


async def _error_of_response(response: aiohttp.ClientResponse, upstream_name: str) -> UpstreamError:
    """Return the error that an upstream's non-200 answer stands for (status first, body for the log)."""
    try:
        text = (await response.content.read(_MAX_ERROR_BYTES)).decode(errors="replace")
    except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
        text = repr(error)
    status = response.status
    detail = f"{upstream_name} answered {status}: {text[:2000]}"
    match status:
        case 400 | 413 | 422:
            return UpstreamRejected(internal_detail=detail, param=_param_of(text))
        case 401 | 403 | 404 | 402 | 405:
            return UpstreamMisconfigured(internal_detail=detail)
        case 408 | 504:
            return UpstreamTimeout(phase="its own time limit", internal_detail=detail)
        case 429:
            return UpstreamRateLimited(internal_detail=detail, retry_after_seconds=_retry_after(response))
        case 503:
            return UpstreamUnreachable(internal_detail=detail)
        case _:
            return UpstreamError(internal_detail=detail)


def _error_of_body(parsed: dict[str, Any]) -> UpstreamError:
    """Return the error of a body or event that holds `error` instead of choices."""
    error = parsed.get("error")
    detail = f"instead of choices: {orjson.dumps(parsed)[:2000].decode(errors='replace')}"
    if isinstance(error, dict) and (error.get("code") in (429, "rate_limit_exceeded")):
        return UpstreamRateLimited(internal_detail=detail, retry_after_seconds=None)
    return UpstreamError(internal_detail=detail) if error else UpstreamInvalidAnswer(internal_detail=detail)


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise UpstreamInvalidAnswer(internal_detail=f"not JSON: {error}: {raw[:200]!r}") from None
    if not isinstance(parsed, dict):
        raise UpstreamInvalidAnswer(internal_detail=f"not an object: {raw[:200]!r}")
    return parsed


def _param_of(text: str) -> str | None:
    """Return the parameter that an OpenAI-shaped error names: the one part of it that helps and gives nothing away."""
    try:
        param = orjson.loads(text)["error"]["param"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return param[:100] if isinstance(param, str) else None


def _retry_after(response: aiohttp.ClientResponse) -> int | None:
    value = response.headers.get("retry-after", "")
    return min(int(value), 3_600) if value.isdigit() else None
