"""Applying plans, and customers with their credit, grants and credit limit."""

from dataclasses import replace

from billing.accounts import get_balance
from billing.invoicing.parties import read_profile
from billing.ledger import grant_credit
from billing.models import Transfer
from billing.money import Order, order_movement
from billing.money_models import Movement, MovementKind
from common.errors import TollkeeperError
from common.percents import format_percent
from gateway.declarations.application import ACTOR, AUTHOR, Application, EntryRefused
from gateway.declarations.changes import FieldChange, Wanted, assign, show_usd
from gateway.declarations.price_steps import apply_terms
from gateway.declarations.reading import Declared
from gateway.declarations.schema import BillingEntry, CreditEntry, CustomerEntry, GrantEntry, Limits, PlanEntry
from keys.customers import create_customer
from keys.models import Customer, Plan


def wanted_limits(limits: Limits) -> list[Wanted]:
    """Return the limits that the file gives, as columns of `LimitColumns`."""
    found = []
    for name in sorted(limits.model_fields_set):
        is_money = name.endswith("_usd")
        found.append(
            Wanted(
                field=f"limits.{name}",
                column=f"{name.removesuffix('_usd')}_nanousd" if is_money else name,
                value=getattr(limits, name),
                **({"show": show_usd} if is_money else {}),
            )
        )
    return found


def apply_plan(application: Application, declared: Declared) -> None:
    """Create or change a plan."""
    entry = declared.entry
    assert isinstance(entry, PlanEntry)
    found = Plan.objects.filter(slug=entry.slug).first()
    row = found or Plan(slug=entry.slug, name=entry.name or entry.slug)
    wanted = wanted_limits(entry.limits)
    for name in ("name", "description"):
        if name in entry.model_fields_set and getattr(entry, name) is not None:
            wanted.append(Wanted(field=name, column=name, value=getattr(entry, name)))
    if "reused_price_percent" in entry.model_fields_set:
        column = "reused_price_percent"
        wanted.append(Wanted(field=column, column=column, value=entry.reused_price_percent))
    if "paid" in entry.model_fields_set:
        wanted.append(Wanted(field="paid", column="is_paid", value=entry.paid))
    changes = assign(row, wanted)
    if found is None:
        row.save()
        application.record(row, changes, is_new=True)
        application.log.created("plan", entry.slug, [c for c in changes if c.field.startswith("limits.")])
    else:
        if changes:
            row.save()
            application.record(row, changes)
        application.log.updated("plan", entry.slug, changes)
    if "prices" in entry.model_fields_set:
        apply_terms(application, entry.prices, name=f"of plan {entry.slug}", plan_id=row.pk)


def moves_money(entry: CustomerEntry) -> bool:
    """Return whether an entry may book something in the customer's wallet."""
    return entry.credit is not None or bool(entry.grants) or entry.credit_limit_usd is not None


def apply_customer(application: Application, declared: Declared) -> None:
    """Create or change a customer, and give it the credit and grants whose references were not used before."""
    entry = declared.entry
    assert isinstance(entry, CustomerEntry)
    plan = None if entry.plan is None else Plan.objects.filter(slug=entry.plan).first()
    if entry.plan is not None and plan is None:
        raise application.refuse_reference("plans", entry.plan, "plan")
    found = Customer.objects.filter(name=entry.name).select_related("plan").first()
    if found is None and plan is None:
        raise EntryRefused("is required for a new customer", "plan")
    row = found if found is not None else create_customer(name=entry.name, plan=_known(plan), actor=ACTOR)
    wanted = wanted_limits(entry.limits)
    for name in sorted(entry.model_fields_set & {"email", "status", "note"}):
        wanted.append(Wanted(field=name, column=name, value=getattr(entry, name)))
    if plan is not None:
        wanted.append(Wanted(field="plan", column="plan", value=plan, show=_slug))
    changes = assign(row, wanted)
    if changes:
        row.save()
        application.record(row, changes)
    changes += _set_credit_limit(row, entry.credit_limit_usd)
    if found is None:
        application.log.created("customer", entry.name, changes)
    else:
        application.log.updated("customer", entry.name, changes)
    if "prices" in entry.model_fields_set:
        apply_terms(application, entry.prices, name=f"of {entry.name}", customer_id=row.pk)
    _give_money(application, row, entry)
    if entry.billing is not None:
        _apply_profile(application, row, entry.billing)


def _give_money(application: Application, customer: Customer, entry: CustomerEntry) -> None:
    if entry.credit is not None:
        _grant(application, customer, entry.credit)
    for position, grant in enumerate(entry.grants):
        _give(application, customer, grant, position)


def _set_credit_limit(customer: Customer, amount_nanousd: int | None) -> list[FieldChange]:
    """Order the limit where it is another one; return what that changes. The order tells the audit trail."""
    before = get_balance(customer.pk).credit_nanousd
    if amount_nanousd is None or amount_nanousd == before:
        return []
    order = _order(MovementKind.CREDIT_LIMIT, customer, amount_nanousd, reason="declared in a file")
    _book(order, "credit_limit_usd")
    return [FieldChange(field="credit_limit_usd", old=show_usd(before), new=show_usd(amount_nanousd))]


def _give(application: Application, customer: Customer, grant: GrantEntry, position: int) -> None:
    is_repeat = Movement.objects.filter(reference=grant.reference).exists()
    order = replace(
        _order(MovementKind.GRANT, customer, grant.amount_usd, reason=grant.reason),
        reference=grant.reference,
        starts_at=grant.starts_at,
        expires_at=grant.expires_at,
        priority=grant.priority,
    )
    _book(order, "grants", position)
    name = f"{grant.reference}: {show_usd(grant.amount_usd)} USD to {customer.name}"
    if is_repeat:
        application.log.updated("grant", name, [])
    else:
        application.log.created("grant", name)


def _order(kind: MovementKind, customer: Customer, amount_nanousd: int, *, reason: str) -> Order:
    return Order(
        kind=kind,
        customer_id=customer.pk,
        amount_nanousd=amount_nanousd,
        reason=reason,
        author=AUTHOR,
        actor=ACTOR,
        waits_when_large=False,
    )


def _book(order: Order, *location: str | int) -> None:
    """Book the order; what the books refuse is told at that place in the file."""
    try:
        order_movement(order)
    except TollkeeperError as error:
        raise EntryRefused(error.message, *location) from error


def _apply_profile(application: Application, customer: Customer, entry: BillingEntry) -> None:
    """Create or change a customer's billing profile."""
    row = read_profile(customer)
    is_new = row.pk is None
    wanted = [
        Wanted(field=name, column=name, value=getattr(entry, name))
        for name in sorted(entry.model_fields_set - {"tax_percent"})
    ]
    if "tax_percent" in entry.model_fields_set:
        wanted.append(Wanted(field="tax_percent", column="tax_millionths", value=entry.tax_percent, show=_percent))
    changes = assign(row, wanted)
    if is_new or changes:
        row.save()
        application.record(row, changes, is_new=is_new)
    if is_new:
        application.log.created("billing profile", f"of {customer.name}", changes)
    else:
        application.log.updated("billing profile", f"of {customer.name}", changes)


def _percent(value: object) -> str:
    return format_percent(value, decimals=4) if isinstance(value, int) else str(value)


def _grant(application: Application, customer: Customer, credit: CreditEntry) -> None:
    is_repeat = Transfer.objects.filter(reference=credit.reference).exists()
    try:
        grant_credit(
            customer_id=customer.pk,
            amount_nanousd=credit.amount_usd,
            reason=credit.reason,
            author=AUTHOR,
            reference=credit.reference,
        )
    except TollkeeperError as error:
        raise EntryRefused(error.message, "credit", "reference" if is_repeat else "amount_usd") from error
    name = f"{credit.reference}: {show_usd(credit.amount_usd)} USD to {customer.name}"
    if is_repeat:
        application.log.updated("credit", name, [])
    else:
        application.log.created("credit", name)


def _known(plan: Plan | None) -> Plan:
    assert plan is not None
    return plan


def _slug(plan: object) -> str:
    return plan.slug if isinstance(plan, Plan) else "none"
