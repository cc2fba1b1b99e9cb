"""Price versions: published, never changed. Registered by `gateway.admin.prices`, which knows the models."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.widgets import UnfoldAdminSplitDateTimeWidget, UnfoldAdminTextInputWidget

from billing.admin.filters import ModelNameFilter, PriceListFilter
from billing.admin.price_forms import RATE_SECTIONS, PriceForm, initial_of, rate_label
from billing.admin.rerating import MOST_CALLS, shift_text, try_price
from billing.bands import PRICE_COLUMNS, PROVIDER_COLUMNS
from billing.errors import RerateTooLarge
from billing.models import PriceVersion
from billing.price_diff import RateChange, RatePlace, diff_prices
from billing.pricing import Price, get_price, publish_price, read_price_book
from billing.rates import Processing, RateTable
from billing.rerating import last_days, rerate
from common.admin_base import ReadOnlyModelAdmin, page_action, page_facts
from common.admin_display import admin_url, badge, money, usd_column, utc, utc_column
from common.admin_pages import Fact, FormPage, FormSection, run_form_page
from common.clock import to_us
from common.money import format_usd
from common.sql import Sql
from keys.admin_trail import admin_actor

_RERATED_DAYS = 7
_BAND_HEADERS = ("Who pays", "Processing", "Input tokens", "Input", "Cache read", "Cache write", "Output", "Reasoning")


class PublishPriceForm(PriceForm):
    """A new price version in USD per million tokens."""

    effective_from = forms.SplitDateTimeField(
        required=False,
        widget=UnfoldAdminSplitDateTimeWidget(),
        help_text="UTC. Empty: from now on. Calls are priced by what is in force when they are admitted.",
    )
    reason = forms.CharField(
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Kept with the version: 'provider lowered its price', 'new model'.",
    )

    def clean(self) -> dict[str, Any]:
        """Refuse a price that could not be published, before it is asked to be confirmed."""
        data = super().clean()
        problem = "" if self.errors else self.find_problem()
        if problem:
            self.add_error(None, problem)
        return data


class PriceVersionAdmin(ReadOnlyModelAdmin[PriceVersion]):
    list_display = (
        "model",
        "list_name",
        "force",
        "effective",
        "input_usd",
        "cache_read_usd",
        "output_usd",
        "reasoning_usd",
        "request_usd",
        "author",
        "reason",
    )
    list_filter = (ModelNameFilter, PriceListFilter)
    search_fields = ("model",)
    search_help_text = "Model"
    ordering = ("model", "-effective_from", "-id")
    actions_detail = ("try_change",)  # type: ignore[assignment]
    list_before_template = "billing/admin/price_note.html"  # type: ignore[assignment]

    effective = utc_column("effective_from", "In force from")
    created = utc_column("created_at", "Published")
    input_usd = usd_column("input_nanousd", "Input")
    cache_read_usd = usd_column("cache_read_nanousd", "Cache read")
    output_usd = usd_column("output_nanousd", "Output")
    reasoning_usd = usd_column("reasoning_nanousd", "Reasoning")
    request_usd = usd_column("request_nanousd", "Per call")

    def find_model_names(self) -> list[str]:
        """Return the names that a price may be published for; empty: any text."""
        return []

    @override
    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return request.user.has_perm("billing.add_priceversion")

    @override
    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return (
            (None, {"fields": ("model", "list_name", "force", "effective", "author", "reason", "created")}),
            ("USD per 1M tokens", {"fields": [_display_name(c) for c in PRICE_COLUMNS]}),
            (
                "What we pay the provider, USD per 1M tokens",
                {"fields": [_display_name(c) for c in PROVIDER_COLUMNS]},
            ),
            ("Long inputs and batches, USD per 1M tokens", {"fields": ["other_bands"]}),
        )

    @override
    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [_display_name(c) for c in (*PRICE_COLUMNS, *PROVIDER_COLUMNS)] + [
            "list_name",
            "force",
            "effective",
            "created",
            "other_bands",
        ]

    @override
    def read_page_facts(self, rows: Sequence[PriceVersion]) -> Mapping[Any, object]:
        in_force = _versions_in_force({row.model for row in rows})
        return {row.pk: in_force for row in rows}

    @admin.display(description="State")
    def force(self, version: PriceVersion) -> SafeString:
        if version.effective_from > datetime.now(UTC):
            return badge("Scheduled", "info")
        in_force = page_facts(version) or _versions_in_force({version.model})
        return badge("In force", "success") if version.pk in in_force else badge("Past", "neutral")

    @admin.display(description="Price list")
    def list_name(self, version: PriceVersion) -> str:
        return version.price_list or "Standard"

    @admin.display(description="")
    def other_bands(self, version: PriceVersion) -> SafeString | str:
        price = get_price(version.pk)
        rows = [*_band_rows(price.table, "Customers"), *_band_rows(price.provider_table, "We")]
        if not rows:
            return "None: one price for every size of input and every processing."
        cells = [format_html_join("", "<td>{}</td>", ((cell,) for cell in row)) for row in rows]
        head = format_html_join("", "<th>{}</th>", ((text,) for text in _BAND_HEADERS))
        body = format_html_join("", "<tr>{}</tr>", ((row,) for row in cells))
        return format_html('<table class="tk-table"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>', head, body)

    def get_custom_urls(self) -> tuple[tuple[str, str, Any], ...]:
        return (("try/", "billing_priceversion_try", try_price),)

    @page_action(description="Try a change", url_path="try-change", icon="calculate", permission="view_usage")
    def try_change(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        return redirect(f"{admin_url('billing.priceversion', 'try')}?version={object_id}")

    def has_view_usage_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("billing.view_usagerecord")

    @override
    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        if not self.has_add_permission(request):
            raise PermissionDenied
        list_url = admin_url("billing.priceversion", "changelist")
        names = self.find_model_names()
        initial = _initial(request.GET.get("model", ""), request.GET.get("price_list", ""))
        form = PublishPriceForm(request.POST or None, initial=initial, model_names=names)

        def act() -> HttpResponseBase:
            version = publish_price(
                model=form.cleaned_data["model"],
                rates=form.rates(),
                bands=form.bands(),
                price_list=form.cleaned_data["price_list"],
                author=request.user.get_username(),
                effective_from=form.cleaned_data["effective_from"],
                reason=form.cleaned_data["reason"],
                actor=admin_actor(request),
            )
            moment = f"{version.effective_from:%Y-%m-%d %H:%M:%S}"
            messages.success(request, f"Published a price of {version.model}, in force from {moment} UTC.")
            return redirect(list_url)

        page = FormPage(
            title="Publish a price",
            submit_label="Publish price",
            cancel_url=list_url,
            intro=(
                "USD per million tokens, as plain decimals: 0.15 means 15 cents per million. A version is never "
                "changed; a later one takes over from its moment on, and past calls keep their cost."
            ),
            confirm_intro="Please compare with the price in force. A published version cannot be changed or withdrawn.",
            sections=(
                FormSection(title="", fields=("model", "price_list", "effective_from", "reason")),
                *RATE_SECTIONS,
            ),
        )
        return run_form_page(self, request, page, form, act=act, summarise=lambda: _summary(form))


def _band_rows(table: RateTable, who: str) -> Iterator[tuple[object, ...]]:
    for kind, bands in (("Standard", table.standard[1:]), ("Batch (flex)", table.batch)):
        for band in bands:
            rates = band.rates
            amounts = (rates.input, rates.cache_read, rates.cache_write, rates.output, rates.reasoning)
            yield who, kind, f"above {band.above_input_tokens:,}", *map(money, amounts)


def _versions_in_force(models: Collection[str]) -> frozenset[int]:
    versions = (
        PriceVersion.objects.filter(model__in=models, effective_from__lte=datetime.now(UTC))
        .order_by("effective_from", "id")
        .values_list("price_list", "model", "pk")
    )
    # The last of each list and model wins.
    return frozenset({(price_list, model): pk for price_list, model, pk in versions}.values())


def _initial(model: str, price_list: str) -> dict[str, object]:
    """Return what the form begins with: the price in force, so that a change of one rate loses nothing else."""
    book = read_price_book(Sql(connection))
    in_force = book.find_version(model, to_us(datetime.now(UTC)), price_list=price_list)
    return {"model": model, "price_list": price_list, **({} if in_force is None else initial_of(in_force))}


def _summary(form: PublishPriceForm) -> list[Fact]:
    data = form.cleaned_data
    now = datetime.now(UTC)
    moment = data["effective_from"] or now
    draft = form.draft()
    book = read_price_book(Sql(connection))
    before = book.find_version(draft.model, to_us(moment), price_list=draft.price_list)
    facts = [
        Fact(label="Model", value=draft.model),
        Fact(label="In force from", value=utc(moment) if data["effective_from"] else "now on"),
    ]
    if draft.price_list:
        facts.insert(1, Fact(label="Price list", value=draft.price_list))
    if before is None:
        facts.append(Fact(label="In force then", value="no price"))
    facts += [
        Fact(label=_place_label(change.place), value=_change_text(change)) for change in diff_prices(before, draft)
    ]
    if before is not None and len(facts) == 2:
        facts.append(Fact(label="Rates", value="the same as in force"))
    return [*facts, _rerated(draft, now)]


def _place_label(place: RatePlace) -> str:
    column = f"{'provider_' if place.is_provider else ''}{place.rate}_nanousd"
    calls = "; batch" if place.processing is Processing.BATCH else ""
    if place.above_input_tokens:
        calls += f"; above {place.above_input_tokens:,} input tokens"
    return f"{rate_label(column)}{calls}"


def _change_text(change: RateChange) -> str:
    new = "none" if change.new_nanousd is None else f"{format_usd(change.new_nanousd)} USD"
    return new if change.old_nanousd is None else f"{new} (was {format_usd(change.old_nanousd)})"


def _rerated(draft: Price, now: datetime) -> Fact:
    start, end = last_days(_RERATED_DAYS, now=now)
    try:
        total = rerate(draft, start=start, end=end, most_calls=MOST_CALLS).total
    except RerateTooLarge:
        text = "too many calls to compute here: 'manage.py prices rerate' tells"
    else:
        text = shift_text(total.cost_nanousd, total.new_cost_nanousd) if total.calls else "no call"
    return Fact(label=f"The last {_RERATED_DAYS} days would have cost", value=text)


def _display_name(column: str) -> str:
    return f"{column.removesuffix('_nanousd')}_exact"


def _rate_column(column: str) -> Callable[[Any, PriceVersion], SafeString | str]:
    """Return a method that shows a rate; a version older than a class says what such tokens cost."""

    @admin.display(description=rate_label(column))
    def shown(_: Any, version: PriceVersion) -> SafeString | str:
        value = getattr(version, column)
        if value is not None:
            return money(value)
        return "as input" if column.endswith("_input_nanousd") else "as output"

    return shown


for _column in (*PRICE_COLUMNS, *PROVIDER_COLUMNS):
    setattr(PriceVersionAdmin, _display_name(_column), _rate_column(_column))
