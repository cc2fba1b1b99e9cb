"""What a chat completion may ask for that Anthropic's Messages cannot be asked.

Every parameter of OpenAI's is in exactly one of the three sets below (a test compares them with the openai package), so
that a new one cannot slip through unnoticed.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from gateway.upstreams.anthropic.sources import DATA_URL, IMAGE_TYPES, read_data_url
from gateway.upstreams.dialect import Obstacle

# Said in other words, see `requests`. `n` and `logprobs` are capabilities: by then they ask for nothing; functions are
# tools by then.
TRANSLATED = frozenset(
    {
        "function_call",
        "functions",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "n",
        "parallel_tool_calls",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "service_tier",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
    }
)
# Hints to OpenAI's own storage and caches; the answer is the same without them.
LEFT_OUT = frozenset({"metadata", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "store"})
# No equivalent. Each with the values that ask for nothing.
_REFUSED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "presence_penalty": (0,),
    "seed": (),
    "verbosity": ("medium",),
    "web_search_options": (),
}
REFUSED = frozenset(_REFUSED)
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def find_obstacle(body: Mapping[str, Any]) -> Obstacle | None:
    """Return the first thing in a chat body that cannot be said to Anthropic."""
    for name, neutral in _REFUSED.items():
        value = body.get(name)
        if value is not None and value not in neutral:
            return Obstacle(name, f"does not know '{name}'. Remove it")
    return next((found for look in _LOOKS for found in look(body)), None)


def _in_options(body: Mapping[str, Any]) -> Iterator[Obstacle]:
    temperature = body.get("temperature")
    if temperature is not None and temperature > 1:
        yield Obstacle("temperature", "takes a temperature up to 1. Lower it")
    response_format = body.get("response_format")
    if response_format and response_format["type"] == "json_object":
        yield Obstacle(
            "response_format",
            "has no JSON mode without a schema. Send a response_format of type json_schema",
        )
    effort = body.get("reasoning_effort")
    if effort is not None and effort not in _EFFORTS:
        yield Obstacle("reasoning_effort", f"knows the efforts {', '.join(_EFFORTS)}. Choose one of them")


def _in_tools(body: Mapping[str, Any]) -> Iterator[Obstacle]:
    for index, tool in enumerate(body.get("tools") or ()):
        if tool["type"] != "function":
            yield Obstacle(f"tools[{index}].type", "calls function tools only. Describe the tool as a function")
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice["type"] != "function":
        yield Obstacle("tool_choice", "takes none, auto, required or one function as 'tool_choice'. Use one of these")


def _in_messages(body: Mapping[str, Any]) -> Iterator[Obstacle]:
    for index, message in enumerate(body["messages"]):
        place = f"messages[{index}]"
        content = message.get("content")
        if isinstance(content, list):
            for number, part in enumerate(content):
                yield from _in_part(part, f"{place}.content[{number}]")
        for number, call in enumerate(message.get("tool_calls") or ()):
            if call["type"] != "function":
                yield Obstacle(f"{place}.tool_calls[{number}]", "knows function calls only. Leave the others out")
            else:
                yield from _in_arguments(call["function"], f"{place}.tool_calls[{number}].function.arguments")
        if message.get("audio"):
            yield Obstacle(f"{place}.audio", "cannot refer to an earlier audio answer. Send its transcript as text")


def _in_part(part: Mapping[str, Any], place: str) -> Iterator[Obstacle]:
    match part["type"]:
        case "input_audio":
            yield Obstacle(place, "does not hear audio. Send a transcript as text")
        case "image_url":
            yield from _in_image(part["image_url"]["url"], f"{place}.image_url.url")
        case "file":
            data = part["file"].get("file_data")
            if not data or (found := read_data_url(data)) is None or found.media_type != "application/pdf":
                yield Obstacle(
                    place, "reads PDF documents only. Send 'file_data' as data:application/pdf;base64,..., or the text"
                )


def _in_image(url: str, place: str) -> Iterator[Obstacle]:
    if not url.startswith(DATA_URL):
        if not url.startswith(("https://", "http://")):
            yield Obstacle(place, "takes images as an https:// address or as a data: URL. Use one of these")
        return
    found = read_data_url(url)
    if found is None or found.media_type not in IMAGE_TYPES:
        yield Obstacle(place, f"takes images in base64 as {', '.join(IMAGE_TYPES)}. Convert it")


def _in_arguments(function: Mapping[str, Any], place: str) -> Iterator[Obstacle]:
    """Arguments are objects for Anthropic, where OpenAI takes any text."""
    try:
        is_object = isinstance(orjson.loads(function["arguments"] or "{}"), dict)
    except orjson.JSONDecodeError:
        is_object = False
    if not is_object:
        yield Obstacle(place, "takes arguments that are a JSON object. Correct them, or leave the call out")


_LOOKS: tuple[Callable[[Mapping[str, Any]], Iterator[Obstacle]], ...] = (_in_options, _in_tools, _in_messages)
