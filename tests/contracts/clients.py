"""Stock openai clients against the platform; `open_client` for those with options of their own."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.flows.platform import Caller, Platform


@pytest.fixture
def caller(platform: Platform) -> Caller:
    return platform.make_caller()


@pytest.fixture
def client(platform: Platform, caller: Caller) -> Iterator[OpenAI]:
    with open_client(platform, caller) as opened:
        yield opened


@pytest.fixture
async def async_client(platform: Platform, caller: Caller) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=platform.server.base_url, api_key=caller.token, max_retries=0) as opened:
        yield opened


def open_client(platform: Platform, caller: Caller, **options: Any) -> OpenAI:
    return OpenAI(base_url=platform.server.base_url, api_key=caller.token, **{"max_retries": 0, **options})
