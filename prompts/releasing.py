"""Moving labels: releases, gradual rollouts, rollbacks, approvals. Each move is a row that nobody can change.

Every function here locks the prompt's row first, so moves of a prompt come one after the other. What a move would
break (a version that does not compile, tests that are not green, prompts that include this one) refuses it as a whole.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import connection, transaction

from common.sql import Sql
from prompts.authoring import lock_prompt
from prompts.errors import (
    ApprovalNotAllowed,
    PromptInvalid,
    PromptNotFound,
    PromptUnusable,
    ReleaseOutdated,
    ReleaseRefused,
)
from prompts.models import Label, LabelMove, MoveKind, MoveProposal, PromptVersion, ProposalState
from prompts.names import is_valid_label
from prompts.snapshots import PromptBook, read_prompt_book
from prompts.testing import find_untested

ROLLOUT_STEPS = (1, 10, 50, 100)
_EVERYBODY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOutcome:
    """What asking for a move led to: the move itself, or a proposal that waits for a second person."""

    move: LabelMove | None = None
    proposal: MoveProposal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    kind: MoveKind
    version_id: int | None
    rollout_version_id: int | None = None
    percent: int = 0


def move_label(
    *,
    prompt_id: int,
    label: str,
    version_id: int,
    reason: str,
    author: str,
    percent: int = _EVERYBODY,
    expected_move_id: int | None = None,
) -> MoveOutcome:
    """Point a label at a version, for `percent` of the callers; the label is made when it does not exist.

    Below 100 the label keeps its version for the others, so it must have one. `expected_move_id` is the label's last
    move as the author saw it (0: none); ReleaseOutdated when it moved since. A label that needs approval is not moved:
    the outcome is a proposal. Raises ReleaseRefused with what stands in the way, PromptInvalid for a bad label,
    percent or reason.
    """
    if not 1 <= percent <= _EVERYBODY:
        raise PromptInvalid("The share of callers lies between 1 and 100 percent.", param="percent")
    with transaction.atomic():
        row = _lock_label(prompt_id, label)
        _check_expected(row, expected_move_id)
        target = _Target(kind=MoveKind.RELEASE, version_id=version_id)
        if percent < _EVERYBODY:
            target = _rollout_target(row, version_id, percent)
        _check_target(row, target)
        if row.needs_approval:
            return MoveOutcome(proposal=_propose(row, target, reason=reason, author=author))
        return MoveOutcome(move=_move(row, target, reason=reason, author=author))


def roll_back(*, prompt_id: int, label: str, reason: str, author: str) -> LabelMove:
    """Undo the last release of a label at once, and return the move.

    A rollout that is under way ends; otherwise the label goes back to the version before. No approval is asked for:
    what it goes back to was released before. Raises ReleaseRefused when there is nothing to go back to.
    """
    with transaction.atomic():
        row = _lock_label(prompt_id, label)
        back_to = find_rollback(row)
        if back_to is None:
            raise ReleaseRefused(f"'{label}' has no release before this one to go back to.")
        target = _Target(kind=MoveKind.ROLLBACK, version_id=back_to.pk)
        return _move(row, target, reason=reason, author=author)


def remove_label(*, prompt_id: int, label: str, reason: str, author: str) -> LabelMove:
    """Take a label back: who pins it gets 404 from the next call on. Raises ReleaseRefused where prompts include it."""
    with transaction.atomic():
        row = _lock_label(prompt_id, label)
        if row.version_id is None:
            raise ReleaseRefused(f"'{label}' points at no version.")
        return _move(row, _Target(kind=MoveKind.REMOVAL, version_id=None), reason=reason, author=author)


def approve_move(*, proposal_id: int, approver: str, note: str = "") -> LabelMove:
    """Carry out a proposed move and return it.

    Raises ApprovalNotAllowed to its own author, ReleaseOutdated when the label moved since (the proposal is then over),
    ReleaseRefused when it was decided already or something stands in the way now.
    """
    with transaction.atomic():
        proposal, row = _lock_proposal(proposal_id)
        if proposal.author == approver:
            raise ApprovalNotAllowed
        target = _Target(
            kind=MoveKind(proposal.kind),
            version_id=proposal.version_id,
            rollout_version_id=proposal.rollout_version_id,
            percent=proposal.rollout_percent,
        )
        _check_target(row, target)
        _decide(proposal, ProposalState.APPROVED, by=approver, note=note)
        return _move(row, target, reason=proposal.reason, author=proposal.author, approved_by=approver)


def reject_move(*, proposal_id: int, author: str, note: str) -> MoveProposal:
    """End a proposed move without carrying it out; its own author may do so too."""
    if not note.strip():
        raise PromptInvalid("Say why the move is not made.", param="note")
    with transaction.atomic():
        proposal, _ = _lock_proposal(proposal_id)
        _decide(proposal, ProposalState.REJECTED, by=author, note=note)
        return proposal


def set_label_rules(
    *, prompt_id: int, label: str, needs_approval: bool | None = None, needs_green_tests: bool | None = None
) -> Label:
    """Say what a label asks of a move, and return it; None leaves a rule as it is. Makes the label if there is none."""
    with transaction.atomic():
        row = _lock_label(prompt_id, label)
        row.needs_approval = row.needs_approval if needs_approval is None else needs_approval
        row.needs_green_tests = row.needs_green_tests if needs_green_tests is None else needs_green_tests
        row.save(update_fields=["needs_approval", "needs_green_tests"])
    return row


def find_rollback(label: Label) -> PromptVersion | None:
    """Return the version that a rollback of the label would lead to, or None.

    The log is replayed as a stack: a release puts its version on top, a rollback takes the top off. So rolling back
    twice goes back two releases, and never forward to the version that was rolled back.
    """
    if label.rollout_version_id is not None:
        return label.version
    stack: list[int | None] = []
    moves = LabelMove.objects.filter(label=label).order_by("id").values_list("kind", "version_id")
    for kind, version_id in moves:
        if stack and stack[-1] == version_id:
            continue
        if kind == MoveKind.ROLLBACK:
            stack.pop()
        else:
            stack.append(version_id)
    earlier = [version_id for version_id in stack if version_id is not None]
    while earlier and earlier[-1] == label.version_id:
        earlier.pop()
    return PromptVersion.objects.get(pk=earlier[-1]) if earlier else None


def last_move_id(label: Label) -> int:
    """Return the id of the label's last move, 0 when it never moved."""
    found = LabelMove.objects.filter(label=label).order_by("-id").values_list("pk", flat=True).first()
    return found or 0


def _lock_label(prompt_id: int, name: str) -> Label:
    lock_prompt(prompt_id)
    if not is_valid_label(name):
        raise PromptInvalid(
            "A label has at most 40 characters: lower-case words and digits beginning with a letter ('staging').",
            param="label",
        )
    label, _ = Label.objects.get_or_create(prompt_id=prompt_id, name=name)
    return label


def _lock_proposal(proposal_id: int) -> tuple[MoveProposal, Label]:
    found = MoveProposal.objects.select_related("label").filter(pk=proposal_id).first()
    if found is None:
        raise PromptNotFound(name=f"proposal {proposal_id}")
    lock_prompt(found.label.prompt_id)
    # Read again under the lock: two people may decide at the same moment.
    proposal = MoveProposal.objects.select_related("label").get(pk=proposal_id)
    if proposal.state == ProposalState.OVERTAKEN:
        raise ReleaseOutdated(label=proposal.label.name)
    if proposal.state != ProposalState.OPEN:
        raise ReleaseRefused(f"This proposal was decided already: {proposal.get_state_display().lower()}.")
    return proposal, proposal.label


def _decide(proposal: MoveProposal, state: ProposalState, *, by: str, note: str) -> None:
    proposal.state = state
    proposal.decided_by = by
    proposal.decided_at = datetime.now(UTC)
    proposal.decision_note = note.strip()
    proposal.save(update_fields=["state", "decided_by", "decided_at", "decision_note"])


def _rollout_target(label: Label, version_id: int, percent: int) -> _Target:
    if label.version_id is None:
        raise ReleaseRefused(f"'{label.name}' has no version yet that the other callers could get: release to all.")
    if label.version_id == version_id:
        raise ReleaseRefused(f"All callers of '{label.name}' get this version already.")
    return _Target(kind=MoveKind.ROLLOUT, version_id=label.version_id, rollout_version_id=version_id, percent=percent)


def _check_expected(label: Label, expected_move_id: int | None) -> None:
    if expected_move_id is not None and expected_move_id != last_move_id(label):
        raise ReleaseOutdated(label=label.name)


def _check_target(label: Label, target: _Target) -> None:
    new_id = target.rollout_version_id or target.version_id
    version = None if new_id is None else PromptVersion.objects.filter(pk=new_id, prompt_id=label.prompt_id).first()
    if version is None:
        raise ReleaseRefused("That version belongs to another prompt, or does not exist.")
    now = (label.version_id, label.rollout_version_id, label.rollout_percent)
    if now == (target.version_id, target.rollout_version_id, target.percent):
        raise ReleaseRefused(f"'{label.name}' points there already.")
    if label.needs_green_tests:
        untested = find_untested(version)
        if untested:
            raise ReleaseRefused(
                f"'{label.name}' asks for green tests, and version {version.number} has not passed: "
                f"{', '.join(untested[:10])}. Run them, or fix what they found."
            )


def _propose(label: Label, target: _Target, *, reason: str, author: str) -> MoveProposal:
    _check_said(reason, author)
    if MoveProposal.objects.filter(label=label, state=ProposalState.OPEN).exists():
        raise ReleaseRefused(f"A move of '{label.name}' waits for approval already; approve or reject that one first.")
    return MoveProposal.objects.create(
        label=label,
        kind=target.kind,
        version_id=target.version_id,
        rollout_version_id=target.rollout_version_id,
        rollout_percent=target.percent,
        reason=reason.strip(),
        author=author,
        created_at=datetime.now(UTC),
    )


def _move(label: Label, target: _Target, *, reason: str, author: str, approved_by: str = "") -> LabelMove:
    _check_said(reason, author)
    before = read_prompt_book(Sql(connection))
    label.version_id = target.version_id
    label.rollout_version_id = target.rollout_version_id
    label.rollout_percent = target.percent
    label.save(update_fields=["version", "rollout_version", "rollout_percent"])
    move = LabelMove.objects.create(
        label=label,
        kind=target.kind,
        version_id=target.version_id,
        rollout_version_id=target.rollout_version_id,
        rollout_percent=target.percent,
        reason=reason.strip(),
        author=author,
        approved_by=approved_by,
        created_at=datetime.now(UTC),
    )
    _check_nothing_breaks(label, before=before, after=read_prompt_book(Sql(connection), before))
    MoveProposal.objects.filter(label=label, state=ProposalState.OPEN).update(
        state=ProposalState.OVERTAKEN, decided_at=datetime.now(UTC), decision_note="The label moved meanwhile."
    )
    return move


def _check_said(reason: str, author: str) -> None:
    if not reason.strip() or not author:
        raise PromptInvalid("Say why the label is moved.", param="reason")


def _check_nothing_breaks(label: Label, *, before: PromptBook, after: PromptBook) -> None:
    """Refuse a move after which a released version cannot be filled in any more, this one or one that includes it."""
    for entry in after.table.prompts.values():
        released = [v for row in entry.labels.values() for v in (row.version, row.rollout) if v is not None]
        for version in {v.id: v for v in (*released, *entry.majors.values())}.values():
            # Without an include nothing of another prompt can break it.
            if version.prompt_id != label.prompt_id and "include" not in after.texts[version.id]:
                continue
            try:
                after.get_compiled(version)
            except PromptUnusable as error:
                is_target = version.id in (label.version_id, label.rollout_version_id)
                # What was broken before is no reason: this move may be the way out.
                if is_target or _compiles(before, version.id):
                    raise ReleaseRefused(
                        f"After this move, version {version.number} of '{version.prompt}' could not be used: "
                        f"{error.internal_detail}"
                    ) from None


def _compiles(book: PromptBook, version_id: int) -> bool:
    version = next((v for v in book.table.versions() if v.id == version_id), None)
    try:
        return version is not None and book.get_compiled(version) is not None
    except PromptUnusable:
        return False
