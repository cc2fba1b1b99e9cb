"""Prompts: the list, the page of one, and the pages around it. Registered by `gateway.admin.prompts`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db.models import Max
from django.http import HttpRequest
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from typing_extensions import override

from common.admin_base import adopt, page_facts
from common.admin_display import admin_url, badge, utc
from common.admin_fields import LinesField
from common.admin_pages import Panel
from prompts.admin.diff_page import DiffPages
from prompts.admin.display import page_url, target_text, version_link
from prompts.admin.editor import EditorPages
from prompts.admin.release_pages import ReleasePages
from prompts.authoring import change_prompt, create_prompt, set_reuse
from prompts.models import Label, Prompt, PromptDraft, PromptTestCase, PromptVersion, VersionDeprecation
from prompts.names import PRODUCTION, is_valid_name
from prompts.testing import read_case_statuses

_SHOWN_VERSIONS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class _PromptFacts:
    labels: list[Label]
    newest: PromptVersion | None


class PromptForm(forms.ModelForm[Prompt]):
    """What is said about a prompt; its text is written in the editor."""

    tags = LinesField(required=False, help_text="One a line; for finding it again, and for sums over usage.")

    class Meta:
        model = Prompt
        fields = ("name", "description", "owner", "tags", "cache_seconds")

    def clean_name(self) -> str:
        """Refuse a name that callers could not write."""
        name = str(self.cleaned_data["name"])
        if not is_valid_name(name):
            raise forms.ValidationError("Lower-case words and digits, joined by dots, dashes or underscores.")
        return name

    def clean_tags(self) -> list[str]:
        """Refuse tags that are too many or too long."""
        tags: list[str] = self.cleaned_data["tags"]
        if len(tags) > 20 or any(len(tag) > 40 for tag in tags):
            raise forms.ValidationError("At most 20 tags of 1 to 40 characters.")
        return tags


class PromptAdmin(EditorPages, ReleasePages, DiffPages):
    form = PromptForm
    list_display = ("name", "production", "labels", "newest", "owner", "tag_list")
    search_fields = ("name", "description", "owner")
    search_help_text = "Name, description or owner"
    ordering = ("name", "id")
    fieldsets: ClassVar[Any] = (
        (None, {"fields": ("name", "description", "owner", "tags", "cache_seconds", "created")}),
    )
    add_fieldsets: Any = ((None, {"fields": ("name", "description", "owner", "tags", "cache_seconds")}),)
    readonly_fields = ("created",)
    actions_detail: Sequence[str] = ("editor", "publish", "releases")  # type: ignore[assignment]
    change_form_outer_after_template = "prompts/admin/prompt_after.html"  # type: ignore[assignment]

    @override
    def get_urls(self) -> list[URLPattern]:
        pages: tuple[tuple[str, str, Callable[..., Any]], ...] = (
            ("<int:object_id>/preview/", "preview", self.preview),
            ("<int:object_id>/try/", "try", self.try_draft),
            ("<int:object_id>/diff/", "diff", self.diff),
            ("<int:object_id>/move/", "move", self.move),
            ("<int:object_id>/labels/<int:label_id>/rollback/", "rollback", self.rollback),
            ("<int:object_id>/labels/<int:label_id>/removal/", "removal", self.removal),
            ("<int:object_id>/labels/<int:label_id>/rules/", "rules", self.rules),
            ("<int:object_id>/proposals/<int:proposal_id>/", "decide", self.decide),
        )
        own = [
            path(route, self.admin_site.admin_view(view), name=f"prompts_prompt_{name}") for route, name, view in pages
        ]
        return [*own, *super().get_urls()]

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Versions and usage point at it for good; take its labels back instead.
        return False

    @override
    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.add_fieldsets if obj is None else super().get_fieldsets(request, obj)

    @override
    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # Callers and includes know it by its name.
        return self.readonly_fields if obj is None else (*self.readonly_fields, "name")

    @override
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        data = form.cleaned_data
        if change:
            about = {"description": data["description"], "owner": data["owner"], "tags": data["tags"]}
            change_prompt(prompt_id=obj.pk, **about)
            set_reuse(prompt_id=obj.pk, seconds=data["cache_seconds"])
            return
        author = request.user.get_username()
        created = create_prompt(
            name=data["name"],
            author=author,
            description=data["description"],
            owner=data["owner"],
            tags=data["tags"],
        )
        if data["cache_seconds"] is not None:
            created = set_reuse(prompt_id=created.pk, seconds=data["cache_seconds"])
        adopt(obj, created)

    @override
    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> Any:
        if "_addanother" in request.POST:
            return super().response_add(request, obj, post_url_continue)
        messages.success(request, f"Created {obj.name}. Write what it says.")
        return redirect(page_url("editor", obj.pk))

    # ---- list

    @override
    def read_page_facts(self, rows: Sequence[Prompt]) -> Mapping[Any, object]:
        return _facts_of(rows)

    @admin.display(description="Production")
    def production(self, prompt: Prompt) -> SafeString | str:
        found = next((row for row in _facts(prompt).labels if row.name == PRODUCTION and row.version is not None), None)
        return badge("Not released") if found is None else target_text(found)

    @admin.display(description="Other labels")
    def labels(self, prompt: Prompt) -> SafeString | str:
        others = [row for row in _facts(prompt).labels if row.name != PRODUCTION and row.version is not None]
        return format_html_join(", ", "{} {}", [(row.name, target_text(row)) for row in others]) or "-"

    @admin.display(description="Newest version")
    def newest(self, prompt: Prompt) -> SafeString | str:
        return version_link(_facts(prompt).newest)

    @admin.display(description="Tags")
    def tag_list(self, prompt: Prompt) -> str:
        return ", ".join(prompt.tags) or "-"

    @admin.display(description="Created")
    def created(self, prompt: Prompt) -> str:
        return format_html("{} by {}", utc(prompt.created_at), prompt.created_by or "-")

    # ---- the page of one prompt

    @override
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        prompt = self.get_object(request, object_id) if object_id else None
        context = {} if prompt is None else {"panels": [_versions_panel(prompt), _cases_panel(prompt)]}
        return super().changeform_view(request, object_id, form_url, {**context, **(extra_context or {})})


def _facts_of(prompts: Sequence[Prompt]) -> dict[int, _PromptFacts]:
    """Return labels and newest version of each prompt, in two queries."""
    newest_ids = PromptVersion.objects.filter(prompt__in=prompts).values("prompt").annotate(newest=Max("id"))
    newest = {v.prompt_id: v for v in PromptVersion.objects.filter(pk__in=newest_ids.values("newest"))}
    found = {p.pk: _PromptFacts(labels=[], newest=newest.get(p.pk)) for p in prompts}
    rows = Label.objects.filter(prompt__in=prompts).select_related("version", "rollout_version").order_by("name", "id")
    for row in rows:
        found[row.prompt_id].labels.append(row)
    return found


def _facts(prompt: Prompt) -> _PromptFacts:
    found = page_facts(prompt)
    return found if isinstance(found, _PromptFacts) else _facts_of([prompt])[prompt.pk]


def _versions_panel(prompt: Prompt) -> Panel:
    versions = PromptVersion.objects.filter(prompt=prompt).order_by("-major", "-minor", "-patch")[:_SHOWN_VERSIONS]
    draft = PromptDraft.objects.select_related("based_on").get(prompt=prompt)
    by_version: dict[int, list[str]] = {}
    for label in _facts_of([prompt])[prompt.pk].labels:
        if label.version_id is not None:
            by_version.setdefault(label.version_id, []).append(label.name)
        if label.rollout_version_id is not None:
            by_version.setdefault(label.rollout_version_id, []).append(f"{label.name} ({label.rollout_percent} %)")
    deprecated = set(VersionDeprecation.objects.filter(version__prompt=prompt).values_list("version_id", flat=True))
    compare = page_url("diff", prompt.pk)
    rows: list[tuple[object, ...]] = [
        (
            version_link(version),
            ", ".join(by_version.get(version.pk, []))
            or (badge("Deprecated", "warning") if version.pk in deprecated else "-"),
            version.note,
            version.author,
            utc(version.created_at, zone=""),
            format_html('<a class="text-link" href="{}?new={}">Compare</a>', compare, version.pk),
        )
        for version in versions
    ]
    base = "nothing" if draft.based_on is None else draft.based_on.number
    return Panel(
        title="Versions",
        headers=("Version", "Labels", "Note", "Author", "Published (UTC)", ""),
        rows=rows,
        empty="Nothing is published yet: write the draft, then publish it.",
        note=f"The draft is based on {base}; saved {draft.updated_at:%Y-%m-%d %H:%M} UTC by {draft.updated_by or '-'}.",
        link_url=compare if rows else "",
        link_text="Draft beside its version",
    )


def _cases_panel(prompt: Prompt) -> Panel:
    newest = PromptVersion.objects.filter(prompt=prompt).order_by("-id").first()
    statuses = {} if newest is None else {status.case.pk: status for status in read_case_statuses(newest)}
    rows = []
    for case in PromptTestCase.objects.filter(prompt=prompt).order_by("name", "id"):
        status = statuses.get(case.pk)
        if status is None or status.result is None:
            state = badge("Not run" if case.is_active else "Switched off")
        else:
            state = badge("Passed", "success") if status.is_green else badge("Failed", "danger")
        url = admin_url("prompts.prompttestcase", "change", case.pk)
        rows.append((format_html('<a class="text-link" href="{}">{}</a>', url, case.name), state, case.updated_by))
    return Panel(
        title=f"Test cases{'' if newest is None else f' on {newest.number}'}",
        headers=("Case", "Last result", "Written by"),
        rows=rows,
        empty="No test case yet. A label can ask for green tests before it moves; then at least one is needed.",
        link_url=f"{admin_url('prompts.prompttestcase', 'add')}?prompt={prompt.pk}",
        link_text="Add a test case",
    )
