"""Keep a stream whose caller may come back for it: one that asked for it, or whose customer has it switched on."""

from collections.abc import Mapping

from gateway.calls import Exchange
from gateway.errors import StreamResumableInvalid
from gateway.flight import Flight
from gateway.runtime import Runtime
from gateway.streams.buffer import Form, StreamLabel
from keys.features import RESUMABLE_STREAMS

_HEADER = b"x-resumable"
# On sockets `start` comes before message number 0.
_FIRST_SEQ = {Form.EVENTS: 0, Form.MESSAGES: -1}


def keep_stream(flight: Flight) -> None:
    """Begin to keep the events of a stream that is about to begin, where its caller wants that."""
    exchange, streams = flight.exchange, flight.runtime.streams
    principal, plan = exchange.principal, exchange.plan
    assert principal is not None
    assert plan is not None
    if not is_kept(flight.runtime, exchange):
        return
    form = Form.MESSAGES if exchange.always_streams else Form.EVENTS
    exchange.kept = streams.open(
        StreamLabel(
            request_id=exchange.request_id,
            customer_id=principal.customer_id,
            environment=principal.environment,
            scope=exchange.operation.scope,
            model=plan.model.name,
            prompt=exchange.prompt_name,
            form=form,
            first_seq=_FIRST_SEQ[form],
            process=streams.process,
        ),
        flight.control,
    )


def is_kept(runtime: Runtime, exchange: Exchange) -> bool:
    """Return whether the caller of a stream may come back for it."""
    assert exchange.principal is not None
    is_wanted = exchange.is_resumable
    if is_wanted is None:
        is_wanted = exchange.principal.has_feature(RESUMABLE_STREAMS, runtime.clerk.now_us)
    # The platform's own calls have nobody who could come back.
    return is_wanted and runtime.streams.is_on and not exchange.operation.is_free


def read_resume_wish(headers: Mapping[bytes, bytes]) -> bool | None:
    """Return what a call's headers say about keeping its stream. Raises StreamResumableInvalid."""
    given = headers.get(_HEADER)
    if given is None:
        return None
    if given not in (b"true", b"false"):
        raise StreamResumableInvalid(param=_HEADER.decode())
    return given == b"true"
