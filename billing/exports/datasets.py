"""What can be exported: the rows of a dataset, their columns, their order, and when a range of them is closed.

Nothing that can change later is in a column (no customer or key names), so a range that is closed gives the same rows
every time. New columns are only ever added at the end. A further dataset is one more entry of `DATASETS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from billing.export_models import ExportDataset
from billing.exports.columns import Column, ColumnKind, declare, declare_amounts
from billing.invoicing.document import NANO_PER_CENT
from billing.models import Hold
from billing.tokens import TOKEN_CLASSES
from common.clock import to_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Rows that are exported together, in the order of a moment and then of their id."""

    name: ExportDataset
    tables: str
    columns: tuple[Column, ...]
    # The moment that decides whether a row is in a range.
    moment: str
    id: str
    # The integer column whose sum is the control total.
    total: str
    # Chooses a customer's rows; its one or two parameters are the customer's id.
    customer_condition: str
    # Whether a row of before this moment may still be written.
    has_open_rows: Callable[[datetime], bool]

    def get_column(self, name: str) -> Column:
        """Return a column by name."""
        return next(column for column in self.columns if column.name == name)


def _has_calls_in_flight(end: datetime) -> bool:
    # Every call has a hold until its usage record is written, in the same transaction.
    return Hold.objects.filter(created_us__lt=to_us(end)).exists()


def _never(_: datetime) -> bool:
    return False


# The classes of the first version of the columns; any other one has its column at the end.
_FIRST_CLASSES = ("input", "cache_read", "cache_write", "output", "reasoning", "audio_input", "audio_output")
_TEXT, _INTEGER, _MOMENT = ColumnKind.TEXT, ColumnKind.INTEGER, ColumnKind.MOMENT

# LEFT JOIN throughout, so that both databases start from the rows in their order.
_USAGE = Dataset(
    name=ExportDataset.USAGE,
    tables="billing_usagerecord u LEFT JOIN keys_customer c ON c.id = u.customer_id"
    " LEFT JOIN keys_apikey k ON k.id = u.api_key_id",
    moment="u.started_at",
    id="u.id",
    total="charged_nanousd",
    customer_condition="u.customer_id = %s",
    has_open_rows=_has_calls_in_flight,
    columns=(
        *declare("u", _INTEGER, "id"),
        *declare("u", _TEXT, "request_id"),
        *declare("u", _INTEGER, "sequence"),
        *declare("u", _MOMENT, "started_at", "settled_at"),
        Column(name="customer_id", sql="c.public_id", kind=_TEXT),
        Column(name="key_id", sql="k.public_id", kind=_TEXT),
        Column(name="key_prefix", sql="k.prefix", kind=_TEXT),
        *declare("u", _TEXT, "operation", "model"),
        *declare("u", _TEXT, "upstream", "upstream_model", is_internal=True),
        Column(name="price_version", sql="u.price_version_id", kind=_INTEGER),
        *declare("u", _TEXT, "status", "source", "error_code", "finish_reason"),
        *declare("u", ColumnKind.FLAG, "is_stream"),
        *declare("u", _INTEGER, *(f"{name}_tokens" for name in _FIRST_CLASSES)),
        *declare_amounts("u", "cost", "charged"),
        *declare_amounts("u", "provider_cost", is_internal=True),
        *declare("u", _TEXT, "flags", "end_user"),
        *declare("u", ColumnKind.JSON, "tags"),
        *declare("u", _INTEGER, "upstream_ms", "ttft_ms", "total_ms"),
        *declare("u", _INTEGER, "overhead_us", is_internal=True),
        *declare("u", _INTEGER, *(f"{name}_tokens" for name in TOKEN_CLASSES if name not in _FIRST_CLASSES)),
        Column(name="price_terms", sql="u.price_terms_id", kind=_INTEGER),
        *declare("u", _TEXT, "processing", "prompt", "prompt_version", "prompt_label"),
        # Lists of token counts in the order of the classes; empty for a call that asked the model once.
        *declare("u", _TEXT, "attempts"),
        *declare("u", _TEXT, "cache"),
        *declare("u", _INTEGER, "reused_percent"),
        *declare("u", _INTEGER, "reused_bytes", is_internal=True),
        *declare_amounts("u", "saved", is_internal=True),
    ),
)


def _account(name: str, alias: str) -> Column:
    # An account's code has the number of its customer in it, which is nobody else's business.
    return Column(
        name=name,
        sql=f"{alias}.code",
        kind=_TEXT,
        customer_sql=f"CASE WHEN {alias}.kind IN ('customer', 'receivable') THEN {alias}.kind ELSE {alias}.code END",
    )


_LEDGER = Dataset(
    name=ExportDataset.LEDGER,
    tables="billing_transfer t LEFT JOIN billing_account d ON d.id = t.debit_account_id"
    " LEFT JOIN billing_account r ON r.id = t.credit_account_id"
    " LEFT JOIN keys_customer c ON c.id = coalesce(d.customer_id, r.customer_id)",
    moment="t.created_at",
    id="t.id",
    total="amount_nanousd",
    customer_condition="(SELECT a.id FROM billing_account a WHERE a.customer_id = %s)"
    " IN (t.debit_account_id, t.credit_account_id)",
    has_open_rows=_never,
    columns=(
        *declare("t", _INTEGER, "id"),
        *declare("t", _MOMENT, "created_at"),
        *declare("t", _TEXT, "kind"),
        _account("debit_account", "d"),
        _account("credit_account", "r"),
        Column(name="customer_id", sql="c.public_id", kind=_TEXT),
        *declare_amounts("t", "amount"),
        *declare("t", _INTEGER, "pending_id"),
        *declare("t", _TEXT, "request_id"),
        # Written by the platform's people for themselves.
        *declare("t", _TEXT, "reference", "reason", "author", is_internal=True),
    ),
)


def _signed(name: str, sql: str) -> tuple[Column, ...]:
    signed = f"e.sign * {sql}"
    return (
        Column(name=f"{name}_usd", sql=signed, kind=ColumnKind.USD),
        Column(name=f"{name}_nanousd", sql=signed, kind=_INTEGER),
    )


# What can change later of an invoice is its state, so a row is what happened: an issue, and a void with the same
# amounts below zero. The sums of a range are then what was asked for in it; payments are in the ledger.
_INVOICES = Dataset(
    name=ExportDataset.INVOICES,
    tables="(SELECT 2 * id AS id, issued_at AS moment, 'issued' AS event, 1 AS sign, id AS invoice_id"
    " FROM billing_invoice WHERE issued_at IS NOT NULL UNION ALL"
    " SELECT 2 * id + 1, voided_at, 'voided', -1, id FROM billing_invoice WHERE voided_at IS NOT NULL) e"
    " LEFT JOIN billing_invoice i ON i.id = e.invoice_id LEFT JOIN keys_customer c ON c.id = i.customer_id"
    " LEFT JOIN billing_invoice r ON r.id = i.replaces_id",
    moment="e.moment",
    id="e.id",
    total="due_nanousd",
    customer_condition="i.customer_id = %s",
    has_open_rows=_never,
    columns=(
        *declare("e", _INTEGER, "id"),
        Column(name="booked_at", sql="e.moment", kind=_MOMENT),
        *declare("e", _TEXT, "event"),
        *declare("i", _TEXT, "number"),
        Column(name="customer_id", sql="c.public_id", kind=_TEXT),
        # As the invoice keeps them, not as they may be called now.
        *(
            Column(name=f"customer_{name}", sql=f"i.buyer ->> '{name}'", kind=_TEXT)
            for name in ("legal_name", "country", "tax_id")
        ),
        *declare("i", _TEXT, "month", "time_zone"),
        *declare("i", _MOMENT, "period_start", "period_end", "issued_at"),
        Column(name="due_on", sql="CAST(i.due_on AS text)", kind=_TEXT),
        Column(name="replaces", sql="r.number", kind=_TEXT),
        *(
            column
            for name in ("usage", "granted", "prepaid", "net", "carried", "tax", "total")
            for column in _signed(name, f"i.{name}_nanousd")
        ),
        *declare("i", _INTEGER, "tax_millionths"),
        *_signed("due", f"i.due_cents * {NANO_PER_CENT}"),
    ),
)

DATASETS: dict[str, Dataset] = {dataset.name.value: dataset for dataset in (_USAGE, _LEDGER, _INVOICES)}
