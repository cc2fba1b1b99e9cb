"""Rows of customers, plans, keys and the counters of their limits.

Rules live in `issuing`, `customers` and `limits`; these classes hold columns and database constraints only.
A limit that is null does not exist at that level: the key's own limits come on top of the customer's, and the
customer's fall back to the plan's.
"""

from datetime import UTC, datetime

from django.db import models
from django.db.models import Q

from common.generations import PrincipalModel


class LimitColumns(models.Model):
    """The limits that a plan, a customer or a key may set. Null: not limited here."""

    requests_per_minute = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        help_text="Calls a minute. The bucket refills continuously and holds one minute's worth.",
    )
    input_tokens_per_minute = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        help_text="Counted before the call, corrected to the provider's figure after it.",
    )
    output_tokens_per_minute = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="A call reserves its maximum output; what it did not use comes back."
    )
    concurrency = models.PositiveIntegerField(null=True, blank=True, help_text="Calls in flight at the same time.")
    max_input_tokens = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Largest input of one call, in counted tokens."
    )
    spend_per_day_nanousd = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Budget of a UTC day, in nano-USD."
    )
    spend_per_month_nanousd = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Budget of a UTC calendar month, in nano-USD."
    )

    class Meta:
        abstract = True


class Plan(LimitColumns, PrincipalModel):
    """A named set of limits that customers share (each customer has the whole of it for itself)."""

    slug = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    description = models.TextField(blank=True)

    def __str__(self) -> str:
        return self.name


class CustomerStatus(models.TextChoices):
    ACTIVE = "active", "Active"
    SUSPENDED = "suspended", "Suspended: every call is refused"


class Customer(LimitColumns, PrincipalModel):
    """A paying organisation. Its money is in the ledger (`billing`), under its id."""

    public_id = models.CharField(max_length=32, unique=True, editable=False)
    name = models.CharField(max_length=120, unique=True)
    email = models.EmailField(blank=True, help_text="Where notices about keys and money go.")
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="+")
    status = models.CharField(max_length=12, choices=CustomerStatus.choices, default=CustomerStatus.ACTIVE)
    note = models.TextField(blank=True, help_text="Seen by admins only.")
    created_at = models.DateTimeField(editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(status__in=CustomerStatus.values), name="keys_customer_status_known"),
        ]

    def __str__(self) -> str:
        return self.name


class KeyEnvironment(models.TextChoices):
    LIVE = "live", "Live"
    TEST = "test", "Test"


class ApiKey(LimitColumns, PrincipalModel):
    """A secret that calls for a customer. Only a keyed hash of it is stored; it is shown once, when made."""

    # Written by calls themselves, once a minute.
    unwatched_columns = frozenset({"last_used_at", "last_used_address"})

    public_id = models.CharField(max_length=32, unique=True, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=80, help_text="What it is for: 'website backend', 'nightly report'.")
    environment = models.CharField(max_length=4, choices=KeyEnvironment.choices, default=KeyEnvironment.LIVE)
    prefix = models.CharField(
        max_length=16,
        db_index=True,
        editable=False,
        help_text="The first characters: enough to recognise, not to call.",
    )
    secret_hmac = models.CharField(max_length=64, unique=True, editable=False)
    scopes = models.JSONField(default=list)
    allowed_models = models.JSONField(
        default=list, blank=True, help_text="Model names, or prefixes ending in *. Empty: every active model."
    )
    created_at = models.DateTimeField(editable=False)
    created_by = models.CharField(max_length=150, blank=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="UTC. Empty: does not expire.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_reason = models.CharField(max_length=200, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_address = models.GenericIPAddressField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "API key"
        indexes = [models.Index(fields=["customer", "-created_at"], name="keys_apikey_by_customer")]
        constraints = [
            models.CheckConstraint(
                condition=Q(environment__in=KeyEnvironment.values), name="keys_apikey_environment_known"
            ),
            models.CheckConstraint(
                condition=Q(revoked_at__isnull=True) | ~Q(revoked_reason=""),
                name="keys_apikey_revoked_with_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"

    def state(self, *, now: datetime | None = None) -> str:
        """Return "active", "expired" or "revoked"."""
        if self.revoked_at is not None:
            return "revoked"
        moment = now or datetime.now(UTC)
        return "expired" if self.expires_at is not None and self.expires_at <= moment else "active"


class LimitState(models.Model):
    """The counters of one owner's limits; `owner` is "customer:<id>" or "key:<id>".

    Written by admission only, under a row lock. Debts are in unit-microseconds (see `keys.limits`), so that a
    bucket refills by integer arithmetic on the clock: there is no reset job and no rounding. Spend windows carry
    the number of their UTC day or month; a row of another window counts as empty.
    """

    owner = models.CharField(max_length=40, primary_key=True)
    updated_us = models.BigIntegerField(default=0)
    requests_debt = models.BigIntegerField(default=0)
    input_tokens_debt = models.BigIntegerField(default=0)
    output_tokens_debt = models.BigIntegerField(default=0)
    in_flight = models.IntegerField(default=0)
    day = models.IntegerField(default=0)
    day_posted_nanousd = models.BigIntegerField(default=0)
    day_held_nanousd = models.BigIntegerField(default=0)
    month = models.IntegerField(default=0)
    month_posted_nanousd = models.BigIntegerField(default=0)
    month_held_nanousd = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(requests_debt__gte=0)
                & Q(input_tokens_debt__gte=0)
                & Q(output_tokens_debt__gte=0)
                & Q(in_flight__gte=0)
                & Q(day_held_nanousd__gte=0)
                & Q(month_held_nanousd__gte=0),
                name="keys_limitstate_not_negative",
            )
        ]

    def __str__(self) -> str:
        return self.owner
