"""What a version of a prompt says, as a frozen value, and its JSON form: the one that drafts and versions store."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from prompts.errors import PromptInvalid
from prompts.json_values import JsonObject, JsonValue, from_json, to_json, to_sorted_json


class Role(StrEnum):
    """Who speaks in a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageTemplate:
    """A message before it is filled in."""

    role: Role
    template: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptContent:
    """Everything that a version fixes."""

    messages: tuple[MessageTemplate, ...] = ()
    # None in a draft: derived from the templates when it is published.
    input_schema: JsonObject | None = None
    model: str = ""
    parameters: JsonObject
    # Names of parameters that a caller may set; "model" is one.
    allowed_overrides: tuple[str, ...] = ()
    # None: the output is text.
    output_schema: JsonObject | None = None

    def as_json(self) -> str:
        """Return the stored text."""
        return to_json(_as_object(self))

    def fingerprint(self) -> str:
        """Return a hash that two contents share exactly when they say the same."""
        # Not sorted: the order of a schema's properties is the order in which a model answers.
        return hashlib.sha256(self.as_json().encode()).hexdigest()


EMPTY_CONTENT = PromptContent(parameters={})


def read_content(text: str) -> PromptContent:
    """Return the content that a stored text holds."""
    value = from_json(text)
    assert isinstance(value, dict)
    return content_of(value)


def content_of(value: JsonObject) -> PromptContent:
    """Return the content that an object describes. Raises PromptInvalid, naming the field, for a wrong shape."""
    unknown = sorted(set(value) - set(_as_object(EMPTY_CONTENT)))
    if unknown:
        raise PromptInvalid(f"Unknown fields: {', '.join(unknown)}.", param=unknown[0])
    return PromptContent(
        messages=tuple(_message(item, i) for i, item in enumerate(_list(value, "messages"))),
        input_schema=_object_or_none(value, "input_schema"),
        model=_text(value, "model"),
        parameters=_object_or_none(value, "parameters") or {},
        allowed_overrides=tuple(_names(value, "allowed_overrides")),
        output_schema=_object_or_none(value, "output_schema"),
    )


def is_same_json(one: JsonValue, other: JsonValue) -> bool:
    """Return whether two values are equal, whatever the order of names."""
    return to_sorted_json(one) == to_sorted_json(other)


def _as_object(content: PromptContent) -> JsonObject:
    return {
        "messages": [{"role": m.role.value, "template": m.template} for m in content.messages],
        "input_schema": content.input_schema,
        "model": content.model,
        "parameters": content.parameters,
        "allowed_overrides": list(content.allowed_overrides),
        "output_schema": content.output_schema,
    }


def _message(item: JsonValue, index: int) -> MessageTemplate:
    shape = f"Message {index + 1} must have a role (system, user or assistant) and a template."
    if not isinstance(item, dict) or set(item) != {"role", "template"}:
        raise PromptInvalid(shape, param="messages")
    role, template = item["role"], item["template"]
    if role not in list(Role) or not isinstance(template, str):
        raise PromptInvalid(shape, param="messages")
    return MessageTemplate(role=Role(str(role)), template=template)


def _list(value: JsonObject, name: str) -> list[JsonValue]:
    found = value.get(name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise PromptInvalid(f"'{name}' must be a list.", param=name)
    return found


def _names(value: JsonObject, name: str) -> list[str]:
    found = [item for item in _list(value, name) if isinstance(item, str)]
    if len(found) != len(_list(value, name)):
        raise PromptInvalid(f"'{name}' must be a list of names.", param=name)
    return found


def _text(value: JsonObject, name: str) -> str:
    found = value.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise PromptInvalid(f"'{name}' must be text.", param=name)
    return found


def _object_or_none(value: JsonObject, name: str) -> JsonObject | None:
    found = value.get(name)
    if found is not None and not isinstance(found, dict):
        raise PromptInvalid(f"'{name}' must be an object.", param=name)
    return found
