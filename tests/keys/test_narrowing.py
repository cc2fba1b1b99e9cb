"""A key never reaches further than the one that asked for it, in no right."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.errors import KeyExceedsMaker
from keys.narrowing import Rights, check_not_wider
from keys.principals import covers

MAKER = Rights(
    environment="live",
    scopes=["chat:write", "keys:manage"],
    allowed_models=["gpt-*", "claude"],
    allowed_prompts=["greeting"],
    allowed_networks=["192.0.2.0/24", "2001:db8::/32"],
    expires_at=datetime(2027, 1, 1, tzinfo=UTC),
    limits={"requests_per_minute": 10, "concurrency": None},
)


@pytest.mark.parametrize(
    "narrower",
    [
        {},
        {"environment": "test"},
        {"scopes": []},
        {"scopes": ["chat:write"]},
        {"allowed_models": ["gpt-4*"]},
        {"allowed_models": ["gpt-4", "claude"]},
        {"allowed_networks": ["192.0.2.7/32"]},
        {"allowed_networks": ["2001:db8:1::/48", "192.0.2.128/25"]},
        {"expires_at": datetime(2026, 12, 31, tzinfo=UTC)},
        {"limits": {"requests_per_minute": 1, "concurrency": 5}},
    ],
)
def test_as_wide_or_narrower_is_allowed(narrower: dict[str, Any]) -> None:
    check_not_wider(replace(MAKER, **narrower), MAKER)


@pytest.mark.parametrize(
    ("wider", "param"),
    [
        ({"scopes": ["chat:write", "billing:read"]}, "scopes"),
        ({"allowed_models": []}, "allowed_models"),
        ({"allowed_models": ["*"]}, "allowed_models"),
        ({"allowed_models": ["gp*"]}, "allowed_models"),
        ({"allowed_models": ["claude*"]}, "allowed_models"),
        ({"allowed_models": ["gpt-4", "llama"]}, "allowed_models"),
        ({"allowed_prompts": []}, "allowed_prompts"),
        ({"allowed_prompts": ["greeting*"]}, "allowed_prompts"),
        ({"allowed_networks": []}, "allowed_networks"),
        ({"allowed_networks": ["192.0.2.0/23"]}, "allowed_networks"),
        ({"allowed_networks": ["0.0.0.0/0"]}, "allowed_networks"),
        ({"allowed_networks": ["::/0"]}, "allowed_networks"),
        ({"expires_at": None}, "expires_at"),
        ({"expires_at": datetime(2027, 1, 2, tzinfo=UTC)}, "expires_at"),
        ({"limits": {"requests_per_minute": 11}}, "requests_per_minute"),
        ({"limits": {"requests_per_minute": None}}, "requests_per_minute"),
        ({"limits": {}}, "requests_per_minute"),
    ],
)
def test_wider_in_any_right_is_refused_by_its_name(wider: dict[str, Any], param: str) -> None:
    with pytest.raises(KeyExceedsMaker) as refused:
        check_not_wider(replace(MAKER, **wider), MAKER)
    assert refused.value.param == param


def test_a_test_key_makes_no_live_one() -> None:
    with pytest.raises(KeyExceedsMaker):
        check_not_wider(MAKER, replace(MAKER, environment="test"))


_pattern = st.text("ab", max_size=3).flatmap(lambda text: st.sampled_from([text or "a", f"{text}*"]))
_patterns = st.lists(_pattern, max_size=3)


@given(asked=_patterns, held=_patterns, name=st.text("ab", min_size=1, max_size=5))
def test_what_passes_admits_nothing_that_its_maker_does_not(asked: list[str], held: list[str], name: str) -> None:
    maker = replace(MAKER, allowed_models=held)
    try:
        check_not_wider(replace(maker, allowed_models=asked), maker)
    except KeyExceedsMaker:
        return

    def admits(patterns: list[str]) -> bool:
        return not patterns or any(covers(pattern, name) for pattern in patterns)

    assert admits(held) or not admits(asked)


def test_expiries_are_compared_as_moments() -> None:
    soon = datetime.now(UTC) + timedelta(days=1)
    check_not_wider(replace(MAKER, expires_at=soon), replace(MAKER, expires_at=soon))
