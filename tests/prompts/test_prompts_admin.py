"""The admin of prompts: who may enter, what each page does, and that nothing is done without being asked."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from prompts.content import read_content
from prompts.models import (
    Label,
    LabelMove,
    MoveProposal,
    Prompt,
    PromptDraft,
    PromptTestCase,
    PromptVersion,
    VersionDeprecation,
)
from prompts.releasing import set_label_rules
from tests.prompting import make_prompt, make_released, publish, release, text_content

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

ROOT = "/admin/prompts/prompt"


def draft_form(prompt: Prompt, template: str = "Hello {{ name }}", **fields: Any) -> dict[str, Any]:
    revision = PromptDraft.objects.get(prompt=prompt).revision
    return {"revision": revision, "role": ["user"], "template": [template], "model": "m", **fields}


def staff(name: str, *permissions: str) -> User:
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__in=permissions))
    return user


def move_form(version: PromptVersion, percent: int = 100, seen: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "label": "production",
        "version": version.pk,
        "percent": percent,
        "reason": "better",
        "seen_move": seen,
        "_confirmed": "1",
        **fields,
    }


def pages_of(version: PromptVersion) -> list[str]:
    pk = version.prompt_id
    return [
        f"{ROOT}/",
        f"{ROOT}/add/",
        *(f"{ROOT}/{pk}/{page}/" for page in ("change", "editor", "releases", "diff", "move", "publish")),
        "/admin/prompts/promptversion/",
        f"/admin/prompts/promptversion/{version.pk}/change/",
        f"/admin/prompts/promptversion/{version.pk}/deprecate/",
        f"/admin/prompts/promptversion/{version.pk}/restore/",
        "/admin/prompts/prompttestcase/",
        "/admin/prompts/prompttestcase/add/",
    ]


def test_every_page_opens(admin_client: Client) -> None:
    version = make_released("mail")
    publish(version.prompt, text_content("Dear {{ name }}"))
    for page in pages_of(version):
        assert admin_client.get(page, follow=True).status_code == 200, page


def test_staff_without_permissions_can_open_nothing_and_do_nothing(client: Client) -> None:
    version = make_released("mail")
    label = Label.objects.get()
    client.force_login(staff("intern"))
    actions = [
        f"{ROOT}/{version.prompt_id}/{path}/"
        for path in (
            "preview",
            "try",
            f"labels/{label.pk}/rollback",
            f"labels/{label.pk}/removal",
            f"labels/{label.pk}/rules",
            "proposals/1",
        )
    ]
    for page in [*pages_of(version), *actions]:
        assert client.post(page, {}).status_code == 403, page


def test_who_moves_labels_may_not_lift_their_rules(client: Client) -> None:
    version = make_released("mail")
    client.force_login(staff("releaser", "view_prompt", "release_prompt"))
    root = f"{ROOT}/{version.prompt_id}"
    assert client.get(f"{root}/move/").status_code == 200
    assert client.post(f"{root}/labels/{Label.objects.get().pk}/rules/", {}).status_code == 403
    assert "/rules/" not in client.get(f"{root}/releases/").content.decode()


def test_the_list_asks_as_often_for_many_prompts_as_for_one(
    admin_client: Client, django_assert_max_num_queries: Any
) -> None:
    for number in range(8):
        make_released(f"prompt-{number}")
    admin_client.get(f"{ROOT}/")
    with django_assert_max_num_queries(10):
        assert "1.0.0" in admin_client.get(f"{ROOT}/").content.decode()


def test_who_may_edit_may_not_publish_release_or_approve(client: Client) -> None:
    version = make_released("mail")
    client.force_login(staff("writer", "view_prompt", "change_prompt"))
    pk = version.prompt_id
    assert client.get(f"{ROOT}/{pk}/editor/").status_code == 200
    for page in ("publish", "move", f"labels/{Label.objects.get().pk}/rollback", "proposals/1"):
        assert client.post(f"{ROOT}/{pk}/{page}/", {}).status_code == 403, page


def test_a_prompt_is_created_and_leads_to_its_editor(admin_client: Client) -> None:
    answer = admin_client.post(f"{ROOT}/add/", {"name": "mail", "owner": "team", "tags": "a\nb"})
    prompt = Prompt.objects.get()
    assert answer["Location"] == f"{ROOT}/{prompt.pk}/editor/"
    assert (prompt.owner, prompt.tags, prompt.created_by) == ("team", ["a", "b"], "admin")
    again = admin_client.post(f"{ROOT}/add/", {"name": "Not A Name"})
    assert again.status_code == 200
    assert Prompt.objects.count() == 1


def test_the_editor_saves_what_was_typed(admin_client: Client) -> None:
    prompt = make_prompt()
    form = draft_form(
        prompt,
        "One\r\ntwo {{ name }}",
        parameters='{"temperature": 0.3}',
        allowed_overrides=["seed"],
        output_schema='{"type": "object"}',
    )
    assert admin_client.post(f"{ROOT}/{prompt.pk}/editor/", form).status_code == 302
    content = read_content(PromptDraft.objects.get().content)
    assert content.messages[0].template == "One\ntwo {{ name }}"
    assert (content.parameters, content.allowed_overrides) == ({"temperature": 0.3}, ("seed",))
    assert content.output_schema == {"type": "object"}


def test_nothing_typed_is_lost_when_a_draft_cannot_be_saved(admin_client: Client) -> None:
    prompt = make_prompt()
    outdated = draft_form(prompt, "My words {{ name }}", revision=0)
    answer = admin_client.post(f"{ROOT}/{prompt.pk}/editor/", outdated)
    assert answer.status_code == 409
    assert "My words" in answer.content.decode()
    broken = draft_form(prompt, "My words {{ name }}", input_schema='{"type": ')
    answer = admin_client.post(f"{ROOT}/{prompt.pk}/editor/", broken)
    assert answer.status_code == 400
    assert "This is not JSON" in answer.content.decode()
    assert "My words" in answer.content.decode()
    assert "My words" not in PromptDraft.objects.get().content


def preview(client: Client, prompt: Prompt, form: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(f"{ROOT}/{prompt.pk}/preview/", form)
    assert answer.status_code == 200
    found: dict[str, Any] = json.loads(answer.content)
    return found


def test_the_preview_fills_in_counts_and_derives(admin_client: Client) -> None:
    prompt = make_prompt()
    seen = preview(admin_client, prompt, draft_form(prompt, "Hello {{ name }}, you are {{ age }}"))
    assert seen["messages"] == [{"role": "user", "content": "Hello some name, you are some age"}]
    assert seen["tokens"] > 5
    assert json.loads(seen["inputs"]) == {"name": "some name", "age": "some age"}
    given = draft_form(prompt, "Hello {{ name }}", inputs='{"name": "Ada"}')
    assert preview(admin_client, prompt, given)["messages"][0]["content"] == "Hello Ada"
    assert PromptDraft.objects.get().revision == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"template": ["{{ broken"]}, "messages"),
        ({"inputs": "{"}, "inputs"),
        ({"inputs": '{"other": 1}'}, "inputs"),
        ({"output_schema": "[]"}, "output_schema"),
        ({"parameters": '{"temperature": 99}'}, "parameters"),
        ({"template": ["{% for i in range(99999) %}x{% endfor %}{{ name }}"]}, "inputs"),
        ({"template": []}, "messages"),
    ],
)
def test_the_preview_says_what_is_wrong_and_where(admin_client: Client, fields: dict[str, Any], field: str) -> None:
    prompt = make_prompt()
    seen = preview(admin_client, prompt, draft_form(prompt) | fields)
    assert seen["problem"]
    assert seen["field"] == field


def test_publishing_asks_first_and_shows_the_number_and_its_reasons(admin_client: Client) -> None:
    version = publish(make_prompt())
    url = f"{ROOT}/{version.prompt_id}/publish/"
    admin_client.post(f"{ROOT}/{version.prompt_id}/editor/", draft_form(version.prompt, "Hi {{ other }}"))
    revision = PromptDraft.objects.get().revision
    form = {"note": "new input", "level": "", "revision": revision}
    asked = admin_client.post(url, form).content.decode()
    assert "2.0.0 (major)" in asked
    assert "required inputs changed" in asked
    assert PromptVersion.objects.count() == 1
    assert admin_client.post(url, form | {"_confirmed": "1"})["Location"].endswith("/releases/")
    assert str(PromptVersion.objects.latest("pk")) == "2.0.0"


def test_a_draft_that_moved_on_is_not_published_unseen(admin_client: Client) -> None:
    prompt = make_prompt()
    admin_client.post(f"{ROOT}/{prompt.pk}/editor/", draft_form(prompt))
    form = {"note": "x", "level": "", "revision": 1, "_confirmed": "1"}
    assert "was saved by" in admin_client.post(f"{ROOT}/{prompt.pk}/publish/", form).content.decode()
    assert not PromptVersion.objects.exists()


def test_a_release_a_rollout_and_a_rollback_in_the_browser(admin_client: Client) -> None:
    old = publish(make_prompt())
    new = publish(old.prompt, text_content("Dear {{ name }}"))
    url = f"{ROOT}/{old.prompt_id}/move/"
    asking = {name: value for name, value in move_form(old).items() if name != "_confirmed"}
    assert "counts at once" in admin_client.post(url, asking).content.decode()
    assert not Label.objects.exists()
    admin_client.post(url, move_form(old))
    label = Label.objects.get()
    seen = LabelMove.objects.get().pk
    admin_client.post(url, move_form(new, percent=10, seen=seen))
    label.refresh_from_db()
    assert (label.version_id, label.rollout_version_id, label.rollout_percent) == (old.pk, new.pk, 10)
    page = admin_client.get(f"{ROOT}/{old.prompt_id}/releases/").content.decode()
    assert "Widen to 50 %" in page
    rollback = f"{ROOT}/{old.prompt_id}/labels/{label.pk}/rollback/"
    last = LabelMove.objects.latest("pk").pk
    assert admin_client.post(rollback, {"seen_move": last, "reason": ""}).status_code == 200
    admin_client.post(rollback, {"seen_move": last, "reason": "worse"})
    label.refresh_from_db()
    assert (label.version_id, label.rollout_version_id) == (old.pk, None)
    assert LabelMove.objects.latest("pk").author == "admin"


def test_a_move_on_an_outdated_page_is_refused(admin_client: Client) -> None:
    version = make_released("mail")
    new = publish(version.prompt, text_content("Dear {{ name }}"))
    answer = admin_client.post(f"{ROOT}/{version.prompt_id}/move/", move_form(new, seen=0))
    assert "was moved since" in answer.content.decode()
    assert LabelMove.objects.count() == 1


def test_a_proposal_is_approved_by_somebody_else_only(admin_client: Client, client: Client) -> None:
    version = make_released("mail")
    set_label_rules(prompt_id=version.prompt_id, label="production", needs_approval=True)
    new = publish(version.prompt, text_content("Dear {{ name }}"))
    url = f"{ROOT}/{version.prompt_id}"
    admin_client.post(f"{url}/move/", move_form(new, seen=LabelMove.objects.get().pk))
    proposal = MoveProposal.objects.get()
    own = admin_client.post(f"{url}/proposals/{proposal.pk}/", {"note": ""})
    assert "somebody else has to approve" in own.content.decode()
    other = Client()
    other.force_login(staff("bob", "view_prompt", "approve_release"))
    assert "admin" in other.get(f"{url}/releases/").content.decode()
    assert other.post(f"{url}/proposals/{proposal.pk}/", {"note": "fine"}).status_code == 302
    assert LabelMove.objects.latest("pk").approved_by == "bob"


def test_a_proposal_is_rejected_with_a_reason(admin_client: Client) -> None:
    version = make_released("mail")
    set_label_rules(prompt_id=version.prompt_id, label="production", needs_approval=True)
    new = publish(version.prompt, text_content("Dear {{ name }}"))
    url = f"{ROOT}/{version.prompt_id}"
    admin_client.post(f"{url}/move/", move_form(new, seen=LabelMove.objects.get().pk))
    decide = f"{url}/proposals/{MoveProposal.objects.get().pk}/?reject"
    assert admin_client.post(decide, {"note": ""}).status_code == 200
    admin_client.post(decide, {"note": "not now"})
    assert MoveProposal.objects.get().state == "rejected"
    assert LabelMove.objects.count() == 1


def test_rules_and_taking_back(admin_client: Client) -> None:
    version = make_released("mail")
    url = f"{ROOT}/{version.prompt_id}/labels/{Label.objects.get().pk}"
    admin_client.post(f"{url}/rules/", {"needs_green_tests": "on"})
    assert Label.objects.values_list("needs_approval", "needs_green_tests").get() == (False, True)
    admin_client.post(f"{url}/removal/", {"seen_move": LabelMove.objects.get().pk, "reason": "legal"})
    assert Label.objects.get().version_id is None


def test_the_diff_marks_what_changed_and_escapes_it(admin_client: Client) -> None:
    version = publish(make_prompt(content=text_content("Hi {{ name }}")))
    newer = publish(version.prompt, text_content("Hi {{ name }} <script>alert(1)</script>"))
    page = admin_client.get(f"{ROOT}/{version.prompt_id}/diff/?new={newer.pk}").content.decode()
    assert "<ins> &lt;script&gt;alert(1)&lt;/script&gt;</ins>" in page
    for query in ("new=999", "old=x", "new='"):
        assert admin_client.get(f"{ROOT}/{version.prompt_id}/diff/?{query}").status_code == 404
    other = publish(make_prompt())
    assert admin_client.get(f"{ROOT}/{version.prompt_id}/diff/?new={other.pk}").status_code == 404


def test_a_version_is_deprecated_withdrawn_and_put_back(admin_client: Client) -> None:
    version = make_released("mail")
    publish(version.prompt, text_content("Dear {{ name }}"))
    url = f"/admin/prompts/promptversion/{version.pk}"
    admin_client.post(f"{url}/deprecate/", {"sunset_at_0": "2099-01-01", "sunset_at_1": "00:00:00", "note": "use 2"})
    assert VersionDeprecation.objects.values_list("note", flat=True).get() == "use 2"
    assert "2099-01-01" in admin_client.get(f"{url}/change/").content.decode()
    admin_client.post(f"{url}/withdraw/", {"_act": "1"})
    assert not VersionDeprecation.objects.exists()
    admin_client.post(f"{url}/restore/", {"_act": "1"})
    assert "Say hello" in PromptDraft.objects.get().content


def test_a_version_cannot_be_added_changed_or_deleted_here(admin_client: Client) -> None:
    version = make_released("mail")
    for path in ("add", f"{version.pk}/delete"):
        assert admin_client.post(f"/admin/prompts/promptversion/{path}/", {}).status_code == 403
    assert admin_client.post(f"/admin/prompts/promptversion/{version.pk}/change/", {}).status_code == 403


def test_a_test_case_is_checked_before_it_is_stored(admin_client: Client) -> None:
    prompt = make_prompt()
    add = "/admin/prompts/prompttestcase/add/"
    form = {"prompt": prompt.pk, "name": "polite", "inputs": '{"name": "Ada"}', "is_active": "on"}
    for checks in ("[", "[]", '[{"kind": "nothing"}]', '{"kind": "schema"}'):
        assert admin_client.post(add, form | {"checks": checks}).status_code == 200, checks
    admin_client.post(add, form | {"checks": '[{"kind": "contains", "value": "Ada"}]'})
    case = PromptTestCase.objects.get()
    assert (case.name, case.updated_by, case.is_active) == ("polite", "admin", True)
    change = f"/admin/prompts/prompttestcase/{case.pk}/change/"
    assert "contains" in admin_client.get(change).content.decode()
    admin_client.post(change, form | {"name": "kind", "checks": '[{"kind": "contains", "value": "Bob"}]'})
    case.refresh_from_db()
    assert case.name == "kind"
    assert "Bob" in case.checks


def test_a_test_case_of_a_taken_name_is_told_and_not_a_fault(admin_client: Client) -> None:
    prompt = make_prompt()
    form = {"prompt": prompt.pk, "name": "polite", "inputs": "{}", "checks": '[{"kind": "schema"}]'}
    add = "/admin/prompts/prompttestcase/add/"
    assert admin_client.post(add, form).status_code == 302
    assert admin_client.post(add, form).status_code == 200
    assert release(publish(prompt)).pk
