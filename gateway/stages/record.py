"""Remember why a call was refused before admission was asked; admission remembers its own refusals."""

from common.errors import TollkeeperError
from gateway.admission.commands import NoteFindings, NoteRefusal
from gateway.calls import Exchange
from gateway.guard_rows import freeze_notes
from gateway.refusals import NewRefusal
from gateway.runtime import Runtime


def record_refusal(runtime: Runtime, exchange: Exchange, error: TollkeeperError) -> None:
    """Queue a note of the refusal, and of what content rules had found; nobody waits for it.

    Calls without a known key leave none: nobody could ask.
    """
    principal = exchange.principal
    if principal is None:
        return
    if exchange.screening is not None:
        findings = freeze_notes(
            exchange.screening.notes,
            request_id=exchange.request_id,
            customer_id=principal.customer_id,
            api_key_id=principal.key_id,
        )
        if findings is not None:
            runtime.clerk.note(NoteFindings(findings=findings))
    if exchange.is_refusal_recorded:
        return
    runtime.clerk.note(
        NoteRefusal(
            refusal=NewRefusal(
                request_id=exchange.request_id,
                customer_id=principal.customer_id,
                api_key_id=principal.key_id,
                operation=exchange.operation.name,
                model=exchange.call.model if exchange.call is not None else "",
                error=error,
            )
        )
    )
