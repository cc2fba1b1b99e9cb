"""What cannot be said to Anthropic is refused by name, and no parameter is forgotten."""

from typing import Any

import pytest

from gateway.chat.parameters import OWN_PARAMETERS, check_parameters, known_parameters
from gateway.upstreams.anthropic.obstacles import LEFT_OUT, REFUSED, TRANSLATED, find_obstacle

SAID = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def with_parts(*parts: dict[str, Any]) -> dict[str, Any]:
    return {**SAID, "messages": [{"role": "user", "content": list(parts)}]}


def with_call(arguments: str) -> dict[str, Any]:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return {**SAID, "messages": [*SAID["messages"], {"role": "assistant", "tool_calls": [call]}]}


def test_every_parameter_is_translated_left_out_or_refused() -> None:
    # Our own of a prompt's call never reaches an upstream.
    assert known_parameters() - {"prompt", "inputs"} - OWN_PARAMETERS == TRANSLATED | LEFT_OUT | REFUSED
    assert len(TRANSLATED) + len(LEFT_OUT) + len(REFUSED) == len(TRANSLATED | LEFT_OUT | REFUSED)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({**SAID, "seed": 7}, "seed"),
        ({**SAID, "frequency_penalty": 0.5}, "frequency_penalty"),
        ({**SAID, "logit_bias": {"50256": -100}}, "logit_bias"),
        ({**SAID, "modalities": ["text", "audio"]}, "modalities"),
        ({**SAID, "temperature": 1.5}, "temperature"),
        ({**SAID, "response_format": {"type": "json_object"}}, "response_format"),
        ({**SAID, "tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        (
            {**SAID, "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}},
            "tool_choice",
        ),
        (with_parts({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}), "messages[0].content[0]"),
        (with_parts({"type": "file", "file": {"file_id": "file-1"}}), "messages[0].content[0]"),
        (
            with_parts({"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AA=="}}),
            "messages[0].content[0].image_url.url",
        ),
        (
            with_parts({"type": "image_url", "image_url": {"url": "ftp://example.com/a.png"}}),
            "messages[0].content[0].image_url.url",
        ),
        (with_call("[1]"), "messages[1].tool_calls[0].function.arguments"),
        (with_call("{"), "messages[1].tool_calls[0].function.arguments"),
    ],
)
def test_an_obstacle_names_its_place_and_the_way_out(body: dict[str, Any], param: str) -> None:
    check_parameters(body)
    obstacle = find_obstacle(body)
    assert obstacle is not None
    assert obstacle.param == param
    assert ". " in obstacle.sentence


@pytest.mark.parametrize(
    "neutral",
    [
        {"seed": None},
        {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "modalities": ["text"]},
        {"verbosity": "medium", "store": True, "metadata": {"a": "b"}, "prompt_cache_key": "k"},
        {"response_format": {"type": "text"}},
    ],
)
def test_neutral_values_and_hints_are_no_obstacle(neutral: dict[str, Any]) -> None:
    check_parameters({**SAID, **neutral})
    assert find_obstacle({**SAID, **neutral}) is None
