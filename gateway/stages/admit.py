"""Ask the clerk: every limit, every budget, the money, and whether the key still holds, in one transaction."""

from gateway.admission.commands import Admit, Admitted, Refused, Replayed, Reused, Stale
from gateway.admission.expiry import write_draft
from gateway.calls import Exchange
from gateway.runtime import Runtime
from gateway.stages.authenticate import accept_principal, authenticate
from gateway.stages.recall import ask_for_reuse
from gateway.versions import NEWEST


async def admit(runtime: Runtime, exchange: Exchange) -> bool:
    """Return True when the call may run, or its answer is known; False when it has to be planned with fresh snapshots.

    Raises the error of the limit, budget or balance that refused it, AuthenticationFailed or InsufficientScope for a
    key that has ended or lost its right since its snapshot was taken.
    """
    answer: Admitted | Reused | Replayed | Refused | Stale
    if exchange.cached is None:
        answer = await runtime.clerk.submit(_question(exchange))
    else:
        answer = await runtime.clerk.submit(ask_for_reuse(exchange, exchange.cached))
    match answer:
        case Admitted():
            exchange.admitted = answer
            exchange.limits = answer.limits
            return True
        case Reused():
            exchange.reused = answer
            exchange.limits = answer.limits
            return True
        case Replayed():
            exchange.replayed = answer
            return True
        case Stale():
            answer = _with_known_principal(answer, exchange)
            runtime.keep_principal(exchange.token, answer.principal)
            if exchange.operation.is_check:
                # Where the key has ended, its successor may go on.
                await authenticate(runtime, exchange)
            else:
                accept_principal(runtime, exchange, answer.principal)
            return False
        case Refused():
            exchange.limits = answer.limits
            exchange.is_refusal_recorded = True
            raise answer.error


def _with_known_principal(answer: Stale, exchange: Exchange) -> Stale:
    """Return the answer with the snapshot that is known where only the catalogue has moved: one object for one key."""
    fresh, known = answer.principal, exchange.principal
    return Stale(principal=known) if fresh is not None and known is not None and fresh.row == known.row else answer


def _question(exchange: Exchange) -> Admit:
    assert exchange.call is not None
    assert exchange.plan is not None
    assert exchange.principal is not None
    call, plan, principal = exchange.call, exchange.plan, exchange.principal
    first = plan.deployments[0]
    notes = None
    if exchange.screening is not None:
        notes = exchange.screening.notes
        exchange.held_findings = tuple(notes.counts.items())
    return Admit(
        request_id=exchange.request_id,
        principal=principal,
        catalogue_generation=plan.catalogue_generation,
        amount_nanousd=plan.amount_nanousd,
        input_tokens=plan.held_input_tokens,
        output_tokens=plan.held_output_tokens,
        lifetime_us=plan.lifetime_us,
        client_address=exchange.client_address,
        claim=exchange.claim,
        endpoint_class=exchange.operation.limits_class,
        pin="" if principal.api_version else NEWEST,
        operation=exchange.operation.name,
        model=plan.model.name,
        draft=write_draft(
            customer_id=principal.customer_id,
            api_key_id=principal.key_id,
            operation=exchange.operation.name,
            model=plan.model.name,
            upstream=first.upstream.name,
            upstream_model=first.upstream_model,
            price_version_id=plan.price.version_id,
            price_terms_id=plan.price.terms_id,
            is_stream=call.is_stream,
            end_user=call.end_user,
            tags=call.tags,
            prompt=exchange.prompt_mark.name if exchange.prompt_mark is not None else "",
            prompt_version=exchange.prompt_mark.version if exchange.prompt_mark is not None else "",
            prompt_label=(exchange.prompt_mark.label or "") if exchange.prompt_mark is not None else "",
            input_tokens=plan.input_tokens if plan.attempts > 1 else None,
            no_charge_on=plan.model.no_charge_on,
            notes=notes,
        ),
    )
