"""Checks on invoices: they add up, the ledger moved what they say, no number is missing, usage is asked for once."""

from collections.abc import Iterator
from datetime import datetime

from billing.invoicing.document import NANO_PER_CENT
from billing.reconciliation.report import MAX_LISTED, CheckResult, Difference, conclude
from common.clock import from_us, to_us
from common.sql import Sql

_LIMIT = f"LIMIT {MAX_LISTED + 1}"
_UNEQUAL_LINES = f"""
SELECT i.id, i.number, i.usage_nanousd, coalesce(l.total, 0) FROM billing_invoice i
LEFT JOIN (SELECT invoice_id, sum(amount_nanousd) AS total FROM billing_invoiceitem GROUP BY invoice_id) l
    ON l.invoice_id = i.id
WHERE i.usage_nanousd <> coalesce(l.total, 0) ORDER BY i.id {_LIMIT}
"""
# What the ledger has on its accounts for an invoice, by the transfers of its movements.
_MOVED = """
SELECT i.id, i.number, i.status, i.net_nanousd, i.tax_nanousd, i.paid_cents,
    coalesce(sum(CASE m.kind WHEN 'invoiced' THEN t.amount_nanousd WHEN 'uninvoiced' THEN -t.amount_nanousd END), 0),
    coalesce(sum(CASE m.kind WHEN 'tax' THEN t.amount_nanousd WHEN 'untax' THEN -t.amount_nanousd END), 0),
    coalesce(sum(CASE m.kind WHEN 'payment' THEN t.amount_nanousd END), 0)
FROM billing_invoice i LEFT JOIN billing_movement m ON m.invoice_id = i.id
LEFT JOIN billing_transfer t ON t.id = m.transfer_id
GROUP BY i.id, i.number, i.status, i.net_nanousd, i.tax_nanousd, i.paid_cents ORDER BY i.id
"""
_NUMBERS = """
SELECT s.name, s.year, s.last_number, count(i.id), coalesce(max(i.sequence), 0) FROM billing_invoiceseries s
LEFT JOIN billing_invoice i ON i.series = s.name AND i.year = s.year GROUP BY s.name, s.year, s.last_number
"""
_INVOICED = """
SELECT customer_id, max(CASE WHEN status <> 'void' THEN period_end END),
    max(CASE WHEN status <> 'void' THEN computed_at END),
    sum(CASE WHEN status <> 'void' THEN usage_nanousd ELSE 0 END)
FROM billing_invoice WHERE status <> 'draft' GROUP BY customer_id ORDER BY customer_id
"""
# Of months whose invoice is void, and which no other one stands for yet.
_UNANSWERED = """
SELECT coalesce(sum(v.usage_nanousd), 0) FROM billing_invoice v WHERE v.customer_id = %s AND v.status = 'void'
    AND v.id = (SELECT max(o.id) FROM billing_invoice o WHERE o.customer_id = v.customer_id AND o.month = v.month
        AND o.status <> 'draft')
"""
_RECORDED = """
SELECT coalesce(sum(charged_nanousd), 0), coalesce(sum(CASE WHEN settled_at < %s THEN charged_nanousd ELSE 0 END), 0)
FROM billing_usagerecord WHERE customer_id = %s AND started_at < %s
"""
_ARCHIVED = "SELECT coalesce(sum(charged_nanousd), 0) FROM billing_usagehour WHERE customer_id = %s AND hour < %s"
# A settlement is stamped at the start of its transaction and seen at its end.
_COMMIT_GRACE_US = 300_000_000


def check_invoices(sql: Sql) -> CheckResult:
    """Lines add up, issued sums are what the ledger moved, numbers have no gaps, and usage is asked for once.

    Usage that turned up after its month's invoice was computed waits for the next one, and is no difference.
    """
    differences = [
        Difference(row=_name(pk, number), what="usage_nanousd", expected=int(total), found=int(usage))
        for pk, number, usage, total in sql.rows(_UNEQUAL_LINES)
    ]
    differences += _unequal_movements(sql)
    differences += [
        Difference(
            row=f"invoice series {name}-{year}",
            what="its numbers",
            expected=f"1 to {last}, each once",
            found=f"{count} invoices up to {highest}",
        )
        for name, year, last, count, highest in sql.rows(_NUMBERS)
        if not last == count == highest
    ]
    differences += _unasked_usage(sql)
    return conclude(
        "invoices",
        "lines, ledger and numbers agree, and usage of closed months is asked for once",
        examined=int(sql.rows("SELECT count(*) FROM billing_invoice")[0][0]),
        differences=differences,
    )


def _unequal_movements(sql: Sql) -> Iterator[Difference]:
    for pk, number, status, net, tax, paid_cents, *moved in sql.rows(_MOVED):
        stands = status in ("issued", "paid")
        wanted = (net * stands, tax * stands, paid_cents * NANO_PER_CENT)
        for what, expected, found in zip(("what is due", "its tax", "its payments"), wanted, moved, strict=True):
            if expected != found:
                yield Difference(
                    row=_name(pk, number), what=f"{what}, in the ledger", expected=expected, found=int(found)
                )


def _unasked_usage(sql: Sql) -> Iterator[Difference]:
    for customer_id, end, computed_at, invoiced in sql.rows(_INVOICED):
        if end is None:
            continue
        end_moment, known_by = sql.moment(_us(end)), sql.moment(_us(computed_at) - _COMMIT_GRACE_US)
        ((recorded, known),) = sql.rows(_RECORDED, (known_by, customer_id, end_moment))
        ((archived,),) = sql.rows(_ARCHIVED, (customer_id, end_moment))
        ((unanswered,),) = sql.rows(_UNANSWERED, (customer_id,))
        # When archived calls were settled is not known any more: any of them may have been late.
        least, most = known - unanswered, recorded + archived
        if not least <= invoiced <= most:
            expected = f"{least} to {most} nano-USD up to {from_us(_us(end)):%Y-%m-%d %H:%M} UTC"
            yield Difference(
                row=f"customer {customer_id}", what="usage on invoices", expected=expected, found=int(invoiced)
            )


def _name(pk: int, number: str | None) -> str:
    return f"invoice {number}" if number else f"invoice draft {pk}"


def _us(moment: datetime | str) -> int:
    """Return a moment that SQLite may have handed out as text."""
    return to_us(datetime.fromisoformat(moment) if isinstance(moment, str) else moment)
