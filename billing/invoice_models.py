"""Rows of invoices: whom they go to, the invoices with their lines, and the counters of their numbers.

Rules live in `billing.invoicing`. A draft and its lines are written anew at each close. Once issued, an invoice changes
in the columns of its state only, and its lines never: the database refuses anything else (`sql/invoice_*`).
"""

from zoneinfo import available_timezones

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from typing_extensions import override

from billing.invoicing.document import InvoiceState, LineKind
from common.append_only import AppendOnlyModel

MOST_PAYMENT_DAYS = 365
WHOLE_MILLIONTHS = 1_000_000


class BillingProfile(models.Model):
    """To whom a customer's invoices go, and by which calendar and tax. A customer without one has the defaults."""

    customer = models.OneToOneField("keys.Customer", on_delete=models.PROTECT, related_name="+")
    legal_name = models.CharField(max_length=200, blank=True, help_text="Empty: the customer's name.")
    address = models.TextField(blank=True, max_length=500, help_text="As it is printed, in lines.")
    country = models.CharField(
        max_length=2,
        blank=True,
        validators=[RegexValidator(r"^[A-Z]{2}$", "is a code of two capital letters, such as DE")],
        help_text="ISO 3166-1: DE, FR, US.",
    )
    tax_id = models.CharField(max_length=40, blank=True, help_text="VAT number or the like, printed as it is.")
    tax_millionths = models.PositiveIntegerField(
        default=0,
        validators=[MaxValueValidator(WHOLE_MILLIONTHS)],
        verbose_name="tax (%)",
        help_text="Percent of what is left to pay, such as 19 or 8.875. 0: none.",
    )
    time_zone = models.CharField(
        max_length=60,
        default="UTC",
        help_text="Whose calendar months the invoices are of: Europe/Berlin, America/New_York.",
    )
    payment_days = models.PositiveSmallIntegerField(
        default=30,
        validators=[MaxValueValidator(MOST_PAYMENT_DAYS)],
        help_text="From the day of issue until the invoice is due.",
    )
    email = models.EmailField(blank=True, help_text="Where invoices go. Empty: the customer's own address.")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(tax_millionths__lte=WHOLE_MILLIONTHS), name="billing_billingprofile_tax_sane"
            ),
            models.CheckConstraint(
                condition=Q(payment_days__lte=MOST_PAYMENT_DAYS), name="billing_billingprofile_terms_sane"
            ),
        ]

    def __str__(self) -> str:
        return f"billing profile of customer {self.customer_id}"

    @override
    def clean(self) -> None:
        # Here and not a validator of the field: that would bind old migrations to the function.
        if self.time_zone not in available_timezones():
            raise ValidationError({"time_zone": "No such time zone: write an IANA name such as Europe/Berlin or UTC."})


class InvoiceSeries(models.Model):
    """The last number taken of a series in a year. Its row is locked until whoever takes one has committed."""

    name = models.CharField(max_length=20)
    year = models.PositiveSmallIntegerField()
    last_number = models.PositiveIntegerField(default=0)

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["name", "year"], name="billing_invoiceseries_once")]

    def __str__(self) -> str:
        return f"{self.name}-{self.year}"


class Invoice(AppendOnlyModel):
    """A customer's calendar month; see `billing.invoicing.document` for what the amounts are.

    `standing_month` is the month while the invoice stands, and null once it is void: of one month one stands.
    `basis_nanousd` is what other invoices had asked for when the draft was computed: when that has changed, the draft's
    lines about earlier months no longer hold.
    """

    guards = ("invoice_freezing",)

    id = models.BigAutoField(primary_key=True)
    customer = models.ForeignKey("keys.Customer", on_delete=models.PROTECT, related_name="+")
    month = models.CharField(max_length=7)
    standing_month = models.CharField(max_length=7, null=True)  # noqa: DJ001 - null does not collide in a unique index
    status = models.CharField(max_length=8, choices=[(state.value, state.value.capitalize()) for state in InvoiceState])
    number = models.CharField(max_length=40, null=True, unique=True)  # noqa: DJ001 - null does not collide in a unique index
    series = models.CharField(max_length=20, blank=True)
    year = models.PositiveSmallIntegerField(null=True)
    sequence = models.PositiveIntegerField(null=True)
    time_zone = models.CharField(max_length=60)
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    seller = models.JSONField(default=dict)
    buyer = models.JSONField(default=dict)
    usage_nanousd = models.BigIntegerField(default=0)
    basis_nanousd = models.BigIntegerField(default=0)
    granted_nanousd = models.BigIntegerField(default=0)
    prepaid_nanousd = models.BigIntegerField(default=0)
    net_nanousd = models.BigIntegerField(default=0)
    carried_nanousd = models.BigIntegerField(default=0)
    tax_millionths = models.PositiveIntegerField(default=0)
    tax_nanousd = models.BigIntegerField(default=0)
    total_nanousd = models.BigIntegerField(default=0)
    due_cents = models.BigIntegerField(default=0)
    paid_cents = models.BigIntegerField(default=0)
    replaces = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="+")
    computed_at = models.DateTimeField()
    issued_at = models.DateTimeField(null=True)
    due_on = models.DateField(null=True)
    paid_at = models.DateTimeField(null=True)
    voided_at = models.DateTimeField(null=True)
    void_reason = models.CharField(max_length=200, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["customer", "-id"], name="billing_invoice_by_customer"),
            models.Index(fields=["status", "-id"], name="billing_invoice_by_status"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "standing_month"],
                condition=Q(standing_month__isnull=False),
                name="billing_invoice_one_stands",
            ),
            models.UniqueConstraint(
                fields=["series", "year", "sequence"],
                condition=Q(sequence__isnull=False),
                name="billing_invoice_number_once",
            ),
            models.CheckConstraint(
                condition=Q(status__in=[state.value for state in InvoiceState]), name="billing_invoice_status_known"
            ),
            models.CheckConstraint(
                condition=Q(status="void", standing_month__isnull=True, voided_at__isnull=False)
                | ~Q(status="void") & Q(standing_month=F("month"), voided_at__isnull=True),
                name="billing_invoice_stands_unless_void",
            ),
            models.CheckConstraint(
                condition=Q(
                    status="draft",
                    number__isnull=True,
                    sequence__isnull=True,
                    year__isnull=True,
                    issued_at__isnull=True,
                )
                | ~Q(status="draft")
                & Q(number__isnull=False, sequence__gte=1, year__isnull=False, issued_at__isnull=False),
                name="billing_invoice_numbered_unless_draft",
            ),
            models.CheckConstraint(
                condition=Q(period_start__lt=F("period_end")), name="billing_invoice_period_not_empty"
            ),
            models.CheckConstraint(
                condition=Q(usage_nanousd=F("granted_nanousd") + F("prepaid_nanousd") + F("net_nanousd"))
                & Q(total_nanousd=F("net_nanousd") + F("carried_nanousd") + F("tax_nanousd")),
                name="billing_invoice_adds_up",
            ),
            models.CheckConstraint(
                condition=Q(net_nanousd__gte=0, tax_nanousd__gte=0, due_cents__gte=0),
                name="billing_invoice_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(paid_cents__gte=0, paid_cents__lte=F("due_cents"))
                & (~Q(status="paid") | Q(paid_cents=F("due_cents"))),
                name="billing_invoice_paid_in_full",
            ),
            models.CheckConstraint(condition=~Q(status="void") | Q(paid_cents=0), name="billing_invoice_void_unpaid"),
        ]

    def __str__(self) -> str:
        return self.number or f"draft {self.pk} of {self.month}"


class InvoiceItem(AppendOnlyModel):
    """A line of an invoice."""

    guards = ("invoice_items",)

    id = models.BigAutoField(primary_key=True)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="items")
    position = models.PositiveIntegerField()
    kind = models.CharField(max_length=10, choices=[(kind.value, kind.value.capitalize()) for kind in LineKind])
    text = models.CharField(max_length=300)
    model = models.CharField(max_length=120)
    price_version = models.ForeignKey(
        "billing.PriceVersion", null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    price_terms = models.ForeignKey(
        "billing.PriceTerms", null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    token_class = models.CharField(max_length=20, blank=True)
    quantity = models.BigIntegerField(default=0)
    rate_nanousd = models.BigIntegerField(null=True)
    amount_nanousd = models.BigIntegerField()

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["invoice", "position"], name="billing_invoiceitem_position_once"),
            models.CheckConstraint(
                condition=Q(kind__in=[kind.value for kind in LineKind]), name="billing_invoiceitem_kind_known"
            ),
        ]

    def __str__(self) -> str:
        return f"line {self.position}"
