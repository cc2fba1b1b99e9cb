"""Structured output through the stock SDK: `chat.completions.parse`, its stream helper, and prompts beside messages."""

from enum import StrEnum

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from tests import prompting
from tests.flows.platform import Caller, Platform
from tests.upstream import Behaviour

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Bern?"}]


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


class City(BaseModel):
    """What is asked for."""

    name: str
    size: Size
    twins: list[str]
    note: str | None


GOOD = '{"name": "Bern", "size": "small", "twins": ["Salzburg"], "note": null}'
WRONG = '{"name": "Bern", "size": "huge", "twins": [], "note": null}'


def test_parse_returns_the_model_even_where_the_first_answer_was_wrong(
    platform: Platform, client: OpenAI, caller: Caller
) -> None:
    platform.upstream.queue(Behaviour(text=WRONG), Behaviour(text=GOOD), target=caller.model)
    completion = client.chat.completions.parse(model=caller.model, messages=MESSAGES, response_format=City)
    parsed = completion.choices[0].message.parsed
    assert parsed == City(name="Bern", size=Size.SMALL, twins=["Salzburg"], note=None)
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 8
    sent = platform.requests_for(caller.model)[0].body
    assert sent is not None
    assert sent["response_format"]["json_schema"]["strict"] is True


def test_a_wrong_answer_is_an_exception_with_the_code_and_is_not_repeated_by_the_sdk(
    platform: Platform, caller: Caller
) -> None:
    platform.upstream.queue(*[Behaviour(text=WRONG)] * 6, target=caller.model)
    with (
        OpenAI(base_url=platform.server.base_url, api_key=caller.token, max_retries=2) as client,
        pytest.raises(openai.UnprocessableEntityError) as caught,
    ):
        client.chat.completions.parse(model=caller.model, messages=MESSAGES, response_format=City)
    assert caught.value.code == "output_invalid"
    assert len(platform.requests_for(caller.model)) == 2


def test_the_stream_helper_parses_a_stream_with_a_schema(platform: Platform, client: OpenAI, caller: Caller) -> None:
    platform.upstream.queue(Behaviour(text=GOOD, events=12), target=caller.model)
    with client.chat.completions.stream(model=caller.model, messages=MESSAGES, response_format=City) as stream:
        for _ in stream:
            pass
        parsed = stream.get_final_completion().choices[0].message.parsed
    assert parsed == City(name="Bern", size=Size.SMALL, twins=["Salzburg"], note=None)


def test_a_stream_that_does_not_fit_raises_at_its_end(platform: Platform, client: OpenAI, caller: Caller) -> None:
    platform.upstream.queue(Behaviour(text=WRONG), target=caller.model)
    stream = client.chat.completions.create(
        model=caller.model,
        messages=MESSAGES,
        stream=True,
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": City.model_json_schema()}},
    )
    with pytest.raises(openai.APIError) as caught:
        for _ in stream:
            pass
    assert caught.value.code == "output_invalid"


def test_a_prompt_is_called_with_extra_body(platform: Platform, client: OpenAI, caller: Caller) -> None:
    platform.run(prompting.make_released, "sdk-prompt", prompting.text_content(model=caller.model))
    completion = client.chat.completions.create(
        model="", messages=MESSAGES, extra_body={"prompt": {"name": "sdk-prompt", "inputs": {"name": "Ada"}}}
    )
    assert completion.choices[0].message.content == "amber birch cedar delta "
    sent = platform.requests_for(caller.model)[0].body
    assert sent is not None
    assert [message["content"] for message in sent["messages"]] == ["Say hello to Ada.", "Bern?"]
