"""Rows of exports: what was exported, and what is exported every day. Rules live in `billing.exports`."""

from django.db import models
from django.db.models import F, Q

from common.append_only import AppendOnlyModel


class ExportDataset(models.TextChoices):
    USAGE = "usage", "Usage: one row a call"
    LEDGER = "ledger", "Ledger: one row a transfer"
    INVOICES = "invoices", "Invoices: one row an issue or a void"


class ExportFormat(models.TextChoices):
    CSV = "csv", "CSV"
    JSONL = "jsonl", "JSON lines"
    XLSX = "xlsx", "Excel workbook"
    FOCUS = "focus", "FOCUS 1.2 (FinOps cost and usage)"
    CLOUDEVENTS = "cloudevents", "CloudEvents"
    BEANCOUNT = "beancount", "Beancount journal"


class ExportAudience(models.TextChoices):
    OPERATOR = "operator", "The platform's people"
    CUSTOMER = "customer", "A customer"


class ExportSchedule(models.Model):
    """An export of every UTC day, once it is closed; run by `manage.py export_scheduled`."""

    name = models.SlugField(max_length=40, unique=True, help_text="Part of the files' names.")
    # Not "dataset": Unfold takes a form field of that name for something of its own.
    content = models.CharField("dataset", max_length=12, choices=ExportDataset.choices)
    format = models.CharField(max_length=12, choices=ExportFormat.choices)
    customer = models.ForeignKey("keys.Customer", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    destination = models.CharField(
        max_length=200,
        blank=True,
        help_text="A folder below EXPORT_DIR, or s3://bucket/folder. Empty: EXPORT_DIR itself.",
    )
    first_day = models.DateField(help_text="UTC. Every closed day from this one on is exported, also in the past.")
    is_active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(content__in=ExportDataset.values), name="billing_exportschedule_content_known"
            ),
            models.CheckConstraint(
                condition=Q(format__in=ExportFormat.values), name="billing_exportschedule_format_known"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ExportRun(AppendOnlyModel):
    """What one export held: enough to prove a copy of the file, and to produce it again.

    `is_closed` says that no row could join the range any more when it was read; only such runs can be repeated to
    the byte. A day of a schedule is exported once; doing it again is a next `revision`.
    """

    id = models.BigAutoField(primary_key=True)
    public_id = models.CharField(max_length=32, unique=True)
    dataset = models.CharField(max_length=12, choices=ExportDataset.choices)
    format = models.CharField(max_length=12, choices=ExportFormat.choices)
    format_version = models.PositiveSmallIntegerField(help_text="Rises when the same rows give another file.")
    audience = models.CharField(max_length=8, choices=ExportAudience.choices)
    range_start = models.DateTimeField()
    range_end = models.DateTimeField()
    customer = models.ForeignKey("keys.Customer", null=True, on_delete=models.PROTECT, related_name="+")
    is_closed = models.BooleanField()
    row_count = models.BigIntegerField()
    total_nanousd = models.BigIntegerField()
    byte_count = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    author = models.CharField(max_length=150)
    schedule = models.ForeignKey(ExportSchedule, null=True, on_delete=models.PROTECT, related_name="+")
    revision = models.PositiveSmallIntegerField(default=0)
    location = models.CharField(max_length=400, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["created_at"], name="billing_exportrun_by_time")]
        constraints = [
            models.CheckConstraint(
                condition=Q(dataset__in=ExportDataset.values), name="billing_exportrun_dataset_known"
            ),
            models.CheckConstraint(condition=Q(format__in=ExportFormat.values), name="billing_exportrun_format_known"),
            models.CheckConstraint(
                condition=Q(audience="operator") | Q(audience="customer", customer__isnull=False),
                name="billing_exportrun_customer_sees_own",
            ),
            models.CheckConstraint(
                condition=Q(range_start__lt=F("range_end")), name="billing_exportrun_range_not_empty"
            ),
            models.CheckConstraint(
                condition=Q(row_count__gte=0, byte_count__gte=0), name="billing_exportrun_not_negative"
            ),
            models.UniqueConstraint(
                fields=["schedule", "range_start", "revision"],
                condition=Q(schedule__isnull=False),
                name="billing_exportrun_day_once",
            ),
        ]

    def __str__(self) -> str:
        return self.public_id
