"""Two versions of a prompt, or a version and the draft, side by side."""

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse

from common.admin_base import PlatformModelAdmin
from common.admin_display import admin_url, money, number
from common.admin_pages import Panel
from prompts.admin.comparison import VersionSide, compare_versions
from prompts.admin.numbers import SHOWN_DAYS, days_text, numbers_panel, read_numbers
from prompts.authoring import compile_draft
from prompts.changes import find_reasons
from prompts.content import PromptContent, read_content
from prompts.diffing import diff_contents
from prompts.errors import PromptInvalid
from prompts.models import Prompt, PromptDraft, PromptVersion
from prompts.statistics import RunNumbers, read_run_numbers

DRAFT = "draft"
_DAYS = (1, 7, 30)
_RANGES = tuple(map(str, _DAYS))


class DiffPages(PlatformModelAdmin[Prompt]):
    """The page of differences; mixed into the page of a prompt."""

    def diff(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Show ?old=<version id>&new=<version id or "draft">; by default the draft beside what it is based on."""
        prompt = get_object_or_404(Prompt, pk=object_id)
        if not self.has_view_permission(request, prompt):
            raise PermissionDenied
        versions = list(
            PromptVersion.objects.filter(prompt=prompt).select_related("prompt").order_by("-major", "-minor", "-patch")
        )
        if not versions:
            raise Http404("nothing is published yet")
        new = request.GET.get("new", DRAFT)
        old = request.GET.get("old") or str(_before(prompt, versions, new).pk)
        days = int(request.GET.get("days", "")) if request.GET.get("days") in _RANGES else SHOWN_DAYS
        # The old one first, whichever was published first.
        compared = [version for which in (old, new) for version in versions if str(version.pk) == which]
        numbers = read_numbers(compared, days)
        runs = [read_run_numbers(version.pk) for version in compared]
        sides = [VersionSide(calls=found, runs=ran) for found, ran in zip(numbers, runs, strict=True)]
        old_content, new_content = _content(prompt, versions, old), _content(prompt, versions, new)
        sections = diff_contents(old_content, new_content)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{prompt.name}: differences",
            "prompt": prompt,
            "choices": [*((str(v.pk), str(v.number)) for v in versions), (DRAFT, "draft")],
            "old": old,
            "new": new,
            "sections": sections,
            "unchanged": [section.title for section in sections if not section.is_changed],
            "ranges": [(str(value), days_text(value)) for value in _DAYS],
            "days": str(days),
            "days_text": days_text(days),
            "has_draft": DRAFT in (old, new),
            "figures": compare_versions(*sides) if len(sides) == 2 else [],
            "panels": [numbers_panel(numbers, days=days), _tests_panel(compared, runs)],
            "reasons": find_reasons(old_content, new_content),
            "back_url": admin_url("prompts.prompt", "change", prompt.pk),
        }
        return TemplateResponse(request, "prompts/admin/diff.html", context)


def _tests_panel(compared: list[PromptVersion], runs: list[tuple[RunNumbers, ...]]) -> Panel:
    return Panel(
        title="Test runs side by side",
        headers=("Version", "Model", "Runs", "Failed", "Tokens", "Cost (USD)", "Latency p50 (ms)", "p95"),
        rows=[
            (
                version.number,
                found.model,
                number(found.runs),
                number(found.failed),
                number(found.tokens),
                money(found.cost_nanousd),
                number(found.p50_ms),
                number(found.p95_ms),
            )
            for version, ran in zip(compared, runs, strict=True)
            for found in ran
        ],
        empty="Neither was run on a test case.",
    )


def _before(prompt: Prompt, versions: list[PromptVersion], new: str) -> PromptVersion:
    """Return what one most likely wants to compare with: the version before, or what the draft grew from."""
    position = next((i for i, v in enumerate(versions) if str(v.pk) == new), -1)
    if position < 0:
        based_on = PromptDraft.objects.select_related("based_on").get(prompt=prompt).based_on
        return based_on or versions[0]
    return versions[min(position + 1, len(versions) - 1)]


def _content(prompt: Prompt, versions: list[PromptVersion], which: str) -> PromptContent:
    if which == DRAFT:
        content = read_content(PromptDraft.objects.get(prompt=prompt).content)
        try:
            # With its derived inputs, as it would be published.
            return compile_draft(prompt.name, content).content
        except PromptInvalid:
            return content
    found = next((v for v in versions if str(v.pk) == which), None)
    if found is None:
        raise Http404("no such version of this prompt")
    return read_content(found.content)
