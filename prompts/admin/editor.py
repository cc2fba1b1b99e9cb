"""The editor of a draft, its live preview, and publishing."""

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminRadioSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from common.admin_base import PlatformModelAdmin, page_action
from common.admin_display import admin_url
from common.admin_pages import Fact, FormPage, run_form_page
from common.errors import InternalError, TollkeeperError
from prompts.admin.display import page_url
from prompts.admin.editor_form import EditorState, content_of_state, read_object, read_state, state_of
from prompts.authoring import plan_version, publish_version, save_draft
from prompts.content import Role, read_content
from prompts.errors import PromptInvalid
from prompts.json_values import JsonObject, to_json
from prompts.models import Prompt, PromptDraft
from prompts.names import ChangeLevel
from prompts.parameters import OVERRIDE_NAMES
from prompts.previewing import preview_content, render_draft
from prompts.rendering import RenderedPrompt

# What the preview counts while somebody types; a longer draft is counted when it is called.
_MAX_COUNTED_CHARACTERS = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CostEstimate:
    """What one call with a text would cost by the standard price, as exact decimals."""

    input_usd: str
    # With the longest answer that it may give.
    most_usd: str
    output_tokens: int


class PublishForm(forms.Form):
    """What a version says about itself."""

    # The draft that the author looked at.
    revision = forms.IntegerField(widget=forms.HiddenInput)
    note = forms.CharField(
        max_length=500,
        widget=UnfoldAdminTextareaWidget({"rows": 2}),
        help_text="What changed, and why. Stays with the version for good.",
    )
    behaviour_note = forms.CharField(
        required=False,
        max_length=500,
        widget=UnfoldAdminTextInputWidget(),
        help_text="What callers will notice, if anything: 'answers in the caller's language'. Makes it at least minor.",
    )
    level = forms.ChoiceField(
        required=False,
        choices=[("", "As the change needs"), ("2", "At least minor"), ("3", "Major")],
        widget=UnfoldAdminRadioSelectWidget(),
        help_text="The number follows from the change; it can be raised, not lowered.",
    )

    def chosen_level(self) -> ChangeLevel | None:
        """Return the level that was asked for, if any."""
        chosen = self.cleaned_data["level"]
        return ChangeLevel(int(chosen)) if chosen else None


class EditorPages(PlatformModelAdmin[Prompt]):
    """Pages of writing; mixed into the page of a prompt."""

    def count_tokens(self, text: str) -> int | None:
        """Return the tokens of a text; this app cannot count them."""
        return None

    def estimate_cost(self, model: str, tokens: int, parameters: JsonObject) -> CostEstimate | None:
        """Return what a call with so many tokens of input costs, or None where nobody knows; this app does not."""
        return None

    def stream_draft(self, prompt: RenderedPrompt, model: str) -> AsyncIterator[bytes]:
        """Return the events of a real call with a filled-in prompt. Raises TollkeeperError; this app cannot call."""
        raise InternalError(internal_detail="nobody calls models: is the gateway installed?")

    def find_model_names(self) -> list[str]:
        """Return the names of the models that a prompt may name; this app knows none."""
        return []

    def has_edit_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("prompts.change_prompt")

    def has_publish_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("prompts.publish_prompt")

    @page_action(
        description="Edit the draft",
        url_path="editor",
        icon="edit_note",
        variant=ActionVariant.PRIMARY,
        permission="edit",
    )
    def editor(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        prompt = get_object_or_404(Prompt, pk=object_id)
        draft = PromptDraft.objects.select_related("based_on").get(prompt=prompt)
        if request.method != "POST":
            return self._show_editor(request, draft, state_of(read_content(draft.content), revision=draft.revision))
        state = read_state(request.POST)
        try:
            save_draft(
                prompt_id=prompt.pk,
                content=content_of_state(state),
                author=request.user.get_username(),
                expected_revision=state.revision,
            )
        except TollkeeperError as error:
            return self._show_editor(request, draft, state, problem=error)
        self.log_change(request, prompt, "Saved the draft.")
        if "_publish" in request.POST:
            return redirect(page_url("publish", prompt.pk))
        messages.success(request, "The draft is saved. Callers notice nothing until it is published and released.")
        return redirect(page_url("editor", prompt.pk))

    def preview(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Answer what the form's content looks like filled in, as JSON (asked by the editor while somebody types)."""
        if not self.has_edit_permission(request):
            raise PermissionDenied
        prompt = get_object_or_404(Prompt, pk=object_id)
        state = read_state(request.POST)
        try:
            content = content_of_state(state)
            inputs = read_object(state.inputs, "inputs")
        except PromptInvalid as error:
            return JsonResponse({"problem": error.message, "field": error.param, "messages": []})
        seen = preview_content(prompt.name, content, inputs)
        text = "\n".join(message.content for message in seen.messages)
        counted = self.count_tokens(text) if len(text) <= _MAX_COUNTED_CHARACTERS else None
        cost = None
        if counted and content.model:
            cost = self.estimate_cost(content.model, counted, content.parameters)
        return JsonResponse(
            {
                "problem": seen.problem,
                "field": seen.field,
                "messages": [{"role": m.role, "content": m.content} for m in seen.messages],
                "inputs": None if seen.inputs is None else to_json(seen.inputs, is_pretty=True),
                "input_schema": None if seen.input_schema is None else to_json(seen.input_schema, is_pretty=True),
                "tokens": counted,
                "characters": len(text),
                "model": content.model,
                "cost": None if cost is None else asdict(cost),
            }
        )

    def try_draft(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Call the model with the form's content and sample inputs; answer with the events of the call."""
        if not self.has_edit_permission(request):
            raise PermissionDenied
        prompt = get_object_or_404(Prompt, pk=object_id)
        state = read_state(request.POST)
        try:
            rendered = render_draft(prompt.name, content_of_state(state), read_object(state.inputs, "inputs"))
            model = request.POST.get("try_model", "").strip() or rendered.model
            if not model:
                raise PromptInvalid("Name a model: this prompt leaves it to its callers.", param="model")
            events = self.stream_draft(rendered, model)
        except TollkeeperError as error:
            return JsonResponse({"message": error.message, "field": error.param or ""}, status=error.status)
        self.log_change(request, prompt, f"Ran the draft with {model}.")
        response = StreamingHttpResponse(events, content_type="text/event-stream; charset=utf-8")
        response.headers["Cache-Control"] = "no-store"
        # nginx would otherwise collect the stream before it passes it on.
        response.headers["X-Accel-Buffering"] = "no"
        return response

    @page_action(description="Publish", url_path="publish", icon="publish", permission="publish")
    def publish(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        prompt = get_object_or_404(Prompt, pk=object_id)
        revision = PromptDraft.objects.get(prompt=prompt).revision
        back = admin_url("prompts.prompt", "change", prompt.pk)
        try:
            plan_version(prompt_id=prompt.pk)
        except TollkeeperError as error:
            messages.error(request, f"The draft cannot be published: {error.message}")
            return redirect(page_url("editor", prompt.pk))
        form = PublishForm(request.POST or None, initial={"revision": revision})

        def summarise() -> list[Fact]:
            return _publishing_facts(prompt, form)

        def act() -> HttpResponseBase:
            version = publish_version(
                prompt_id=prompt.pk,
                author=request.user.get_username(),
                note=form.cleaned_data["note"],
                behaviour_note=form.cleaned_data["behaviour_note"],
                level=form.chosen_level(),
                expected_revision=form.cleaned_data["revision"],
            )
            self.log_change(request, prompt, f"Published {version.number}: {version.note}")
            messages.success(request, f"Published {version.number}. Point a label at it to let callers have it.")
            return redirect(page_url("releases", prompt.pk))

        page = FormPage(
            title=f"Publish {prompt.name}",
            submit_label="Publish",
            cancel_url=back,
            intro="A published version is never changed and never deleted. Callers get it when a label points at it.",
            confirm_intro="Please check the number and what it follows from.",
        )
        return run_form_page(self, request, page, form, act=act, summarise=summarise)

    def _show_editor(
        self, request: HttpRequest, draft: PromptDraft, state: EditorState, *, problem: TollkeeperError | None = None
    ) -> HttpResponseBase:
        prompt = draft.prompt
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{prompt.name}: draft",
            "prompt": prompt,
            "draft": draft,
            "state": state,
            "problem": problem,
            "roles": [role.value for role in Role],
            "model_names": self.find_model_names(),
            "override_names": OVERRIDE_NAMES,
            "preview_url": page_url("preview", prompt.pk),
            "try_url": page_url("try", prompt.pk),
            "diff_url": f"{page_url('diff', prompt.pk)}?new=draft",
            "back_url": admin_url("prompts.prompt", "change", prompt.pk),
        }
        response = TemplateResponse(request, "prompts/admin/editor.html", context)
        response.status_code = 200 if problem is None else problem.status
        return response


def _publishing_facts(prompt: Prompt, form: PublishForm) -> list[Fact]:
    data = form.cleaned_data
    try:
        planned = plan_version(
            prompt_id=prompt.pk, behaviour_note=data["behaviour_note"], level=_raised(form.chosen_level(), prompt, data)
        )
    except TollkeeperError as error:
        return [Fact(label="Cannot be published", value=error.message)]
    facts = [
        Fact(label="Number", value=f"{planned.number} ({planned.level.label})"),
        Fact(label="Compared with", value=planned.base or "nothing: it is the first version"),
    ]
    facts += [Fact(label=reason.level.label.capitalize(), value=reason.text) for reason in planned.reasons]
    return [*facts, Fact(label="Note", value=data["note"])]


def _raised(level: ChangeLevel | None, prompt: Prompt, data: dict[str, Any]) -> ChangeLevel | None:
    """Return the level that "at least minor" means for this change."""
    if level is None:
        return None
    return max(level, plan_version(prompt_id=prompt.pk, behaviour_note=data["behaviour_note"]).required_level)
