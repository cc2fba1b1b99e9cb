"""A key from its first call to its last, over HTTP: made, narrowed, rotated, expired, revoked."""

import asyncio
from typing import Any

import pytest
from django.db.models import F

from billing.models import Transfer
from gateway.models import Deployment
from keys.issuing import issue_key
from keys.models import ApiKey, KeyEnvironment
from keys.scopes import Scope
from tests.flows.platform import Caller, Platform
from tests.flows.sockets import open_socket
from tests.flows.wire import ask, open_client


async def manage(
    platform: Platform, caller: Caller, path: str, body: dict[str, Any] | None = None
) -> tuple[int, dict[str, Any], Any]:
    """Ask the keys API and return status, body and headers."""
    async with open_client() as client:
        url = f"{platform.server.base_url}/keys{path}"
        method: Any = client.get if body is None else client.post
        options = {} if body is None else {"json": body}
        async with method(url, headers=caller.headers, **options) as response:
            return response.status, await response.json(), response.headers


def with_token(caller: Caller, token: str) -> Caller:
    return Caller(customer_id=caller.customer_id, key_id=caller.key_id, token=token, model=caller.model)


@pytest.fixture
def manager(platform: Platform) -> Caller:
    """Return a key with every scope, also keys:manage."""
    return platform.make_caller(scopes=list(Scope))


async def test_the_life_of_a_key(platform: Platform, manager: Caller) -> None:
    # Made by a key, narrower than it.
    status, made, _ = await manage(
        platform,
        manager,
        "",
        {"name": "worker", "scopes": ["chat:write"], "limits": {"requests_per_minute": "5"}},
    )
    assert (status, made["state"], made["scopes"]) == (201, "active", ["chat:write"])
    worker = with_token(manager, made["secret"])
    first = await ask(platform.server, worker)
    assert first.status == 200
    assert "deprecation" not in first.headers
    # It may not manage, and nobody sees its secret again.
    assert (await manage(platform, worker, ""))[0] == 403
    status, seen, _ = await manage(platform, manager, f"/{made['id']}")
    assert (status, "secret" in seen, seen["last_used_at"] is not None) == (200, False, True)
    # Wider than its maker is refused: a worker that may manage cannot give what it has not.
    status, refused, _ = await manage(platform, manager, "", {"name": "x", "environment": "live", "scopes": ["nope:x"]})
    assert (status, refused["error"]["code"]) == (400, "invalid_request")
    # Rotated with an overlap: both work, the old one says that it ends.
    status, successor, _ = await manage(platform, manager, f"/{made['id']}/rotate", {"overlap": "1h"})
    assert status == 201
    old, new = await ask(platform.server, worker), await ask(platform.server, with_token(manager, successor["secret"]))
    assert (old.status, new.status) == (200, 200)
    assert old.headers["deprecation"].startswith("@")
    assert old.headers["sunset"].endswith("GMT")
    assert "deprecation" not in new.headers
    assert (await manage(platform, manager, f"/{made['id']}"))[1]["state"] == "rotated"
    # Its usage by day.
    status, usage, _ = await manage(platform, manager, f"/{made['id']}/usage")
    assert (status, [day["calls"] for day in usage["data"]]) == (200, [2])
    # The old one dies by itself.
    platform.run(lambda: ApiKey.objects.filter(public_id=made["id"]).update(expires_at=F("created_at")))
    assert (await ask(platform.server, worker)).status == 401
    # The new one is revoked, also within an open WebSocket.
    holder = with_token(manager, successor["secret"])
    async with open_socket(platform.server, holder) as socket:
        status, ended, _ = await manage(platform, manager, f"/{successor['id']}/revoke", {"reason": "leaked"})
        assert (status, [key["state"] for key in ended["data"]]) == (200, ["revoked"])
        await socket.call(holder)
        message = await socket.receive()
        assert message["error"]["code"] == "invalid_api_key"
    assert (await ask(platform.server, holder)).status == 401


async def test_neither_rotating_nor_making_keys_gives_more_than_one_key_has(platform: Platform) -> None:
    manager = platform.make_caller(scopes=list(Scope), limits={"requests_per_minute": 1, "burst_seconds": 180})
    made = [(await manage(platform, manager, "", {"name": f"worker {n}"}))[1]["secret"] for n in range(2)]
    _, listed, _ = await manage(platform, manager, "")
    (own_id,) = (key["id"] for key in listed["data"] if key["maker"] is None)
    status, successor, _ = await manage(platform, manager, f"/{own_id}/rotate", {"overlap": "1h"})
    assert status == 201
    family = [with_token(manager, token) for token in (manager.token, successor["secret"], *made)]
    answers = await asyncio.gather(*(ask(platform.server, caller) for caller in family * 2))
    assert sorted(answer.status for answer in answers) == [200] * 3 + [429] * 5
    # Of a made key the maker's bucket is empty, which waiting or its maker can change.
    details = (await ask(platform.server, family[-1])).error["details"]
    assert (details["owner"], details["set_by"], details["at_once"]) == ("maker", "maker", 3)


async def test_a_manager_cannot_reach_beyond_itself(platform: Platform) -> None:
    narrow = platform.make_caller(scopes=["keys:manage", "chat:write"], allowed_models=["some-model"])
    for body, param in (
        ({"scopes": ["billing:read"]}, "scopes"),
        ({"allowed_models": []}, "allowed_models"),
    ):
        status, answer, _ = await manage(platform, narrow, "", {"name": "wide", **body})
        assert (status, answer["error"]["code"], answer["error"]["param"]) == (403, "key_exceeds_maker", param)
    wide = platform.run(lambda: issue_key(customer_id=narrow.customer_id, name="wide", author="tests").key.public_id)
    for action in ("rotate", "revoke"):
        status, answer, _ = await manage(platform, narrow, f"/{wide}/{action}", {})
        assert (status, answer["error"]["code"]) == (403, "key_exceeds_maker")
    assert (await ask(platform.server, narrow)).status == 404  # its own model is not on its list


async def test_other_customers_keys_do_not_exist(platform: Platform, manager: Caller) -> None:
    other = platform.make_caller()
    public_id = platform.run(lambda: ApiKey.objects.get(pk=other.key_id).public_id)
    for path, body in (("", None), ("/usage", None), ("/rotate", {}), ("/revoke", {})):
        status, answer, _ = await manage(platform, manager, f"/{public_id}{path}", body)
        assert (status, answer["error"]["code"]) == (404, "key_not_found"), path
    listed = (await manage(platform, manager, ""))[1]["data"]
    assert public_id not in [key["id"] for key in listed]


async def test_a_misspelled_restriction_is_refused(platform: Platform, manager: Caller) -> None:
    status, answer, _ = await manage(platform, manager, "", {"name": "x", "allowed_model": ["gpt-4"]})
    assert (status, answer["error"]["code"]) == (400, "unknown_parameter")
    status, answer, _ = await manage(platform, manager, "", {"name": "x", "limits": {"request_per_minute": "5"}})
    assert status == 400


async def test_a_key_is_used_from_its_networks_only(platform: Platform) -> None:
    here = platform.make_caller(allowed_networks=["127.0.0.0/8"])
    assert (await ask(platform.server, here)).status == 200
    elsewhere = platform.make_caller(allowed_networks=["192.0.2.0/24", "2001:db8::/32"])
    answer = await ask(platform.server, elsewhere)
    assert (answer.status, answer.error["code"]) == (403, "address_not_allowed")
    # What a client writes into X-Forwarded-For counts for nothing without a trusted proxy.
    answer = await ask(platform.server, elsewhere, headers={"x-forwarded-for": "192.0.2.7"})
    assert (answer.status, answer.error["code"]) == (403, "address_not_allowed")


async def test_a_test_key_reaches_test_upstreams_and_touches_no_money(platform: Platform) -> None:
    live = platform.make_caller()
    token = platform.run(
        lambda: (
            issue_key(customer_id=live.customer_id, name="test", author="tests", environment=KeyEnvironment.TEST).token
        )
    )
    test = with_token(live, token)
    refused = await ask(platform.server, test)
    assert refused.status == 503
    platform.run(_mark_as_test, live.model)
    balance = platform.read_balance(live)
    answers = await asyncio.gather(*(ask(platform.server, test) for _ in range(5)))
    assert [answer.status for answer in answers] == [200] * 5
    assert answers[0].headers["x-cost-usd"] == "0.00"
    assert platform.read_balance(live) == balance
    records = platform.wait_for_usage(live, n=5)
    assert {(record.charged_nanousd, record.flags) for record in records} == {(0, "test_key")}
    of_calls = Transfer.objects.filter(request_id__isnull=False, debit_account__customer_id=live.customer_id)
    assert platform.run(of_calls.count) == 0
    platform.assert_settled(live)


def _mark_as_test(model: str) -> None:
    for deployment in Deployment.objects.filter(model__name=model).select_related("upstream"):
        deployment.upstream.is_test = True
        deployment.upstream.save()
