"""Holds whose process or time has run out: resolved inside the batches themselves.

Every batch begins by expiring what is due, so a decision never sees a dead hold, and a dead sweeper denies nobody.
A stream that had relayed something is charged for what its last progress note says; anything else is released.
Either way a usage record tells. What content rules had found by then is in the draft, and is not lost either.
"""

import orjson

from billing.journal import NewUsage, OpenHold
from billing.models import UsageSource, UsageStatus
from billing.pricing import PriceBook
from billing.tokens import TokenCounts
from billing.waiving import find_waiver
from gateway.guard_rows import CallFindings, GuardNotes, freeze_notes, pack_notes, unpack_notes
from keys.limit_rows import counters_of_hold

LOST_FLAG = "server_died"
_NO_FINDINGS: dict[str, list[list[object]]] = {"counts": []}


def write_draft(
    *,
    customer_id: int,
    api_key_id: int,
    operation: str,
    model: str,
    upstream: str,
    upstream_model: str,
    price_version_id: int,
    price_terms_id: int | None = None,
    is_stream: bool,
    end_user: str,
    tags: str,
    prompt: str = "",
    prompt_version: str = "",
    prompt_label: str = "",
    input_tokens: int | None = None,
    no_charge_on: str = "",
    notes: GuardNotes | None = None,
) -> str:
    """Return the JSON that a hold carries: what a usage record needs if nobody is left to write it.

    `input_tokens` is given where the hold covers the input several times, for attempts that may not have been made;
    `no_charge_on` where the model has such a rule, `notes` where content rules are for the call.
    """
    return orjson.dumps(
        ({} if input_tokens is None else {"input_tokens": input_tokens})
        | ({"no_charge_on": no_charge_on} if no_charge_on else {})
        | ({"findings": pack_notes(notes)} if notes is not None and notes.counts else {})
        | {
            "customer_id": customer_id,
            "api_key_id": api_key_id,
            "operation": operation,
            "model": model,
            "upstream": upstream,
            "upstream_model": upstream_model,
            "price_version_id": price_version_id,
            "price_terms_id": price_terms_id,
            "is_stream": is_stream,
            "end_user": end_user,
            "tags": tags,
            "prompt": prompt,
            "prompt_version": prompt_version,
            "prompt_label": prompt_label,
        }
    ).decode()


def usage_of_unreadable(hold: OpenHold) -> NewUsage:
    """Return what releases a hold whose draft cannot be read: a call without cost, not fit to be recorded."""
    customer, key, *_ = counters_of_hold(hold.owners)[0]
    return NewUsage(
        request_id=hold.request_id,
        customer_id=int(customer.removeprefix("customer:")),
        api_key_id=int(key.removeprefix("key:")),
        operation="",
        model="",
        price_version_id=0,
        status=UsageStatus.LOST.value,
        source=UsageSource.NONE.value,
        is_stream=False,
        started_us=hold.created_us,
    )


def usage_of_expired(hold: OpenHold, prices: PriceBook, *, now_us: int) -> NewUsage:
    """Return the usage record of a hold that nobody settled."""
    draft = orjson.loads(hold.draft)
    actions = {action for _, _, action, _ in draft.pop("findings", _NO_FINDINGS)["counts"]}
    flags = [LOST_FLAG, *sorted(f"guard_{action}" for action in actions)]
    produced = hold.progress_tokens > 0
    input_tokens = draft.pop("input_tokens", hold.input_tokens)
    tokens = TokenCounts(input=input_tokens, output=hold.progress_tokens) if produced else TokenCounts()
    price = prices.get_applied(draft["price_version_id"], draft.get("price_terms_id"))
    waiver = find_waiver(draft.pop("no_charge_on", ""), price.no_charge_on, has_failed=produced, is_empty=False)
    return NewUsage(
        **draft,
        request_id=hold.request_id,
        status=UsageStatus.LOST.value,
        source=UsageSource.ESTIMATED.value if produced else UsageSource.NONE.value,
        error_code="server_lost",
        tokens=tokens,
        cost_nanousd=price.table.cost(tokens) if produced else 0,
        provider_cost_nanousd=price.provider_table.cost(tokens) if produced else 0,
        flags=",".join([*flags, waiver] if waiver else flags),
        started_us=hold.created_us,
        total_ms=max(0, now_us - hold.created_us) // 1000,
    )


def findings_of_expired(hold: OpenHold) -> CallFindings | None:
    """Return what content rules had found in a call before it was admitted. Raises as `usage_of_expired`."""
    draft = orjson.loads(hold.draft)
    if "findings" not in draft:
        return None
    return freeze_notes(
        unpack_notes(draft["findings"]),
        request_id=hold.request_id,
        customer_id=draft["customer_id"],
        api_key_id=draft["api_key_id"],
    )
