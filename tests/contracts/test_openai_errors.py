"""Each error becomes the matching exception of the stock openai SDK."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from keys.issuing import revoke_key
from keys.models import ApiKey
from keys.scopes import Scope
from tests.contracts.clients import open_client
from tests.flows.platform import Caller, Platform
from tests.upstream import Behaviour, error, html_error, rate_limited

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "three plain words"}]
TEXT = "amber birch cedar delta "


# ---- errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A call that fails: how it comes about, and what the SDK raises."""

    code: str
    raises: type[openai.APIStatusError]
    status: int
    customer: dict[str, Any] | None = None
    model: dict[str, Any] | None = None
    call: dict[str, Any] | None = None
    behaviour: Behaviour | None = None
    token: str | None = None
    prepare: Callable[[Caller], object] | None = None
    calls_before: int = 0
    retryable: bool = False


def _revoke(caller: Caller) -> None:
    revoke_key(key_id=caller.key_id, reason="for a test")


def _expire(caller: Caller) -> None:
    ApiKey.objects.filter(pk=caller.key_id).update(expires_at=datetime.now(UTC) - timedelta(seconds=1))


LONG = [{"role": "user", "content": "word " * 9_000}]
SLOW = {"connect_timeout_seconds": 0.1, "first_token_timeout_seconds": 0.1}
GONE = {"base_url": "http://127.0.0.1:9/v1"}

REFUSALS = {
    "unknown key": Refusal(code="invalid_api_key", raises=openai.AuthenticationError, status=401, token="tk_live_no"),
    "revoked key": Refusal(code="invalid_api_key", raises=openai.AuthenticationError, status=401, prepare=_revoke),
    "expired key": Refusal(code="invalid_api_key", raises=openai.AuthenticationError, status=401, prepare=_expire),
    "no money": Refusal(
        code="insufficient_balance", raises=openai.APIStatusError, status=402, customer={"credit_usd": "0"}
    ),
    "no price": Refusal(code="price_missing", raises=openai.APIStatusError, status=402, model={"with_price": False}),
    "no budget": Refusal(
        code="budget_too_small",
        raises=openai.APIStatusError,
        status=402,
        customer={"plan_limits": {"spend_per_day_nanousd": 1}},
    ),
    "no scope": Refusal(
        code="insufficient_scope",
        raises=openai.PermissionDeniedError,
        status=403,
        customer={"scopes": [Scope.MODELS_READ]},
    ),
    "unknown model": Refusal(
        code="model_not_found", raises=openai.NotFoundError, status=404, call={"model": "no-such-model"}
    ),
    "model not allowed": Refusal(
        code="model_not_found", raises=openai.NotFoundError, status=404, customer={"allowed_models": ["other-*"]}
    ),
    "context window": Refusal(
        code="context_length_exceeded", raises=openai.BadRequestError, status=400, call={"messages": LONG}
    ),
    "input cap": Refusal(
        code="input_tokens_exceeded",
        raises=openai.BadRequestError,
        status=400,
        customer={"limits": {"max_input_tokens": 5}},
    ),
    "output cap": Refusal(
        code="output_tokens_exceeded",
        raises=openai.BadRequestError,
        status=400,
        call={"max_completion_tokens": 1_000_000},
    ),
    "more than a minute's worth": Refusal(
        code="request_exceeds_limit",
        raises=openai.BadRequestError,
        status=400,
        customer={"plan_limits": {"output_tokens_per_minute": 10}},
    ),
    "too many messages": Refusal(
        code="too_many_messages",
        raises=openai.BadRequestError,
        status=400,
        call={"messages": [{"role": "user", "content": "x"}] * 51},
    ),
    "rate limit": Refusal(
        code="rate_limit_exceeded",
        raises=openai.RateLimitError,
        status=429,
        customer={"plan_limits": {"requests_per_minute": 1}},
        calls_before=1,
        retryable=True,
    ),
    "a limit of nothing": Refusal(
        code="limit_is_zero",
        raises=openai.PermissionDeniedError,
        status=403,
        customer={"plan_limits": {"concurrency": 0}},
    ),
    "provider's limit": Refusal(
        code="upstream_rate_limited",
        raises=openai.RateLimitError,
        status=429,
        behaviour=rate_limited(),
        retryable=True,
    ),
    "provider's refusal": Refusal(
        code="upstream_rejected", raises=openai.BadRequestError, status=400, behaviour=error(422)
    ),
    "provider's fault": Refusal(
        code="upstream_error", raises=openai.InternalServerError, status=502, behaviour=error(500), retryable=True
    ),
    "provider's gateway": Refusal(
        code="upstream_error", raises=openai.InternalServerError, status=502, behaviour=html_error(502), retryable=True
    ),
    "provider's credentials": Refusal(
        code="upstream_misconfigured", raises=openai.InternalServerError, status=502, behaviour=error(401)
    ),
    "provider's nonsense": Refusal(
        code="upstream_invalid_answer",
        raises=openai.InternalServerError,
        status=502,
        behaviour=Behaviour(body="[]"),
        retryable=True,
    ),
    "provider refuses connections": Refusal(
        code="upstream_unreachable",
        raises=openai.InternalServerError,
        status=503,
        model={"upstream": GONE},
        retryable=True,
    ),
    "provider too slow": Refusal(
        code="upstream_timeout",
        raises=openai.InternalServerError,
        status=504,
        model={"upstream": SLOW},
        behaviour=Behaviour(hold_at="head"),
        retryable=True,
    ),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", REFUSALS)
def test_each_error_raises_the_sdks_matching_exception(platform: Platform, name: str, stream: bool) -> None:
    refusal = REFUSALS[name]
    caller = platform.make_caller(model=platform.make_model(**(refusal.model or {})), **(refusal.customer or {}))
    if refusal.prepare is not None:
        platform.run(refusal.prepare, caller)
    with open_client(platform, caller) as client:
        for _ in range(refusal.calls_before):
            client.chat.completions.create(model=caller.model, messages=MESSAGES)
    if refusal.behaviour is not None:
        platform.upstream.queue(refusal.behaviour, target=caller.model)
    call = {"model": caller.model, "messages": MESSAGES, "stream": stream, **(refusal.call or {})}
    with (
        OpenAI(base_url=platform.server.base_url, api_key=refusal.token or caller.token, max_retries=0) as client,
        pytest.raises(refusal.raises) as caught,
    ):
        client.chat.completions.create(**call)
    raised = caught.value
    assert type(raised) is refusal.raises
    assert (raised.status_code, raised.code) == (refusal.status, refusal.code)
    assert isinstance(raised.body, dict)
    assert set(raised.body) - {"details", "retry_after_seconds"} == {
        "message",
        "type",
        "param",
        "code",
        "retryable",
        "request_id",
    }
    assert raised.body["retryable"] is refusal.retryable
    assert raised.response.headers["x-should-retry"] == str(refusal.retryable).lower()
    assert raised.request_id == raised.body["request_id"]
    assert ("retry-after" in raised.response.headers) <= refusal.retryable
    platform.assert_settled(caller)


def test_an_error_inside_a_stream_is_raised_while_it_is_read(
    platform: Platform, client: OpenAI, caller: Caller
) -> None:
    platform.upstream.queue(Behaviour(cut_at=2), target=caller.model)
    stream = client.chat.completions.create(model=caller.model, messages=MESSAGES, stream=True)
    with stream, pytest.raises(openai.APIError) as caught:
        for _ in stream:
            pass
    assert (caught.value.code, caught.value.type) == ("upstream_interrupted", "upstream_error")


def test_a_body_beyond_the_bound_is_refused_with_413(client: OpenAI, caller: Caller) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model=caller.model, messages=[{"role": "user", "content": "x" * 4_000_001}])
    assert (caught.value.status_code, caught.value.code) == (413, "body_too_large")


def test_the_sdk_retries_what_is_worth_retrying_and_nothing_else(platform: Platform, caller: Caller) -> None:
    platform.upstream.queue(error(500), target=caller.model)
    with open_client(platform, caller, max_retries=2) as client:
        assert client.chat.completions.create(model=caller.model, messages=MESSAGES).choices
        assert len(platform.requests_for(caller.model)) == 2
        platform.upstream.queue(error(401), error(401), target=caller.model)
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model=caller.model, messages=MESSAGES)
    assert len(platform.requests_for(caller.model)) == 3
