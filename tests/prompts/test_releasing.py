"""Labels move by logged steps; what a move would break refuses it; a rollback is one step."""

import pytest
from django.db import DatabaseError, IntegrityError, transaction

from common.models import Generation
from prompts.errors import (
    ApprovalNotAllowed,
    PromptInvalid,
    ReleaseOutdated,
    ReleaseRefused,
)
from prompts.models import Label, LabelMove, MoveProposal, PromptVersion, ProposalState
from prompts.releasing import (
    MoveOutcome,
    approve_move,
    last_move_id,
    move_label,
    reject_move,
    remove_label,
    roll_back,
    set_label_rules,
)
from tests.prompting import make_prompt, make_released, publish, release, text_content

pytestmark = pytest.mark.django_db


def _versions(count: int) -> list[PromptVersion]:
    prompt = make_prompt()
    return [publish(prompt, text_content(f"{number} {{{{ name }}}}")) for number in range(count)]


def _move(version: PromptVersion, *, percent: int = 100, author: str = "ada", label: str = "production") -> MoveOutcome:
    return move_label(
        prompt_id=version.prompt_id, label=label, version_id=version.pk, percent=percent, reason="why", author=author
    )


def _roll_back(version: PromptVersion, label: str = "production") -> LabelMove:
    return roll_back(prompt_id=version.prompt_id, label=label, reason="worse", author="ada")


def _state() -> tuple[int | None, int | None, int]:
    label = Label.objects.get()
    return label.version_id, label.rollout_version_id, label.rollout_percent


def test_a_rollout_grows_step_by_step_and_each_step_is_logged() -> None:
    old, new = _versions(2)
    release(old)
    for percent in (1, 10, 50):
        release(new, percent=percent)
        assert _state() == (old.pk, new.pk, percent)
    release(new)
    assert _state() == (new.pk, None, 0)
    kinds = list(LabelMove.objects.order_by("id").values_list("kind", "rollout_percent"))
    assert kinds == [("release", 0), ("rollout", 1), ("rollout", 10), ("rollout", 50), ("release", 0)]


def test_a_rollback_ends_a_rollout_then_goes_back_release_by_release() -> None:
    first, second, third = _versions(3)
    release(first)
    release(second)
    release(third, percent=10)
    _roll_back(first)
    assert _state() == (second.pk, None, 0)
    _roll_back(first)
    assert _state() == (first.pk, None, 0)
    with pytest.raises(ReleaseRefused, match="no release before"):
        _roll_back(first)
    release(third)
    _roll_back(first)
    assert _state() == (first.pk, None, 0)


def test_a_label_that_was_taken_back_points_nowhere_and_can_come_back() -> None:
    old, new = _versions(2)
    release(old)
    release(new)
    remove_label(prompt_id=old.prompt_id, label="production", reason="legal", author="ada")
    assert _state() == (None, None, 0)
    with pytest.raises(ReleaseRefused):
        remove_label(prompt_id=old.prompt_id, label="production", reason="legal", author="ada")
    _roll_back(old)
    assert _state() == (new.pk, None, 0)


def test_moves_that_make_no_sense_are_refused() -> None:
    old, new = _versions(2)
    other = publish(make_prompt())
    with pytest.raises(ReleaseRefused, match="no version yet"):
        _move(new, percent=10)
    release(old)
    for refused in (
        lambda: _move(old),
        lambda: _move(old, percent=10),
        lambda: move_label(prompt_id=old.prompt_id, label="production", version_id=other.pk, reason="x", author="ada"),
        lambda: move_label(prompt_id=old.prompt_id, label="production", version_id=10**9, reason="x", author="ada"),
    ):
        with pytest.raises(ReleaseRefused):
            refused()
    for percent in (0, 101, -1):
        with pytest.raises(PromptInvalid):
            _move(new, percent=percent)
    for label in ("2", "2.1.0", "", "A", "a b", "@x"):
        with pytest.raises(PromptInvalid):
            _move(new, label=label)
    with pytest.raises(PromptInvalid):
        move_label(prompt_id=new.prompt_id, label="production", version_id=new.pk, reason=" ", author="ada")
    assert _state() == (old.pk, None, 0)
    assert LabelMove.objects.count() == 1


def test_a_move_on_an_outdated_view_is_refused() -> None:
    old, new = _versions(2)
    release(old)
    seen = last_move_id(Label.objects.get())
    release(new)
    with pytest.raises(ReleaseOutdated):
        move_label(
            prompt_id=old.prompt_id,
            label="production",
            version_id=old.pk,
            reason="x",
            author="ada",
            expected_move_id=seen,
        )


def test_the_log_of_moves_cannot_be_changed() -> None:
    (version,) = _versions(1)
    move = release(version)
    for change in (move.delete, move.save, lambda: LabelMove.objects.update(reason="other")):
        with pytest.raises(DatabaseError), transaction.atomic():
            change()


def test_the_database_itself_refuses_a_label_that_is_a_number_or_half_a_rollout() -> None:
    old, new = _versions(2)
    for columns in (
        {"name": "2.1.0"},
        {"name": "a", "rollout_version_id": new.pk, "rollout_percent": 10},
        {"name": "a", "version_id": old.pk, "rollout_percent": 10},
        {"name": "a", "version_id": old.pk, "rollout_version_id": new.pk, "rollout_percent": 100},
        {"name": "a", "version_id": old.pk, "rollout_version_id": old.pk, "rollout_percent": 10},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            Label.objects.create(prompt_id=old.prompt_id, **columns)


def test_every_move_raises_the_generation() -> None:
    old, new = _versions(2)

    def generation() -> int:
        return Generation.objects.get(name="catalogue").value

    for step in (
        lambda: release(old),
        lambda: release(new, percent=10),
        lambda: release(new, percent=50),
        lambda: _roll_back(old),
        lambda: remove_label(prompt_id=old.prompt_id, label="production", reason="x", author="ada"),
    ):
        before = generation()
        step()
        assert generation() > before


# ---- a second pair of eyes


def _proposed() -> tuple[PromptVersion, PromptVersion, MoveProposal]:
    old, new = _versions(2)
    release(old)
    set_label_rules(prompt_id=old.prompt_id, label="production", needs_approval=True)
    outcome = _move(new)
    assert outcome.move is None
    assert outcome.proposal is not None
    return old, new, outcome.proposal


def test_a_label_with_approval_moves_only_when_somebody_else_agrees() -> None:
    old, new, proposal = _proposed()
    assert _state() == (old.pk, None, 0)
    with pytest.raises(ApprovalNotAllowed):
        approve_move(proposal_id=proposal.pk, approver="ada")
    move = approve_move(proposal_id=proposal.pk, approver="bob", note="looks good")
    assert (move.author, move.approved_by) == ("ada", "bob")
    assert _state() == (new.pk, None, 0)
    with pytest.raises(ReleaseRefused, match="decided already"):
        approve_move(proposal_id=proposal.pk, approver="bob")


def test_the_database_refuses_one_person_for_both() -> None:
    _, _, proposal = _proposed()
    with pytest.raises(IntegrityError), transaction.atomic():
        MoveProposal.objects.filter(pk=proposal.pk).update(state="approved", decided_by="ada")


def test_one_proposal_waits_at_a_time_and_can_be_rejected() -> None:
    old, new, proposal = _proposed()
    with pytest.raises(ReleaseRefused, match="waits for approval"):
        _move(new, percent=10)
    with pytest.raises(PromptInvalid):
        reject_move(proposal_id=proposal.pk, author="bob", note="")
    reject_move(proposal_id=proposal.pk, author="bob", note="not now")
    assert _state() == (old.pk, None, 0)
    assert _move(new, percent=10).proposal is not None


def test_a_rollback_needs_no_approval_and_overtakes_what_waits() -> None:
    old, new, proposal = _proposed()
    set_label_rules(prompt_id=old.prompt_id, label="production", needs_approval=False)
    release(new)
    proposal.refresh_from_db()
    assert proposal.state == ProposalState.OVERTAKEN
    with pytest.raises(ReleaseOutdated):
        approve_move(proposal_id=proposal.pk, approver="bob")
    set_label_rules(prompt_id=old.prompt_id, label="production", needs_approval=True)
    _roll_back(old)
    assert _state() == (old.pk, None, 0)


# ---- prompts that include each other


def test_a_move_that_would_break_a_prompt_which_includes_this_one_is_refused() -> None:
    style = make_prompt("style", text_content("Be kind."))
    kind = publish(style)
    release(kind)
    make_released("mail", text_content('{% include "style@production" %} Answer {{ name }}.'))
    with pytest.raises(ReleaseRefused, match="mail"):
        remove_label(prompt_id=style.pk, label="production", reason="x", author="ada")
    with pytest.raises(ReleaseRefused, match="mail"):
        release(publish(style, text_content("Be kind to {{ somebody_else }}.")))
    assert Label.objects.get(prompt=style).version_id == kind.pk
    release(publish(style, text_content("Be very kind to {{ name }}.")))


def test_a_circle_of_includes_is_refused_wherever_it_is_closed() -> None:
    a, b = make_prompt("a", text_content("A")), make_prompt("b", text_content("B"))
    release(publish(a))
    release(publish(b))
    b_includes_a = publish(b, text_content('{% include "a@production" %}'))
    a_includes_b = publish(a, text_content('{% include "b@production" %}'))
    release(b_includes_a)
    with pytest.raises(ReleaseRefused, match="circle"):
        release(a_includes_b)
    with pytest.raises(PromptInvalid, match="circle"):
        publish(a, text_content('{% include "a@production" %}'))


def test_a_version_that_was_broken_before_does_not_stand_in_the_way_of_mending_it() -> None:
    style = make_prompt("style", text_content("Be kind."))
    release(publish(style))
    mail = make_prompt("mail", text_content('{% include "style@staging" %} {{ name }}'))
    release(publish(style, text_content("Be brief.")), "staging")
    release(publish(mail))
    Label.objects.filter(prompt=style, name="staging").update(version=None)  # by hand, past the rules
    release(publish(mail, text_content("Hello {{ name }}")))
