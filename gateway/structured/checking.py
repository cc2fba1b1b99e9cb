"""Is a whole answer what was asked for? Pure: text and schema in, verdict out."""

import re
from typing import NamedTuple

import orjson

from gateway.structured.outputs import ChoiceText, OutputText
from gateway.structured.schemas import OutputSchema
from prompts.json_values import JsonValue

# What models put around JSON when they were told to put nothing around it.
_FENCE = re.compile(r"\s*```(?:json)?[ \t]*\n(?P<inside>.*)\n[ \t]*```\s*\Z", re.DOTALL)
_OPENING = re.compile(r"\s*```(?:json)?[ \t]*\n")
_MOST_CHARACTERS = 4_000_000


class Verdict(NamedTuple):
    """What came of an answer. Without problems, refusal and truncation it is valid."""

    problems: list[str]
    # None: not refused; else the model's own words, which may be none.
    refusal: str | None = None
    is_truncated: bool = False
    # Of the first choice, parsed.
    value: JsonValue = None
    # Some text is JSON only without the fence around it.
    is_fenced: bool = False

    @property
    def is_valid(self) -> bool:
        return not self.problems and self.refusal is None and not self.is_truncated

    @property
    def outcome(self) -> str:
        """Return the word for it in the record of attempts."""
        if self.refusal is not None:
            return "refused"
        if self.is_truncated:
            return "truncated"
        return "invalid" if self.problems else "valid"


def check_answer(output: OutputText, schema: OutputSchema, *, may_unwrap: bool) -> Verdict:
    """Return the verdict on all choices of an answer; the first that is not valid decides.

    A choice that calls tools is not an answer yet, and passes. `may_unwrap`: text in a code fence counts as the JSON
    inside it (the caller then sends it without).
    """
    if not output.choices:
        return Verdict(["it is empty"])
    verdicts = [_check_choice(output.choices[i], schema, may_unwrap=may_unwrap) for i in sorted(output.choices)]
    worst = next((verdict for verdict in verdicts if not verdict.is_valid), verdicts[0])
    return worst._replace(is_fenced=any(verdict.is_fenced for verdict in verdicts))


def check_text(choice: ChoiceText) -> Verdict:
    """Return the verdict on an answer that may be any text, also one that was cut at its limit: that is told."""
    if choice.refusal or (choice.finish_reason == "content_filter" and not choice.text):
        return Verdict([], refusal=choice.refusal)
    return Verdict([], value=choice.text)


def unwrap(text: str) -> str:
    """Return the inside of a text that is one code fence, any other text as it is."""
    found = _FENCE.match(text)
    return found["inside"] if found else text


def unwrap_beginning(text: str) -> str:
    """Return a text that is still being written without the code fence that it may begin with."""
    found = _OPENING.match(text)
    return text[found.end() :] if found else text


def _check_choice(choice: ChoiceText, schema: OutputSchema, *, may_unwrap: bool) -> Verdict:
    if choice.refusal or choice.finish_reason == "content_filter":
        return Verdict([], refusal=choice.refusal)
    if choice.finish_reason == "length":
        return Verdict([], is_truncated=True)
    if choice.calls_tools and not choice.text:
        return Verdict([])
    text = choice.text
    inside = unwrap(text) if may_unwrap else text
    if len(inside) > _MOST_CHARACTERS:
        return Verdict([f"it has {len(inside)} characters"])
    try:
        value: JsonValue = orjson.loads(inside)
    except orjson.JSONDecodeError as error:
        return Verdict([f"it is not JSON: {error}" if text.strip() else "it is empty"])
    return Verdict(schema.find_problems(value, inside.encode()), value=value, is_fenced=len(inside) != len(text))
