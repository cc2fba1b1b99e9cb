"""What a pin means, for whom, and that nothing ever stands in for what is missing."""

import hashlib
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from common.clock import to_us
from common.sql import Sql
from prompts.authoring import deprecate_version
from prompts.errors import PinInvalid, PromptNotFound
from prompts.models import PromptVersion
from prompts.names import parse_pin
from prompts.releasing import remove_label, roll_back
from prompts.rollout import is_in_rollout
from prompts.snapshots import PromptBook, ResolvedPrompt, read_prompt_book, resolve_prompt
from tests.prompting import make_prompt, make_released, publish, release, text_content

pytestmark = pytest.mark.django_db


def book(previous: PromptBook | None = None) -> PromptBook:
    return read_prompt_book(Sql(connection)) if previous is None else read_prompt_book(Sql(connection), previous)


def resolve(
    name: str, pin: str | None = None, *, customer_id: int = 1, session_id: str | None = None
) -> ResolvedPrompt:
    return resolve_prompt(book(), name, pin, customer_id=customer_id, session_id=session_id)


def number(name: str, pin: str | None = None) -> str:
    return str(resolve(name, pin).version.number)


def test_each_form_of_a_pin_finds_its_version() -> None:
    prompt = make_prompt("mail")
    first = publish(prompt)
    second = publish(prompt, text_content("Dear {{ name }}"))
    third = publish(prompt, text_content("Dear {{ whom }}"))
    release(first)
    release(second)
    release(third, "staging")
    assert number("mail") == number("mail", "production") == number("mail", "@1") == "1.0.1"
    assert number("mail", "1.0.0") == "1.0.0"
    assert number("mail", "staging") == number("mail", "@2.0.0") == "2.0.0"
    release(third)
    assert (number("mail"), number("mail", "2"), number("mail", "1")) == ("2.0.0", "2.0.0", "1.0.1")


@pytest.mark.parametrize("pin", ["staging", "2", "1.0.1", "9.9.9", "nightly"])
def test_what_is_missing_is_404_and_never_something_else(pin: str) -> None:
    make_released("mail")
    with pytest.raises(PromptNotFound) as caught:
        resolve("mail", pin)
    assert caught.value.status == 404


def test_an_unknown_prompt_and_an_unreleased_one_are_404() -> None:
    prompt = make_prompt("draft-only")
    publish(prompt)
    for name in ("draft-only", "nothing"):
        with pytest.raises(PromptNotFound):
            resolve(name)


@pytest.mark.parametrize("pin", ["2.1", "v2", "1.0.0-rc1", "latest!", "@", "1" * 9, "a b"])
def test_a_pin_that_is_none_is_told(pin: str) -> None:
    if pin == "v2":
        assert parse_pin(pin).label == "v2"
        return
    with pytest.raises(PinInvalid):
        parse_pin(pin)


def test_publishing_alone_changes_nothing_for_who_pins_a_major() -> None:
    version = make_released("mail")
    publish(version.prompt, text_content("Dear {{ name }}"))
    assert number("mail", "1") == "1.0.0"


def test_a_rollback_counts_for_who_pins_a_major() -> None:
    version = make_released("mail")
    release(publish(version.prompt, text_content("Dear {{ name }}")))
    roll_back(prompt_id=version.prompt_id, label="production", reason="x", author="ada")
    assert number("mail", "1") == "1.0.0"


def test_who_pins_a_major_is_gone_with_the_label() -> None:
    version = make_released("mail")
    remove_label(prompt_id=version.prompt_id, label="production", reason="x", author="ada")
    for pin in ("1", "production"):
        with pytest.raises(PromptNotFound):
            resolve("mail", pin)
    assert number("mail", "1.0.0") == "1.0.0"


# ---- rollouts


def _rollout(percent: int, *, is_major: bool = False) -> None:
    old = make_released("mail")
    new = publish(old.prompt, text_content("Dear {{ whom }}" if is_major else "Dear {{ name }}"))
    release(new, percent=percent)


@pytest.mark.parametrize("percent", [1, 10, 50])
def test_the_share_is_as_asked(percent: int) -> None:
    _rollout(percent)
    shared = book()
    got = Counter(
        str(resolve_prompt(shared, "mail", None, customer_id=customer).version.number) for customer in range(5_000)
    )
    assert got["1.0.1"] / 5_000 == pytest.approx(percent / 100, abs=0.02)


def test_a_caller_keeps_its_version_and_stays_in_when_the_share_grows() -> None:
    def drawn(pin: str | None) -> set[int]:
        shared = book()
        return {c for c in range(2_000) if resolve_prompt(shared, "mail", pin, customer_id=c).is_rollout}

    _rollout(10)
    early = drawn(None)
    assert early == drawn("production") == drawn("1")
    release(PromptVersion.objects.latest("pk"), percent=50)
    assert early < drawn(None)


def test_the_hash_is_the_documented_one() -> None:
    for percent in (1, 10, 50):
        for session in (None, "s1", "s2"):
            subject = f"7:{session}" if session else "7"
            digest = hashlib.sha256(f"mail\nproduction\n1.0.1\n{subject}".encode()).digest()
            expected = int.from_bytes(digest[:8], "big") % 10_000 < percent * 100
            assert expected == is_in_rollout(
                prompt="mail", label="production", number="1.0.1", percent=percent, customer_id=7, session_id=session
            )


def test_sessions_of_a_customer_are_drawn_one_by_one_and_customers_never_share_one() -> None:
    _rollout(50)
    shared = book()

    def is_in(customer_id: int, session_id: str) -> bool:
        return resolve_prompt(shared, "mail", None, customer_id=customer_id, session_id=session_id).is_rollout

    sessions = [f"session-{n}" for n in range(200)]
    assert {is_in(1, s) for s in sessions} == {True, False}
    assert [is_in(1, s) for s in sessions] != [is_in(2, s) for s in sessions]
    assert [is_in(1, s) for s in sessions] == [is_in(1, s) for s in sessions]


def test_who_pins_a_major_is_never_rolled_over_to_another() -> None:
    _rollout(99, is_major=True)
    shared = book()
    found = {str(resolve_prompt(shared, "mail", "1", customer_id=c).version.number) for c in range(300)}
    assert found == {"1.0.0"}
    assert {str(resolve_prompt(shared, "mail", "2", customer_id=c).version.number) for c in range(9)} == {"2.0.0"}


# ---- includes, deprecation, cost of reading


def test_an_include_is_what_its_label_points_at_now() -> None:
    style = make_prompt("style", text_content("Be kind."))
    release(publish(style))
    make_released("mail", text_content('{%- include "style@production" %} Hi.'))
    first = book()
    assert resolve_prompt(first, "mail", None, customer_id=1).compiled.messages.render({})[0].content == "Be kind. Hi."
    release(publish(style, text_content("Be brief.")))
    second = book(first)
    assert (
        resolve_prompt(second, "mail", None, customer_id=1).compiled.messages.render({})[0].content == "Be brief. Hi."
    )


def test_a_deprecated_version_carries_its_dates() -> None:
    version = make_released("mail")
    sunset = datetime.now(UTC) + timedelta(days=90)
    deprecate_version(version_id=version.pk, author="ada", sunset_at=sunset)
    found = resolve("mail").version
    assert found.sunset_us == to_us(sunset)
    assert found.deprecated_us is not None


def test_a_new_book_reads_five_tables_and_the_text_of_new_versions_only() -> None:
    version = make_released("mail")
    first = book()
    compiled = first.get_compiled(next(iter(first.table.versions())))
    publish(version.prompt, text_content("Dear {{ name }}"))
    with CaptureQueriesContext(connection) as nothing:
        second = book(first)
    assert not nothing.captured_queries  # not the ORM's
    assert second.get_compiled(next(iter(second.table.versions()))) is compiled
    assert len(second.texts) == 2
