"""The demonstration prompt, answered by the embedded model for real."""

import asyncio
import json
from collections.abc import Callable

import aiohttp
import pytest

from gateway.demo_prompt import EXAMPLE_MAIL, PROMPT_NAME
from gateway.local_model import MODEL_NAME, find_weights
from tests.flows.database import manage
from tests.flows.platform import Caller, Platform
from tests.flows.test_prompt_runs import read_events
from tests.flows.wire import Answer

# A busy machine answers a few tokens a second.
PATIENCE = aiohttp.ClientTimeout(total=280)
pytestmark = pytest.mark.skipif(find_weights() is None, reason="the embedded model is not installed")


@pytest.fixture
def demo(own_platform: Callable[..., Platform]) -> tuple[Platform, Caller]:
    """Return a server with the embedded model and the demonstration data, and the demonstration's key."""
    platform = own_platform(LOCAL_MODEL="on", LOCAL_MODEL_THREADS="1", LOCAL_MODEL_SLOTS="1")
    done = manage(platform.database.url, "demo_data", "--json", DATA_DIR=platform.directory)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["prompt_name"] == PROMPT_NAME
    caller = Caller(
        customer_id=platform.find_customer(made["customer_id"]), key_id=0, token=made["api_key"], model=MODEL_NAME
    )
    return platform, caller


async def test_the_demonstration_prompt_answers_whole_and_as_it_grows(demo: tuple[Platform, Caller]) -> None:
    platform, caller = demo
    url = f"{platform.server.base_url}/prompts/{PROMPT_NAME}/runs"
    async with aiohttp.ClientSession(headers=caller.headers, timeout=PATIENCE) as client:
        await wait_for_model(client, url)
        async with client.post(url, json={"inputs": {"mail": EXAMPLE_MAIL}}) as response:
            run = await response.json()
            assert response.status == 200, run
        async with client.post(url, json={"inputs": {"mail": EXAMPLE_MAIL}, "stream": True}) as response:
            streamed = Answer(status=response.status, headers=response.headers, raw=await response.read())
    check_output(run["output"])
    assert (run["model"], run["attempts"][-1]["outcome"]) == (MODEL_NAME, "valid")
    events = read_events(streamed)
    assert (events[0][0], events[1][0], events[-1][0]) == ("start", "partial", "done")
    check_output(events[-1][1]["output"])
    await asyncio.to_thread(platform.reconcile)


async def wait_for_model(client: aiohttp.ClientSession, url: str) -> None:
    """Wait until the model, which loads beside the server, is there to be asked."""
    async with asyncio.timeout(60):
        while True:
            async with client.post(url, json={"inputs": {"mail": "Hello."}}) as response:
                if response.status != 503:
                    return
            await asyncio.sleep(0.2)


def check_output(output: dict[str, object]) -> None:
    assert output.keys() == {"topic", "is_urgent", "summary"}
    assert output["topic"] in ("order", "delivery", "billing", "other")
    assert isinstance(output["is_urgent"], bool)
    assert isinstance(output["summary"], str)


def test_the_command_runs_the_demonstrations_test_case(demo: tuple[Platform, Caller]) -> None:
    platform, _ = demo
    variables = {"LOCAL_MODEL": "on", "LOCAL_MODEL_THREADS": "1", "DATA_DIR": platform.directory}
    done = manage(platform.database.url, "prompts", "test", PROMPT_NAME, "--json", **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["passed"] is True
