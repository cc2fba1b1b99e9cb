"""body -> ChatCall: JSON, the openai package's own types, and the bounds that need no database."""

from typing import Any

import orjson

from gateway.calls import ChatCall, Exchange
from gateway.chat.counting import count_input
from gateway.chat.parameters import check_parameters
from gateway.errors import BodyInvalid, MessagesTooMany
from gateway.runtime import Runtime


async def parse(runtime: Runtime, exchange: Exchange) -> None:
    """Fill in the call and the count of its input.

    Raises BodyInvalid, ParameterUnknown or MessagesTooMany.
    """
    body = _read_json(exchange.raw_body)
    check_parameters(body)
    messages = body["messages"]
    if not messages:
        raise BodyInvalid("'messages' is empty: a call needs at least one message.", param="messages")
    if len(messages) > runtime.max_messages:
        raise MessagesTooMany(count=len(messages), limit=runtime.max_messages)
    exchange.call = _chat_call(body, always_streams=exchange.always_streams)
    exchange.input_count = await count_input(body, enough=runtime.clerk.catalogue.largest_window)


def _read_json(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BodyInvalid(f"The body is not valid JSON: {error}.") from None
    if not isinstance(body, dict):
        raise BodyInvalid("The body must be a JSON object.")
    return body


def _chat_call(body: dict[str, Any], *, always_streams: bool) -> ChatCall:
    maximum, maximum_name = body.get("max_completion_tokens"), "max_completion_tokens"
    if maximum is None:
        maximum, maximum_name = body.get("max_tokens"), "max_tokens"
        if maximum is None:
            maximum_name = "max_completion_tokens"
    if maximum is not None and maximum < 1:
        raise BodyInvalid(f"'{maximum_name}' must be at least 1.", param=maximum_name)
    choices = body.get("n")
    choices = 1 if choices is None else choices
    if not 1 <= choices <= 128:
        raise BodyInvalid("'n' must lie between 1 and 128.", param="n")
    is_stream = always_streams or bool(body.get("stream"))
    stream_options = body.get("stream_options") or {}
    if stream_options and not is_stream:
        raise BodyInvalid("'stream_options' needs 'stream': true.", param="stream_options")
    metadata = body.get("metadata")
    return ChatCall(
        model=body["model"],
        body=body,
        is_stream=is_stream,
        wants_usage=always_streams or bool(stream_options.get("include_usage")),
        choices=choices,
        max_output_tokens=maximum,
        max_output_parameter=maximum_name,
        end_user=str(body.get("user") or body.get("safety_identifier") or "")[:120],
        tags=orjson.dumps(metadata).decode() if metadata else "{}",
    )
