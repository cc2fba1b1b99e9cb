"""What is read of a request's head: headers of one name are one list, and the proxy's word comes last in it."""

from ipaddress import ip_network
from typing import Any

import pytest
from django.conf import LazySettings

from gateway.transports.http import client_address_of, find_bearer_token, headers_of


def _scope(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"headers": list(headers), "client": ("10.0.0.9", 5000)}


def test_headers_of_one_name_are_one_list() -> None:
    scope = _scope((b"x-tags", b"a=1"), (b"accept", b"*/*"), (b"x-tags", b"b=2"))
    assert headers_of(scope) == {b"x-tags": b"a=1, b=2", b"accept": b"*/*"}


def test_a_caller_s_own_forwarded_header_stands_before_the_proxy_s(settings: LazySettings) -> None:
    proxies = (ip_network("10.0.0.0/8"),)
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"trusted_proxies": proxies})
    scope = _scope((b"x-forwarded-for", b"203.0.113.9"), (b"x-forwarded-for", b"198.51.100.1"))
    assert client_address_of(scope, headers_of(scope)) == "198.51.100.1"


@pytest.mark.parametrize(
    ("value", "token"),
    [
        (b"Bearer tk_1", "tk_1"),
        (b"bearer  tk_1 ", "tk_1"),
        (b"Bearer ", None),
        (b"Basic dXNlcg==", None),
        (b"tk_1", None),
        (b"", None),
    ],
)
def test_a_token_needs_its_scheme(value: bytes, token: str | None) -> None:
    assert find_bearer_token(headers_of(_scope((b"authorization", value)))) == token


def test_two_tokens_are_none_that_is_known() -> None:
    scope = _scope((b"authorization", b"Bearer tk_1"), (b"authorization", b"Bearer tk_2"))
    assert find_bearer_token(headers_of(scope)) == "tk_1, Bearer tk_2"
