"""Applying prices, and the terms by which plans and customers pay them."""

from collections.abc import Mapping, Sequence

from django.db import connection

from billing.bands import PriceBand, add_batch_discount, complete_rates
from billing.errors import PriceInvalid
from billing.models import PriceTerms
from billing.price_diff import diff_prices
from billing.pricing import Price, draft_price, publish_price, read_price_book
from billing.terms import find_terms_in_force, publish_terms, withdraw_terms
from billing.waiving import NoCharge
from common.clock import to_us
from common.percents import format_percent
from common.sql import Sql
from gateway.declarations.application import AUTHOR, Application, EntryRefused
from gateway.declarations.changes import FieldChange, show_usd, show_value
from gateway.declarations.reading import Declared
from gateway.declarations.schema import LongInput, PriceEntry, TermsEntry, TokenRates
from gateway.models import Model


def apply_price(application: Application, declared: Declared) -> None:
    """Publish a price version, unless the version in force at its moment says the same."""
    entry = declared.entry
    assert isinstance(entry, PriceEntry)
    if not Model.objects.filter(name=entry.model).exists():
        raise application.refuse_reference("models", entry.model, "model")
    rates = complete_rates(_columns(entry))
    try:
        bands = _bands(entry, rates)
        wanted = draft_price(entry.model, rates, bands)
    except PriceInvalid as error:
        raise EntryRefused(error.message, "long_input") from error
    moment_us = to_us(entry.effective_from or application.now)
    in_force = read_price_book(Sql(connection)).find_version(entry.model, moment_us, price_list=entry.price_list)
    changes = _rate_changes(in_force, wanted)
    name = entry.model if not entry.price_list else f"{entry.model} in list {entry.price_list}"
    name = name if entry.effective_from is None else f"{name} from {show_value(entry.effective_from)}"
    if in_force is not None and not changes:
        application.log.updated("price", name, [])
        return
    if in_force is not None and entry.effective_from is not None and in_force.effective_us == moment_us:
        raise EntryRefused(
            "another price of this very moment was published before; versions are never changed, "
            "declare one with a later moment",
            "effective_from",
        )
    publish_price(
        model=entry.model,
        rates=rates,
        bands=bands,
        price_list=entry.price_list,
        author=AUTHOR,
        effective_from=entry.effective_from or application.now,
        reason=entry.reason,
    )
    if in_force is None:
        application.log.created("price", name, changes)
    else:
        application.log.updated("price", name, changes)


def apply_terms(
    application: Application,
    entry: TermsEntry | None,
    *,
    name: str,
    plan_id: int | None = None,
    customer_id: int | None = None,
) -> None:
    """Publish the terms of a plan or customer unless those in force say the same; None withdraws them."""
    in_force = find_terms_in_force(plan_id=plan_id, customer_id=customer_id, at=application.now)
    old = "none" if in_force is None else _describe(in_force)
    if entry is None:
        if in_force is not None:
            withdraw_terms(plan_id=plan_id, customer_id=customer_id, author=AUTHOR, effective_from=application.now)
            application.log.updated("terms", name, [FieldChange(field="prices", old=old, new="none")])
        return
    if in_force is not None and _describe(in_force) == _describe(entry):
        application.log.updated("terms", name, [])
        return
    try:
        publish_terms(
            plan_id=plan_id,
            customer_id=customer_id,
            price_list=entry.price_list,
            basis=entry.markup_on,
            markup_basis_points=entry.markup_percent,
            no_charge_on=entry.no_charge_on,
            author=AUTHOR,
            effective_from=application.now,
            reason=entry.reason,
        )
    except PriceInvalid as error:
        field = "price_list" if error.param == "price_list" else "markup_percent"
        raise EntryRefused(error.message, "prices", field) from error
    change = FieldChange(field="prices", old=old, new=_describe(entry))
    if in_force is None:
        application.log.created("terms", name, [change])
    else:
        application.log.updated("terms", name, [change])


def _describe(terms: TermsEntry | PriceTerms) -> str:
    if isinstance(terms, PriceTerms):
        basis, points = terms.basis, terms.markup_basis_points
    else:
        basis, points = terms.markup_on, terms.markup_percent
    waived = f", no charge on {NoCharge(terms.no_charge_on).label.lower()}" if terms.no_charge_on else ""
    return f"list '{terms.price_list or 'standard'}', {format_percent(points, with_sign=True)} on {basis}{waived}"


def _columns(entry: PriceEntry | LongInput) -> dict[str, int]:
    columns = {}
    if isinstance(entry, PriceEntry):
        columns = {
            "request_nanousd": entry.usd_per_request,
            "provider_request_nanousd": entry.provider_usd_per_request,
        }
    for prefix, rates in (
        ("", entry.usd_per_million_tokens),
        ("provider_", entry.provider_usd_per_million_tokens),
    ):
        if isinstance(rates, TokenRates):
            columns |= {f"{prefix}{token_class}_nanousd": value for token_class, value in rates.given().items()}
    return columns


def _bands(entry: PriceEntry, complete: Mapping[str, int]) -> Sequence[PriceBand]:
    standard = [
        PriceBand(above_input_tokens=band.above_input_tokens, rates=_columns(band)) for band in entry.long_input
    ]
    return add_batch_discount(
        complete,
        standard,
        discount=entry.batch_discount_percent,
        provider_discount=entry.provider_batch_discount_percent,
    )


def _rate_changes(old: Price | None, new: Price) -> list[FieldChange]:
    return [
        FieldChange(field=change.name, old=_shown(change.old_nanousd), new=_shown(change.new_nanousd))
        for change in diff_prices(old, new)
    ]


def _shown(value: int | None) -> str:
    return "none" if value is None else show_usd(value)
