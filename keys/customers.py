"""Making customers and plans."""

from datetime import UTC, datetime

from common.ids import make_id
from keys.models import Customer, CustomerStatus, Plan


def create_customer(
    *, name: str, plan: Plan, email: str = "", note: str = "", limits: dict[str, int | None] | None = None
) -> Customer:
    """Create an active customer; its account is opened by the first movement of money."""
    return Customer.objects.create(
        public_id=make_id("cus"),
        name=name,
        plan=plan,
        email=email,
        note=note,
        created_at=datetime.now(UTC),
        **(limits or {}),
    )


def set_customer_status(*, customer_id: int, status: CustomerStatus) -> None:
    """Suspend or reactivate a customer: all its keys follow at their next call."""
    Customer.objects.filter(pk=customer_id).update(status=status)
