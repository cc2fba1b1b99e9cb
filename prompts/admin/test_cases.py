"""Test cases: inputs and what must be true of the output."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from typing_extensions import override
from unfold.widgets import UnfoldAdminTextareaWidget

from common.admin_base import PlatformModelAdmin, adopt
from common.errors import TollkeeperError
from prompts.admin.editor_form import read_object
from prompts.checks import CheckKind, read_checks
from prompts.json_values import JsonObject, from_json, to_json
from prompts.models import PromptTestCase
from prompts.testing import save_test_case

_EXAMPLES = (
    'A list of objects, all of which must hold: {"kind": "contains", "value": "Dear"}, {"kind": "schema"}, '
    '{"kind": "json_path", "path": "$.items[0].sku", "value": "A-1"}, {"kind": "max_cost_usd", "value": "0.002"}, '
    '{"kind": "judged", "value": "It is polite."}. Kinds: '
)


class CaseForm(forms.ModelForm[PromptTestCase]):
    """JSON in two text fields, checked before it is stored."""

    inputs = forms.CharField(
        initial="{}",
        widget=UnfoldAdminTextareaWidget({"rows": 8, "class": "tk-mono", "spellcheck": "false"}),
        help_text="A JSON object that fits the prompt's input schema.",
    )
    checks = forms.CharField(
        initial='[\n  {"kind": "contains", "value": ""}\n]',
        widget=UnfoldAdminTextareaWidget({"rows": 10, "class": "tk-mono", "spellcheck": "false"}),
        help_text=_EXAMPLES + ", ".join(CheckKind) + ".",
    )

    class Meta:
        model = PromptTestCase
        fields = ("prompt", "name", "inputs", "checks", "is_active")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is not None:
            for name in ("inputs", "checks"):
                self.initial[name] = to_json(from_json(getattr(self.instance, name)), is_pretty=True)

    def clean_inputs(self) -> JsonObject:
        """Return the object that was typed."""
        try:
            return read_object(self.cleaned_data["inputs"], "inputs") or {}
        except TollkeeperError as error:
            raise forms.ValidationError(error.message) from None

    def clean_checks(self) -> Any:
        """Return the checks that were typed."""
        try:
            checks = read_checks(from_json(self.cleaned_data["checks"]))
        except TollkeeperError as error:
            raise forms.ValidationError(error.message) from None
        except ValueError as error:
            raise forms.ValidationError(f"This is not JSON: {error}.") from None
        if not checks:
            raise forms.ValidationError("A test case without a check would pass whatever comes back.")
        return checks


@admin.register(PromptTestCase)
class PromptTestCaseAdmin(PlatformModelAdmin[PromptTestCase]):
    form = CaseForm
    list_display = ("name", "prompt", "is_active", "updated_by")
    list_select_related = ("prompt",)
    list_filter = ("is_active",)
    search_fields = ("name", "prompt__name")
    ordering = ("prompt__name", "name", "id")
    fieldsets = ((None, {"fields": ("prompt", "name", "inputs", "checks", "is_active")}),)

    class Media:
        css = {"all": ("prompts/admin.css",)}

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Results point at it; switch it off instead.
        return False

    @override
    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if obj is None else ("prompt",)

    @override
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        data = form.cleaned_data
        saved = save_test_case(
            prompt_id=obj.prompt_id,
            name=data["name"],
            inputs=data["inputs"],
            checks=data["checks"],
            author=request.user.get_username(),
            is_active=data["is_active"],
            case_id=obj.pk,
        )
        adopt(obj, saved)
