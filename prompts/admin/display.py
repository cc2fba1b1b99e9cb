"""How versions, labels and their shares look wherever the admin shows them."""

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from common.admin_display import Tone, admin_link, badge, code
from prompts.models import Label, LabelMove, MoveKind, MoveProposal, PromptVersion

_KIND_TONES: dict[str, Tone] = {
    MoveKind.RELEASE: "success",
    MoveKind.ROLLOUT: "info",
    MoveKind.ROLLBACK: "warning",
    MoveKind.REMOVAL: "danger",
}


def version_link(version: PromptVersion | None) -> SafeString | str:
    """Return a link to a version's page under its number, or a dash."""
    return "-" if version is None else admin_link("prompts.promptversion", version.pk, code(str(version.number)))


def move_badge(kind: str) -> SafeString:
    """Return what kind of move it was."""
    return badge(MoveKind(kind).label, _KIND_TONES[kind])


def target_text(row: Label | LabelMove | MoveProposal) -> SafeString | str:
    """Return where a label points or pointed: "1.2.0", or "90 % 1.2.0, 10 % 1.3.0"."""
    if row.version is None:
        return "nothing"
    if row.rollout_version is None:
        return version_link(row.version)
    old, new = 100 - row.rollout_percent, row.rollout_percent
    return format_html("{} % {}, {} % {}", old, version_link(row.version), new, version_link(row.rollout_version))


def rollout_bar(label: Label) -> SafeString:
    """Return a bar of two shares. Drawn by attributes: the content policy of the admin forbids styles in elements."""
    share = label.rollout_percent if label.rollout_version_id is not None else 0
    full = "" if label.version_id is None else "tk-bar-old"
    return format_html(
        '<svg class="tk-bar" role="img" aria-label="{} percent get the new version" viewBox="0 0 100 4"'
        ' preserveAspectRatio="none"><rect class="tk-bar-none {}" width="100" height="4"></rect>'
        '<rect class="tk-bar-new" x="{}" width="{}" height="4"></rect></svg>',
        share,
        full,
        100 - share,
        share,
    )


def page_url(name: str, *args: object) -> str:
    """Return the address of one of the pages around a prompt."""
    return reverse(f"admin:prompts_prompt_{name}", args=args)
