"""Rows of money that people move: orders (`Movement`), grants, and what grants have paid (`Allocation`).

Rules live in `billing.money` and `billing.grants`.
"""

from django.db import models
from django.db.models import F, Q

from common.append_only import AppendOnlyModel


class MovementKind(models.TextChoices):
    TOP_UP = "top_up", "Top-up"
    GRANT = "grant", "Grant"
    REFUND = "refund", "Refund"
    CREDIT_NOTE = "credit_note", "Credit note"
    ADJUSTMENT_UP = "adjustment_up", "Adjustment in the customer's favour"
    ADJUSTMENT_DOWN = "adjustment_down", "Adjustment in the platform's favour"
    CREDIT_LIMIT = "credit_limit", "Credit limit"
    INVOICED = "invoiced", "Moved to an invoice"
    UNINVOICED = "uninvoiced", "Taken back from a void invoice"
    PAYMENT = "payment", "Payment of an invoice"
    SUSPENSE_RELEASE = "suspense_release", "Revenue released from suspense"
    SUSPENSE_RETURN = "suspense_return", "Suspense given back to the customer"
    TAX = "tax", "Tax of an invoice"
    UNTAX = "untax", "Tax of a void invoice, taken back"


class MovementStatus(models.TextChoices):
    WAITING = "waiting", "Waits for a second person"
    PLANNED = "planned", "Begins later"
    BOOKED = "booked", "Booked"
    REJECTED = "rejected", "Rejected"


class Movement(models.Model):
    """One order of a person or command to move money, and what became of it: a booked one names its transfer.

    A credit limit moves nothing and has none; its amount is the new limit. A grant that begins later is planned until
    its start, and booked then (`billing.grants`). A release of suspense is of no customer.
    """

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=20, choices=MovementKind.choices)
    status = models.CharField(max_length=8, choices=MovementStatus.choices)
    customer = models.ForeignKey("keys.Customer", null=True, on_delete=models.PROTECT, related_name="+")
    amount_nanousd = models.BigIntegerField()
    # A number like the wallet's `grants_due_us`, which it is compared with.
    starts_us = models.BigIntegerField(null=True)
    expires_at = models.DateTimeField(null=True)
    priority = models.PositiveSmallIntegerField(default=100)
    reference = models.CharField(max_length=100, unique=True, help_text="Names the order: a repeat books nothing.")
    reason = models.CharField(max_length=200)
    author = models.CharField(max_length=150)
    created_at = models.DateTimeField()
    decided_by = models.CharField(max_length=150, blank=True)
    decided_at = models.DateTimeField(null=True)
    decision_reason = models.CharField(max_length=200, blank=True)
    transfer = models.OneToOneField("billing.Transfer", null=True, on_delete=models.PROTECT, related_name="+")
    # The invoice that it was booked for.
    invoice = models.ForeignKey("billing.Invoice", null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        verbose_name = "money movement"
        indexes = [models.Index(fields=["status", "id"], name="billing_movement_by_status")]
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_nanousd__gt=0) | Q(kind="credit_limit", amount_nanousd=0),
                name="billing_movement_amount_positive",
            ),
            models.CheckConstraint(
                condition=Q(transfer__isnull=True) | Q(status="booked"), name="billing_movement_transfer_if_booked"
            ),
            models.CheckConstraint(
                condition=~Q(status="booked") | Q(kind="credit_limit") | Q(transfer__isnull=False),
                name="billing_movement_booked_has_transfer",
            ),
            models.CheckConstraint(
                condition=~Q(status="planned") | Q(kind="grant", starts_us__isnull=False),
                name="billing_movement_planned_is_grant",
            ),
            models.CheckConstraint(
                condition=Q(kind="suspense_release", customer__isnull=True)
                | ~Q(kind="suspense_release") & Q(customer__isnull=False),
                name="billing_movement_customer_iff_kind",
            ),
            models.CheckConstraint(
                condition=Q(decided_by="") | ~Q(decided_by=F("author")), name="billing_movement_two_people"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.pk}"


class Grant(AppendOnlyModel):
    """Money given to a customer, spent before its prepaid money; what is left at `expires_at` goes back.

    Lower priorities are spent first, then what expires first, then the older one.
    """

    id = models.BigAutoField(primary_key=True)
    account = models.ForeignKey("billing.Account", on_delete=models.PROTECT, related_name="+")
    transfer = models.OneToOneField("billing.Transfer", on_delete=models.PROTECT, related_name="+")
    amount_nanousd = models.BigIntegerField()
    expires_us = models.BigIntegerField(null=True)
    priority = models.PositiveSmallIntegerField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_nanousd__gt=0), name="billing_grant_amount_positive"),
        ]

    def __str__(self) -> str:
        return f"grant {self.pk}"


class Allocation(AppendOnlyModel):
    """A part of a grant that is gone: spent by calls, or (with the transfer that took it back) expired."""

    id = models.BigAutoField(primary_key=True)
    grant = models.ForeignKey(Grant, on_delete=models.PROTECT, related_name="allocations")
    amount_nanousd = models.BigIntegerField()
    transfer = models.OneToOneField("billing.Transfer", null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_nanousd__gt=0), name="billing_allocation_amount_positive"),
        ]

    def __str__(self) -> str:
        return f"allocation {self.pk}"
