"""Forms of the release page."""

from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from prompts.models import PromptVersion
from prompts.releasing import ROLLOUT_STEPS


def _reason_field(help_text: str) -> forms.CharField:
    return forms.CharField(max_length=500, widget=UnfoldAdminTextareaWidget({"rows": 2}), help_text=help_text)


class MoveForm(forms.Form):
    """Where a label shall point."""

    # The label's last move when the form was opened.
    seen_move = forms.IntegerField(widget=forms.HiddenInput)
    label = forms.CharField(
        max_length=40,
        widget=UnfoldAdminTextInputWidget(),
        help_text="'production' answers who pins nothing; any other name is yours: 'staging', 'beta'.",
    )
    version = forms.ModelChoiceField(queryset=PromptVersion.objects.none(), widget=UnfoldAdminSelectWidget())
    percent = forms.TypedChoiceField(
        coerce=int,
        choices=[(step, f"{step} % of callers" if step < 100 else "All callers") for step in ROLLOUT_STEPS],
        initial=100,
        widget=UnfoldAdminRadioSelectWidget(),
        help_text="Below 100 the others keep the present version. A caller or session always gets the same one.",
    )
    reason = _reason_field("Stays in the log beside your name.")

    def __init__(self, *args: Any, prompt_id: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["version"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = PromptVersion.objects.filter(prompt_id=prompt_id).order_by("-major", "-minor", "-patch")


class ReasonForm(forms.Form):
    """Why a label is rolled back or taken back."""

    seen_move = forms.IntegerField(widget=forms.HiddenInput)
    reason = _reason_field("Stays in the log beside your name: 'answers got longer', 'wrong tone'.")


class DecisionForm(forms.Form):
    """What the second person says."""

    note = forms.CharField(required=False, max_length=500, widget=UnfoldAdminTextareaWidget({"rows": 2}))


class RulesForm(forms.Form):
    """What a label asks of a move."""

    needs_approval = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="A move counts only when a second person has approved it. Rolling back never needs approval.",
    )
    needs_green_tests = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="Only versions whose active test cases all passed can get this label.",
    )
