"""The editor's form: what a browser sends of a draft, and the content that it means."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.http import QueryDict

from prompts.content import MessageTemplate, PromptContent, Role, content_of
from prompts.errors import PromptInvalid, SchemaInvalid
from prompts.json_values import JsonObject, from_json, to_json
from prompts.parameters import OVERRIDE_NAMES


@dataclass(frozen=True, slots=True, kw_only=True)
class EditorState:
    """The texts in the form's fields, as they were typed."""

    messages: Sequence[MessageTemplate]
    model: str
    parameters: str
    allowed_overrides: Sequence[str]
    input_schema: str
    output_schema: str
    revision: int
    inputs: str = ""


def state_of(content: PromptContent, *, revision: int) -> EditorState:
    """Return the form of a stored draft; a new one begins with an empty message."""
    return EditorState(
        messages=content.messages or (MessageTemplate(role=Role.USER, template=""),),
        model=content.model,
        parameters=to_json(content.parameters, is_pretty=True) if content.parameters else "",
        allowed_overrides=content.allowed_overrides,
        input_schema="" if content.input_schema is None else to_json(content.input_schema, is_pretty=True),
        output_schema="" if content.output_schema is None else to_json(content.output_schema, is_pretty=True),
        revision=revision,
    )


def read_state(sent: QueryDict) -> EditorState:
    """Return the form as it was sent. Browsers send line ends as CRLF; templates have LF."""
    roles, templates = sent.getlist("role"), sent.getlist("template")
    return EditorState(
        messages=[
            MessageTemplate(role=Role(role) if role in list(Role) else Role.USER, template=_lines(template))
            for role, template in zip(roles, templates, strict=False)
        ],
        model=sent.get("model", "").strip(),
        parameters=_lines(sent.get("parameters", "")),
        allowed_overrides=[name for name in sent.getlist("allowed_overrides") if name in OVERRIDE_NAMES],
        input_schema=_lines(sent.get("input_schema", "")),
        output_schema=_lines(sent.get("output_schema", "")),
        revision=int(sent.get("revision", "")) if sent.get("revision", "").isdecimal() else 0,
        inputs=_lines(sent.get("inputs", "")),
    )


def content_of_state(state: EditorState) -> PromptContent:
    """Return the content that a form means. Raises PromptInvalid, naming the field that is not JSON."""
    return content_of(
        {
            "messages": [{"role": m.role.value, "template": m.template} for m in state.messages],
            "model": state.model,
            "parameters": read_object(state.parameters, "parameters"),
            "allowed_overrides": list(state.allowed_overrides),
            "input_schema": read_object(state.input_schema, "input_schema"),
            "output_schema": read_object(state.output_schema, "output_schema"),
        }
    )


def read_object(text: str, param: str) -> JsonObject | None:
    """Return the object that a field holds, or None when it is empty. Raises PromptInvalid."""
    if not text.strip():
        return None
    kind = SchemaInvalid if param.endswith("schema") else PromptInvalid
    try:
        value = from_json(text)
    except ValueError as error:
        raise kind(f"This is not JSON: {error}.", param=param) from None
    if not isinstance(value, dict):
        raise kind('This must be a JSON object: {"...": ...}.', param=param)
    return value


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n")
