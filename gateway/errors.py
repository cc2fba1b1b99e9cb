"""What can go wrong with a call, from its body to its upstream."""

from collections.abc import Sequence

from common.errors import InvalidRequest, NotFound, RateLimited, TollkeeperError, Unavailable


class BodyTooLarge(InvalidRequest):
    code = "body_too_large"
    status = 413
    summary = "The request body exceeds the server's bound."

    def __init__(self, *, limit_bytes: int) -> None:
        super().__init__(
            f"The request body is larger than {limit_bytes} bytes. Send less, e.g. images by URL instead of base64.",
            details={"limit_bytes": limit_bytes},
        )


class BodyInvalid(InvalidRequest):
    code = "invalid_body"
    summary = "The body is not JSON, or a field has the wrong type; `param` names it."


class ParameterUnknown(InvalidRequest):
    code = "unknown_parameter"
    summary = "A parameter that the API does not know; nothing is ignored silently."

    def __init__(self, *, names: Sequence[str]) -> None:
        listed = ", ".join(f"'{name}'" for name in names)
        super().__init__(
            f"Unknown parameter{'s' if len(names) > 1 else ''}: {listed}. Remove it, or check its spelling.",
            param=names[0],
            details={"unknown_parameters": list(names)},
        )


class MessagesTooMany(InvalidRequest):
    code = "too_many_messages"
    summary = "More messages than one call may have."

    def __init__(self, *, count: int, limit: int) -> None:
        super().__init__(
            f"The call has {count} messages; at most {limit} are accepted. Shorten the conversation.",
            param="messages",
            details={"messages": count, "limit": limit},
        )


class ModelNotFound(NotFound):
    code = "model_not_found"
    summary = "The model does not exist, or this key may not use it."

    def __init__(self, *, model: str) -> None:
        super().__init__(
            f"The model '{model}' does not exist or this key may not use it. GET /v1/models lists what it may.",
            param="model",
        )


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"
    summary = "Input and requested output do not fit into the model's context window."

    def __init__(self, *, model: str, context_window: int, input_tokens: int, output_tokens: int) -> None:
        super().__init__(
            f"'{model}' has a context window of {context_window} tokens; this call has about {input_tokens} of input "
            f"and asks for up to {output_tokens} of output. Shorten the input or lower max_completion_tokens.",
            param="messages",
            details={
                "context_window": context_window,
                "input_tokens": input_tokens,
                "output_tokens": output_tokens,
            },
        )


class InputTooLong(InvalidRequest):
    code = "input_tokens_exceeded"
    summary = "The input is longer than this key's or customer's cap for one call."

    def __init__(self, *, input_tokens: int, limit: int) -> None:
        super().__init__(
            f"The input has about {input_tokens} tokens; one call of this key may have {limit}. Shorten it, or have "
            "the cap raised.",
            param="messages",
            details={"input_tokens": input_tokens, "limit": limit},
        )


class OutputTooLong(InvalidRequest):
    code = "output_tokens_exceeded"
    summary = "More output is asked for than the model can give."

    def __init__(self, *, model: str, requested: int, limit: int, param: str) -> None:
        super().__init__(
            f"'{model}' gives at most {limit} tokens of output; {requested} were asked for. Lower {param}.",
            param=param,
            details={"requested": requested, "limit": limit},
        )


class MethodNotAllowed(InvalidRequest):
    code = "method_not_allowed"
    status = 405
    summary = "The path exists, but not with this HTTP method."

    def __init__(self, *, method: str, allowed: str) -> None:
        super().__init__(f"This path answers to {allowed}, not to {method}.", details={"allowed": allowed})


class ServerOverloaded(Unavailable):
    code = "server_overloaded"
    summary = "The admission queue is full."

    def __init__(self) -> None:
        super().__init__(
            "Too many calls are waiting for admission. Nothing was charged; retry in a second.",
            retry_after_seconds=1,
        )


class ServerDraining(Unavailable):
    code = "server_draining"
    summary = "This process is shutting down."

    def __init__(self) -> None:
        super().__init__("This server is shutting down. Retry: another one will answer.", retry_after_seconds=1)


class AdmissionUnavailable(Unavailable):
    code = "admission_unavailable"
    summary = "The database did not decide; without its word no call runs."

    def __init__(self, *, internal_detail: str | None = None) -> None:
        super().__init__(
            "Calls cannot be admitted right now. Nothing was charged; retry shortly.",
            retry_after_seconds=2,
            internal_detail=internal_detail,
        )


class SettlementDelayed(Unavailable):
    code = "settlement_delayed"
    summary = "The call ran, but its booking is not durable yet; it is booked once, later."
    retryable = False

    def __init__(self) -> None:
        super().__init__(
            "The call ran, but its cost could not be booked in time; it will be booked once the database answers. "
            "Do not repeat the call blindly: look up its request id in your usage first."
        )


class UpstreamError(TollkeeperError):
    """Base of everything that an upstream does wrong. Whether another deployment may be tried is `is_failover`."""

    code = "upstream_error"
    status = 502
    type = "upstream_error"
    retryable = True
    summary = "The model's provider failed."
    is_failover = True

    def __init__(self, message: str | None = None, *, internal_detail: str, retry_after_seconds: int | None = None):
        super().__init__(
            message or "The model's provider failed to answer. Retry; if it persists, send us the request id.",
            internal_detail=internal_detail,
            retry_after_seconds=retry_after_seconds,
        )


class UpstreamUnreachable(UpstreamError):
    code = "upstream_unreachable"
    status = 503
    summary = "The provider could not be connected to."

    def __init__(self, *, internal_detail: str) -> None:
        super().__init__(
            "The model's provider cannot be reached. Retry shortly.",
            internal_detail=internal_detail,
            retry_after_seconds=2,
        )


class UpstreamTimeout(UpstreamError):
    code = "upstream_timeout"
    status = 504
    summary = "The provider did not answer, or not go on, in time."

    def __init__(self, *, phase: str, internal_detail: str) -> None:
        super().__init__(
            f"The model's provider took too long ({phase}). Retry, or ask for less output.",
            internal_detail=internal_detail,
        )


class UpstreamRateLimited(UpstreamError, RateLimited):
    code = "upstream_rate_limited"
    status = 429
    type = "rate_limit_error"
    summary = "The provider limits us, not you."

    def __init__(self, *, internal_detail: str, retry_after_seconds: int | None) -> None:
        super().__init__(
            "The model's provider is limiting calls right now (this is not one of your own limits). Retry later.",
            internal_detail=internal_detail,
            retry_after_seconds=retry_after_seconds or 5,
        )


class UpstreamRejected(UpstreamError):
    code = "upstream_rejected"
    status = 400
    type = "invalid_request_error"
    retryable = False
    is_failover = False
    summary = "The provider refused the request's content; `param` is its own hint, where it gave one."

    def __init__(self, *, internal_detail: str, param: str | None) -> None:
        hint = f" It points at '{param}'." if param else ""
        super().__init__(
            f"The model's provider refused this request as invalid.{hint} Check the parameters against the model.",
            internal_detail=internal_detail,
        )
        self.param = param


class UpstreamMisconfigured(UpstreamError):
    code = "upstream_misconfigured"
    summary = "The provider refused our credentials or does not know the model: an administrator has to act."
    retryable = False

    def __init__(self, *, internal_detail: str) -> None:
        super().__init__(
            "The model's provider refused our access. An administrator has to fix it; send us the request id.",
            internal_detail=internal_detail,
        )


class UpstreamInvalidAnswer(UpstreamError):
    code = "upstream_invalid_answer"
    summary = "The provider's answer could not be read."

    def __init__(self, *, internal_detail: str) -> None:
        super().__init__(
            "The model's provider sent an answer that cannot be read. Retry.", internal_detail=internal_detail
        )


class UpstreamInterrupted(UpstreamError):
    code = "upstream_interrupted"
    summary = "The provider's stream ended before its end; what was relayed is charged as estimated."

    def __init__(self, *, internal_detail: str) -> None:
        super().__init__(
            "The model's provider broke off the stream. What was relayed is charged; the rest never came.",
            internal_detail=internal_detail,
        )


class ModelUnavailable(Unavailable):
    code = "model_unavailable"
    summary = "The model has no active deployment."

    def __init__(self, *, model: str) -> None:
        super().__init__(
            f"The model '{model}' is not being served at the moment. Retry later or choose another.",
            retry_after_seconds=30,
        )


class ClientStalled(TollkeeperError):
    code = "client_too_slow"
    status = 408
    type = "invalid_request_error"
    summary = "The client accepted nothing for too long and counts as gone."

    def __init__(self) -> None:
        super().__init__("The client stopped reading the answer, so the call was ended.")


class CallCancelled(TollkeeperError):
    code = "call_cancelled"
    # 499: nginx's number for a client that left; nobody is there to read it, but the log and a WebSocket are.
    status = 499
    type = "invalid_request_error"
    retryable = False
    summary = "The client cancelled the call or left; what was produced by then is charged."

    def __init__(self) -> None:
        super().__init__("The call was cancelled. What had been produced by then is charged.")


class SocketCallsTooMany(RateLimited):
    code = "too_many_calls_on_socket"
    summary = "More calls at once than one WebSocket may carry."

    def __init__(self, *, limit: int) -> None:
        super().__init__(
            f"This socket has {limit} calls in flight, the most it may. Wait for one to end, or open another socket.",
            details={"limit": limit},
            retry_after_seconds=1,
        )
