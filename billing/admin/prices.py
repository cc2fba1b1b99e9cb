"""Price versions: published, never changed. Registered by `gateway.admin.prices`, which knows the models."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminSplitDateTimeWidget, UnfoldAdminTextInputWidget

from billing.admin.filters import ModelNameFilter
from billing.explaining import CLASS_LABELS
from billing.models import PriceVersion
from billing.pricing import MAX_RATE_NANOUSD, PRICE_COLUMNS, PROVIDER_COLUMNS, complete_rates, publish_price
from common.admin_base import ReadOnlyModelAdmin, page_facts
from common.admin_display import admin_url, badge, usd_column, utc, utc_column
from common.admin_fields import UsdField
from common.admin_pages import Fact, FormPage, FormSection, run_form_page
from common.money import format_usd

_MAIN = ("input_nanousd", "output_nanousd", "cache_read_nanousd", "cache_write_nanousd", "reasoning_nanousd")
_REST = ("audio_input_nanousd", "audio_output_nanousd", "request_nanousd")
_INHERITS = {
    "cache_read_nanousd": "input",
    "cache_write_nanousd": "input",
    "audio_input_nanousd": "input",
    "reasoning_nanousd": "output",
    "audio_output_nanousd": "output",
}


class PublishPriceForm(forms.Form):
    """A new price version in USD per million tokens."""

    model = forms.CharField(max_length=120, widget=UnfoldAdminTextInputWidget())
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

    def __init__(self, *args: Any, model_names: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if model_names:
            choices = [("", "Choose"), *((name, name) for name in model_names)]
            self.fields["model"] = forms.ChoiceField(choices=choices, widget=UnfoldAdminSelectWidget())
        for column in (*PRICE_COLUMNS, *PROVIDER_COLUMNS):
            self.fields[column] = _rate_field(column)

    def rates(self) -> dict[str, int]:
        """Return the columns that were filled in."""
        columns = (*PRICE_COLUMNS, *PROVIDER_COLUMNS)
        return {c: self.cleaned_data[c] for c in columns if self.cleaned_data.get(c) is not None}


class PriceVersionAdmin(ReadOnlyModelAdmin[PriceVersion]):
    list_display = (
        "model",
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
    list_filter = (ModelNameFilter,)
    search_fields = ("model",)
    search_help_text = "Model"
    ordering = ("model", "-effective_from", "-id")
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
            (None, {"fields": ("model", "force", "effective", "author", "reason", "created")}),
            ("USD per 1M tokens", {"fields": [_display_name(c) for c in PRICE_COLUMNS]}),
            (
                "What we pay the provider, USD per 1M tokens",
                {"fields": [_display_name(c) for c in PROVIDER_COLUMNS]},
            ),
        )

    @override
    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [_display_name(c) for c in (*PRICE_COLUMNS, *PROVIDER_COLUMNS)] + [
            "force",
            "effective",
            "created",
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

    @override
    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        if not self.has_add_permission(request):
            raise PermissionDenied
        list_url = admin_url("billing.priceversion", "changelist")
        names = self.find_model_names()
        form = PublishPriceForm(
            request.POST or None, initial={"model": request.GET.get("model", "")}, model_names=names
        )

        def act() -> HttpResponseBase:
            version = publish_price(
                model=form.cleaned_data["model"],
                rates=form.rates(),
                author=request.user.get_username(),
                effective_from=form.cleaned_data["effective_from"],
                reason=form.cleaned_data["reason"],
            )
            self.log_addition(request, version, "Published.")
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
                FormSection(title="", fields=("model", "effective_from", "reason")),
                FormSection(title="Customers pay, USD per 1M tokens", fields=_MAIN),
                FormSection(title="Audio, and a price per call", fields=_REST, is_collapsed=True),
                FormSection(
                    title="We pay the provider, USD per 1M tokens",
                    description="For the margin only; customers never see it. Empty counts as zero.",
                    fields=PROVIDER_COLUMNS,
                    is_collapsed=True,
                ),
            ),
        )
        return run_form_page(self, request, page, form, act=act, summarise=lambda: _summary(form))


def _versions_in_force(models: Collection[str]) -> frozenset[int]:
    versions = (
        PriceVersion.objects.filter(model__in=models, effective_from__lte=datetime.now(UTC))
        .order_by("effective_from", "id")
        .values_list("model", "pk")
    )
    # The last of each model wins.
    return frozenset(dict(versions).values())


def _summary(form: PublishPriceForm) -> list[Fact]:
    data = form.cleaned_data
    now = datetime.now(UTC)
    moment = data["effective_from"] or now
    before = (
        PriceVersion.objects.filter(model=data["model"], effective_from__lte=moment)
        .order_by("-effective_from", "-id")
        .first()
    )
    complete = complete_rates(form.rates())
    facts = [
        Fact(label="Model", value=data["model"]),
        Fact(label="In force from", value=utc(moment) if data["effective_from"] else "now on"),
    ]
    for column in (*PRICE_COLUMNS, *PROVIDER_COLUMNS):
        old = getattr(before, column) if before is not None else None
        if complete[column] == 0 and not old and column not in ("input_nanousd", "output_nanousd"):
            continue
        change = "" if old is None else " (unchanged)" if old == complete[column] else f" (was {format_usd(old)})"
        facts.append(Fact(label=_label(column), value=f"{format_usd(complete[column])} USD{change}"))
    return facts


def _rate_field(column: str) -> UsdField:
    base = _INHERITS.get(column)
    is_per_call = column.endswith("request_nanousd")
    text = f"Empty: as {base}." if base else "USD per call, on top. Empty: 0." if is_per_call else ""
    return UsdField(
        required=column in ("input_nanousd", "output_nanousd"),
        max_nanousd=MAX_RATE_NANOUSD,
        label=_label(column),
        help_text=text,
    )


def _label(column: str) -> str:
    name = column.removeprefix("provider_").removesuffix("_nanousd")
    text = CLASS_LABELS.get(name, "Per call").replace(" the provider's", "")
    return f"Provider: {text.lower()}" if column.startswith("provider_") else text


def _display_name(column: str) -> str:
    return f"{column.removesuffix('_nanousd')}_exact"


for _column in (*PRICE_COLUMNS, *PROVIDER_COLUMNS):
    setattr(PriceVersionAdmin, _display_name(_column), usd_column(_column, _label(_column)))
