"""What the editor shows of a draft while it is written: its problems, its inputs, its messages filled in."""

from dataclasses import dataclass

from prompts.authoring import compile_draft
from prompts.content import PromptContent
from prompts.engine import RenderedMessage
from prompts.errors import PromptInputInvalid, PromptInvalid, PromptRenderFailed, PromptTooLarge
from prompts.json_values import JsonObject
from prompts.rendering import RenderedPrompt, check_inputs, render_prompt
from prompts.samples import sample_inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A draft looked at; `field` names where the first problem is."""

    problem: str = ""
    field: str = ""
    input_schema: JsonObject | None = None
    inputs: JsonObject | None = None
    messages: tuple[RenderedMessage, ...] = ()


def render_draft(name: str, content: PromptContent, inputs: JsonObject | None) -> RenderedPrompt:
    """Return the call that a draft makes of `inputs`, or of sample values where there are none.

    Raises what `compile_draft` and `render_prompt` raise.
    """
    compiled = compile_draft(name, content)
    return render_prompt(compiled, sample_inputs(compiled.input_schema) if inputs is None else inputs)


def preview_content(name: str, content: PromptContent, inputs: JsonObject | None) -> Preview:
    """Return how `content` looks filled in with `inputs`, or with sample values where there are none."""
    try:
        compiled = compile_draft(name, content)
    except PromptInvalid as error:
        return Preview(problem=error.message, field=error.param or "")
    used = sample_inputs(compiled.input_schema) if inputs is None else inputs
    try:
        messages = compiled.messages.render(used, input_bytes=check_inputs(compiled, used))
    except (PromptInputInvalid, PromptRenderFailed, PromptTooLarge) as error:
        return Preview(problem=error.message, field="inputs", input_schema=compiled.input_schema, inputs=used)
    return Preview(input_schema=compiled.input_schema, inputs=used, messages=messages)
