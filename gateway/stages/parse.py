"""body -> ChatCall: JSON, the openai package's own types, and the bounds that need no database."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson

from gateway.bounds import CallBounds
from gateway.calls import ChatCall, Exchange
from gateway.chat.counting import count_input
from gateway.chat.normalizing import normalize
from gateway.chat.parameters import check_parameters
from gateway.chat.tags import read_end_user, read_tags
from gateway.errors import BodyInvalid, MessagesTooMany, PriorityUnknown
from gateway.prompt_requests import read_chat, read_run
from gateway.routing import NO_WISH, RouteWish, take_wish
from gateway.runtime import Runtime
from gateway.stages.keep import read_resume_wish
from gateway.structured.contracts import prepare_contract, read_contract
from gateway.truncating import take_truncation


async def parse(runtime: Runtime, exchange: Exchange) -> None:
    """Fill in the call and the count of its input; or, for a call that names a prompt, what it asks of it.

    Raises BodyInvalid, ParameterUnknown, ParametersContradict, MessagesTooMany, TagsInvalid, PriorityUnknown or
    OutputSchemaInvalid.
    """
    body = _read_json(exchange.raw_body)
    if exchange.is_run:
        exchange.prompt_request = read_run(body, exchange.prompt_name)
        return
    _drop_null_prompt(body)
    if "prompt" in body:
        exchange.prompt_request = read_chat(body)
        return
    check_parameters(body)
    await accept_body(runtime, exchange, body)


async def accept_body(runtime: Runtime, exchange: Exchange, body: dict[str, Any]) -> None:
    """Fill in the call and the count of a body whose parameters are checked."""
    if "response_format" in body:
        await prepare_contract(body)
    exchange.call = read_body(
        body,
        bounds=runtime.bounds,
        headers=exchange.headers,
        always_streams=exchange.always_streams,
        has_own_events=exchange.has_own_events,
    )
    if exchange.call.is_stream and exchange.is_resumable is None:
        exchange.is_resumable = read_resume_wish(exchange.headers)
    exchange.dropped_messages = 0
    exchange.input_count = await count_input(exchange.call.body, enough=runtime.clerk.catalogue.largest_window)


def read_call(raw_body: bytes, *, bounds: CallBounds) -> ChatCall:
    """Return the call of a raw body without headers. Raises as `parse`."""
    body = _read_json(raw_body)
    _drop_null_prompt(body)
    check_parameters(body)
    return read_body(body, bounds=bounds)


def read_body(
    body: dict[str, Any],
    *,
    bounds: CallBounds,
    headers: Mapping[bytes, bytes] = MappingProxyType({}),
    always_streams: bool = False,
    has_own_events: bool = False,
) -> ChatCall:
    """Return the canonical form of a checked body and its headers (names in lower case). Raises as `parse`."""
    messages = body["messages"]
    if not messages:
        raise BodyInvalid("'messages' is empty: a call needs at least one message.", param="messages")
    if len(messages) > bounds.max_messages:
        raise MessagesTooMany(count=len(messages), limit=bounds.max_messages)
    wish = NO_WISH if "provider" not in body and "models" not in body else take_wish(body)
    may_truncate = "truncation" in body and take_truncation(body)
    call = _chat_call(
        normalize(body), output_limit=_output_limit_of(body), always_streams=always_streams, headers=headers, wish=wish
    )
    if may_truncate:
        call = call._replace(may_truncate=True)
    if body.get("functions"):
        call = call._replace(wants_function_call=True)
    if call.contract is None or call.choices > 1:
        return call
    # What the client has of a wrong answer in the model's own chunks cannot be taken back.
    can_ask_again = not call.is_stream or has_own_events
    return call._replace(attempts=_most_attempts(bounds, headers, can_ask_again=can_ask_again))


def _read_json(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BodyInvalid(f"The body is not valid JSON: {error}.") from None
    if not isinstance(body, dict):
        raise BodyInvalid("The body must be a JSON object.")
    return body


def _drop_null_prompt(body: dict[str, Any]) -> None:
    """Take out a `prompt` that is null, which names none: of every parameter null means that it is not given."""
    if "prompt" in body and body["prompt"] is None:
        del body["prompt"]


def _is_batch(body: dict[str, Any], headers: Mapping[bytes, bytes]) -> bool:
    """Return whether the call said that it can wait: by our header, or by OpenAI's own word for it."""
    priority = headers.get(b"x-priority", b"")
    if priority not in (b"", b"interactive", b"batch"):
        raise PriorityUnknown(given=priority.decode("latin-1"))
    return priority == b"batch" or (not priority and body.get("service_tier") == "flex")


def _tags_header(headers: Mapping[bytes, bytes]) -> str | None:
    found = headers.get(b"x-tags")
    return None if found is None else found.decode(errors="replace")


def _chat_call(
    body: dict[str, Any], *, output_limit: str, always_streams: bool, headers: Mapping[bytes, bytes], wish: RouteWish
) -> ChatCall:
    maximum, maximum_name = body.get("max_completion_tokens"), output_limit
    if maximum is not None and maximum < 1:
        raise BodyInvalid(f"'{maximum_name}' must be at least 1.", param=maximum_name)
    choices = body.get("n", 1)
    if not 1 <= choices <= 128:
        raise BodyInvalid("'n' must lie between 1 and 128.", param="n")
    is_stream = always_streams or bool(body.get("stream"))
    stream_options = body.get("stream_options") or {}
    if stream_options and not is_stream:
        raise BodyInvalid("'stream_options' needs 'stream': true.", param="stream_options")
    return ChatCall(
        model=body["model"],
        body=body,
        is_stream=is_stream,
        wants_usage=always_streams or bool(stream_options.get("include_usage")),
        choices=choices,
        max_output_tokens=maximum,
        max_output_parameter=maximum_name,
        end_user=read_end_user(body),
        tags=read_tags(body.get("metadata"), _tags_header(headers)),
        is_batch=_is_batch(body, headers),
        contract=read_contract(body),
        wish=wish,
    )


def _output_limit_of(body: Mapping[str, Any]) -> str:
    """Return the caller's own name of its limit, for what it is told about it."""
    is_old = body.get("max_tokens") is not None and body.get("max_completion_tokens") is None
    return "max_tokens" if is_old else "max_completion_tokens"


def _most_attempts(bounds: CallBounds, headers: Mapping[bytes, bytes], *, can_ask_again: bool) -> int:
    """Return how often the model may be asked for an answer that fits its schema."""
    given = headers.get(b"x-max-attempts", b"").strip()
    limit = bounds.attempts_limit
    if given and not (given.isdigit() and 1 <= int(given[:4]) <= limit):
        raise BodyInvalid(f"'x-max-attempts' must be a number from 1 to {limit}.", param="x-max-attempts")
    if not can_ask_again:
        return 1
    return int(given) if given else min(bounds.attempts, limit)
