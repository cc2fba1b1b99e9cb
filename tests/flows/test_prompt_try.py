"""A draft run in place over HTTP, as the editor does it: streamed, corrected, stopped, recorded, charged to nobody."""

import itertools
import json
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from django.contrib.auth.models import User
from django.test import Client

from billing.models import UsageRecord
from tests import prompting
from tests.flows.platform import Caller, Platform, wait_for
from tests.flows.test_prompt_runs import CITY, GOOD, WRONG
from tests.upstream import Behaviour

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Editor:
    """A logged-in author with the editor of one prompt open."""

    url: str
    model: str
    cookies: str
    token: str

    def form(self, **fields: Any) -> dict[str, str]:
        given = {"role": "user", "template": "Say hello to {{ name }}.", "model": self.model, "revision": "1", **fields}
        return {"csrfmiddlewaretoken": self.token, **given}


@pytest.fixture
def caller(platform: Platform) -> Caller:
    return platform.make_caller()


@pytest.fixture
def editor(platform: Platform, caller: Caller) -> Editor:
    number = next(_numbers)

    def open_editor() -> Editor:
        client = Client()
        client.force_login(User.objects.create_superuser(f"author-{number}"))
        prompt = prompting.make_prompt(f"tried-{number}")
        root = f"/admin/prompts/prompt/{prompt.pk}"
        assert client.get(f"{root}/editor/").status_code == 200
        cookies = {name: morsel.value for name, morsel in client.cookies.items()}
        return Editor(
            url=f"{platform.server.root_url}{root}/try/",
            model=caller.model,
            cookies="; ".join(f"{name}={value}" for name, value in cookies.items()),
            token=cookies["csrftoken"],
        )

    return platform.run(open_editor)


async def try_draft(editor: Editor, **fields: Any) -> tuple[int, list[tuple[str, Any]]]:
    """Return the status, and the events by name (of an answer without a stream: one without a name)."""
    async with (
        aiohttp.ClientSession(headers={"cookie": editor.cookies}) as session,
        session.post(editor.url, data=editor.form(**fields)) as answer,
    ):
        text = await answer.text()
        if answer.content_type != "text/event-stream":
            return answer.status, [("", json.loads(text) if answer.content_type == "application/json" else text)]
        frames = [frame.split("\n") for frame in text.strip().split("\n\n")]
        return answer.status, [(kind.removeprefix("event: "), json.loads(data[6:])) for kind, data in frames]


async def test_text_is_streamed_billed_to_nobody_and_recorded(
    platform: Platform, caller: Caller, editor: Editor
) -> None:
    # Pieces that come at once go out as one.
    platform.upstream.queue(Behaviour(event_delay_seconds=0.1), target=caller.model)
    status, events = await try_draft(editor, inputs='{"name": "Ada"}')
    kinds = [kind for kind, _ in events]
    assert (status, kinds[0], kinds[-1]) == (200, "start", "done")
    assert kinds.count("delta") > 1
    assert "".join(told["text"] for kind, told in events if kind == "delta") == "amber birch cedar delta "
    bill = events[-1][1]
    assert (bill["model"], bill["output_tokens"], bill["cost_usd"] > "0") == (caller.model, 4, True)
    (sent,) = platform.requests_for(caller.model)
    assert sent.body is not None
    assert sent.body["messages"] == [{"role": "user", "content": "Say hello to Ada."}]
    record = platform.run(lambda: UsageRecord.objects.get(model=caller.model))
    assert (record.operation, record.charged_nanousd, record.flags) == ("prompts.tests", 0, "prompt_test")
    platform.reconcile()


async def test_a_value_grows_is_corrected_and_comes_whole(platform: Platform, caller: Caller, editor: Editor) -> None:
    platform.upstream.queue(Behaviour(text=WRONG), Behaviour(text=GOOD), target=caller.model)
    _, events = await try_draft(editor, output_schema=json.dumps(CITY))
    # What waited to be sent of the first attempt is dropped when the second begins.
    assert 2 in {told["attempt"] for kind, told in events if kind == "partial"}
    kind, done = events[-1]
    assert (kind, done["value"]) == ("done", json.loads(GOOD))
    assert [attempt["outcome"] for attempt in done["attempts"]] == ["invalid", "valid"]


async def test_a_wrong_answer_is_told_with_what_is_wrong(platform: Platform, caller: Caller, editor: Editor) -> None:
    platform.upstream.queue(Behaviour(text=WRONG), Behaviour(text=WRONG), target=caller.model)
    _, events = await try_draft(editor, output_schema=json.dumps(CITY))
    kind, told = events[-1]
    assert (kind, told["code"]) == ("error", "output_invalid")
    assert told["attempts"][0]["problems"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"template": "{% if %}"}, "messages"),
        ({"inputs": "{}"}, "inputs"),
        ({"inputs": "no JSON"}, "inputs"),
        ({"model": ""}, "model"),
    ],
)
async def test_what_cannot_be_run_is_told_before_any_call(
    platform: Platform, caller: Caller, editor: Editor, fields: dict[str, str], field: str
) -> None:
    status, ((_, told),) = await try_draft(editor, **fields)
    assert (status, told["field"]) == (400, field)
    assert platform.requests_for(caller.model) == []


async def test_an_unknown_model_is_told_by_the_call(editor: Editor) -> None:
    _, ((kind, told),) = await try_draft(editor, try_model="unheard-of")
    assert (kind, told["code"]) == ("error", "model_not_found")


async def test_a_form_without_its_token_is_refused(platform: Platform, caller: Caller, editor: Editor) -> None:
    status, _ = await try_draft(editor, csrfmiddlewaretoken="")
    assert status == 403
    assert platform.requests_for(caller.model) == []


async def test_leaving_stops_the_call_and_keeps_its_record(platform: Platform, caller: Caller, editor: Editor) -> None:
    platform.upstream.queue(Behaviour(endless=True, event_delay_seconds=0.02), target=caller.model)
    async with aiohttp.ClientSession(headers={"cookie": editor.cookies}) as session:
        answer = await session.post(editor.url, data=editor.form())
        await answer.content.readany()
        answer.close()
    record = wait_for(
        lambda: platform.run(lambda: UsageRecord.objects.filter(model=caller.model).first()), what="the record"
    )
    assert record is not None
    assert (record.status, record.charged_nanousd, record.output_tokens > 0) == ("cancelled", 0, True)
