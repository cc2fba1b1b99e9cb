"""The release page of a prompt: where labels point, moving them, rolling back, approving, and the log."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse

from common.admin_base import PlatformModelAdmin, page_action
from common.admin_display import admin_url, code, utc
from common.admin_pages import Fact, FormPage, Panel, run_form_page
from prompts.admin.display import move_badge, page_url, rollout_bar, target_text
from prompts.admin.release_forms import DecisionForm, MoveForm, ReasonForm, RulesForm
from prompts.errors import ReleaseOutdated
from prompts.models import Label, LabelMove, MoveProposal, Prompt, PromptVersion, ProposalState
from prompts.names import PRODUCTION
from prompts.releasing import (
    approve_move,
    find_rollback,
    last_move_id,
    move_label,
    reject_move,
    remove_label,
    roll_back,
    set_label_rules,
)

_SHOWN_MOVES = 100


class ReleasePages(PlatformModelAdmin[Prompt]):
    """Pages of releasing; mixed into the page of a prompt."""

    def has_release_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("prompts.release_prompt")

    def has_see_releases_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("prompts.view_prompt")

    @page_action(description="Releases", url_path="releases", icon="rocket_launch", permission="see_releases")
    def releases(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        prompt = get_object_or_404(Prompt, pk=object_id)
        labels = Label.objects.filter(prompt=prompt).select_related("version", "rollout_version").order_by("name", "id")
        proposals = {
            p.label_id: p
            for p in MoveProposal.objects.filter(label__prompt=prompt, state=ProposalState.OPEN).select_related(
                "version", "rollout_version"
            )
        }
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{prompt.name}: releases",
            "prompt": prompt,
            "cards": [_card(label, proposals.get(label.pk)) for label in labels],
            "has_versions": PromptVersion.objects.filter(prompt=prompt).exists(),
            "may_release": self.has_release_permission(request),
            "may_approve": request.user.has_perm("prompts.approve_release"),
            "username": request.user.get_username(),
            "move_url": page_url("move", prompt.pk),
            "back_url": admin_url("prompts.prompt", "change", prompt.pk),
            "panel": _moves_panel(prompt),
        }
        return TemplateResponse(request, "prompts/admin/releases.html", context)

    def move(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Ask where a label shall point, show what that means, and move it or propose the move."""
        self._require_release(request)
        prompt = get_object_or_404(Prompt, pk=object_id)
        name = request.GET.get("label", PRODUCTION)
        row = Label.objects.filter(prompt=prompt, name=name).first()
        initial = {
            "label": name,
            "seen_move": 0 if row is None else last_move_id(row),
            "version": request.GET.get("version") or _newest_id(prompt),
            "percent": request.GET.get("percent", 100),
        }
        form = MoveForm(request.POST or None, initial=initial, prompt_id=prompt.pk)

        def summarise() -> list[Fact]:
            data = form.cleaned_data
            found = Label.objects.filter(prompt=prompt, name=data["label"]).first()
            then = f"{data['version']} for {data['percent']} % of callers"
            approval = "waits for approval by somebody else" if found and found.needs_approval else "counts at once"
            return [
                Fact(label="Label", value=code(data["label"])),
                Fact(label="Now", value="nothing" if found is None else target_text(found)),
                Fact(label="Then", value=then),
                Fact(label="The move", value=approval),
                Fact(label="Reason", value=data["reason"]),
            ]

        def act() -> HttpResponseBase:
            data = form.cleaned_data
            outcome = move_label(
                prompt_id=prompt.pk,
                label=data["label"],
                version_id=data["version"].pk,
                percent=data["percent"],
                reason=data["reason"],
                author=request.user.get_username(),
                expected_move_id=data["seen_move"] if data["label"] == name else None,
            )
            if outcome.move is None:
                text = f"Proposed: {data['label']} to {data['version']}. Somebody else has to approve it."
            else:
                text = f"{data['label']} moved to {data['version']} ({data['percent']} % of callers)."
            self.log_change(request, prompt, f"{text} {data['reason']}")
            messages.success(request, text)
            return redirect(page_url("releases", prompt.pk))

        page = FormPage(
            title=f"Move a label of {prompt.name}",
            submit_label="Move the label",
            cancel_url=page_url("releases", prompt.pk),
            intro="The next call of every caller on every server follows.",
        )
        return run_form_page(self, request, page, form, act=act, summarise=summarise)

    def rollback(self, request: HttpRequest, object_id: str, label_id: int) -> HttpResponseBase:
        """Confirm with a reason, then go back to the release before."""
        label = self._get_label(request, object_id, label_id)
        target = find_rollback(label)
        if target is None:
            messages.error(request, f"{label.name} has no release before this one to go back to.")
            return redirect(page_url("releases", object_id))

        def act(reason: str, author: str) -> LabelMove:
            return roll_back(prompt_id=label.prompt_id, label=label.name, reason=reason, author=author)

        page = FormPage(
            title=f"Roll {label.name} back to {target}",
            submit_label=f"Roll back to {target}",
            cancel_url=page_url("releases", object_id),
            is_danger=True,
            intro="All callers of this label get that version from their next call on. No approval is needed.",
        )
        return self._with_reason(request, label, page, act)

    def removal(self, request: HttpRequest, object_id: str, label_id: int) -> HttpResponseBase:
        """Confirm with a reason, then take the label back."""
        label = self._get_label(request, object_id, label_id)

        def act(reason: str, author: str) -> LabelMove:
            return remove_label(prompt_id=label.prompt_id, label=label.name, reason=reason, author=author)

        page = FormPage(
            title=f"Take {label.name} back",
            submit_label=f"Take {label.name} back",
            cancel_url=page_url("releases", object_id),
            is_danger=True,
            intro="Who pins this label gets 404 from the next call on; nothing is called in its place.",
        )
        return self._with_reason(request, label, page, act)

    def rules(self, request: HttpRequest, object_id: str, label_id: int) -> HttpResponseBase:
        """Say what a label asks of a move; who moves labels may not lift the rules that bind them."""
        if not request.user.has_perm("prompts.approve_release"):
            raise PermissionDenied
        label = get_object_or_404(Label.objects.select_related("prompt"), pk=label_id, prompt_id=object_id)
        initial = {"needs_approval": label.needs_approval, "needs_green_tests": label.needs_green_tests}
        form = RulesForm(request.POST or None, initial=initial)

        def act() -> HttpResponseBase:
            data = form.cleaned_data
            set_label_rules(
                prompt_id=label.prompt_id,
                label=label.name,
                needs_approval=data["needs_approval"],
                needs_green_tests=data["needs_green_tests"],
            )
            self.log_change(request, label.prompt, f"Rules of {label.name}: {data}")
            messages.success(request, f"The rules of {label.name} are changed.")
            return redirect(page_url("releases", object_id))

        page = FormPage(
            title=f"Rules of {label.name}", submit_label="Save rules", cancel_url=page_url("releases", object_id)
        )
        return run_form_page(self, request, page, form, act=act)

    def decide(self, request: HttpRequest, object_id: str, proposal_id: int) -> HttpResponseBase:
        """Approve or reject a proposed move; the address says which with ?reject."""
        if not request.user.has_perm("prompts.approve_release"):
            raise PermissionDenied
        proposal = get_object_or_404(MoveProposal, pk=proposal_id, label__prompt_id=object_id)
        is_rejecting = "reject" in request.GET
        form = DecisionForm(request.POST or None)

        def act() -> HttpResponseBase:
            author, note = request.user.get_username(), form.cleaned_data["note"]
            if is_rejecting:
                reject_move(proposal_id=proposal.pk, author=author, note=note)
                text = f"Rejected the move of {proposal.label.name}."
            else:
                approve_move(proposal_id=proposal.pk, approver=author, note=note)
                text = f"Approved: {proposal.label.name} has moved."
            self.log_change(request, proposal.label.prompt, f"{text} {note}")
            messages.success(request, text)
            return redirect(page_url("releases", object_id))

        verb = "Reject" if is_rejecting else "Approve"
        page = FormPage(
            title=f"{verb} the move of {proposal.label.name}",
            submit_label=f"{verb} the move",
            cancel_url=page_url("releases", object_id),
            is_danger=is_rejecting,
            intro=f"{proposal.author} asks: {proposal.reason}",
        )
        return run_form_page(self, request, page, form, act=act)

    def _require_release(self, request: HttpRequest) -> None:
        if not self.has_release_permission(request):
            raise PermissionDenied

    def _get_label(self, request: HttpRequest, object_id: str, label_id: int) -> Label:
        self._require_release(request)
        return get_object_or_404(Label.objects.select_related("prompt"), pk=label_id, prompt_id=object_id)

    def _with_reason(
        self, request: HttpRequest, label: Label, page: FormPage, act: Callable[[str, str], LabelMove]
    ) -> HttpResponseBase:
        form = ReasonForm(request.POST or None, initial={"seen_move": last_move_id(label)})

        def act_on_form() -> HttpResponseBase:
            if form.cleaned_data["seen_move"] != last_move_id(label):
                raise ReleaseOutdated(label=label.name)
            reason = form.cleaned_data["reason"]
            move = act(reason, request.user.get_username())
            text = f"{label.name}: {move.get_kind_display().lower()}, now {move.version or 'nothing'}."
            self.log_change(request, label.prompt, f"{text} {reason}")
            messages.success(request, text)
            return redirect(page_url("releases", label.prompt_id))

        return run_form_page(self, request, page, form, act=act_on_form)


def _compare_url(label: Label) -> str:
    """Return the page of the two versions of a rollout; empty where there is none."""
    if label.rollout_version_id is None:
        return ""
    return f"{page_url('diff', label.prompt_id)}?old={label.version_id}&new={label.rollout_version_id}"


def _card(label: Label, proposal: MoveProposal | None) -> dict[str, Any]:
    return {
        "label": label,
        "bar": rollout_bar(label),
        "target": target_text(label),
        "next_steps": [step for step in (10, 50, 100) if label.rollout_version_id and step > label.rollout_percent],
        "rollback": find_rollback(label),
        "proposal": proposal,
        "proposed": "" if proposal is None else target_text(proposal),
        "compare_url": _compare_url(label),
        "rollback_url": page_url("rollback", label.prompt_id, label.pk),
        "removal_url": page_url("removal", label.prompt_id, label.pk),
        "rules_url": page_url("rules", label.prompt_id, label.pk),
        "decide_url": "" if proposal is None else page_url("decide", label.prompt_id, proposal.pk),
    }


def _newest_id(prompt: Prompt) -> int | None:
    newest = PromptVersion.objects.filter(prompt=prompt).order_by("-id").values_list("pk", flat=True)
    return newest.first()


def _moves_panel(prompt: Prompt) -> Panel:
    moves = (
        LabelMove.objects.filter(label__prompt=prompt)
        .select_related("label", "version", "rollout_version")
        .order_by("-id")[:_SHOWN_MOVES]
    )
    return Panel(
        title="Log of moves",
        headers=("Time (UTC)", "Label", "Move", "Points at", "By", "Approved by", "Reason"),
        rows=[
            (
                utc(move.created_at, zone=""),
                code(move.label.name),
                move_badge(move.kind),
                target_text(move),
                move.author,
                move.approved_by or "-",
                move.reason,
            )
            for move in moves
        ],
        empty="No label has been moved yet.",
        note="Append-only: nobody can change or delete a line of it.",
    )
