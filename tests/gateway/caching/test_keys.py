"""The key: one for the same question of the same customer, another for anything that could change the answer."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from common.sql import Sql
from gateway.bounds import read_bounds
from gateway.breakers import Breakers
from gateway.cache_models import PurgeScope
from gateway.caching.keys import KeyMaker, digest_route
from gateway.caching.purging import purge_answers
from gateway.calls import Exchange, PromptMark
from gateway.catalogue import EMPTY_CATALOGUE, read_catalogue
from gateway.chat.counting import InputCount
from gateway.operations import CHAT_COMPLETIONS
from gateway.routing import NO_WISH
from gateway.stages.parse import read_body
from gateway.stages.resolve import plan_call
from tests.factories import FundedCall, funded_call

pytestmark = pytest.mark.django_db
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0.5}


@pytest.fixture
def call() -> FundedCall:
    return funded_call()


def key(call: FundedCall, *, mark: PromptMark | None = None, environment: str = "live", **changes: Any) -> bytes:
    """Return the key of BODY with other members; an ellipsis takes one out."""
    known = read_catalogue(Sql(connection))
    body = {"model": call.model, **BODY, **changes}
    chat = read_body({k: v for k, v in body.items() if v is not ...}, bounds=read_bounds())
    exchange = Exchange(operation=CHAT_COMPLETIONS, token="", raw_body=b"", principal=call.principal)
    exchange.call, exchange.prompt_mark = chat, mark
    standing = Breakers(failures=5, rest_seconds=10)
    exchange.plan = plan_call(chat, InputCount(5, 0), call.principal, known, 10**15, standing=standing)
    exchange.principal = replace(call.principal, environment=environment)
    return KeyMaker().key_of(exchange, known)


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": {"team": "search"}},
        {"temperature": 0.5, "messages": BODY["messages"]},
        {"top_p": None},
        # The model's own default.
        {"max_tokens": 256},
        {"max_completion_tokens": 256},
    ],
)
def test_what_stays_here_or_says_the_same_is_not_in_it(call: FundedCall, changes: dict[str, Any]) -> None:
    assert key(call, **changes) == key(call)


@pytest.mark.parametrize(
    "changes",
    [
        {"messages": [{"role": "user", "content": "hello "}]},
        {"messages": [{"role": "system", "content": "hello"}]},
        {"temperature": ...},
        {"seed": 1},
        {"max_tokens": 255},
        {"stop": ["x"]},
        # It goes upstream.
        {"user": "somebody"},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"stream": True},
        {"provider": {"sort": "price"}},
        {"response_format": {"type": "json_object"}},
    ],
)
def test_what_goes_upstream_is_in_it(call: FundedCall, changes: dict[str, Any]) -> None:
    assert key(call, **changes) != key(call)


def test_usage_that_was_asked_for_makes_no_other_stream(call: FundedCall) -> None:
    asked = key(call, stream=True, stream_options={"include_usage": True})
    assert asked == key(call, stream=True, stream_options={"include_usage": False})


def test_customer_environment_and_prompt_version_are_in_it(call: FundedCall) -> None:
    other = funded_call(model=call.model)
    colleague = replace(call, principal=replace(call.principal, key_id=0))
    mark = PromptMark(name="p", version="1.0.0", label=None)
    assert key(call) == key(colleague)
    marks = [mark, mark._replace(version="1.0.1"), mark._replace(name="q")]
    keys = {key(call), key(other), key(call, environment="test"), *(key(call, mark=m) for m in marks)}
    assert len(keys) == 6
    # The label by which a version was found says nothing of its answer.
    assert key(call, mark=mark._replace(label="production")) == key(call, mark=mark)


def test_a_purge_counts_for_those_that_it_names(call: FundedCall) -> None:
    other = funded_call(model=call.model)
    elsewhere = replace(call, model=funded_call().model)
    calls = (call, other, elsewhere)
    expected = {
        (PurgeScope.CUSTOMER, str(call.customer_id)): [True, False, True],
        (PurgeScope.MODEL, call.model): [True, True, False],
        (PurgeScope.ALL, ""): [True, True, True],
    }
    for (scope, subject), changed in expected.items():
        for _ in range(2):
            before = [key(one) for one in calls]
            purge_answers(scope, subject, reason="for a test", author="tests")
            assert [key(one) != was for one, was in zip(calls, before, strict=True)] == changed


def test_the_route_is_what_answers_follow_from(call: FundedCall) -> None:
    model = read_catalogue(Sql(connection)).models[call.model]
    (served,) = model.deployments

    def with_deployment(**changes: Any) -> str:
        return digest_route(replace(model, deployments=(replace(served, **changes),)))

    same: list[dict[str, Any]] = [
        {"priority": 9, "weight": 5, "input_cost_nanousd": 7},
        {"upstream": replace(served.upstream, secret="new")},
    ]
    assert {with_deployment(**changes) for changes in same} == {digest_route(model)}
    others: list[dict[str, Any]] = [
        {"upstream_model": "beta"},
        {"region": "eu"},
        {"upstream": replace(served.upstream, base_url="http://b/v1")},
    ]
    assert len({digest_route(model), *(with_deployment(**changes) for changes in others)}) == 4
    assert digest_route(replace(model, deployments=())) != digest_route(model)


TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
BODIES = st.dictionaries(TEXTS | st.sampled_from(["metadata", "messages", "stop"]), VALUES, max_size=4)


@given(first=BODIES, second=BODIES, customers=st.tuples(st.integers(1, 2), st.integers(1, 2)))
def test_two_calls_have_one_key_exactly_if_one_customer_asks_the_same(
    first: dict[str, Any], second: dict[str, Any], customers: tuple[int, int]
) -> None:
    keys = [bare_key(body, customer_id) for body, customer_id in zip((first, second), customers, strict=True)]
    asks_same = canonical(first) == canonical(second)
    assert (keys[0] == keys[1]) == (asks_same and customers[0] == customers[1])
    assert bare_key(dict(reversed(first.items())), customers[0]) == keys[0]


def canonical(body: dict[str, Any]) -> str:
    return json.dumps({k: v for k, v in body.items() if v is not None and k != "metadata"}, sort_keys=True)


def bare_key(body: dict[str, Any], customer_id: int) -> bytes:
    """Return the key of any body of one model, without a database."""
    model = SimpleNamespace(name="alpha", deployments=(), cache_is_shared=False)
    exchange: Any = SimpleNamespace(
        call=SimpleNamespace(body=body, wish=NO_WISH, is_stream=False, contract=None, attempts=1),
        plan=SimpleNamespace(model=model, output_tokens_per_choice=5, catalogue_generation=1),
        principal=SimpleNamespace(customer_id=customer_id, environment="live"),
        prompt_mark=None,
        is_run=False,
        has_own_events=False,
    )
    return KeyMaker().key_of(exchange, replace(EMPTY_CATALOGUE, generation=1))
