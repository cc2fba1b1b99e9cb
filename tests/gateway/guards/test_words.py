"""Words, topics, languages, lengths, and expressions of an administrator's own."""

import pytest
from django.conf import settings

from gateway.guards.checking import check_rule
from gateway.guards.combining import combine
from gateway.guards.detectors import DETECTORS
from gateway.guards.errors import GuardRuleInvalid
from gateway.guards.languages import LANGUAGES, find_language
from gateway.guards.values import RuleKind, Surface
from gateway.guards.width import UnboundedPattern, widest_match
from tests.gateway.guards.rules import find, guard_of, make_rule, pass_through

TEXTS = {
    "en": "Could you please tell me how the new invoice is paid, and what the fee for that would be?",
    "de": "Können Sie mir bitte sagen, wie die neue Rechnung bezahlt wird und was das kostet?",
    "fr": "Pouvez-vous me dire comment payer la nouvelle facture, et ce que cela va coûter pour nous ?",
    "es": "¿Me puede decir cómo se paga la nueva factura y qué es lo que cuesta para los clientes?",
    "ru": "Подскажите, пожалуйста, как оплатить новый счёт и сколько это стоит?",
    "uk": "Підкажіть, будь ласка, як сплатити новий рахунок і скільки це коштує?",  # noqa: RUF001
    "zh": "请告诉我如何支付新的发票以及费用是多少。",
    "ja": "新しい請求書の支払い方法を教えてください。",
}


@pytest.mark.parametrize(("language", "text"), TEXTS.items())
def test_a_language_is_told_by_its_letters_and_words(language: str, text: str) -> None:
    assert find_language(text) == language


@pytest.mark.parametrize("text", ["", "OK", "12345 67890", "def f(x): return x + 1", "Zürich HB, Gleis 12"])
def test_what_is_of_no_language_is_judged_by_none(text: str) -> None:
    assert find_language(text) is None
    assert find(text, make_rule("language", languages=frozenset({"en"}))) == []


def test_other_languages_than_those_allowed_are_found() -> None:
    rule = make_rule("language", languages=frozenset({"en", "de"}))
    assert [name for name, _ in find(TEXTS["fr"], rule)] == ["language.fr"]
    assert find(TEXTS["de"], rule) == []


def test_words_are_whole_words_in_any_case_unless_they_may_go_on() -> None:
    rule = make_rule("words", terms=("acme", "gift card", "hack*", "größe"))
    text = "ACME, acmes, Gift Card, gift cards, hackers, shack, GRÖSSE, Größe"
    assert [found for _, found in find(text, rule)] == ["ACME", "Gift Card", "hack", "Größe"]


def test_words_need_no_spaces_where_a_script_has_none() -> None:
    assert find("我想買毒品。", make_rule("words", terms=("毒品",))) == [("words", "毒品")]


def test_a_topic_counts_different_terms() -> None:
    rule = make_rule("topic", terms=("stock", "bond", "dividend"), threshold=2)
    assert find("stock stock stock", rule) == []
    assert find("a stock and its dividend", rule) == [("topic", "dividend")]


def test_a_text_that_is_too_long_is_found_where_it_becomes_so() -> None:
    rule = make_rule("length", "block", max_characters=5)
    said, _, blocked = pass_through(guard_of(rule), ["abc", "defgh"])
    assert (said, blocked.start if blocked else None) == ("abcde", 5)


def test_where_two_rules_find_the_same_the_strongest_action_counts() -> None:
    rules = (make_rule("pii", "flag"), make_rule("pii", "redact", name="strict"), make_rule("pii", "flag"))
    said, notes, _ = pass_through(guard_of(*rules), ["to ada@example.org"])
    assert said == "to [EMAIL]"
    assert [finding.rule for finding in notes] == ["strict.email"]


def test_rules_for_other_surfaces_do_not_look() -> None:
    assert Surface.USER not in combine((make_rule("pii", surfaces=frozenset({Surface.SYSTEM})),))


@pytest.mark.parametrize(
    ("pattern", "width"),
    [
        ("abc", 3),
        (r"a|bc|\d{2,5}", 5),
        (r"(?i:ab){0,3}c?", 7),
        (r"[^\]a-z[:alpha:]]{4}", 4),
        (r"(?P<n>x{2})(?<m>y)\bz$", 4),
        (r"\x{10ffff}\pL\p{Greek}.", 4),
        ("a{,3}", 5),
        ("[]a]b", 2),
    ],
)
def test_the_width_of_an_expression_bounds_its_matches(pattern: str, width: int) -> None:
    assert widest_match(pattern) == width


@pytest.mark.parametrize(
    "pattern", ["a*", "a+b", "a{2,}", "(a+)+$", "(a{100}){11}", r"\Qa\E", "(?x:a)", "a)", "(a", "[a"]
)
def test_an_expression_without_a_bound_is_refused(pattern: str) -> None:
    with pytest.raises(UnboundedPattern):
        widest_match(pattern)


@pytest.mark.parametrize(
    ("rule", "column"),
    [
        (make_rule("pattern", pattern="a+"), "pattern"),
        (make_rule("pattern", pattern="a{0,3}"), "pattern"),
        (make_rule("pattern", pattern="(?=a)b"), "pattern"),
        (make_rule("pattern", pattern=r"(a)\1"), "pattern"),
        (make_rule("pii", entities=frozenset({"shoe_size"})), "entities"),
        (make_rule("words"), "terms"),
        (make_rule("words", terms=("**",)), "terms"),
        (make_rule("topic", terms=("a",), threshold=2), "threshold"),
        (make_rule("language", languages=frozenset({"xx"})), "languages"),
        (make_rule("language"), "languages"),
        (make_rule("length"), "max_characters"),
        (make_rule("injection", "redact"), "action"),
        (make_rule("injection", threshold=0), "threshold"),
        (make_rule("pii", surfaces=frozenset()), None),
    ],
)
def test_a_rule_that_cannot_work_is_refused_at_its_column(rule: object, column: str | None) -> None:
    with pytest.raises(GuardRuleInvalid) as raised:
        check_rule(rule)  # type: ignore[arg-type]
    assert raised.value.param == column


def test_the_reference_names_every_entity_and_language() -> None:
    page = (settings.BASE_DIR / "docs/reference/guards.md").read_text(encoding="utf-8")
    known = [*(detector.entity for detector in DETECTORS), *LANGUAGES, *RuleKind]
    assert [name for name in known if f"`{name}`" not in page] == []
