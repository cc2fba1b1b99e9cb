"""The OpenAI dialect over HTTP: OpenAI itself and everything that speaks like it, the embedded model included.

https://platform.openai.com/docs/api-reference/chat (2026-11). The fast path: events pass as the bytes that came.
Errors are mapped by status first; what a provider writes into them is logged, not passed on.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from billing.tokens import TokenCounts
from gateway.calls import ChatCall, Plan
from gateway.capabilities import Capability
from gateway.catalogue import DeploymentEntry
from gateway.chat.parameters import known_parameters
from gateway.errors import UpstreamError, UpstreamInvalidAnswer, UpstreamRateLimited
from gateway.local_model import local_base_url
from gateway.models import Dialect
from gateway.upstreams.addresses import endpoint_url, request_headers
from gateway.upstreams.dialect import Event, Obstacle, UpstreamRequest, parse_object
from gateway.upstreams.events import EventSplitter
from gateway.upstreams.statuses import error_of_status

_PATH = "/chat/completions"
_DONE = b"[DONE]"
# Anything else that a provider writes there is its own business, and may be an address or a key.
_PARAM = re.compile(r"([a-z_]{1,40})(?:[.\[][A-Za-z0-9_.\[\]]{1,60})?")


def find_obstacle(_body: Mapping[str, Any]) -> Obstacle | None:
    """Return None: the call is in this dialect already."""
    return None


def build_request(deployment: DeploymentEntry, call: ChatCall, plan: Plan, *, is_stream: bool) -> UpstreamRequest:
    """Return the customer's body with what belongs to us replaced: model, output limit, stream and its usage."""
    upstream = deployment.upstream
    base_url = local_base_url() if upstream.dialect is Dialect.LOCAL else upstream.base_url
    body = dict(call.body)
    body["model"] = deployment.upstream_model
    body.pop("max_tokens", None)
    body.pop("max_completion_tokens", None)
    # What is held is what the upstream is told: without a limit of its own the model's default goes out.
    body[upstream.output_limit_parameter] = plan.output_tokens_per_choice
    if call.wants_function_call and Capability.SAMPLING not in deployment.capabilities:
        # Ours, not the caller's: of its reasoning models OpenAI's older ones refuse it. Of several calls the first is
        # handed on (`gateway.chat.function_answers`).
        body.pop("parallel_tool_calls", None)
    if is_stream:
        body["stream"] = True
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    else:
        body.pop("stream", None)
        body.pop("stream_options", None)
    return UpstreamRequest(
        url=endpoint_url(base_url, _PATH, model=deployment.upstream_model, api_version=upstream.api_version),
        headers=request_headers(upstream),
        body=orjson.dumps(body),
    )


def read_completion(raw: bytes) -> Event:
    """Return a completion as it is. Raises UpstreamInvalidAnswer when it is not a JSON object with choices."""
    parsed = parse_object(raw)
    if not isinstance(parsed.get("choices"), list):
        raise _error_of_body(parsed)
    return raw, parsed


class ChunkReader:
    """Reads a stream of chunks that pass as they are."""

    def __init__(self) -> None:
        self.is_done = False
        self.error: UpstreamError | None = None
        self.known_input: TokenCounts | None = None
        self._splitter = EventSplitter()

    def feed(self, piece: bytes) -> list[Event]:
        """Return the chunks that a piece off the wire completes."""
        events: list[Event] = []
        try:
            for data in self._splitter.feed(piece):
                if data == _DONE:
                    self.is_done = True
                    return events
                parsed = parse_object(data)
                if type(parsed.get("choices")) is not list:
                    raise _error_of_body(parsed)
                # An event of several data lines would fall apart in ours, which have one.
                events.append((orjson.dumps(parsed) if b"\n" in data else data, parsed))
        except UpstreamError as error:
            self.error = error
        return events


def open_reader() -> ChunkReader:
    """Return the reader of one stream."""
    return ChunkReader()


def read_error(status: int, headers: Mapping[str, str], text: str, upstream_name: str) -> UpstreamError:
    """Return the error that an answer other than 200 stands for."""
    detail = f"{upstream_name} answered {status}: {text[:2000]}"
    return error_of_status(status, headers, detail=detail, param=_param_of(text))


def _error_of_body(parsed: dict[str, Any]) -> UpstreamError:
    """Return the error of a body or event that holds `error` instead of choices."""
    error = parsed.get("error")
    detail = f"instead of choices: {orjson.dumps(parsed)[:2000].decode(errors='replace')}"
    if isinstance(error, dict) and (error.get("code") in (429, "rate_limit_exceeded")):
        return UpstreamRateLimited(internal_detail=detail, retry_after_seconds=None)
    return UpstreamError(internal_detail=detail) if error else UpstreamInvalidAnswer(internal_detail=detail)


def _param_of(text: str) -> str | None:
    """Return the parameter that an OpenAI-shaped error names, if it is one that customers know: "messages[0].role"."""
    try:
        param = orjson.loads(text)["error"]["param"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    found = _PARAM.fullmatch(param) if isinstance(param, str) else None
    return param if found is not None and found[1] in known_parameters() else None
