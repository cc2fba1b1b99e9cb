"""What can go wrong with a call, from its body to its upstream."""

from collections.abc import Sequence

from common.errors import Conflict, InvalidRequest, NotFound, RateLimited, TollkeeperError, Unavailable


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


class ParametersContradict(InvalidRequest):
    code = "contradictory_parameters"
    summary = "Parameters of the call contradict each other, or one needs another; `details.parameters` names them."

    def __init__(self, *, names: Sequence[str], sentence: str) -> None:
        super().__init__(sentence, param=names[0], details={"parameters": list(names)})


class TagsInvalid(InvalidRequest):
    code = "invalid_tags"
    summary = "The tags of a call (`metadata`, `x-tags`) or its end user's name cannot be recorded."


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
            f"and asks for up to {output_tokens} of output. Shorten the input, lower max_completion_tokens, or set "
            "truncation to 'auto'.",
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
        super().__init__(
            f"This path answers to {allowed}, not to {method}. Use {allowed}.", details={"allowed": allowed}
        )


class ServerOverloaded(Unavailable):
    code = "server_overloaded"
    summary = "The admission queue is full."

    def __init__(self) -> None:
        super().__init__(
            "Too many calls are waiting for admission. Nothing was charged; retry in a second.",
            retry_after_seconds=1,
        )


class LoadShed(Unavailable):
    code = "load_shed"
    summary = "Under load, calls of this priority class wait for others; the class and the cause are in `details`."

    def __init__(self, *, priority: str, cause: str, pressure: float, retry_after_seconds: int) -> None:
        full = {"queue": "its admission queue", "calls": "its calls in flight", "upstream": "the model's provider"}
        super().__init__(
            f"The platform is under load ({full[cause]} at {round(pressure * 100)} %), and calls of the class "
            f"'{priority}' wait for others. Nothing was charged; retry in {retry_after_seconds} s.",
            retry_after_seconds=retry_after_seconds,
            details={"priority": priority, "cause": cause, "pressure_percent": round(pressure * 100)},
        )


class PriorityUnknown(InvalidRequest):
    code = "unknown_priority"
    summary = "The header x-priority names no priority class."

    def __init__(self, *, given: str) -> None:
        super().__init__(
            f"The header x-priority knows no '{given[:40]}'. Send 'interactive' or 'batch', or leave it out.",
            param="x-priority",
        )


class StreamResumableInvalid(InvalidRequest):
    code = "stream_resumable_invalid"
    summary = "What says whether to keep a stream is neither true nor false."

    def __init__(self, *, param: str) -> None:
        super().__init__(f"'{param}' must be true or false: send one of them, or leave it out.", param=param)


class ApiVersionUnknown(InvalidRequest):
    code = "unknown_api_version"
    summary = "`API-Version` names no date of the API; `details.known` lists them."

    def __init__(self, *, given: str, known: Sequence[str]) -> None:
        super().__init__(
            f"There is no API version '{given[:40]}'. Send one of {', '.join(known)} (GET /v1/changelog tells "
            "what each changed), or leave the header out to be answered in the version of your key.",
            param="API-Version",
            details={"known": list(known)},
        )


class IdempotencyKeyInvalid(InvalidRequest):
    code = "invalid_idempotency_key"
    summary = "The Idempotency-Key is empty, too long or not printable ASCII."

    def __init__(self) -> None:
        super().__init__(
            "The header Idempotency-Key must have 1 to 255 printable ASCII characters, e.g. a UUID.",
            param="idempotency-key",
        )


class IdempotencyKeyReused(InvalidRequest):
    code = "idempotency_key_reused"
    status = 422
    summary = "The Idempotency-Key belongs to another call: a repeat must have the same body."

    def __init__(self, *, request_id: str) -> None:
        super().__init__(
            f"This Idempotency-Key was used for another call ({request_id}) within the last 24 hours. Send the same "
            "body to get its answer, or a new key for a new call.",
            param="idempotency-key",
            details={"first_request_id": request_id},
        )


class IdempotencyInFlight(Conflict):
    code = "idempotency_in_flight"
    retryable = True
    summary = "The first call with this Idempotency-Key is still running."

    def __init__(self, *, request_id: str) -> None:
        super().__init__(
            f"The first call with this Idempotency-Key ({request_id}) is still running. Retry in a second: its answer "
            "will be replayed.",
            retry_after_seconds=1,
            details={"first_request_id": request_id},
        )


class IdempotencyAnswerLost(Conflict):
    code = "idempotency_answer_too_large"
    summary = "The first call succeeded, but its answer was too large to keep for a repeat."

    def __init__(self, *, request_id: str) -> None:
        super().__init__(
            f"The first call with this Idempotency-Key ({request_id}) succeeded and was charged, but its answer was "
            "too large to be kept. Send a new key to run the call again.",
            details={"first_request_id": request_id},
        )


class CacheControlInvalid(InvalidRequest):
    code = "invalid_cache_control"
    summary = "What the call says about cached answers cannot be meant."

    def __init__(self, message: str) -> None:
        super().__init__(message, param="cache-control")


class AnswerNotCached(TollkeeperError):
    code = "answer_not_cached"
    # RFC 9111, section 5.2.1.7.
    status = 504
    type = "invalid_request_error"
    # The same call finds as little, until somebody makes it without the directive.
    retryable = False
    summary = "The call asked for a cached answer only, and there is none."

    def __init__(self) -> None:
        super().__init__(
            "There is no cached answer to this call that is young enough. Send it without 'only-if-cached' to have the "
            "model asked.",
            param="cache-control",
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


class CapabilityMissing(InvalidRequest):
    code = "unsupported_by_model"
    summary = "The call asks for what no deployment of the model can do; `param` names it, `details.models` who can."

    def __init__(self, *, model: str, refusal: str, param: str, models: Sequence[str]) -> None:
        others = f", or call {' or '.join(models)}" if models else ""
        super().__init__(f"'{model}' {refusal}{others}.", param=param, details={"model": model, "models": list(models)})


class ProviderUnavailable(InvalidRequest):
    code = "provider_unavailable"
    summary = "What the call says in `provider` leaves no deployment of the model."

    def __init__(self, *, model: str) -> None:
        super().__init__(
            f"No deployment of '{model}' that can serve this call is left by 'provider'. Widen it, or leave it out.",
            param="provider",
            details={"model": model},
        )


class DeploymentsResting(Unavailable):
    code = "deployments_resting"
    summary = "Every deployment of the model has failed lately, or limits our calls, and rests until it is tried again."

    def __init__(self, *, model: str, retry_after_seconds: int) -> None:
        super().__init__(
            f"'{model}' cannot be reached at the moment: its providers failed or limit our calls. Nothing was charged; "
            f"retry in {retry_after_seconds} s, or name further models in 'models'.",
            retry_after_seconds=retry_after_seconds,
        )


class UpstreamError(TollkeeperError):
    """Base of everything that an upstream does wrong. Whether another deployment may be tried is `is_failover`."""

    code = "upstream_error"
    status = 502
    type = "upstream_error"
    retryable = True
    summary = "The model's provider failed."
    is_failover = True
    # It may pass by itself, so that the same deployment is worth another attempt.
    is_passing = True
    # How long the provider asked not to be called, where it did.
    asked_seconds: int | None = None
    # What a caller is told who has nothing better to go by: other deployments may answer at once.
    _usual_wait_seconds = 1

    def __init__(self, message: str | None = None, *, internal_detail: str, retry_after_seconds: int | None = None):
        super().__init__(
            message or "The model's provider failed to answer. Retry; if it persists, send us the request id.",
            internal_detail=internal_detail,
            retry_after_seconds=retry_after_seconds or (self._usual_wait_seconds if self.retryable else None),
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


class UpstreamOverloaded(UpstreamError):
    code = "upstream_overloaded"
    status = 503
    summary = "The provider has more calls than it can serve."

    def __init__(self, *, internal_detail: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(
            "The model's provider is overloaded at the moment. Retry shortly, or choose another model.",
            internal_detail=internal_detail,
            retry_after_seconds=retry_after_seconds or 5,
        )
        self.asked_seconds = retry_after_seconds


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
        self.asked_seconds = retry_after_seconds


class UpstreamRejected(UpstreamError):
    code = "upstream_rejected"
    status = 400
    type = "invalid_request_error"
    retryable = False
    is_failover = False
    is_passing = False
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
    is_passing = False

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
            "The model's provider broke off the stream. What was relayed is charged; the rest never came. Send the "
            "call again if you need all of it.",
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
        super().__init__(
            "The client stopped reading the answer, so the call was ended. Read answers as they come; what had been "
            "produced by then is charged."
        )


class CallCancelled(TollkeeperError):
    code = "call_cancelled"
    # 499: nginx's number for a client that left; nobody is there to read it, but the log and a WebSocket are.
    status = 499
    type = "invalid_request_error"
    retryable = False
    summary = "The client cancelled the call or left; what was produced by then is charged."

    def __init__(self) -> None:
        super().__init__(
            "The call was cancelled, or its client left. What had been produced by then is charged; send a new call if "
            "you need the answer."
        )


class SocketCallsTooMany(RateLimited):
    code = "too_many_calls_on_socket"
    summary = "More calls at once than one WebSocket may carry."

    def __init__(self, *, limit: int) -> None:
        super().__init__(
            f"This socket has {limit} calls in flight, the most it may. Wait for one to end, or open another socket.",
            details={"limit": limit},
            retry_after_seconds=1,
        )
