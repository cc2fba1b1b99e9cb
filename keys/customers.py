"""Making customers and plans."""

from datetime import UTC, datetime

from django.db import transaction

from common.ids import make_id
from keys.audit import SYSTEM, Actor, record_event
from keys.models import Customer, CustomerStatus, Plan


@transaction.atomic
def create_customer(
    *,
    name: str,
    plan: Plan,
    email: str = "",
    note: str = "",
    limits: dict[str, int | None] | None = None,
    actor: Actor = SYSTEM,
) -> Customer:
    """Create an active customer; its account is opened by the first movement of money."""
    customer = Customer.objects.create(
        public_id=make_id("cus"),
        name=name,
        plan=plan,
        email=email,
        note=note,
        created_at=datetime.now(UTC),
        **(limits or {}),
    )
    given = {"name": name, "plan": plan, "email": email, "note": note, **(limits or {})}
    after = {column: value for column, value in given.items() if value not in (None, "")}
    record_event(actor=actor, action="customer.created", target=customer, after=after)
    return customer


@transaction.atomic
def set_customer_status(*, customer_id: int, status: CustomerStatus, actor: Actor = SYSTEM, reason: str = "") -> None:
    """Suspend or reactivate a customer: all its keys follow at their next call. A repeat changes nothing."""
    customer = Customer.objects.select_for_update().get(pk=customer_id)
    before = customer.status
    if before == status:
        return
    customer.status = status
    customer.save(update_fields=["status"])
    record_event(
        actor=actor,
        action="customer.suspended" if status == CustomerStatus.SUSPENDED else "customer.reactivated",
        target=customer,
        before={"status": before},
        after={"status": status.value},
        reason=reason,
    )


def find_customer_id(public_id: str) -> int | None:
    """Return the id of the customer that is called `cus_...`, or None."""
    return Customer.objects.filter(public_id=public_id).values_list("pk", flat=True).first()
