"""Terms: by which list and with which markup a plan or a customer pays. Published, never changed."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.widgets import (
    UnfoldAdminSelect2Widget,
    UnfoldAdminSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextInputWidget,
)

from billing.models import MarkupBasis, PriceTerms, PriceVersion
from billing.terms import MAX_MARKUP_BASIS_POINTS, find_terms_in_force, publish_terms, read_terms_book, withdraw_terms
from billing.waiving import NoCharge
from common.admin_base import ReadOnlyModelAdmin, page_facts
from common.admin_display import admin_link, admin_url, badge, utc, utc_column
from common.admin_fields import PercentField
from common.admin_pages import Fact, FormPage, run_form_page
from common.clock import to_us
from common.percents import format_percent
from common.sql import Sql
from keys.admin_trail import admin_actor
from keys.audit import Actor
from keys.models import Customer, Plan

_WITHDRAW = "withdraw"


class PublishTermsForm(forms.Form):
    """Whose terms, and what they are."""

    plan = forms.ModelChoiceField(
        queryset=Plan.objects.order_by("name"),
        required=False,
        widget=UnfoldAdminSelectWidget(),
        help_text="For all on it",
    )
    customer = forms.ModelChoiceField(
        queryset=Customer.objects.order_by("name"),
        required=False,
        widget=UnfoldAdminSelect2Widget(),
        help_text="For this one alone; its terms come before its plan's. Choose a plan or a customer.",
    )
    price_list = forms.ChoiceField(
        required=False,
        widget=UnfoldAdminSelectWidget(),
        help_text="Models that the list has no price for cost the standard price, with the same markup.",
    )
    basis = forms.ChoiceField(
        label="Markup",
        choices=[*MarkupBasis.choices, (_WITHDRAW, "No terms any more: as if there were none")],
        initial=MarkupBasis.LIST,
        widget=UnfoldAdminSelectWidget(),
        help_text="On cost: where a price names no provider's cost, the list price stands.",
    )
    markup = PercentField(
        required=False,
        min_points=-10_000,
        max_points=MAX_MARKUP_BASIS_POINTS,
        label="Percent",
        help_text="12.5 adds 12.5 %, -10 takes off 10 %. Empty: nothing.",
    )
    no_charge_on = forms.ChoiceField(
        label="No charge for",
        required=False,
        choices=NoCharge.choices,
        widget=UnfoldAdminSelectWidget(),
        help_text="What the provider asks for these answers stays the platform's.",
    )
    effective_from = forms.SplitDateTimeField(
        required=False, widget=UnfoldAdminSplitDateTimeWidget(), help_text="UTC. Empty: from now on."
    )
    reason = forms.CharField(
        required=False, max_length=200, widget=UnfoldAdminTextInputWidget(), help_text="Kept with the terms."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = PriceVersion.objects.exclude(price_list="").order_by("price_list").values_list("price_list", flat=True)
        self.fields["price_list"].choices = [  # type: ignore[attr-defined]
            ("", "Standard"),
            *((name, name) for name in names.distinct()),
        ]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if bool(data.get("plan")) == bool(data.get("customer")):
            self.add_error("customer", "Choose a plan or a customer, one of them.")
        return data

    @property
    def plan_id(self) -> int | None:
        """Return the chosen plan, if any."""
        plan = self.cleaned_data["plan"]
        return plan.pk if plan else None

    @property
    def customer_id(self) -> int | None:
        """Return the chosen customer, if any."""
        customer = self.cleaned_data["customer"]
        return customer.pk if customer else None


@admin.register(PriceTerms)
class PriceTermsAdmin(ReadOnlyModelAdmin[PriceTerms]):
    list_display = ("owner", "state", "effective", "list_name", "markup", "author", "reason")
    list_display_links = ("owner",)
    list_select_related = ("plan", "customer")
    list_filter = ("basis",)
    search_fields = ("plan__name", "customer__name")
    search_help_text = "Plan or customer"
    ordering = ("-effective_from", "-id")
    list_before_template = "billing/admin/terms_note.html"  # type: ignore[assignment]
    fields = ("owner_link", "state", "effective", "list_name", "markup", "author", "reason", "created")
    readonly_fields = ("owner_link", "state", "effective", "list_name", "markup", "created")

    effective = utc_column("effective_from", "In force from")
    created = utc_column("created_at", "Published")

    @override
    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return request.user.has_perm("billing.add_priceterms")

    @override
    def read_page_facts(self, rows: Sequence[PriceTerms]) -> Mapping[Any, object]:
        in_force = _in_force_among(rows)
        return {row.pk: in_force for row in rows}

    @admin.display(description="Whose")
    def owner(self, terms: PriceTerms) -> str:
        return f"Plan {terms.plan.name}" if terms.plan else _customer_of(terms).name

    @admin.display(description="Whose")
    def owner_link(self, terms: PriceTerms) -> SafeString:
        if terms.plan:
            return admin_link("keys.plan", terms.plan_id, f"Plan {terms.plan.name}")
        return admin_link("keys.customer", terms.customer_id, _customer_of(terms).name)

    @admin.display(description="State")
    def state(self, terms: PriceTerms) -> SafeString:
        now = datetime.now(UTC)
        if terms.effective_from > now:
            return badge("Scheduled", "info")
        facts = page_facts(terms)
        in_force = _in_force_among([terms]) if facts is None else facts
        if terms.pk in in_force:
            return badge("In force", "success")
        return badge("Withdrawal" if terms.is_withdrawn else "Past", "neutral")

    @admin.display(description="Price list")
    def list_name(self, terms: PriceTerms) -> str:
        return "-" if terms.is_withdrawn else terms.price_list or "Standard"

    @admin.display(description="Markup")
    def markup(self, terms: PriceTerms) -> str:
        if terms.is_withdrawn:
            return "none"
        basis = MarkupBasis(terms.basis).label.lower()
        waived = f"; no charge for {NoCharge(terms.no_charge_on).label.lower()}" if terms.no_charge_on else ""
        return f"{format_percent(terms.markup_basis_points, with_sign=True)} {basis}{waived}"

    @override
    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        if not self.has_add_permission(request):
            raise PermissionDenied
        list_url = admin_url("billing.priceterms", "changelist")
        initial = {name: request.GET.get(name) for name in ("plan", "customer")}
        form = PublishTermsForm(request.POST or None, initial=initial)

        def act() -> HttpResponseBase:
            terms = _publish(form, author=request.user.get_username(), actor=admin_actor(request))
            messages.success(request, f"Published terms of {self.owner(terms)}.")
            return redirect(list_url)

        page = FormPage(
            title="Publish terms",
            submit_label="Publish terms",
            cancel_url=list_url,
            intro=(
                "What a plan's or a customer's calls cost, relative to a price list or to the provider's price. Calls "
                "that were made before keep their cost; a call that is admitted from then on pays by the new terms."
            ),
            confirm_intro="Terms are never changed, only followed by others. Is this right?",
        )
        return run_form_page(self, request, page, form, act=act, summarise=lambda: _summary(form))


def _in_force_among(rows: Sequence[PriceTerms]) -> frozenset[int]:
    book, now_us = read_terms_book(Sql(connection)), to_us(datetime.now(UTC))
    owners = {(row.customer_id, row.plan_id) for row in rows}
    found = (book.find_terms(customer_id=customer, plan_id=plan, at_us=now_us) for customer, plan in owners)
    return frozenset(terms.id for terms in found if terms is not None)


def _publish(form: PublishTermsForm, *, author: str, actor: Actor) -> PriceTerms:
    data = form.cleaned_data
    if data["basis"] == _WITHDRAW:
        return withdraw_terms(
            plan_id=form.plan_id,
            customer_id=form.customer_id,
            author=author,
            effective_from=data["effective_from"],
            reason=data["reason"],
            actor=actor,
        )
    return publish_terms(
        plan_id=form.plan_id,
        customer_id=form.customer_id,
        price_list=data["price_list"],
        basis=MarkupBasis(data["basis"]),
        markup_basis_points=data["markup"] or 0,
        no_charge_on=NoCharge(data["no_charge_on"]),
        author=author,
        effective_from=data["effective_from"],
        reason=data["reason"],
        actor=actor,
    )


def _summary(form: PublishTermsForm) -> list[Fact]:
    data = form.cleaned_data
    before = find_terms_in_force(plan_id=form.plan_id, customer_id=form.customer_id)
    if data["basis"] == _WITHDRAW:
        price = "none of their own any more"
    else:
        price = _terms_text(
            data["markup"] or 0, MarkupBasis(data["basis"]), data["price_list"], NoCharge(data["no_charge_on"])
        )
    old = "none"
    if before is not None:
        old = _terms_text(
            before.markup_basis_points, MarkupBasis(before.basis), before.price_list, NoCharge(before.no_charge_on)
        )
    return [
        Fact(label="Whose", value=str(data["plan"] or data["customer"])),
        Fact(label="Terms", value=price),
        Fact(label="In force now", value=old),
        Fact(label="From", value=utc(data["effective_from"]) if data["effective_from"] else "now on"),
    ]


def _terms_text(basis_points: int, basis: MarkupBasis, price_list: str, no_charge_on: NoCharge) -> str:
    markup = format_percent(basis_points, with_sign=True)
    waived = f"; no charge for {no_charge_on.label.lower()}" if no_charge_on else ""
    return f"{markup} {basis.label.lower()}; price list: {price_list or 'standard'}{waived}"


def _customer_of(terms: PriceTerms) -> Customer:
    assert terms.customer is not None
    return terms.customer
