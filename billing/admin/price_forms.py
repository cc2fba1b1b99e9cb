"""The fields of a price in forms: rates in USD per million tokens, one tier of long inputs, discounts of batches."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from billing.bands import (
    MAX_RATE_NANOUSD,
    PRICE_COLUMNS,
    PROVIDER_COLUMNS,
    PriceBand,
    add_batch_discount,
    complete_rates,
)
from billing.errors import PriceInvalid
from billing.explaining import CLASS_LABELS
from billing.pricing import Price, draft_price
from billing.rates import WHOLE_BASIS_POINTS, Rates, RateTable
from common.admin_fields import PercentField, UsdField
from common.admin_pages import FormSection
from common.money import divide_half_even

MAIN_FIELDS = ("input_nanousd", "output_nanousd", "cache_read_nanousd", "cache_write_nanousd", "reasoning_nanousd")
REST_FIELDS = (
    "audio_input_nanousd",
    "audio_output_nanousd",
    "image_input_nanousd",
    "image_output_nanousd",
    "request_nanousd",
)
_LONG_CLASSES = ("input", "output", "cache_read", "cache_write")
_LONG_RATES = tuple(f"{prefix}{name}_nanousd" for prefix in ("", "provider_") for name in _LONG_CLASSES)
LONG_FIELDS = ("long_above", *(f"long_{column}" for column in _LONG_RATES))
BATCH_FIELDS = ("batch_discount", "provider_batch_discount")
_INHERITS = {
    "cache_read_nanousd": "input",
    "cache_write_nanousd": "input",
    "audio_input_nanousd": "input",
    "image_input_nanousd": "input",
    "reasoning_nanousd": "output",
    "audio_output_nanousd": "output",
    "image_output_nanousd": "output",
}

RATE_SECTIONS = (
    FormSection(title="Customers pay, USD per 1M tokens", fields=MAIN_FIELDS),
    FormSection(title="Audio, images, and a price per call", fields=REST_FIELDS, is_collapsed=True),
    FormSection(
        title="Long inputs",
        description="Rates of a whole call whose input has more tokens than this, as providers sell long contexts. "
        "Leave empty where the size does not matter. Further tiers: in a declaration file.",
        fields=LONG_FIELDS,
        is_collapsed=True,
    ),
    FormSection(
        title="Batches",
        description="What calls cost less that the provider processed at its batch price (flex).",
        fields=BATCH_FIELDS,
        is_collapsed=True,
    ),
    FormSection(
        title="We pay the provider, USD per 1M tokens",
        description="For the margin, and for markups on cost; customers never see it. Empty counts as zero.",
        fields=PROVIDER_COLUMNS,
        is_collapsed=True,
    ),
)


class PriceForm(forms.Form):
    """A price in USD per million tokens; the fields that a subclass adds come first."""

    def __init__(self, *args: Any, model_names: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["model"] = (
            forms.ChoiceField(
                choices=[("", "Choose"), *((name, name) for name in model_names)], widget=UnfoldAdminSelectWidget()
            )
            if model_names
            else forms.CharField(max_length=120, widget=UnfoldAdminTextInputWidget())
        )
        self.fields["price_list"] = forms.CharField(
            required=False,
            max_length=60,
            widget=UnfoldAdminTextInputWidget(),
            help_text="Empty: the standard price. A name: the list that terms of plans and customers refer to.",
        )
        for column in (*PRICE_COLUMNS, *PROVIDER_COLUMNS):
            self.fields[column] = _rate_field(column)
        self.fields["long_above"] = forms.IntegerField(
            required=False,
            min_value=1,
            widget=UnfoldAdminIntegerFieldWidget(),
            label="Above so many input tokens",
        )
        for column in _LONG_RATES:
            self.fields[f"long_{column}"] = UsdField(
                required=False, max_nanousd=MAX_RATE_NANOUSD, label=rate_label(column), help_text=_long_help(column)
            )
        self.fields["batch_discount"] = PercentField(required=False, max_points=10_000, label="Customers' discount")
        self.fields["provider_batch_discount"] = PercentField(
            required=False, max_points=10_000, label="The provider's discount"
        )

    def clean(self) -> dict[str, Any]:
        """Refuse a tier without its input and output, with the field's name."""
        data = super().clean() or {}
        has_rates = any(data.get(f"long_{column}") is not None for column in _LONG_RATES)
        if data.get("long_above"):
            for name in ("long_input_nanousd", "long_output_nanousd"):
                if data.get(name) is None:
                    self.add_error(name, "Long inputs need a price of input and of output.")
        elif has_rates:
            self.add_error("long_above", "Above how many input tokens do these rates apply?")
        return data

    def rates(self) -> dict[str, int]:
        """Return the columns that were filled in."""
        columns = (*PRICE_COLUMNS, *PROVIDER_COLUMNS)
        return {c: self.cleaned_data[c] for c in columns if self.cleaned_data.get(c) is not None}

    def bands(self) -> list[PriceBand]:
        """Return the bands of long inputs and of batches. Raises PriceInvalid."""
        data = self.cleaned_data
        standard = []
        if data.get("long_above"):
            rates = {c: data[f"long_{c}"] for c in _LONG_RATES if data.get(f"long_{c}") is not None}
            standard.append(PriceBand(above_input_tokens=data["long_above"], rates=rates))
        return add_batch_discount(
            complete_rates(self.rates()),
            standard,
            discount=data.get("batch_discount") or 0,
            provider_discount=data.get("provider_batch_discount") or 0,
        )

    def draft(self) -> Price:
        """Return the price that the form describes, unpublished. Raises PriceInvalid."""
        data = self.cleaned_data
        return draft_price(data["model"], self.rates(), self.bands(), price_list=data["price_list"])

    def find_problem(self) -> str:
        """Return why the form's price cannot be, or an empty text."""
        try:
            self.draft()
        except PriceInvalid as error:
            return error.message
        return ""


def initial_of(price: Price) -> dict[str, object]:
    """Return a form's first values that describe a price, as far as the form can: one tier, one discount a side.

    A rate that is what it would be if left out is left out, so that it follows when input or output is changed.
    """
    initial: dict[str, object] = {"model": price.model, "price_list": price.price_list}
    sides = (("", price.table), ("provider_", price.provider_table))
    for prefix, table in sides:
        initial |= {f"{prefix}{column}": value for column, value in _telling(table.base, PRICE_COLUMNS)}
    if len(price.table.standard) > 1:
        above = price.table.standard[1].above_input_tokens
        initial["long_above"] = above
        columns = [f"{name}_nanousd" for name in _LONG_CLASSES]
        for prefix, table in sides:
            initial |= {f"long_{prefix}{c}": value for c, value in _telling(table.rates_for(above + 1), columns)}
    for name, table in (("batch_discount", price.table), ("provider_batch_discount", price.provider_table)):
        discount = _discount_of(table)
        if discount:
            initial[name] = discount
    return initial


def _telling(rates: Rates, columns: Iterable[str]) -> Iterator[tuple[str, int]]:
    for column in columns:
        value: int = getattr(rates, column.removesuffix("_nanousd"))
        followed = _INHERITS.get(column)
        if followed is None or value != getattr(rates, followed):
            yield column, value


def _discount_of(table: RateTable) -> int:
    """Return the one discount, in hundredths of a percent, that makes the batch rates; 0 where none does."""
    if not table.batch or not table.base.input:
        return 0
    kept = divide_half_even(table.batch[0].rates.input * WHOLE_BASIS_POINTS, table.base.input)
    is_uniform = replace(table.base.scaled(kept), request=table.base.request) == table.batch[0].rates
    return WHOLE_BASIS_POINTS - kept if is_uniform else 0


def rate_label(column: str) -> str:
    """Return what people call a rate's column."""
    name = column.removeprefix("provider_").removesuffix("_nanousd")
    text = CLASS_LABELS.get(name, "Per call").replace(" the provider's", "")
    return f"Provider: {text.lower()}" if column.startswith("provider_") else text


def _rate_field(column: str) -> UsdField:
    base = _INHERITS.get(column)
    is_per_call = column.endswith("request_nanousd")
    text = f"Empty: as {base}." if base else "USD per call, on top. Empty: 0." if is_per_call else ""
    return UsdField(
        required=column in ("input_nanousd", "output_nanousd"),
        max_nanousd=MAX_RATE_NANOUSD,
        label=rate_label(column),
        help_text=text,
    )


def _long_help(column: str) -> str:
    if column.startswith("provider_"):
        return "Empty, all four: as for short inputs."
    return "Empty: as input." if column.startswith("cache_") else ""
