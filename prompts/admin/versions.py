"""A published version: what it says, who published it and why; deprecating it, and putting it back into the draft."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.widgets import UnfoldAdminSplitDateTimeWidget, UnfoldAdminTextInputWidget

from common.admin_base import ReadOnlyModelAdmin, page_action
from common.admin_display import admin_link, admin_url, utc
from common.admin_pages import Fact, FormPage, Panel, run_form_page
from common.money import format_usd
from prompts.admin.display import page_url
from prompts.admin.numbers import calls_panel
from prompts.authoring import deprecate_version, restore_version, withdraw_deprecation
from prompts.content import read_content
from prompts.json_values import from_json, to_json
from prompts.models import PromptTestResult, PromptVersion, VersionDeprecation
from prompts.ports import open_runner
from prompts.testing import run_test_cases

_SHOWN_RESULTS = 50


class DeprecationForm(forms.Form):
    """When callers should have left, and for what."""

    sunset_at = forms.SplitDateTimeField(
        required=False,
        widget=UnfoldAdminSplitDateTimeWidget(),
        help_text="UTC; sent in the Sunset header. Empty: no date yet. Nothing is switched off by itself.",
    )
    note = forms.CharField(
        required=False, max_length=500, widget=UnfoldAdminTextInputWidget(), help_text="What to use instead, and why."
    )


class RunTestsForm(forms.Form):
    """With which model."""

    model = forms.CharField(
        required=False,
        max_length=120,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Empty: the version's own model. Only results with that one count for a release.",
    )


@admin.register(PromptVersion)
class PromptVersionAdmin(ReadOnlyModelAdmin[PromptVersion]):
    list_display = ("number_text", "prompt", "note", "author", "created")
    list_select_related = ("prompt",)
    search_fields = ("prompt__name",)
    ordering = ("-id",)
    fields = ("prompt",)
    actions_detail: Sequence[str] = ("compare", "test", "release", "restore", "deprecate", "withdraw")  # type: ignore[assignment]
    change_form_template = "prompts/admin/version.html"

    created = admin.display(description="Published (UTC)")(lambda _, version: utc(version.created_at, zone=""))

    @admin.display(description="Version")
    def number_text(self, version: PromptVersion) -> str:
        return str(version.number)

    @override
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        version = self.get_object(request, object_id) if object_id else None
        context = {} if version is None else _version_context(version)
        return super().changeform_view(request, object_id, form_url, {**context, **(extra_context or {})})

    # ---- actions

    def has_edit_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("prompts.change_prompt")

    def has_publish_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("prompts.publish_prompt")

    def has_release_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("prompts.release_prompt")

    @override
    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        is_deprecated = VersionDeprecation.objects.filter(version_id=object_id).exists()
        unwanted = "prompts_promptversion_withdraw" if not is_deprecated else ""
        return [a for a in super().get_actions_detail(request, object_id) if a.action_name != unwanted]

    @page_action(description="Compare", url_path="compare", icon="difference", permission="view")
    def compare(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        version = get_object_or_404(PromptVersion, pk=object_id)
        return redirect(f"{page_url('diff', version.prompt_id)}?new={version.pk}")

    @page_action(description="Run test cases", url_path="test", icon="science", permission="edit")
    def test(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        version = get_object_or_404(PromptVersion.objects.select_related("prompt"), pk=object_id)
        back = admin_url("prompts.promptversion", "change", version.pk)
        form = RunTestsForm(request.POST or None)

        def act() -> HttpResponseBase:
            with open_runner() as runner:
                results = run_test_cases(
                    runner, version_id=version.pk, author=request.user.get_username(), model=form.cleaned_data["model"]
                )
            failed = sum(not result.is_passed for result in results)
            level = messages.WARNING if failed or not results else messages.SUCCESS
            messages.add_message(request, level, _summary(len(results), failed))
            return redirect(back)

        page = FormPage(
            title=f"Run the test cases of {version.prompt.name} on {version.number}",
            submit_label="Run",
            cancel_url=back,
            intro="Every active case calls the model once, or more often where its answer does not fit its schema. "
            "This takes as long as the model does. No customer is charged; the platform pays what the provider asks.",
        )
        return run_form_page(self, request, page, form, act=act)

    @page_action(description="Release", url_path="release", icon="rocket_launch", permission="release")
    def release(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        version = get_object_or_404(PromptVersion, pk=object_id)
        return redirect(f"{page_url('move', version.prompt_id)}?version={version.pk}")

    @page_action(description="Put into the draft", url_path="restore", icon="restore_page", permission="edit")
    def restore(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        version = get_object_or_404(PromptVersion.objects.select_related("prompt"), pk=object_id)

        def act() -> HttpResponseBase:
            restore_version(version_id=version.pk, author=request.user.get_username())
            self.log_change(request, version, "Put into the draft.")
            return redirect(page_url("editor", version.prompt_id))

        page = FormPage(
            title=f"Put {version.number} into the draft of {version.prompt.name}",
            submit_label="Replace the draft",
            cancel_url=admin_url("prompts.promptversion", "change", version.pk),
            is_danger=True,
            intro="What is in the draft now is lost, unless it was published. Callers notice nothing.",
        )
        return run_form_page(self, request, page, forms.Form(request.POST or None), act=act)

    @page_action(description="Deprecate", url_path="deprecate", icon="event_busy", permission="publish")
    def deprecate(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        version = get_object_or_404(PromptVersion.objects.select_related("prompt"), pk=object_id)
        back = admin_url("prompts.promptversion", "change", version.pk)
        form = DeprecationForm(request.POST or None)

        def act() -> HttpResponseBase:
            data = form.cleaned_data
            author = request.user.get_username()
            deprecate_version(version_id=version.pk, author=author, sunset_at=data["sunset_at"], note=data["note"])
            self.log_change(request, version, f"Deprecated. {data['note']}")
            messages.success(request, f"{version.number} is deprecated; its callers are told with every answer.")
            return redirect(back)

        page = FormPage(
            title=f"Deprecate {version.prompt.name} {version.number}",
            submit_label="Deprecate",
            cancel_url=back,
            intro="Callers of this version get Deprecation and Sunset headers. It goes on working.",
        )
        return run_form_page(self, request, page, form, act=act)

    @page_action(description="Withdraw the deprecation", url_path="withdraw", icon="undo", permission="publish")
    def withdraw(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        version = get_object_or_404(PromptVersion.objects.select_related("prompt"), pk=object_id)
        back = admin_url("prompts.promptversion", "change", version.pk)

        def act() -> HttpResponseBase:
            withdraw_deprecation(version_id=version.pk)
            self.log_change(request, version, "Deprecation withdrawn.")
            return redirect(back)

        page = FormPage(title=f"Withdraw the deprecation of {version.number}", submit_label="Withdraw", cancel_url=back)
        return run_form_page(self, request, page, forms.Form(request.POST or None), act=act)


def _summary(ran: int, failed: int) -> str:
    if not ran:
        return "The prompt has no active test case."
    return f"{ran - failed} of {ran} test cases passed."


def _version_context(version: PromptVersion) -> dict[str, Any]:
    content = read_content(version.content)
    deprecation = VersionDeprecation.objects.filter(version=version).first()
    facts = [
        Fact(label="Prompt", value=admin_link("prompts.prompt", version.prompt_id, version.prompt.name)),
        Fact(label="Published", value=utc(version.created_at)),
        Fact(label="By", value=version.author),
        Fact(label="Note", value=version.note),
        Fact(label="Callers notice", value=version.behaviour_note or "-"),
        Fact(label="Model", value=content.model or "none: the caller names it"),
        Fact(label="Parameters", value=to_json(content.parameters) if content.parameters else "-"),
        Fact(label="Callers may set", value=", ".join(content.allowed_overrides) or "-"),
    ]
    if deprecation is not None:
        facts.append(Fact(label="Deprecated", value=utc(deprecation.deprecated_at)))
        facts.append(Fact(label="Sunset", value=utc(deprecation.sunset_at, never="no date yet")))
    return {
        "version_title": f"{version.prompt.name} {version.number}",
        "facts": facts,
        "messages_shown": content.messages,
        "input_schema": to_json(content.input_schema, is_pretty=True),
        "output_schema": "" if content.output_schema is None else to_json(content.output_schema, is_pretty=True),
        "panels": [calls_panel([version]), _results_panel(version)],
    }


def _results_panel(version: PromptVersion) -> Panel:
    results = PromptTestResult.objects.filter(version=version).select_related("case").order_by("-id")[:_SHOWN_RESULTS]
    return Panel(
        title="Test results",
        headers=("Time (UTC)", "Case", "Model", "Result", "Tokens in / out", "Cost (USD)", "Latency (ms)"),
        rows=[
            (
                utc(r.created_at, zone=""),
                r.case.name,
                r.model,
                _result_text(r),
                f"{r.input_tokens:,} / {r.output_tokens:,}",
                format_usd(r.cost_nanousd),
                f"{r.latency_ms:,}",
            )
            for r in results
        ],
        empty="No test case was run on this version.",
    )


def _result_text(result: PromptTestResult) -> SafeString | str:
    if result.is_passed:
        return "passed"
    failures = from_json(result.failures)
    return "failed: " + "; ".join(map(str, failures)) if isinstance(failures, list) else "failed"
