"""Rows of looking after money: alerts, usage by the hour, archives of old usage, reconciliations.

Rules live in `billing.alerts`, `billing.retention` and `billing.reconciliation`.
"""

from django.db import models
from django.db.models import F, Q

from billing.tokens import TOKEN_CLASSES
from common.append_only import AppendOnlyModel


class AlertKind(models.TextChoices):
    SPEND_DAY = "spend-day", "Budget of the day"
    SPEND_MONTH = "spend-month", "Budget of the month"
    SPEND_TOTAL = "spend-total", "Budget in all"
    LOW_BALANCE = "low-balance", "Low balance"


class Alert(models.Model):
    """A threshold that was reached, once for each window: written before anything is sent.

    `window` is the number of the UTC day or month; 0 for a budget that never resets; for a balance the transfer that
    last filled it, so that whoever tops up is warned again the next time.
    """

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=12, choices=AlertKind.choices)
    # "customer:1" or "key:2", as the counters of limits are called.
    owner = models.CharField(max_length=40)
    customer = models.ForeignKey("keys.Customer", on_delete=models.PROTECT, related_name="+", db_index=False)
    api_key = models.ForeignKey("keys.ApiKey", null=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    window = models.BigIntegerField()
    percent = models.PositiveIntegerField(help_text="Of the budget; 0 for a balance.")
    limit_nanousd = models.BigIntegerField(help_text="The budget, or the balance to warn below.")
    amount_nanousd = models.BigIntegerField(help_text="What was spent, or is left, when it was noticed.")
    created_at = models.DateTimeField()
    # A higher threshold was reached at the same moment, and its mail says all.
    is_superseded = models.BooleanField(default=False)
    sent_at = models.DateTimeField(null=True)
    recipients = models.CharField(max_length=600, blank=True)
    # Whoever sends claims the row until then; a sender that died frees it by the clock.
    next_attempt_at = models.DateTimeField()
    attempts = models.PositiveIntegerField(default=0)
    problem = models.CharField(max_length=300, blank=True)

    class Meta:
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["created_at"], name="billing_alert_by_time"),
            models.Index(
                fields=["next_attempt_at"],
                condition=Q(sent_at__isnull=True, is_superseded=False),
                name="billing_alert_unsent",
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["owner", "kind", "window", "percent"], name="billing_alert_once_a_window"),
            models.CheckConstraint(condition=Q(kind__in=AlertKind.values), name="billing_alert_kind_known"),
        ]

    def __str__(self) -> str:
        return f"alert {self.pk}"


def _count() -> "models.BigIntegerField[int, int]":
    return models.BigIntegerField(default=0)


class UsageSums(models.Model):
    """Base of sums of usage records by customer, key and model."""

    id = models.BigAutoField(primary_key=True)
    customer = models.ForeignKey("keys.Customer", on_delete=models.PROTECT, related_name="+", db_index=False)
    api_key = models.ForeignKey("keys.ApiKey", on_delete=models.PROTECT, related_name="+", db_index=False)
    model = models.CharField(max_length=120)
    calls = _count()
    faults = _count()
    errors = _count()
    input_tokens = _count()
    cache_read_tokens = _count()
    cache_write_tokens = _count()
    output_tokens = _count()
    reasoning_tokens = _count()
    audio_input_tokens = _count()
    audio_output_tokens = _count()
    image_input_tokens = _count()
    image_output_tokens = _count()
    cost_nanousd = _count()
    charged_nanousd = _count()
    provider_cost_nanousd = _count()

    class Meta:
        abstract = True


class UsageHour(UsageSums):
    """Sums of the records of one hour that are in an archive and not in the database any more.

    So a call is counted by its record or by these, never by both: they are written in the transaction that deletes it.
    """

    hour = models.DateTimeField()
    prompt = models.CharField(max_length=80, blank=True)
    prompt_version = models.CharField(max_length=20, blank=True)

    class Meta:
        default_permissions = ()
        indexes = [
            models.Index(fields=["customer", "hour"], name="billing_usagehour_by_customer"),
            models.Index(fields=["api_key", "hour"], name="billing_usagehour_by_key"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["hour", "customer", "api_key", "model", "prompt", "prompt_version"],
                name="billing_usagehour_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.model} at {self.hour:%Y-%m-%d %H}:00"


class UsageDay(UsageSums):
    """Sums of the records that began on one UTC day and have ids up to the watermark; see `billing.usage_days`."""

    day = models.DateTimeField(help_text="Its midnight.")

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["customer", "day"], name="billing_usageday_by_customer")]
        constraints = [
            models.UniqueConstraint(fields=["day", "customer", "api_key", "model"], name="billing_usageday_once")
        ]

    def __str__(self) -> str:
        return f"{self.model} on {self.day:%Y-%m-%d}"


class UsageWatermark(models.Model):
    """The one row that says up to which record usage is in the sums of its days."""

    highest_id = models.BigIntegerField(default=0)

    class Meta:
        default_permissions = ()
        constraints = [models.CheckConstraint(condition=Q(id=1), name="billing_usagewatermark_one")]

    def __str__(self) -> str:
        return f"usage up to {self.highest_id}"


SUMMED_COLUMNS = (
    *(f"{token_class}_tokens" for token_class in TOKEN_CLASSES),
    "cost_nanousd",
    "charged_nanousd",
    "provider_cost_nanousd",
)


class UsageArchive(AppendOnlyModel):
    """The manifest of a file of usage records; while it stands, the database lets go of the records that it names.

    The records are those that began on `day` and have ids up to `highest_id`. A record that joins the day later goes
    into a further part.
    """

    id = models.BigAutoField(primary_key=True)
    day = models.DateField()
    part = models.PositiveIntegerField(default=1)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    highest_id = models.BigIntegerField()
    row_count = models.BigIntegerField()
    charged_nanousd = models.BigIntegerField()
    cost_nanousd = models.BigIntegerField()
    byte_count = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    location = models.CharField(max_length=400)
    created_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["day", "part"], name="billing_usagearchive_part_once"),
            models.CheckConstraint(condition=Q(row_count__gt=0), name="billing_usagearchive_not_empty"),
            models.CheckConstraint(
                condition=Q(starts_at__lt=F("ends_at")), name="billing_usagearchive_range_not_empty"
            ),
        ]

    def __str__(self) -> str:
        return f"usage of {self.day}, part {self.part}"


class ReconciliationKind(models.TextChoices):
    BOOKS = "books", "Own books"
    PROVIDER = "provider", "A provider's file"


class ReconciliationRun(AppendOnlyModel):
    """The result of one reconciliation, as it was printed."""

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=8, choices=ReconciliationKind.choices)
    created_at = models.DateTimeField()
    duration_ms = models.BigIntegerField()
    is_clean = models.BooleanField()
    difference_count = models.PositiveIntegerField()
    # Of a provider's file: its name and what it held; empty of the own books.
    source = models.CharField(max_length=200, blank=True)
    sha256 = models.CharField(max_length=64, blank=True)
    report = models.JSONField()

    class Meta:
        default_permissions = ("view",)
        indexes = [models.Index(fields=["created_at"], name="billing_reconciliation_by_time")]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=ReconciliationKind.values), name="billing_reconciliationrun_kind_known"
            )
        ]

    def __str__(self) -> str:
        return f"reconciliation {self.pk}"
