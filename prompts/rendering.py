"""From a resolved version and a caller's inputs to the messages that a model is sent. Pure; no I/O, no waiting."""

from dataclasses import dataclass

import orjson

from prompts.engine import RenderedMessage
from prompts.errors import PromptInputInvalid, PromptTooLarge
from prompts.json_values import JsonObject
from prompts.parameters import MODEL, apply_overrides
from prompts.schemas import Validator
from prompts.validation import CompiledContent

MAX_INPUT_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedPrompt:
    """What to call with; `output_validator` is None when the output is text."""

    messages: tuple[RenderedMessage, ...]
    model: str
    parameters: JsonObject
    output_schema: JsonObject | None
    output_validator: Validator | None

    def message_dicts(self) -> list[dict[str, str]]:
        """Return the messages in the shape of a chat completion's body."""
        return [{"role": m.role, "content": m.content} for m in self.messages]


_NO_OVERRIDES: JsonObject = {}


def render_prompt(
    compiled: CompiledContent,
    inputs: JsonObject,
    *,
    shown: JsonObject | None = None,
    overrides: JsonObject = _NO_OVERRIDES,
) -> RenderedPrompt:
    """Return the call that a version makes of `inputs`; `overrides` are the parameters that the caller sets.

    `shown` is filled in in their place once they have been checked: a placeholder fits no schema that asks for an
    e-mail address.

    Raises PromptInputInvalid with the places of what is wrong, PromptTooLarge, PromptRenderFailed,
    PromptParameterRefused, PromptInvalid for a wrong value of a parameter.
    """
    input_bytes = check_inputs(compiled, inputs)
    content = compiled.content
    parameters, model = content.parameters, content.model
    if overrides:
        parameters = apply_overrides(content.parameters, overrides, allowed=content.allowed_overrides)
        model = str(overrides.get(MODEL, model))
    return RenderedPrompt(
        messages=compiled.messages.render(inputs if shown is None else shown, input_bytes=input_bytes),
        model=model,
        parameters=parameters,
        output_schema=content.output_schema,
        output_validator=compiled.output_validator,
    )


def check_inputs(compiled: CompiledContent, inputs: JsonObject) -> int:
    """Return the bytes of `inputs` that satisfy the version's schema. Raises PromptInputInvalid or PromptTooLarge."""
    try:
        text = orjson.dumps(inputs)
    except (TypeError, ValueError):
        raise PromptInputInvalid("The inputs are nested too deeply, or are no JSON.") from None
    if len(text) > MAX_INPUT_BYTES:
        raise PromptTooLarge(what="The inputs", limit=MAX_INPUT_BYTES)
    problems = compiled.input_validator.find_problems(inputs, text)
    if not problems:
        return len(text)
    place, _, rest = problems[0].partition(": ")
    is_placed = bool(rest) and '"' not in place and "{" not in place
    raise PromptInputInvalid(
        f"The inputs do not fit this prompt: {'; '.join(problems)}.",
        param=f"inputs.{place}" if is_placed else "inputs",
        problems=problems,
    )
