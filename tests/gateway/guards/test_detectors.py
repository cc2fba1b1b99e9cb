"""What is personal data or a secret, and what only looks like it."""

import pytest
import re2

from gateway.guards.detectors import DETECTORS, Detector
from keys.models import KeyEnvironment
from keys.tokens import derive_token
from tests.gateway.guards.rules import find, make_rule

OWN_KEY = derive_token(KeyEnvironment.TEST, "a secret", purpose="tests")
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PRIVATE_KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA75/x+\nabcd==\n"

FOUND = [
    ("email", "ada.lovelace+notes@mail.example.co.uk"),
    ("phone", "+49 30 1234567"),
    ("phone", "(030) 1234-5678"),
    ("phone", "0044 20 7946 0958"),
    ("phone", "212-555-0147"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "GB82WEST12345698765432"),
    ("credit_card", "4111 1111 1111 1111"),
    ("credit_card", "378282246310005"),
    ("credit_card", "5555-5555-5555-4444"),
    ("ip_address", "192.168.10.20"),
    ("ip_address", "2001:db8:85a3::8a2e:370:7334"),
    ("us_ssn", "078-05-1120"),
    ("openai_key", "sk-proj-" + "aB3-_" * 8),
    ("anthropic_key", "sk-ant-api03-" + "aB3-_" * 8),
    ("aws_key", "AKIAIOSFODNN7EXAMPLE"),
    ("google_key", "AIza" + "aB3_-" * 7),
    ("github_token", "ghp_" + "aB3dE6" * 6),
    ("github_token", "github_pat_" + "aB3dE6" * 12),
    ("gitlab_token", "glpat-" + "aB3dE" * 4),
    ("slack_token", "xoxb-123456789012-abcdefghij"),
    ("stripe_key", "sk_live_" + "aB3dE6" * 4),
    ("huggingface_token", "hf_" + "aBcdE" * 7),
    ("npm_token", "npm_" + "aB3dE6" * 6),
    ("pypi_token", "pypi-AgEIcHlwaS5vcmc" + "aB3dE6" * 6),
    ("sendgrid_key", "SG." + "a" * 22 + "." + "b" * 43),
    ("groq_key", "gsk_" + "aB3dE6" * 8),
    ("xai_key", "xai-" + "aB3dE6" * 12),
    ("private_key", PRIVATE_KEY),
    ("jwt", JWT),
    ("own_key", OWN_KEY),
]
PASSED = [
    "see you at 12:30:45 on 2026-11-21, or on 01.02.2026",
    "order 1234567890123456, invoice 4111111111111112",
    "0000 0000 0000 0000",
    "GB82 WEST 1234 5698 7654 33",
    "version 10.2.3, python 3.11.7, chapter 1.2.3.4.5",
    "a loopback like 127.0.0.1 or 0.0.0.0 is nobody's",
    "999.1.1.1",
    "666-12-3456 and 000-12-3456 and 912-34-5678",
    "@mention me, user@localhost, a@b",
    "sk-learn and sk-proj are words, AKIA too",
    "tk_test_" + "a" * 33,
    "eyJust a word",
    "-----BEGIN PUBLIC KEY-----\nMIIB\n",
    "12,345,678.90 EUR and 3.14159265358979",
    "ISBN 978-3-16-148410-0",
    "deadbeef:cafe",
]


@pytest.mark.parametrize(("entity", "text"), FOUND)
@pytest.mark.parametrize("frame", ["{}", "Please look at {} and tell me.", "größe: {}, schön", '{{"a": "{}"}}'])
def test_what_is_found_is_found_whole_and_under_its_name(entity: str, text: str, frame: str) -> None:
    found = find(frame.format(text), make_rule("pii"), make_rule("secrets"))
    kind = "pii" if entity in {d.entity for d in DETECTORS if d.kind == "pii"} else "secrets"
    # A private key that nothing ends takes a word behind it along.
    assert any(rule == f"{kind}.{entity}" and part.startswith(text) for rule, part in found)


@pytest.mark.parametrize("text", PASSED)
def test_what_only_looks_like_it_is_passed(text: str) -> None:
    assert find(text, make_rule("pii"), make_rule("secrets")) == []


def test_a_card_number_is_found_behind_other_digits_and_before_its_date() -> None:
    assert find("2345 4111 1111 1111 1111 12/26", make_rule("pii")) == [("pii.credit_card", "4111 1111 1111 1111")]


def test_what_lies_inside_of_something_else_is_a_part_of_it() -> None:
    assert find("DE89 3704 0044 0532 0130 00", make_rule("pii")) == [("pii.iban", "DE89 3704 0044 0532 0130 00")]


def test_letters_that_only_look_different_are_no_way_around() -> None:
    text = "\uff21\uff24\uff21\u200b@\u200bexample\u00ad.org \U0001d7d2\U0001d7cf11 1111 1111 1111"
    assert [rule for rule, _ in find(text, make_rule("pii"))] == ["pii.email", "pii.credit_card"]


def test_only_the_kinds_that_a_rule_names_are_looked_for() -> None:
    rule = make_rule("pii", entities=frozenset({"email"}))
    assert find("ada@example.org, 4111 1111 1111 1111", rule) == [("pii.email", "ada@example.org")]


def test_a_private_key_is_found_up_to_the_line_that_ends_it() -> None:
    text = f"key: |\n  {PRIVATE_KEY}-----END RSA PRIVATE KEY----- and more"
    assert find(text, make_rule("secrets")) == [("secrets.private_key", PRIVATE_KEY)]


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda d: d.entity)
def test_every_detector_has_an_example_that_keeps_its_promises(detector: Detector) -> None:
    examples = [text for entity, text in FOUND if entity == detector.entity]
    assert examples
    for text in examples:
        assert re2.search(detector.hint, text)
        assert not detector.is_token or text.split() == [text]
