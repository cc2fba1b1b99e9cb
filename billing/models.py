"""Rows of the ledger, usage and prices.

Rules live in `ledger`, `pricing` and `usage`; what can be a database constraint is one. Amounts are integer
nano-USD. `Transfer`, `UsageRecord` and `PriceVersion` are append-only.
"""

from django.db import models
from django.db.models import F, Q

from common.append_only import AppendOnlyModel
from common.generations import CatalogueModel


class AccountKind(models.TextChoices):
    CUSTOMER = "customer", "Customer's prepaid money"
    CREDIT_SOURCE = "credit_source", "Where granted credit comes from"
    REVENUE = "revenue", "Revenue from calls"


class Account(models.Model):
    """One side of transfers.

    For a customer's account `posted_nanousd` (received minus spent) and `held_nanousd` (open holds) are kept in
    the same transaction as the transfers that move them, under this row's lock; `reconcile` recomputes both. The
    platform's own accounts keep them at zero and are summed when asked: as a counter they would be one row that
    every batch of every process has to wait for.
    """

    code = models.CharField(max_length=60, unique=True)
    kind = models.CharField(max_length=20, choices=AccountKind.choices)
    customer = models.OneToOneField("keys.Customer", null=True, on_delete=models.PROTECT, related_name="+")
    posted_nanousd = models.BigIntegerField(default=0)
    held_nanousd = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(held_nanousd__gte=0), name="billing_account_held_not_negative"),
            models.CheckConstraint(
                condition=Q(kind="customer", customer__isnull=False) | ~Q(kind="customer") & Q(customer__isnull=True),
                name="billing_account_customer_iff_kind",
            ),
        ]

    def __str__(self) -> str:
        return self.code


class TransferKind(models.TextChoices):
    DIRECT = "direct", "Direct"
    PENDING = "pending", "Hold"
    POST = "post", "Post of a hold"
    VOID = "void", "Void of a hold"
    EXPIRE = "expire", "Expiry of a hold"


class Transfer(AppendOnlyModel):
    """A movement of money from the debit account to the credit account; balanced by construction.

    PENDING only reserves. POST moves at most what its PENDING reserved and releases the rest; VOID and EXPIRE
    release all of it. Each PENDING is resolved at most once, by a unique constraint. A trigger checks that a
    resolving row names a PENDING with the same accounts and request, and does not exceed it.
    """

    guards = ("transfer_resolution",)

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=8, choices=TransferKind.choices)
    debit_account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", db_index=False)
    credit_account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", db_index=False)
    amount_nanousd = models.BigIntegerField()
    pending = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    request_id = models.CharField(max_length=32, null=True)  # noqa: DJ001 - null does not collide in a unique index
    reference = models.CharField(  # noqa: DJ001 - null does not collide in a unique index
        max_length=100, null=True, help_text="Names a movement that must happen once, e.g. an import line."
    )
    reason = models.CharField(max_length=200, blank=True)
    author = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["debit_account", "id"], name="billing_transfer_by_debit"),
            models.Index(fields=["credit_account", "id"], name="billing_transfer_by_credit"),
            models.Index(fields=["created_at"], name="billing_transfer_by_time"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(amount_nanousd__gt=0), name="billing_transfer_amount_positive"),
            models.CheckConstraint(
                condition=~Q(debit_account=F("credit_account")), name="billing_transfer_two_accounts"
            ),
            models.CheckConstraint(condition=Q(kind__in=TransferKind.values), name="billing_transfer_kind_known"),
            models.CheckConstraint(
                condition=Q(kind__in=["post", "void", "expire"], pending__isnull=False)
                | Q(kind__in=["direct", "pending"], pending__isnull=True),
                name="billing_transfer_resolves_iff_kind",
            ),
            models.UniqueConstraint(
                fields=["pending"], condition=Q(pending__isnull=False), name="billing_transfer_resolved_once"
            ),
            models.UniqueConstraint(
                fields=["request_id", "kind"],
                condition=Q(request_id__isnull=False),
                name="billing_transfer_once_per_request",
            ),
            models.UniqueConstraint(
                fields=["reference"],
                condition=Q(reference__isnull=False),
                name="billing_transfer_reference_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class Hold(models.Model):
    """An open hold: the working copy of a call in flight. Deleted in the transaction that resolves it.

    `owners` are the limit counters that the call took ("customer:1,key:2"); `draft` is the usage record as far
    as it is known at admission, so that a hold whose process died can still leave a row that tells. A call that
    costs nothing has no PENDING transfer, but holds its place in the limits all the same.
    """

    request_id = models.CharField(max_length=32, primary_key=True)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    pending = models.ForeignKey(Transfer, null=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    amount_nanousd = models.BigIntegerField()
    worker_id = models.BigIntegerField(db_index=True)
    owners = models.CharField(max_length=100)
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    day = models.IntegerField()
    month = models.IntegerField()
    progress_tokens = models.BigIntegerField(default=0)
    draft = models.TextField()
    created_us = models.BigIntegerField()
    expires_us = models.BigIntegerField(db_index=True)

    def __str__(self) -> str:
        return self.request_id


class PriceVersion(AppendOnlyModel, CatalogueModel):
    """What one model costs from a moment on. Columns are nano-USD per million tokens; `request` is per call.

    `provider_*` is what the platform pays, for the margin; it never reaches a customer.
    """

    id = models.BigAutoField(primary_key=True)
    model = models.CharField(max_length=120, help_text="The public model name.")
    effective_from = models.DateTimeField()
    input_nanousd = models.BigIntegerField()
    cache_read_nanousd = models.BigIntegerField()
    cache_write_nanousd = models.BigIntegerField()
    output_nanousd = models.BigIntegerField()
    reasoning_nanousd = models.BigIntegerField()
    audio_input_nanousd = models.BigIntegerField()
    audio_output_nanousd = models.BigIntegerField()
    request_nanousd = models.BigIntegerField(default=0)
    provider_input_nanousd = models.BigIntegerField(default=0)
    provider_cache_read_nanousd = models.BigIntegerField(default=0)
    provider_cache_write_nanousd = models.BigIntegerField(default=0)
    provider_output_nanousd = models.BigIntegerField(default=0)
    provider_reasoning_nanousd = models.BigIntegerField(default=0)
    provider_audio_input_nanousd = models.BigIntegerField(default=0)
    provider_audio_output_nanousd = models.BigIntegerField(default=0)
    provider_request_nanousd = models.BigIntegerField(default=0)
    author = models.CharField(max_length=150, blank=True)
    reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model", "effective_from"], name="billing_price_one_per_moment"),
            models.CheckConstraint(
                condition=Q(input_nanousd__gte=0)
                & Q(cache_read_nanousd__gte=0)
                & Q(cache_write_nanousd__gte=0)
                & Q(output_nanousd__gte=0)
                & Q(reasoning_nanousd__gte=0)
                & Q(audio_input_nanousd__gte=0)
                & Q(audio_output_nanousd__gte=0)
                & Q(request_nanousd__gte=0),
                name="billing_price_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} from {self.effective_from:%Y-%m-%d %H:%M}"


class UsageStatus(models.TextChoices):
    COMPLETED = "completed", "Completed"
    CANCELLED = "cancelled", "The client left or cancelled"
    INTERRUPTED = "interrupted", "Ended by a fault after the first byte"
    FAILED = "failed", "Failed before the first byte"
    LOST = "lost", "The server died; resolved at expiry"


class UsageSource(models.TextChoices):
    PROVIDER = "provider", "The provider's own figures"
    ESTIMATED = "estimated", "Counted by us"
    NONE = "none", "Nothing was produced"


class UsageRecord(AppendOnlyModel):
    """One call, written once at its settlement. Token classes are disjoint; no bodies.

    `cost_nanousd` is price times tokens, rounded once, half-even; `charged_nanousd` is what the ledger moved: the
    same, unless a provider reported more than was held and the customer's money did not cover the difference.
    """

    id = models.BigAutoField(primary_key=True)
    request_id = models.CharField(max_length=32)
    sequence = models.PositiveSmallIntegerField(
        default=0,
        help_text="1 for an answer that arrived after its hold had expired and been recorded as lost.",
    )
    customer = models.ForeignKey("keys.Customer", on_delete=models.PROTECT, related_name="+", db_index=False)
    api_key = models.ForeignKey("keys.ApiKey", on_delete=models.PROTECT, related_name="+", db_index=False)
    operation = models.CharField(max_length=30)
    model = models.CharField(max_length=120)
    upstream = models.CharField(max_length=60, blank=True)
    upstream_model = models.CharField(max_length=200, blank=True)
    price_version = models.ForeignKey(PriceVersion, on_delete=models.PROTECT, related_name="+", db_index=False)
    status = models.CharField(max_length=12, choices=UsageStatus.choices)
    source = models.CharField(max_length=10, choices=UsageSource.choices)
    error_code = models.CharField(max_length=60, blank=True)
    finish_reason = models.CharField(max_length=30, blank=True)
    is_stream = models.BooleanField()
    input_tokens = models.BigIntegerField(default=0)
    cache_read_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    audio_input_tokens = models.BigIntegerField(default=0)
    audio_output_tokens = models.BigIntegerField(default=0)
    cost_nanousd = models.BigIntegerField(default=0)
    charged_nanousd = models.BigIntegerField(default=0)
    provider_cost_nanousd = models.BigIntegerField(default=0)
    flags = models.CharField(max_length=200, blank=True, help_text="Anomalies, comma separated.")
    end_user = models.CharField(max_length=120, blank=True)
    tags = models.JSONField(default=dict)
    started_at = models.DateTimeField()
    settled_at = models.DateTimeField()
    upstream_ms = models.IntegerField(default=0)
    ttft_ms = models.IntegerField(null=True)
    total_ms = models.IntegerField(default=0)
    overhead_us = models.IntegerField(default=0)

    class Meta:
        indexes = [
            models.Index(fields=["customer", "started_at"], name="billing_usage_by_customer"),
            models.Index(fields=["api_key", "started_at"], name="billing_usage_by_key"),
            models.Index(fields=["started_at"], name="billing_usage_by_time"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["request_id", "sequence"], name="billing_usage_once"),
            models.CheckConstraint(
                condition=Q(input_tokens__gte=0)
                & Q(cache_read_tokens__gte=0)
                & Q(cache_write_tokens__gte=0)
                & Q(output_tokens__gte=0)
                & Q(reasoning_tokens__gte=0)
                & Q(audio_input_tokens__gte=0)
                & Q(audio_output_tokens__gte=0),
                name="billing_usage_tokens_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(charged_nanousd__gte=0) & Q(charged_nanousd__lte=F("cost_nanousd")),
                name="billing_usage_charged_at_most_cost",
            ),
        ]

    def __str__(self) -> str:
        return self.request_id
