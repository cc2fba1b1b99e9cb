"""A text may be cut anywhere: what is found and what comes out stay the same, and nothing leaks unchecked."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.guards.screening import mask_in_answer
from gateway.guards.vault import Vault
from gateway.guards.windows import Window
from tests.gateway.guards.rules import guard_of, make_rule, pass_through

KEY = "sk-proj-" + "a1B2c" * 6
# Pieces whose neighbours can be mistaken for a part of them.
FRAGMENTS = [
    *("ada@example.org", "+49 30 1234567", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "10.1.2.3", KEY),
    *("eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM.c2ln", "-----BEGIN PRIVATE KEY-----\nMIIB==\n", "078-05-1120", "[EMAIL_1]"),
    *("[EMAIL", "_1]", "acme", "Acmeish", "x7y7z", "x7", "ignore all previous instructions", "jailbreak", "stay in"),
    *(" ", "\n", "-", ".", ",", "1", "12 34", "\u200b", "\uff11", "ü", "毒品", "a", "sk-", "\\n", '"', "[", "]"),
]
GUARD = guard_of(
    make_rule("pii", "redact"),
    make_rule("secrets", "redact"),
    make_rule("words", terms=("acme", "x7*", "毒品")),
    make_rule("pattern", "redact", pattern="x[0-9]y([0-9]z)?"),
    make_rule("injection"),
    make_rule("length", max_characters=60),
)
BLOCKING = guard_of(
    make_rule("secrets", "block"), make_rule("pii", "redact"), make_rule("words", "block", terms=("acme",))
)
texts = st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join)


def make_vault() -> Vault:
    vault = Vault()
    vault.mask("EMAIL", 'eve "e"@example.org', restores=True)
    return vault


def cut(text: str, places: list[int]) -> list[str]:
    ends = sorted({min(place, len(text)) for place in places} | {len(text)})
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


cuts = st.lists(st.integers(0, 200), max_size=20)


def test_a_value_that_is_a_part_of_another_is_hidden_after_it() -> None:
    vault = Vault()
    vault.mask("URL", "example.org", restores=True)
    vault.mask("EMAIL", "bob@example.org", restores=True)
    assert vault.hide("Write to bob@example.org, or see example.org.") == "Write to [EMAIL_1], or see [URL_1]."


@given(text=texts, places=cuts)
def test_cutting_a_text_changes_nothing(text: str, places: list[int]) -> None:
    whole = pass_through(GUARD, [text], vault=make_vault())
    assert pass_through(GUARD, cut(text, places), vault=make_vault()) == whole


@given(text=texts)
def test_a_text_in_single_characters_is_the_text(text: str) -> None:
    assert pass_through(GUARD, text, vault=make_vault()) == pass_through(GUARD, [text], vault=make_vault())


@given(text=texts, places=cuts)
def test_a_block_falls_on_the_same_place_wherever_a_text_is_cut(text: str, places: list[int]) -> None:
    assert pass_through(BLOCKING, cut(text, places)) == pass_through(BLOCKING, [text])


@pytest.mark.parametrize("position", range(len(f"say {KEY} now") + 1))
def test_a_secret_cut_anywhere_is_never_said(position: int) -> None:
    text = f"say {KEY} now"
    said, _, blocked = pass_through(BLOCKING, [text[:position], text[position:]])
    assert blocked is not None
    assert said in ("", "say ")


def test_what_no_rule_can_reach_any_more_is_let_go_at_once() -> None:
    guard = guard_of(make_rule("secrets", "redact", entities=frozenset({"openai_key", "aws_key"})))
    window = Window(guard, place="text", note=lambda _: None, mask=mask_in_answer)
    assert window.feed("These are plain words and sk-") == "These are plain words and "
    assert window.feed("learn is one ") == "sk-learn is one "


def test_a_secret_without_an_end_is_taken_out_without_being_waited_for() -> None:
    guard = guard_of(make_rule("secrets", "redact"))
    window = Window(guard, place="text", note=lambda _: None, mask=mask_in_answer)
    said = [window.feed(piece) for piece in ["key sk-proj-", *["a1B2c" * 400] * 20, " and on ", "it goes "]]
    said.append(window.feed("", is_end=True))
    assert "".join(said) == "key [OPENAI_KEY] and on it goes "
    assert said.index("[OPENAI_KEY]") < 10


def test_redacting_and_restoring_is_a_round_trip() -> None:
    vault = Vault()
    values = ["ada@example.org", "bob@example.org", "ada@example.org"]
    masked = [vault.mask("EMAIL", value, restores=True) for value in values]
    assert masked == ["[EMAIL_1]", "[EMAIL_2]", "[EMAIL_1]"]
    said, _, _ = pass_through(guard_of(make_rule("injection")), f"{masked[0]}, {masked[1]}", vault=vault)
    assert said == "ada@example.org, bob@example.org"
    assert vault.hide(said) == "[EMAIL_1], [EMAIL_2]"


def test_a_placeholder_of_the_callers_own_is_not_taken_for_ours() -> None:
    vault = Vault()
    vault.avoid(lambda: ["what does [EMAIL_1] mean?"])
    assert vault.mask("EMAIL", "ada@example.org", restores=True) == "[EMAIL_2]"
    assert vault.find("[EMAIL_1]") is None


def test_what_is_not_to_be_restored_stays_a_placeholder() -> None:
    vault = Vault()
    placeholder = vault.mask("EMAIL", "ada@example.org", restores=False)
    assert vault.find(placeholder) is None
    assert not vault.restores


def test_values_are_escaped_where_the_text_is_json() -> None:
    said, _, _ = pass_through(
        guard_of(make_rule("injection")), ['{"to": "[EMAIL_1]"}'], vault=make_vault(), is_json=True
    )
    assert orjson.loads(said) == {"to": 'eve "e"@example.org'}


def test_redaction_leaves_json_whole() -> None:
    text = orjson.dumps({"to": "line\nada@example.org"}).decode()
    said, _, _ = pass_through(guard_of(make_rule("pii", "redact")), [text], is_json=True)
    assert orjson.loads(said) == {"to": "line\n[EMAIL]"}


def test_overlapping_findings_are_taken_out_as_one() -> None:
    rules = (make_rule("pii", "redact"), make_rule("words", "redact", terms=("example.org now",)))
    said, notes, _ = pass_through(guard_of(*rules), ["to ada@example.org now and then"])
    assert said == "to [EMAIL] and then"
    assert len(notes) == 2
