"""Guard policies: their rules, whom they are for, and a box to try them in."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import TextField
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.admin import StackedInline, TabularInline
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from common.admin_base import PlatformModelAdmin, page_action
from common.admin_display import admin_url, badge, code, link, money
from common.admin_pages import Panel
from common.wording import counted
from gateway.guard_models import GuardAssignment, GuardPolicy, GuardRule
from gateway.guard_policies import check_row, read_rules
from gateway.guards.errors import GuardRuleInvalid
from gateway.guards.trying import RuleOutcome, Trial, try_rules
from gateway.guards.values import Action, Surface
from gateway.judge_trials import JudgeTrial, try_judges

_MOST_CHARACTERS = 100_000
_MOST_SHOWN = 20
_TONES = {Action.FLAG: "warning", Action.REDACT: "info", Action.BLOCK: "danger"}


class RuleForm(forms.ModelForm[GuardRule]):
    """Refuses what cannot work, at the field that is wrong."""

    def clean(self) -> dict[str, Any]:
        """Check the rule as the request path will read it."""
        data = super().clean() or {}
        if not self.errors:
            # A policy that is new has no row yet; its name matters to nobody here.
            row = GuardRule(**{name: value for name, value in data.items() if name not in ("policy", "id", "DELETE")})
            try:
                check_row(row, GuardPolicy())
            except GuardRuleInvalid as error:
                self.add_error(error.param if error.param in self.fields else None, error.message)
        return data


class RuleInline(StackedInline):
    model = GuardRule
    form = RuleForm
    extra = 0
    ordering = ("id",)
    formfield_overrides: Any = {  # type: ignore[misc]
        TextField: {"widget": UnfoldAdminTextareaWidget({"rows": 4, "spellcheck": "false"})}
    }
    fieldsets = (
        (None, {"fields": ("name", "kind", "action", "is_active")}),
        ("Whose words it looks at", {"fields": ("on_user", "on_tool", "on_system", "on_answer")}),
        (
            "What it looks for",
            {
                "fields": ("entities", "terms", "pattern", "threshold", "languages", "max_characters"),
                "description": "Which of these count depends on the kind; each begins with the kinds that it is for.",
            },
        ),
        (
            "Judged by a model",
            {
                "fields": ("judge_model", "judge_key", "instructions", "deadline_ms", "on_failure"),
                "description": "For that kind only. Every call waits for the verdict, and every verdict is a call of "
                "the model that the key's customer pays. The other kinds look first, so the model is asked about what "
                "they let through, with what they redact left out. A stream whose answer is judged is held back until "
                "it is whole: its caller sees nothing for as long as the model writes, then all of it at once.",
            },
        ),
    )
    autocomplete_fields = ("judge_model", "judge_key")


class AssignmentForm(forms.ModelForm[GuardAssignment]):
    """One thing that the policy is for."""

    def clean(self) -> dict[str, Any]:
        """Refuse several in one line, or none."""
        data = super().clean() or {}
        if sum(data.get(name) is not None for name in ("plan", "customer", "api_key", "prompt")) != 1:
            self.add_error(None, "Choose one in each line: a plan, a customer, a key or a prompt.")
        return data


class AssignmentInline(TabularInline):
    model = GuardAssignment
    form = AssignmentForm
    extra = 0
    ordering = ("id",)
    fields = ("plan", "customer", "api_key", "prompt")
    autocomplete_fields = ("customer", "api_key", "prompt")
    verbose_name_plural = "Whom it is for (a key: also those that succeed it or that it makes)"


class TryForm(forms.Form):
    """A text, and whose words it is."""

    surface = forms.ChoiceField(
        choices=[
            (Surface.USER, "A user"),
            (Surface.TOOL, "A tool"),
            (Surface.SYSTEM, "A caller's system message"),
            (Surface.ANSWER, "The model's answer"),
        ],
        label="Who says it",
        widget=UnfoldAdminSelectWidget(),
    )
    text = forms.CharField(
        max_length=_MOST_CHARACTERS, strip=False, widget=UnfoldAdminTextareaWidget({"rows": 10, "spellcheck": "false"})
    )


@admin.register(GuardPolicy)
class GuardPolicyAdmin(PlatformModelAdmin[GuardPolicy]):
    list_display = ("name", "state", "rules_shown", "for_whom", "description")
    list_filter = ("is_active",)
    search_fields = ("name", "description")
    ordering = ("name", "id")
    inlines = (RuleInline, AssignmentInline)
    fields = ("name", "description", "is_active", "is_for_everybody", "restores")
    actions_detail = ("try_text",)

    @override
    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("rules", "assignments")

    @admin.display(description="State")
    def state(self, policy: GuardPolicy) -> SafeString:
        return badge("Active", "success") if policy.is_active else badge("Switched off")

    @admin.display(description="Rules")
    def rules_shown(self, policy: GuardPolicy) -> str:
        return ", ".join(f"{rule.name}: {rule.action}" for rule in policy.rules.all() if rule.is_active) or "none"

    @admin.display(description="For")
    def for_whom(self, policy: GuardPolicy) -> str:
        return "everybody" if policy.is_for_everybody else counted(len(policy.assignments.all()), "assignment")

    def has_try_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return self.has_view_permission(request)

    @page_action(description="Try a text", url_path="try", icon="experiment", permission="try")
    def try_text(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Show what each rule says of a text; the text is sent in the body and kept nowhere."""
        policy = get_object_or_404(GuardPolicy, pk=object_id)
        form = TryForm(request.POST or None)
        trial, panels = None, []
        rules = read_rules(policy)
        if form.is_valid():
            surface, text = Surface(form.cleaned_data["surface"]), form.cleaned_data["text"]
            trial = try_rules([rule for rule in rules if rule.judge is None], surface, text)
            panels.append(_panel(trial, text))
            judging = [rule for rule in rules if rule.judge is not None and surface in rule.surfaces]
            if judging:
                may_ask = self.has_change_permission(request, policy)
                is_open = may_ask and trial.blocked_by is None
                trials = try_judges(judging, surface, trial.text or text) if is_open else []
                panels.append(_judge_panel(trials, is_asked=may_ask))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Try the rules of {policy.name}",
            "media": self.media + form.media,
            "form": form,
            "panels": panels,
            "has_judges": any(rule.judge is not None for rule in rules),
            "trial": trial,
            "back_url": admin_url("gateway.guardpolicy", "change", policy.pk),
            "report_link": link(admin_url("gateway.guarddecision", "report"), "What the rules did to real calls"),
        }
        return TemplateResponse(request, "gateway/admin/guard_try.html", context)


def _judge_panel(trials: list[JudgeTrial], *, is_asked: bool) -> Panel:
    empty = "Models are asked once the other rules let the text through."
    if not is_asked:
        empty = "Only who may change policies may ask models: it costs the customers of their keys money."
    return Panel(
        title="What models say",
        headers=("Rule", "Would", "Because", "USD", "ms"),
        rows=[
            (
                code(trial.rule.name),
                _would(trial.action),
                trial.reason or "-",
                money(trial.charged_nanousd),
                f"{trial.milliseconds:,.0f}",
            )
            for trial in trials
        ],
        note="Real calls of the rules' keys, with what the other rules redact left out. A reason is the model's own.",
        empty=empty,
    )


def _would(action: Action | None) -> SafeString:
    if action is None:
        return badge("let it through", "success")
    return badge(action.value, _TONES[action])  # type: ignore[arg-type]


def _panel(trial: Trial, text: str) -> Panel:
    return Panel(
        title="What each rule says",
        headers=("Rule", "Would", "Found", "Characters", "Text", "µs"),
        rows=[row for outcome in trial.outcomes for row in _rows(outcome, text)],
        footer=("All together", "", "", "", "", f"{trial.microseconds:,.0f}"),
        note="Rules that are switched off, or look elsewhere, are not listed. The time is that of a second look.",
        empty="No active rule looks at this.",
    )


def _rows(outcome: RuleOutcome, text: str) -> list[tuple[object, ...]]:
    took = f"{outcome.microseconds:,.0f}"
    if not outcome.findings:
        return [(code(outcome.rule.name), badge("let it through", "success"), "-", "-", "-", took)]
    rows: list[tuple[object, ...]] = [
        (
            code(finding.rule) if index else code(outcome.rule.name),
            badge(finding.action.value, _TONES[finding.action]),  # type: ignore[arg-type]
            code(finding.rule),
            f"{finding.start:,} to {finding.end:,}",
            text[finding.start : finding.end][:80] or "-",
            "" if index else took,
        )
        for index, finding in enumerate(outcome.findings[:_MOST_SHOWN])
    ]
    if len(outcome.findings) > _MOST_SHOWN:
        rows.append(("", "", f"and {len(outcome.findings) - _MOST_SHOWN:,} more", "", "", ""))
    return rows
