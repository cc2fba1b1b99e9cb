"""One canonical body out of several habits, and what contradicts itself refused before anybody pays for it.

Habits that mean the same to every provider become one: nothing said and null, a neutral value spelled out, one stop
text and a list of one, a text and a list of one text part, developer and system, `max_tokens` and
`max_completion_tokens`, functions and tools (how the answer is said stands in `ChatCall.wants_function_call`). Fits and
limits of the model are checked elsewhere, since they depend on where the call goes. Nothing is changed in place.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gateway.chat.functions import has_functions, use_tool_messages, use_tools
from gateway.errors import ParametersContradict

Body = dict[str, Any]

# Values that ask for nothing: those that OpenAI documents as defaults and no provider understands in another way
# (https://platform.openai.com/docs/api-reference/chat/create, 2026-11). Not temperature: models have their own.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "function_call": ("auto",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "stop": ([],),
    "stream": (False,),
    "stream_options": ({},),
    "tool_choice": ("auto",),
    "tools": ([],),
}
_NEEDED = {
    "function_call": "functions",
    "parallel_tool_calls": "tools",
    "tool_choice": "tools",
    "top_logprobs": "logprobs",
}
# Without what they need these ask for nothing.
_NEUTRAL_ALONE: dict[str, tuple[Any, ...]] = {
    "function_call": ("none",),
    "parallel_tool_calls": (True,),
    "tool_choice": ("none",),
    "top_logprobs": (0,),
}
# Most calls have none of these, and nothing to contradict.
_RELATED = frozenset({*_NEEDED, "audio", "functions", "modalities"})
_OUTPUT_LIMITS = frozenset({"max_completion_tokens", "max_tokens"})


def normalize(body: Body) -> Body:
    """Return the canonical form of a checked body. Raises ParametersContradict."""
    canonical = {
        name: value
        for name, value in body.items()
        if value is not None and (name not in _NEUTRAL or value not in _NEUTRAL[name])
    }
    if not _RELATED.isdisjoint(canonical) or canonical.keys() >= _OUTPUT_LIMITS:
        _settle_relations(canonical)
    if "max_tokens" in canonical:
        canonical["max_completion_tokens"] = canonical.pop("max_tokens")
    if isinstance(canonical.get("stop"), str):
        canonical["stop"] = [canonical["stop"]]
    messages = [_normalize_message(message) for message in body["messages"]]
    if has_functions(messages):
        for names, sentence in _two_forms_of_one_call(messages):
            raise ParametersContradict(names=names, sentence=sentence)
        messages = use_tool_messages(messages)
    canonical["messages"] = messages
    return canonical


def _settle_relations(body: Body) -> None:
    """Take out what asks for nothing without something else, and refuse what contradicts something else."""
    for name, neutral in _NEUTRAL_ALONE.items():
        if name in body and body[name] in neutral and _NEEDED[name] not in body:
            del body[name]
    for check in _CHECKS:
        for names, sentence in check(body):
            raise ParametersContradict(names=names, sentence=sentence)
    if "functions" in body:
        use_tools(body)


def _normalize_message(message: Body) -> Body:
    content, text = message.get("content"), None
    if type(content) is list and len(content) == 1 and content[0].keys() == {"type", "text"}:
        text = content[0]["text"]
    if text is None and message["role"] != "developer":
        return message
    changed = dict(message)
    if text is not None:
        changed["content"] = text
    if message["role"] == "developer":
        # OpenAI reads both as the one that its model knows; others know only this.
        changed["role"] = "system"
    return changed


# ---- contradictions: the parameters, and what to do about it

_Problem = tuple[tuple[str, ...], str]


def _without_what_they_need(body: Mapping[str, Any]) -> Iterator[_Problem]:
    for name, needed in _NEEDED.items():
        if name in body and needed not in body:
            how = "Set 'logprobs' to true" if needed == "logprobs" else f"Send '{needed}' with it"
            yield (name, needed), f"'{name}' needs '{needed}'. {how}, or leave '{name}' out."


def _two_forms_of_one(body: Mapping[str, Any]) -> Iterator[_Problem]:
    both = ("max_completion_tokens", "max_tokens")
    if all(name in body for name in both) and body[both[0]] != body[both[1]]:
        yield both, "'max_completion_tokens' and 'max_tokens' differ. Send one of them."
    if "functions" in body and "tools" in body:
        yield (
            ("functions", "tools"),
            "'functions' is the older form of 'tools', and a call can have one of them. Send all of them as 'tools'.",
        )


def _two_forms_of_one_call(messages: list[Body]) -> Iterator[_Problem]:
    for index, message in enumerate(messages):
        if message.get("function_call") and message.get("tool_calls"):
            names = f"messages[{index}].function_call", f"messages[{index}].tool_calls"
            yield names, f"'{names[0]}' is the older form of 'tool_calls', and a message can have one of them."


def _choices_of_nothing(body: Mapping[str, Any]) -> Iterator[_Problem]:
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice["type"] == "function":
        known = {tool["function"]["name"] for tool in body["tools"] if tool["type"] == "function"}
        if choice["function"]["name"] not in known:
            yield ("tool_choice", "tools"), "'tool_choice' names a function that 'tools' has not. Name one of those."
    choice = body.get("function_call")
    if isinstance(choice, dict) and choice["name"] not in {function["name"] for function in body["functions"]}:
        yield (
            ("function_call", "functions"),
            "'function_call' names a function that 'functions' has not. Name one of those.",
        )


def _audio_half_said(body: Mapping[str, Any]) -> Iterator[_Problem]:
    wants_audio = "audio" in body.get("modalities", ())
    if wants_audio and "audio" not in body:
        yield ("modalities", "audio"), "'modalities' asks for audio. Say in 'audio' in which voice and format."
    if not wants_audio and "audio" in body:
        yield ("audio", "modalities"), "'audio' needs 'audio' among the 'modalities'. Add it, or leave 'audio' out."


_CHECKS: tuple[Callable[[Mapping[str, Any]], Iterator[_Problem]], ...] = (
    _two_forms_of_one,
    _without_what_they_need,
    _choices_of_nothing,
    _audio_half_said,
)
