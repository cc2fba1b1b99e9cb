"""Forms of API keys: issuing, editing, revoking."""

from datetime import timedelta
from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminBigIntegerFieldWidget,
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelect2Widget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from common.admin_fields import LinesField, UsdField
from keys.errors import KeyInvalid
from keys.issuing import parse_networks
from keys.limits import LIMIT_COLUMNS
from keys.models import ApiKey, Customer, KeyEnvironment
from keys.overlaps import parse_overlap
from keys.scopes import DEFAULT_SCOPES, Scope

SCOPE_CHOICES = [(scope.value, f"{scope.label} ({scope.value})") for scope in Scope]
_SCOPES_HELP = "What the key may do. Give an application only what it needs."
_EXPIRES_HELP = "UTC. Empty: the key does not expire."


def scopes_field() -> forms.MultipleChoiceField:
    """Return the checkboxes of scopes."""
    return forms.MultipleChoiceField(
        choices=SCOPE_CHOICES,
        initial=list(DEFAULT_SCOPES),
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        help_text=_SCOPES_HELP,
    )


def allowed_models_field(model_names: list[str]) -> LinesField:
    """Return the list of models; `model_names` are shown as what may be written."""
    known = f" Models: {', '.join(model_names)}." if model_names else ""
    return LinesField(
        required=False,
        label="Allowed models",
        help_text=f"One a line; a name ending in * stands for all that begin so. Empty: every active model.{known}",
    )


def allowed_prompts_field() -> LinesField:
    """Return the list of prompts."""
    return LinesField(
        required=False,
        label="Allowed prompts",
        help_text="One a line; a name ending in * stands for all that begin so. Empty: every released prompt.",
    )


class NetworksField(LinesField):
    """Addresses and networks, one a line, in their canonical form."""

    def clean(self, value: Any) -> list[str]:
        """Return the networks. Raises ValidationError for a line that is none."""
        try:
            return parse_networks(super().clean(value))
        except KeyInvalid as error:
            raise forms.ValidationError(error.message) from None


def allowed_networks_field() -> NetworksField:
    """Return the list of networks."""
    return NetworksField(
        required=False,
        label="Allowed networks",
        help_text="One a line: 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32. Empty: usable from anywhere.",
    )


class IssueKeyForm(forms.Form):
    """What `keys.issuing.issue_key` needs."""

    # Names this one filling-in of the form, so that sending it twice does not issue two keys.
    form_id = forms.CharField(widget=forms.HiddenInput)
    customer = forms.ModelChoiceField(
        queryset=Customer.objects.order_by("name", "id"),
        widget=UnfoldAdminSelect2Widget(),
        empty_label="Choose",
    )
    name = forms.CharField(
        max_length=80,
        widget=UnfoldAdminTextInputWidget(),
        help_text="What it is for: 'website backend', 'nightly report'.",
    )
    environment = forms.ChoiceField(
        choices=KeyEnvironment.choices,
        initial=KeyEnvironment.LIVE,
        widget=UnfoldAdminRadioSelectWidget(radio_style=1),
        help_text="Test keys (tk_test_) reach upstreams marked as test only, and are charged nothing.",
    )
    expires_at = forms.SplitDateTimeField(
        required=False, label="Expires", widget=UnfoldAdminSplitDateTimeWidget(), help_text=_EXPIRES_HELP
    )

    def __init__(self, *args: Any, model_names: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["scopes"] = scopes_field()
        self.fields["allowed_models"] = allowed_models_field(model_names)
        self.fields["allowed_prompts"] = allowed_prompts_field()
        self.fields["allowed_networks"] = allowed_networks_field()
        for column in LIMIT_COLUMNS:
            self.fields[column] = _limit_field(column)


class KeyForm(forms.ModelForm[ApiKey]):
    """What may change of an existing key; its secret and customer may not."""

    class Meta:
        model = ApiKey
        fields = (
            "name",
            "scopes",
            "allowed_models",
            "allowed_prompts",
            "allowed_networks",
            "expires_at",
            *LIMIT_COLUMNS,
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A page that only shows has no fields to replace.
        if "scopes" in self.fields:
            self.fields["scopes"] = scopes_field()
            self.fields["allowed_models"] = allowed_models_field([])
            self.fields["allowed_prompts"] = allowed_prompts_field()
            self.fields["allowed_networks"] = allowed_networks_field()
            self.fields["expires_at"].help_text = f"{_EXPIRES_HELP} A moment in the past ends it now."


class RevokeKeyForm(forms.Form):
    """Why a key ends."""

    reason = forms.CharField(
        max_length=200,
        widget=UnfoldAdminTextareaWidget({"rows": 3}),
        help_text="Stays with the key: 'leaked in a public repository', 'project ended'.",
    )


class RotateKeyForm(forms.Form):
    """How long both keys work, and why there is a new one."""

    overlap = forms.ChoiceField(
        choices=[
            ("24h", "24 hours"),
            ("7d", "7 days"),
            ("1h", "1 hour"),
            ("now", "End the old key now"),
            ("until", "Until the moment below"),
        ],
        widget=UnfoldAdminRadioSelectWidget(radio_style=1),
        initial="24h",
        label="The old key goes on working for",
    )
    until = forms.SplitDateTimeField(
        required=False, label="Until", widget=UnfoldAdminSplitDateTimeWidget(), help_text="UTC."
    )
    reason = forms.CharField(
        max_length=200,
        widget=UnfoldAdminTextareaWidget({"rows": 3}),
        help_text="Stays in the audit trail: 'yearly rotation', 'an employee left'.",
    )

    def clean(self) -> dict[str, Any]:
        """Return the data; a moment is needed where the choice says so."""
        data = super().clean() or {}
        if data.get("overlap") == "until" and not data.get("until"):
            self.add_error("until", "Give the moment at which the old key ends.")
        return data

    def read_overlap(self) -> timedelta:
        """Return how long both work. Raises KeyInvalid for a moment in the past."""
        data = self.cleaned_data
        return parse_overlap(data["until"].isoformat() if data["overlap"] == "until" else data["overlap"])


def _limit_field(column: str) -> forms.Field:
    model_field: Any = ApiKey._meta.get_field(column)
    if column.endswith("_nanousd"):
        return UsdField.for_column(model_field)
    field: forms.Field = model_field.formfield(widget=UnfoldAdminBigIntegerFieldWidget())
    return field
