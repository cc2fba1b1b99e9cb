"""Form fields of the admin: money as plain decimal USD, percentages, names one a line."""

from collections.abc import Sequence
from typing import Any

from django import forms
from typing_extensions import override
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from common.money import MAX_NANOUSD, format_usd, parse_usd
from common.percents import format_percent, parse_percent


class UsdField(forms.Field):
    """A plain decimal in the form, integer nano-USD in Python; every decimal survives the round trip."""

    default_error_messages = {
        "too_small": "At least %(limit)s USD.",
        "too_large": "At most %(limit)s USD.",
    }

    def __init__(
        self, *, min_nanousd: int = 0, max_nanousd: int = MAX_NANOUSD, suffix: str = "USD", **kwargs: Any
    ) -> None:
        kwargs.setdefault(
            "widget",
            UnfoldAdminTextInputWidget(
                {"inputmode": "decimal", "autocomplete": "off", "class": "tk-amount", "placeholder": "0.00"}
            ),
        )
        super().__init__(**kwargs)
        self.min_nanousd = min_nanousd
        self.max_nanousd = max_nanousd
        self.suffix = suffix

    @classmethod
    def for_column(cls, column: Any) -> "UsdField":
        """Return the field of a model's `*_nanousd` column."""
        name = column.name.removesuffix("_nanousd").replace("_", " ").capitalize()
        field = cls(
            required=not column.blank,
            label=f"{name} (USD)",
            help_text=str(column.help_text).replace("nano-USD", "USD, as a plain decimal"),
        )
        if column.blank:
            field.widget.attrs["placeholder"] = ""
        return field

    @override
    def prepare_value(self, value: Any) -> Any:
        return format_usd(value) if isinstance(value, int) else value

    @override
    def to_python(self, value: Any) -> int | None:
        if value in self.empty_values:
            return None
        if isinstance(value, int):
            return value
        try:
            return parse_usd(str(value))
        except ValueError as error:
            raise forms.ValidationError(f"{error}.", code="invalid") from None

    @override
    def validate(self, value: Any) -> None:
        super().validate(value)
        if value is None:
            return
        for limit, is_beyond, code in (
            (self.min_nanousd, value < self.min_nanousd, "too_small"),
            (self.max_nanousd, value > self.max_nanousd, "too_large"),
        ):
            if is_beyond:
                message = self.error_messages[code]
                raise forms.ValidationError(message, code=code, params={"limit": format_usd(limit)})

    @override
    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(data) != initial)
        except forms.ValidationError:
            return True


class LinesField(forms.CharField):
    """A list of names, one a line."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("widget", UnfoldAdminTextareaWidget({"rows": 4, "spellcheck": "false"}))
        super().__init__(**kwargs)

    @override
    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list | tuple) else value

    @override
    def to_python(self, value: Any) -> Any:
        lines: Sequence[str] = value if isinstance(value, list | tuple) else str(value or "").splitlines()
        return [line.strip() for line in lines if line.strip()]

    @override
    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.to_python(data) != list(initial or []))


class PercentField(forms.Field):
    """A plain decimal percentage in the form, integer hundredths of a percent (or what `decimals` says) in Python."""

    def __init__(self, *, min_points: int = 0, max_points: int, decimals: int = 2, **kwargs: Any) -> None:
        kwargs.setdefault(
            "widget",
            UnfoldAdminTextInputWidget(
                {"inputmode": "decimal", "autocomplete": "off", "class": "tk-amount", "placeholder": "0"}
            ),
        )
        kwargs.setdefault("help_text", "Percent, as a plain decimal such as 12.5.")
        super().__init__(**kwargs)
        self.min_points = min_points
        self.max_points = max_points
        self.decimals = decimals

    @override
    def prepare_value(self, value: Any) -> Any:
        return self._text(value).removesuffix(" %") if isinstance(value, int) else value

    @override
    def to_python(self, value: Any) -> int | None:
        if value in self.empty_values:
            return None
        if isinstance(value, int):
            return value
        try:
            return parse_percent(str(value), decimals=self.decimals)
        except ValueError as error:
            raise forms.ValidationError(f"{error}.", code="invalid") from None

    @override
    def validate(self, value: Any) -> None:
        super().validate(value)
        if value is not None and not self.min_points <= value <= self.max_points:
            raise forms.ValidationError(
                f"Between {self._text(self.min_points)} and {self._text(self.max_points)}.", code="range"
            )

    def _text(self, points: int) -> str:
        return format_percent(points, decimals=self.decimals)
