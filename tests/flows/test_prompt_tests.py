"""Test cases of prompts against real calls: from the command line, the API and the admin. Nobody is charged."""

import asyncio
import json
from typing import Any

import pytest

from billing.models import UsageRecord
from gateway.prompt_tests.caller import CUSTOMER_NAME, ensure_caller
from keys.issuing import revoke_key
from keys.models import ApiKey
from prompts.checks import Check, CheckKind
from prompts.models import Prompt, PromptTestResult
from prompts.testing import save_test_case
from tests import prompting
from tests.flows.database import manage
from tests.flows.platform import Caller, Platform
from tests.flows.test_prompt_runs import CITY, GOOD, WRONG
from tests.flows.wire import open_client
from tests.upstream import Behaviour, error

_names = iter(f"tested-prompt-{number}" for number in range(1_000))


@pytest.fixture
def caller(platform: Platform) -> Caller:
    return platform.make_caller()


def make(platform: Platform, caller: Caller, *checks: Check, **content: Any) -> str:
    """Release a prompt with one test case; return its name."""
    name = next(_names)

    def create() -> None:
        prompting.make_released(name, prompting.text_content(model=caller.model, **content))
        save_test_case(
            prompt_id=Prompt.objects.get(name=name).pk,
            name="Ada",
            inputs={"name": "Ada"},
            checks=checks or (Check(kind=CheckKind.CONTAINS, value="amber"),),
            author="ada",
        )

    platform.run(create)
    return name


def run_command(platform: Platform, *arguments: str) -> Any:
    return manage(platform.database.url, "prompts", "test", *arguments)


async def test_the_command_runs_the_cases_stores_results_and_charges_nobody(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller)
    done = await asyncio.to_thread(run_command, platform, name, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert (report["prompt"], report["version"], report["passed"]) == (name, "1.0.0", True)
    (result,) = report["results"]
    assert (result["case"], result["model"], result["output_tokens"]) == ("Ada", caller.model, 4)
    assert result["cost_usd"] == "0.00002"
    stored = platform.run(lambda: PromptTestResult.objects.get(version__prompt__name=name))
    assert (stored.is_passed, stored.author, stored.output) == (True, "command line", "amber birch cedar delta ")
    record = platform.run(lambda: UsageRecord.objects.get(model=caller.model))
    assert (record.operation, record.charged_nanousd, record.cost_nanousd) == ("prompts.tests", 0, 20_000)
    assert (record.flags, record.prompt) == ("prompt_test", "")
    assert platform.run(lambda: ApiKey.objects.get(pk=record.api_key_id).customer.name) == CUSTOMER_NAME
    platform.reconcile()


async def test_the_command_fails_when_a_case_fails(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller, Check(kind=CheckKind.CONTAINS, value="zebra"))
    done = await asyncio.to_thread(run_command, platform, name)
    assert done.returncode == 1
    assert "FAILED  Ada" in done.stdout
    assert "it does not contain 'zebra'" in done.stdout
    assert "1 of 1 test cases failed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["no-such-prompt"], "There is no prompt"), (["{name}", "--pin", "7"], "There is no prompt '{name}@7'")],
)
async def test_what_does_not_exist_is_told(platform: Platform, caller: Caller, arguments: list[str], said: str) -> None:
    name = make(platform, caller)
    done = await asyncio.to_thread(run_command, platform, *(a.format(name=name) for a in arguments))
    assert done.returncode == 1
    assert said.format(name=name) in done.stderr
    assert "Traceback" not in done.stderr


async def test_the_api_runs_them_in_the_server_and_judges_with_a_schema(platform: Platform, caller: Caller) -> None:
    name = make(
        platform,
        caller,
        Check(kind=CheckKind.SCHEMA),
        Check(kind=CheckKind.JUDGED, value="It is about Bern."),
        output_schema=CITY,
    )
    tester = platform.make_caller(model=caller.model, scopes=("prompts:test",))
    platform.upstream.queue(
        Behaviour(text=WRONG),
        Behaviour(text=GOOD),
        Behaviour(text='{"passed": false, "reason": "It is about Basel."}'),
        target=caller.model,
    )
    status, report = await post_tests(platform, tester, name)
    assert (status, report["passed"]) == (200, False)
    (result,) = report["results"]
    assert result["failures"] == ["judged by the default model: It is about Bern.: It is about Basel."]
    assert result["output_tokens"] == 8
    judging = platform.requests_for(caller.model)[-1].body
    assert judging is not None
    assert "It is about Bern." in judging["messages"][0]["content"]
    assert judging["messages"][1]["content"] == f"<answer>\n{GOOD}\n</answer>"
    assert platform.read_usage(tester) == []


async def test_an_upstreams_fault_is_a_failed_case(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller)
    tester = platform.make_caller(model=caller.model, scopes=("prompts:test",))
    platform.upstream.queue(error(500), target=caller.model)
    status, report = await post_tests(platform, tester, name)
    assert (status, report["passed"]) == (200, False)
    assert "provider failed" in report["results"][0]["failures"][0]


async def test_running_prompts_is_no_right_to_test_them(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller)
    assert (await post_tests(platform, caller, name))[0] == 403
    stranger = platform.make_caller(model=caller.model, scopes=("prompts:test",), allowed_prompts=("other",))
    status, refused = await post_tests(platform, stranger, name)
    assert (status, refused["error"]["code"]) == (404, "prompt_not_found")


async def test_a_revoked_key_of_the_tests_is_told(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller)
    tester = platform.make_caller(model=caller.model, scopes=("prompts:test",))
    platform.run(ensure_caller)

    def keys() -> Any:
        return ApiKey.objects.filter(customer__name=CUSTOMER_NAME)

    platform.run(lambda: revoke_key(key_id=keys().get().pk, reason="a test"))
    try:
        status, refused = await post_tests(platform, tester, name)
        assert (status, refused["error"]["code"]) == (409, "prompt_tests_disabled")
    finally:
        platform.run(lambda: keys().update(revoked_at=None))


async def post_tests(platform: Platform, caller: Caller, name: str, **body: Any) -> tuple[int, Any]:
    url = f"{platform.server.base_url}/prompts/{name}/tests"
    async with open_client() as client, client.post(url, json=body, headers=caller.headers) as response:
        return response.status, await response.json()
