"""What going on with a stream can be answered with; `stream_lost` and what follows it also end one."""

from common.errors import Conflict, InvalidRequest, NotFound, TollkeeperError, Unavailable


class StreamNotFound(NotFound):
    code = "stream_not_found"
    summary = "No such stream, not for this key, or not kept (any more)."

    def __init__(self) -> None:
        super().__init__(
            "There is no such stream to go on with: streams are kept when the call asks for it, for some minutes after "
            "their end. What a call has cost is under /v1/usage."
        )


class StreamPositionInvalid(InvalidRequest):
    code = "stream_position_invalid"
    summary = "What says where to go on is no number of an event."

    def __init__(self, *, param: str) -> None:
        super().__init__(
            f"'{param}' must be the number of the last event that you have; leave it out to begin at the first.",
            param=param,
        )


class StreamOfOtherForm(Conflict):
    code = "stream_of_other_form"
    summary = "A stream goes on over what it began on: events over HTTP, messages on a WebSocket."

    def __init__(self, *, form: str) -> None:
        way = "GET /v1/streams/{id}" if form == "events" else "'resume' on a WebSocket"
        super().__init__(f"This stream's events have another form here. Go on with it by {way}.")


class StreamEventsGone(TollkeeperError):
    code = "stream_events_gone"
    status = 410
    type = "invalid_request_error"
    retryable = False
    summary = "Events that were asked for have been dropped: more came than is kept of one stream."

    def __init__(self, *, first_kept: int) -> None:
        super().__init__(
            f"The events before number {first_kept} are not kept any more. Go on after event {first_kept - 1}, or make "
            "the call again.",
            details={"first_kept": first_kept},
        )


class StreamLost(TollkeeperError):
    code = "stream_lost"
    status = 502
    retryable = False
    summary = "The server process that carried the stream has died; what it had noted is charged."

    def __init__(self) -> None:
        super().__init__(
            "The server that carried this stream has died, and the call with it. What it had noted by then is charged; "
            "your usage has the amount. Make the call again."
        )


class StreamsUnavailable(Unavailable):
    code = "streams_unavailable"
    summary = "Where the streams of other server processes are kept does not answer; the calls themselves go on."

    def __init__(self, *, internal_detail: str) -> None:
        super().__init__(
            "Kept streams cannot be reached right now; the call itself goes on. Retry shortly.",
            retry_after_seconds=2,
            internal_detail=internal_detail,
        )
