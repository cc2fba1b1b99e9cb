"""Rows of the ledger, usage and prices.

Rules live in `ledger`, `pricing` and `usage`; what can be a database constraint is one. Amounts are integer
nano-USD. `Transfer`, `UsageRecord`, `PriceVersion` and `PriceTerms` are append-only.
"""

from django.db import models
from django.db.models import F, Q

from billing import (  # noqa: F401 - Django finds the models of an app here
    export_models,
    finance_models,
    invoice_models,
    money_models,
)
from billing.rates import Processing
from billing.waiving import NoCharge
from common.append_only import AppendOnlyModel
from common.generations import CatalogueModel


class AccountKind(models.TextChoices):
    CUSTOMER = "customer", "Customer's wallet: prepaid and granted money"
    RECEIVABLE = "receivable", "What a customer owes on invoices"
    CASH = "cash", "Money received and paid back"
    CREDIT_SOURCE = "credit_source", "Where granted credit comes from"
    REVENUE = "revenue", "Revenue from calls"
    SUSPENSE = "suspense", "Revenue to be looked at: estimated or flagged calls"
    PROVIDER_COST = "provider_cost", "What calls cost at the providers"
    PROVIDER_PAYABLE = "provider_payable", "What providers will bill"
    TAX = "tax", "Tax asked for on invoices, to be passed on"


class Account(models.Model):
    """One side of transfers.

    For a customer's account `posted_nanousd` (received minus spent) and `held_nanousd` (open holds) are kept in
    the same transaction as the transfers that move them, under this row's lock; `reconcile` recomputes both. The
    platform's own accounts keep them at zero and are summed when asked: as a counter they would be one row that
    every batch of every process has to wait for.

    A wallet may be spent down to `-credit_nanousd`. What of it is prepaid and what granted is derived, see
    `billing.grants`: `prepaid_nanousd` is the prepaid part when that was last done, `grants_due_us` when it must be
    done next, because a grant begins or expires.
    """

    code = models.CharField(max_length=60, unique=True)
    kind = models.CharField(max_length=20, choices=AccountKind.choices)
    customer = models.OneToOneField("keys.Customer", null=True, on_delete=models.PROTECT, related_name="+")
    posted_nanousd = models.BigIntegerField(default=0)
    held_nanousd = models.BigIntegerField(default=0)
    credit_nanousd = models.BigIntegerField(default=0, db_default=0)
    prepaid_nanousd = models.BigIntegerField(default=0, db_default=0)
    grants_due_us = models.BigIntegerField(null=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["grants_due_us"],
                condition=Q(grants_due_us__isnull=False),
                name="billing_account_by_due_us",
            ),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(held_nanousd__gte=0), name="billing_account_held_not_negative"),
            models.CheckConstraint(condition=Q(credit_nanousd__gte=0), name="billing_account_credit_not_negative"),
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
            # In the order of lists: an account's page is then the end of an index, however many transfers it has.
            models.Index(fields=["debit_account", "created_at"], name="billing_transfer_debits"),
            models.Index(fields=["credit_account", "created_at"], name="billing_transfer_credits"),
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

    `owners` are the limit counters that the call took ("customer:1,key:2", see
    `keys.limit_rows.write_owners`); `draft` is the usage record as far
    as it is known at admission, so that a hold whose process died can still leave a row that tells. A call that
    costs nothing has no PENDING transfer, but holds its place in the limits all the same.
    """

    request_id = models.CharField(max_length=32, primary_key=True)
    # No index but the one on the expiry: the table holds the calls in flight, and each index is a page more a commit.
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", db_index=False)
    pending = models.ForeignKey(Transfer, null=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    amount_nanousd = models.BigIntegerField()
    worker_id = models.BigIntegerField()
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

    `provider_*` is what the platform pays, for the margin; it never reaches a customer. `bands` holds the rates that
    differ from these columns: above a size of input, and for batches (see `billing.bands`). They stand in the row
    itself, so that nothing can be added to a version that calls have been priced by.
    """

    id = models.BigAutoField(primary_key=True)
    price_list = models.CharField(
        max_length=60,
        blank=True,
        default="",
        db_default="",
        help_text="Empty: the standard price. Otherwise the list that terms of plans and customers name.",
    )
    model = models.CharField(max_length=120, help_text="The public model name.")
    effective_from = models.DateTimeField()
    input_nanousd = models.BigIntegerField()
    cache_read_nanousd = models.BigIntegerField()
    cache_write_nanousd = models.BigIntegerField()
    output_nanousd = models.BigIntegerField()
    reasoning_nanousd = models.BigIntegerField()
    audio_input_nanousd = models.BigIntegerField()
    audio_output_nanousd = models.BigIntegerField()
    # Null in versions older than the column: as input and output, so that no class became free by being added.
    image_input_nanousd = models.BigIntegerField(null=True)
    image_output_nanousd = models.BigIntegerField(null=True)
    request_nanousd = models.BigIntegerField(default=0)
    provider_input_nanousd = models.BigIntegerField(default=0)
    provider_cache_read_nanousd = models.BigIntegerField(default=0)
    provider_cache_write_nanousd = models.BigIntegerField(default=0)
    provider_output_nanousd = models.BigIntegerField(default=0)
    provider_reasoning_nanousd = models.BigIntegerField(default=0)
    provider_audio_input_nanousd = models.BigIntegerField(default=0)
    provider_audio_output_nanousd = models.BigIntegerField(default=0)
    provider_image_input_nanousd = models.BigIntegerField(null=True)
    provider_image_output_nanousd = models.BigIntegerField(null=True)
    provider_request_nanousd = models.BigIntegerField(default=0)
    bands = models.JSONField(default=list)
    author = models.CharField(max_length=150, blank=True)
    reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["price_list", "model", "effective_from"], name="billing_price_one_per_moment"
            ),
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
            models.CheckConstraint(
                condition=(Q(image_input_nanousd__isnull=True) | Q(image_input_nanousd__gte=0))
                & (Q(image_output_nanousd__isnull=True) | Q(image_output_nanousd__gte=0)),
                name="billing_price_images_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} from {self.effective_from:%Y-%m-%d %H:%M}"


class MarkupBasis(models.TextChoices):
    LIST = "list", "On the price list"
    COST = "cost", "On what the platform pays the provider"


class PriceTerms(AppendOnlyModel, CatalogueModel):
    """By which list and with which markup a plan's or a customer's calls are priced, from a moment on.

    A customer's terms come before its plan's. Withdrawn ones count as none, from their moment on. Usage records name
    the terms that applied, so a charge can be recomputed from rows that never change.
    """

    id = models.BigAutoField(primary_key=True)
    plan = models.ForeignKey("keys.Plan", null=True, on_delete=models.PROTECT, related_name="+")
    customer = models.ForeignKey("keys.Customer", null=True, on_delete=models.PROTECT, related_name="+")
    effective_from = models.DateTimeField()
    price_list = models.CharField(max_length=60, blank=True)
    basis = models.CharField(max_length=4, choices=MarkupBasis.choices)
    markup_basis_points = models.IntegerField(
        help_text="Hundredths of a percent: 1250 adds 12.5 %, -1000 takes off 10 %."
    )
    no_charge_on = models.CharField(max_length=6, choices=NoCharge.choices, blank=True, default="", db_default="")
    is_withdrawn = models.BooleanField(default=False)
    author = models.CharField(max_length=150, blank=True)
    reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "price terms"
        constraints = [
            models.CheckConstraint(
                condition=Q(plan__isnull=True, customer__isnull=False) | Q(plan__isnull=False, customer__isnull=True),
                name="billing_priceterms_one_owner",
            ),
            models.CheckConstraint(condition=Q(basis__in=MarkupBasis.values), name="billing_priceterms_basis_known"),
            models.CheckConstraint(condition=Q(no_charge_on__in=NoCharge.values), name="billing_priceterms_no_charge"),
            models.CheckConstraint(
                condition=Q(markup_basis_points__gte=-10_000) & Q(markup_basis_points__lte=1_000_000),
                name="billing_priceterms_markup_sane",
            ),
            models.UniqueConstraint(
                fields=["plan", "effective_from"],
                condition=Q(plan__isnull=False),
                name="billing_priceterms_once_per_plan",
            ),
            models.UniqueConstraint(
                fields=["customer", "effective_from"],
                condition=Q(customer__isnull=False),
                name="billing_priceterms_once_per_customer",
            ),
        ]

    def __str__(self) -> str:
        return f"terms {self.pk} from {self.effective_from:%Y-%m-%d %H:%M}"


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


class CacheState(models.TextChoices):
    HIT = "hit", "Answered from the cache"
    COALESCED = "coalesced", "Shared the call of another"
    MISS = "miss", "Not found, so the model was asked"
    BYPASS = "bypass", "The caller wanted a fresh answer"


# What costs the platform nothing, because another call has fetched it.
REUSED_STATES = (CacheState.HIT, CacheState.COALESCED)


class UsageRecord(AppendOnlyModel):
    """One call, written once at its settlement. Token classes are disjoint; no bodies.

    `cost_nanousd` is price times tokens, rounded once, half-even (a call that asked the model several times is the sum
    of its `attempts`, each priced for itself); `charged_nanousd` is what the ledger moved: the
    same, unless a provider reported more than was held and the customer's money did not cover the difference.
    A row may go once an archive has it (`UsageArchive`); the database refuses any other deletion.
    """

    guards = ("usage_deletion",)

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
    # With the version and the tokens, all that the cost follows from.
    price_terms = models.ForeignKey(PriceTerms, null=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    processing = models.CharField(
        max_length=8,
        choices=[(p.value, p.value.capitalize()) for p in Processing],
        default="standard",
        db_default="standard",
    )
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
    image_input_tokens = models.BigIntegerField(default=0, db_default=0)
    image_output_tokens = models.BigIntegerField(default=0, db_default=0)
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
    prompt = models.CharField(max_length=80, blank=True, help_text="Name of the prompt that was called.")
    prompt_version = models.CharField(max_length=20, blank=True, help_text="Number of the version that answered.")
    prompt_label = models.CharField(
        max_length=80, blank=True, db_default="", help_text="The label that the call followed, if any."
    )
    attempts = models.TextField(
        blank=True, db_default="", help_text="Tokens of each attempt, where the model was asked several times."
    )
    cache = models.CharField(
        max_length=10,
        choices=CacheState.choices,
        blank=True,
        db_default="",
        help_text="What the response cache did for the call; empty: it was not asked.",
    )
    # Of an answer that another call had fetched: which part of the price is its cost, how large it was, and what the
    # provider would have charged for it once more.
    reused_percent = models.PositiveSmallIntegerField(default=0, db_default=0)
    reused_bytes = models.BigIntegerField(default=0, db_default=0)
    saved_nanousd = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        indexes = [
            models.Index(fields=["customer", "started_at"], name="billing_usage_by_customer"),
            models.Index(fields=["api_key", "started_at"], name="billing_usage_by_key"),
            models.Index(fields=["started_at"], name="billing_usage_by_time"),
            # Partial: most calls name no prompt, and pay nothing for it.
            models.Index(
                fields=["prompt", "prompt_version", "started_at"],
                condition=~Q(prompt=""),
                name="billing_usage_by_prompt",
            ),
            # Partial likewise.
            models.Index(fields=["started_at"], condition=~Q(cache=""), name="billing_usage_by_cache"),
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
                condition=Q(image_input_tokens__gte=0) & Q(image_output_tokens__gte=0),
                name="billing_usage_image_tokens_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(processing__in=[p.value for p in Processing]), name="billing_usage_processing_known"
            ),
            models.CheckConstraint(
                condition=Q(cache__in=["", *CacheState.values]), name="billing_usage_cache_state_known"
            ),
            models.CheckConstraint(
                condition=Q(cache__in=REUSED_STATES, provider_cost_nanousd=0)
                | ~Q(cache__in=REUSED_STATES) & Q(reused_percent=0, reused_bytes=0, saved_nanousd=0),
                name="billing_usage_reused_is_not_paid_twice",
            ),
            models.CheckConstraint(
                condition=Q(charged_nanousd__gte=0) & Q(charged_nanousd__lte=F("cost_nanousd")),
                name="billing_usage_charged_at_most_cost",
            ),
        ]

    def __str__(self) -> str:
        return self.request_id
