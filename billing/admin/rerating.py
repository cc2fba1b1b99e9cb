"""The page "Try a price": what the last days would have cost under it. Nothing is written."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import HttpRequest, HttpResponseBase
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from billing.admin.price_forms import RATE_SECTIONS, PriceForm, initial_of
from billing.bands import PROVIDER_COLUMNS
from billing.models import PriceVersion
from billing.pricing import Price, get_price, read_price_book
from billing.rerating import RerateReport, RerateSum, last_days, rerate
from common.admin_display import admin_link, money, number
from common.admin_pages import FormSection, Panel, arrange_sections
from common.clock import to_us
from common.errors import TollkeeperError
from common.money import format_usd
from common.sql import Sql
from common.wording import counted

# About a second's work; beyond it the command answers.
MOST_CALLS = 200_000
_LONGEST_DAYS = 366
_SECTIONS = (FormSection(title="", fields=("model", "price_list", "days")), *RATE_SECTIONS)
_MOST_CUSTOMERS = 50


class RerateForm(PriceForm):
    """A price, and how many days to price anew."""

    days = forms.IntegerField(
        min_value=1, max_value=_LONGEST_DAYS, initial=7, widget=UnfoldAdminIntegerFieldWidget(), label="Days back"
    )


def try_price(request: HttpRequest, model_admin: Any) -> HttpResponseBase:
    """Show the form, and the answer when it was sent."""
    if not request.user.has_perm("billing.view_usagerecord"):
        raise PermissionDenied
    version = PriceVersion.objects.filter(pk=_integer(request.GET.get("version"))).first()
    initial = {} if version is None else initial_of(get_price(version.pk))
    is_asked = "days" in request.GET
    form = RerateForm(request.GET if is_asked else None, initial=initial, model_names=model_admin.find_model_names())
    report = _answer(form) if is_asked and form.is_valid() else None
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": "Try a price",
        "media": model_admin.media + form.media,
        "form": form,
        "sections": arrange_sections(_SECTIONS, form),
        "report": report,
        "panels": [] if report is None else [_total_panel(report), _customers_panel(report)],
    }
    return TemplateResponse(request, "billing/admin/try_price.html", context)


def _answer(form: RerateForm) -> RerateReport | None:
    start, end = last_days(form.cleaned_data["days"], now=datetime.now(UTC))
    try:
        return rerate(_with_known_cost(form), start=start, end=end, most_calls=MOST_CALLS)
    except TollkeeperError as error:
        form.add_error(error.param if error.param in form.fields else None, error.message)
        return None


def _with_known_cost(form: RerateForm) -> Price:
    """Return the form's price; without a word about the provider's rates, those in force stay."""
    draft = form.draft()
    if any(form.cleaned_data.get(column) is not None for column in PROVIDER_COLUMNS):
        return draft
    now_us = to_us(datetime.now(UTC))
    in_force = read_price_book(Sql(connection)).find_version(draft.model, now_us, price_list=draft.price_list)
    return draft if in_force is None else draft.with_cost_of(in_force)


def shift_text(old_nanousd: int, new_nanousd: int) -> str:
    """Return "1.00 USD instead of 0.80 USD (+0.20)"."""
    difference = new_nanousd - old_nanousd
    sign = "+" if difference >= 0 else ""
    return f"{format_usd(new_nanousd)} USD instead of {format_usd(old_nanousd)} USD ({sign}{format_usd(difference)})"


def _total_panel(report: RerateReport) -> Panel:
    sums = report.total
    margin = sums.cost_nanousd - sums.provider_cost_nanousd
    new_margin = sums.new_cost_nanousd - sums.new_provider_cost_nanousd
    note = f"{counted(sums.calls, 'call')} from {report.start:%Y-%m-%d %H:%M} to {report.end:%Y-%m-%d %H:%M} UTC."
    if report.calls_of_other_lists:
        note += f" {report.calls_of_other_lists:,} calls were priced by other lists and are left out."
    return Panel(
        title="All calls",
        headers=("USD", "As it was", "At this price", "Difference"),
        rows=[
            ("Cost to customers", *_cells(sums.cost_nanousd, sums.new_cost_nanousd)),
            ("Cost to us", *_cells(sums.provider_cost_nanousd, sums.new_provider_cost_nanousd)),
            ("Margin", *_cells(margin, new_margin)),
        ],
        note=note,
        empty="",
    )


def _customers_panel(report: RerateReport) -> Panel:
    shown = report.customers[:_MOST_CUSTOMERS]
    hidden = len(report.customers) - len(shown)
    return Panel(
        title="Customers, largest difference first",
        headers=("Customer", "Calls", "As it was (USD)", "At this price (USD)", "Difference (USD)"),
        rows=[
            (
                admin_link("keys.customer", part.customer_id, part.name),
                number(part.sums.calls),
                *_cells(part.sums.cost_nanousd, part.sums.new_cost_nanousd),
            )
            for part in shown
        ],
        note=f"{hidden:,} more customers are not shown." if hidden else "",
        footer=_footer(report.total, shown),
        empty="No call of this model in that time.",
    )


def _footer(total: RerateSum, shown: Sequence[object]) -> tuple[object, ...]:
    if not shown:
        return ()
    return ("All", number(total.calls), *_cells(total.cost_nanousd, total.new_cost_nanousd))


def _cells(old_nanousd: int, new_nanousd: int) -> tuple[object, object, object]:
    return money(old_nanousd), money(new_nanousd), money(new_nanousd - old_nanousd)


def _integer(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() and len(text) < 19 else 0
