"""A key is answered in the date that its first call pinned it to: JSON, event stream and WebSocket alike."""

from typing import Any

import pytest

from gateway.versions import NEWEST, VERSIONS
from keys.flagging import end_feature_rule, set_feature
from keys.models import ApiKey
from keys.pinning import move_key_version
from tests import prompting
from tests.flows.platform import Caller, Platform
from tests.flows.sockets import open_socket
from tests.flows.test_prompt_runs import read_events, run
from tests.flows.wire import ask

OLDEST = VERSIONS[0].name
OLDER = {"api-version": OLDEST}
SUNSET = "Mon, 01 Mar 2027 00:00:00 GMT"


@pytest.fixture
def caller(platform: Platform) -> Caller:
    return platform.make_caller()


@pytest.fixture
def prompt(platform: Platform, caller: Caller) -> str:
    name = f"dated-{caller.key_id}"
    platform.run(prompting.make_released, name, prompting.text_content(model=caller.model))
    return name


def pin_of(platform: Platform, caller: Caller) -> str:
    return platform.run(lambda: ApiKey.objects.get(pk=caller.key_id).api_version)


def is_older(body: dict[str, Any]) -> bool:
    """Return whether a run has the names of the oldest date; it has either those or the newest ones."""
    older, newest = {"cost", "timing"}, {"cost_usd", "balance_usd", "timing_ms"}
    assert body.keys() & (older | newest) in (older, newest)
    return "cost" in body


async def test_a_header_names_the_date_of_one_call(platform: Platform, caller: Caller, prompt: str) -> None:
    newest, older = await run(platform, caller, prompt), await run(platform, caller, prompt, headers=OLDER)
    assert (is_older(newest.body), is_older(older.body)) == (False, True)
    assert older.body["cost"] == {"usd": older.headers["x-cost-usd"], "balance_usd": older.headers["x-balance-usd"]}
    assert (newest.headers["api-version"], older.headers["api-version"]) == (NEWEST, OLDEST)
    assert older.headers["deprecation"].startswith("@")
    assert older.headers["sunset"] == SUNSET
    assert newest.headers.keys().isdisjoint({"deprecation", "sunset", "link"})


async def test_the_first_call_pins_the_key_and_admin_moves_it_at_once(
    platform: Platform, caller: Caller, prompt: str
) -> None:
    assert pin_of(platform, caller) == ""
    assert not is_older((await run(platform, caller, prompt)).body)
    assert pin_of(platform, caller) == NEWEST
    platform.run(move_key_version, key_id=caller.key_id, api_version=OLDEST, reason="for a test")
    for _ in range(2):
        assert is_older((await run(platform, caller, prompt)).body)
    assert not is_older((await run(platform, caller, prompt, headers={"api-version": NEWEST})).body)
    assert pin_of(platform, caller) == OLDEST


async def test_a_stream_is_answered_in_its_date(platform: Platform, caller: Caller, prompt: str) -> None:
    for headers, expected in (({}, False), (OLDER, True)):
        answer = await run(platform, caller, prompt, headers=headers, stream=True)
        name, done = read_events(answer)[-1]
        assert (name, is_older(done)) == ("done", expected)
        assert ("sunset" in answer.headers) is expected


@pytest.mark.parametrize("place", ["handshake", "first message"])
async def test_a_socket_is_answered_in_the_date_that_it_named(
    platform: Platform, caller: Caller, prompt: str, place: str
) -> None:
    message = {"type": "run", "id": "a", "prompt": prompt, "body": {"inputs": {"name": "Ada"}}}
    if place == "handshake":
        opened = open_socket(platform.server, caller, expect_ready=False, extra_headers=OLDER)
    else:
        opened = open_socket(platform.server)
    async with opened as socket:
        if place == "first message":
            await socket.send({"type": "auth", "api_key": caller.token, "api_version": OLDEST})
        assert await socket.receive() == {"type": "ready"}
        await socket.send(message)
        start, *_, done = await socket.finish()
    assert start["api_version"] == {"version": OLDEST, "deprecated_on": "2026-11-21", "sunset_on": "2027-03-01"}
    assert is_older(done["run"])
    async with open_socket(platform.server, caller) as socket:
        await socket.send(message)
        start, *_, done = await socket.finish()
    assert ("api_version" in start, is_older(done["run"])) == (False, False)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unknown_date_is_refused_before_anything_is_done(
    platform: Platform, caller: Caller, stream: bool
) -> None:
    answer = await ask(platform.server, caller, headers={"api-version": "2001-01-01"}, stream=stream)
    assert (answer.status, answer.error["code"]) == (400, "unknown_api_version")
    assert answer.error["details"]["known"] == [version.name for version in VERSIONS]
    assert platform.requests_for(caller.model) == []
    assert platform.read_holds(caller) == []


async def test_a_flag_gives_an_older_key_the_new_names_until_it_ends(
    platform: Platform, caller: Caller, prompt: str
) -> None:
    platform.run(move_key_version, key_id=caller.key_id, api_version=OLDEST, reason="for a test")
    key = platform.run(lambda: ApiKey.objects.get(pk=caller.key_id))
    rule = platform.run(set_feature, feature="uniform_names", is_on=True, owner=key, reason="for a test")
    answer = await run(platform, caller, prompt)
    assert (is_older(answer.body), answer.headers["api-version"]) == (False, OLDEST)
    platform.run(end_feature_rule, rule_id=rule.pk, reason="for a test")
    assert is_older((await run(platform, caller, prompt)).body)


async def test_what_no_date_has_changed_is_the_same_in_all(platform: Platform, caller: Caller) -> None:
    newest, older = await ask(platform.server, caller), await ask(platform.server, caller, headers=OLDER)
    assert newest.body.keys() == older.body.keys()
    assert newest.body["tollkeeper"].keys() == older.body["tollkeeper"].keys()
    assert older.headers["sunset"] == SUNSET
