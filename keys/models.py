"""Rows of customers, plans, keys, the counters of their limits, and the audit trail.

Rules live in `issuing`, `customers` and `limits`; these classes hold columns and database constraints only.
A limit that is null does not exist at that level: the key's own limits come on top of the customer's, and the
customer's fall back to the plan's.
"""

from datetime import UTC, datetime

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from common.append_only import AppendOnlyModel
from common.generations import PrincipalModel
from keys.limit_values import MAX_BURST_SECONDS, RAISABLE_COLUMNS


class LimitColumns(models.Model):
    """The limits that a plan, a customer or a key may set. Null: not limited here."""

    requests_per_minute = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        verbose_name="chat requests per minute",
        help_text="Chat calls a minute. The bucket refills continuously and holds one minute's worth, or the burst.",
    )
    input_tokens_per_minute = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        verbose_name="chat input tokens per minute",
        help_text="Counted before the call, corrected to the provider's figure after it.",
    )
    output_tokens_per_minute = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        verbose_name="chat output tokens per minute",
        help_text="A call reserves its maximum output; what it did not use comes back.",
    )
    embeddings_requests_per_minute = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Embeddings calls a minute; they take nothing from chat."
    )
    embeddings_input_tokens_per_minute = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Tokens of the texts that are embedded."
    )
    search_requests_per_minute = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Searches and rankings a minute."
    )
    search_input_tokens_per_minute = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Tokens of the texts that are searched or ranked."
    )
    control_requests_per_minute = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Calls of the other endpoints: models, usage, balance, limits."
    )
    burst_seconds = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_BURST_SECONDS)],
        help_text="How many seconds' worth of its rates may be used at once, 1 to 3,600. Empty: 60, a minute's worth.",
    )
    concurrency = models.PositiveIntegerField(null=True, blank=True, help_text="Calls in flight at the same time.")
    max_input_tokens = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Largest input of one call (its context), in counted tokens."
    )
    spend_per_day_nanousd = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Budget of a UTC day, in nano-USD."
    )
    spend_per_month_nanousd = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Budget of a UTC calendar month, in nano-USD."
    )
    spend_total_nanousd = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        help_text="Budget of all time, in nano-USD. It never resets: once it is spent, calls stop until it is raised.",
    )

    class Meta:
        abstract = True


def _burst_in_range(table: str) -> models.CheckConstraint:
    return models.CheckConstraint(
        condition=Q(burst_seconds__isnull=True) | Q(burst_seconds__gte=1, burst_seconds__lte=MAX_BURST_SECONDS),
        name=f"{table}_burst_in_range",
    )


class Plan(LimitColumns, PrincipalModel):
    """A named set of limits that customers share (each customer has the whole of it for itself)."""

    slug = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    description = models.TextField(blank=True)
    is_paid = models.BooleanField(
        default=True,
        verbose_name="paid",
        help_text="Under load, calls of plans that are not paid wait first; batch calls wait before interactive ones.",
    )
    reused_price_percent = models.PositiveSmallIntegerField(
        "Price of a reused answer, percent",
        null=True,
        blank=True,
        help_text="What an answer from the response cache costs, of the price that it would have cost otherwise. "
        "Empty: as its model says.",
    )

    class Meta:
        constraints = [
            _burst_in_range("keys_plan"),
            models.CheckConstraint(
                condition=Q(reused_price_percent__isnull=True) | Q(reused_price_percent__lte=100),
                name="keys_plan_reused_price_sane",
            ),
        ]

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
            _burst_in_range("keys_customer"),
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
    allowed_prompts = models.JSONField(
        default=list, blank=True, help_text="Prompt names, or prefixes ending in *. Empty: every released prompt."
    )
    allowed_networks = models.JSONField(
        default=list, blank=True, help_text="Addresses or networks (192.0.2.0/24, 2001:db8::/32). Empty: from anywhere."
    )
    # The key that asked for this one; revoked with it.
    maker = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="+", editable=False)
    # Set when it has been rotated: until it expires, both work.
    successor = models.ForeignKey(
        "self", null=True, on_delete=models.PROTECT, related_name="+", db_index=False, editable=False
    )
    # The first key of its chain of rotations, whose limits and counters the whole chain shares; null: this one.
    line = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="+", editable=False)
    deprecated_at = models.DateTimeField(null=True, editable=False)
    # "2026-11-21"; empty until its first call, which pins it to the newest (`keys.pinning`).
    api_version = models.CharField("API version", max_length=10, blank=True, default="", editable=False)
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
            models.CheckConstraint(
                condition=Q(successor__isnull=True, deprecated_at__isnull=True)
                | Q(successor__isnull=False, deprecated_at__isnull=False),
                name="keys_apikey_deprecated_iff_rotated",
            ),
            _burst_in_range("keys_apikey"),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"

    def state(self, *, now: datetime | None = None) -> str:
        """Return "active", "rotated" (still works, has a successor), "expired" or "revoked"."""
        if self.revoked_at is not None:
            return "revoked"
        moment = now or datetime.now(UTC)
        if self.expires_at is not None and self.expires_at <= moment:
            return "expired"
        return "active" if self.deprecated_at is None else "rotated"


class LimitRaise(PrincipalModel):
    """A limit of one customer, or of a line of keys (its first), that is higher for a time.

    Written by `keys.raising` only. While it runs, the higher of it and the owner's own value counts. Its numbers never
    change; it may end early.
    """

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, null=True, related_name="+")
    api_key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, null=True, related_name="+")
    limit_name = models.CharField(max_length=40, choices=[(column, column) for column in RAISABLE_COLUMNS])
    value = models.PositiveBigIntegerField()
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=150)

    class Meta:
        verbose_name = "raised limit"
        default_permissions = ("view", "add", "change")
        indexes = [
            models.Index(fields=["customer", "ends_at"], name="keys_limitraise_by_customer"),
            models.Index(fields=["api_key", "ends_at"], name="keys_limitraise_by_key"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(customer__isnull=False, api_key__isnull=True)
                | Q(customer__isnull=True, api_key__isnull=False),
                name="keys_limitraise_one_owner",
            ),
            models.CheckConstraint(condition=Q(ends_at__gte=F("starts_at")), name="keys_limitraise_ends_after_start"),
            models.CheckConstraint(condition=~Q(reason=""), name="keys_limitraise_with_reason"),
            models.CheckConstraint(condition=Q(limit_name__in=RAISABLE_COLUMNS), name="keys_limitraise_limit_known"),
        ]

    def __str__(self) -> str:
        return f"{self.limit_name} of {self.customer_id or self.api_key_id}"


class FeatureRule(PrincipalModel):
    """A flag that is on, or off, for a time: for a customer, a line of keys (its first), or a share of all customers.

    Written by `keys.flagging` only. What it says never changes; it may end early.
    """

    # A name in `keys.features.FEATURES`; not a constraint, so that a flag comes and goes with the code alone.
    feature = models.CharField(max_length=60)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, null=True, related_name="+")
    api_key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, null=True, related_name="+")
    share_percent = models.PositiveSmallIntegerField(default=100)
    is_on = models.BooleanField(default=True)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=150)

    class Meta:
        verbose_name = "flag"
        default_permissions = ("view", "add", "change")
        constraints = [
            models.CheckConstraint(
                condition=Q(customer__isnull=True) | Q(api_key__isnull=True), name="keys_featurerule_one_owner"
            ),
            models.CheckConstraint(
                condition=Q(share_percent=100)
                | Q(customer__isnull=True, api_key__isnull=True, share_percent__gte=1, share_percent__lte=99),
                name="keys_featurerule_share_of_all",
            ),
            models.CheckConstraint(
                condition=Q(ends_at__isnull=True) | Q(ends_at__gte=F("starts_at")),
                name="keys_featurerule_ends_after_start",
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="keys_featurerule_with_reason"),
        ]

    def __str__(self) -> str:
        return f"{self.feature} {'on' if self.is_on else 'off'}"


class LimitState(models.Model):
    """The counters of one owner's limits; `owner` is "customer:<id>" or "key:<id>" (of a rotated key the first's id).

    Rates of other classes than chat have rows of their own, "key:<id>/embeddings", with nothing else in them. Written
    under a row lock, by admission and (class "control") by `keys.control_limits`. Debts are in unit-microseconds (see
    `keys.limit_values`), so that a bucket refills by integer arithmetic on the clock: there is no reset job and no
    rounding. Spend windows carry the number of their UTC day or month; a row of another window counts as empty.
    """

    owner = models.CharField(max_length=40, primary_key=True)
    updated_us = models.BigIntegerField(default=0)
    requests_debt = models.BigIntegerField(default=0)
    input_tokens_debt = models.BigIntegerField(default=0)
    output_tokens_debt = models.BigIntegerField(default=0)
    # All that was ever taken: a call that ends early gives back only what still stands (see `keys.limits`).
    input_tokens_taken = models.BigIntegerField(default=0)
    output_tokens_taken = models.BigIntegerField(default=0)
    in_flight = models.IntegerField(default=0)
    day = models.IntegerField(default=0)
    day_posted_nanousd = models.BigIntegerField(default=0)
    day_held_nanousd = models.BigIntegerField(default=0)
    month = models.IntegerField(default=0)
    month_posted_nanousd = models.BigIntegerField(default=0)
    month_held_nanousd = models.BigIntegerField(default=0)
    total_posted_nanousd = models.BigIntegerField(default=0)
    total_held_nanousd = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(requests_debt__gte=0)
                & Q(input_tokens_debt__gte=0)
                & Q(output_tokens_debt__gte=0)
                & Q(in_flight__gte=0)
                & Q(day_held_nanousd__gte=0)
                & Q(month_held_nanousd__gte=0)
                & Q(total_held_nanousd__gte=0),
                name="keys_limitstate_not_negative",
            )
        ]

    def __str__(self) -> str:
        return self.owner


class ActorKind(models.TextChoices):
    ADMIN = "admin", "Admin"
    KEY = "key", "API key"
    COMMAND = "command", "Command"
    SYSTEM = "system", "System"
    STRANGER = "stranger", "Not logged in"


class AuditEvent(AppendOnlyModel):
    """One thing that somebody did; written by `keys.audit.record_event` in the transaction of the deed itself."""

    id = models.BigAutoField(primary_key=True)
    created_at = models.DateTimeField()
    actor_kind = models.CharField(max_length=8, choices=ActorKind.choices)
    actor_id = models.CharField(max_length=64, blank=True)
    actor_name = models.CharField(max_length=150)
    address = models.GenericIPAddressField(null=True)
    action = models.CharField(max_length=80)
    # A model's label and primary key, not a foreign key: the trail outlives what it tells of.
    object_kind = models.CharField(max_length=60)
    object_id = models.CharField(max_length=64, blank=True)
    object_name = models.CharField(max_length=200, blank=True)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    reason = models.TextField(blank=True)

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit trail"
        # A trail is only read and added to; the other two permissions would promise what the database refuses.
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["created_at", "id"], name="keys_auditevent_by_time"),
            models.Index(fields=["object_kind", "object_id", "id"], name="keys_auditevent_by_object"),
            models.Index(fields=["actor_name", "id"], name="keys_auditevent_by_actor"),
            models.Index(fields=["action", "id"], name="keys_auditevent_by_action"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(actor_kind__in=ActorKind.values), name="keys_auditevent_actor_known"),
            models.CheckConstraint(condition=~Q(actor_name=""), name="keys_auditevent_actor_named"),
            models.CheckConstraint(condition=Q(action__contains="."), name="keys_auditevent_action_named"),
        ]

    def __str__(self) -> str:
        return f"{self.action}: {self.object_name}"
