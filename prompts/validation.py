"""Checking and compiling a whole content: the one gate before anything is published, previewed or served."""

from dataclasses import dataclass, replace

from prompts.content import PromptContent, Role
from prompts.engine import Messages
from prompts.errors import PromptInvalid, SchemaInvalid
from prompts.includes import Expanded, FindIncluded, expand_messages
from prompts.json_values import JsonObject
from prompts.parameters import check_allowed_overrides, check_parameters
from prompts.schemas import (
    Validator,
    authored_texts,
    check_input_schema,
    compile_schema,
    derive_input_schema,
    property_names,
    required_names,
)
from prompts.templating import parse_template

MAX_MESSAGES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledContent:
    """A content that is whole and valid, ready to be filled in; holds no reference to any row."""

    # With its input schema, derived where the draft had none.
    content: PromptContent
    messages: Messages
    input_schema: JsonObject
    input_validator: Validator
    output_validator: Validator | None
    # Versions whose text was included.
    included: frozenset[int]


def compile_content(name: str, content: PromptContent, find: FindIncluded) -> CompiledContent:
    """Return `content` compiled, as the prompt `name`.

    Raises PromptInvalid (with TemplateInvalid and SchemaInvalid below it), whose `param` is the field at fault.
    """
    _check_messages(content)
    check_parameters(content.parameters)
    check_allowed_overrides(content.allowed_overrides)
    expanded = expand_messages(name, content.messages, find)
    schema = content.input_schema
    if schema is None:
        schema = _derive(expanded)
    input_validator = check_input_schema(schema)
    messages = Messages(expanded.messages, vocabulary=authored_texts(schema))
    _check_inputs_match(messages, expanded, schema)
    output_validator = None
    if content.output_schema is not None:
        if content.output_schema.get("type") != "object":
            raise SchemaInvalid('A JSON output is an object: say "type": "object".', param="output_schema")
        output_validator = compile_schema(content.output_schema, param="output_schema")
    return CompiledContent(
        content=replace(content, input_schema=schema),
        messages=messages,
        input_schema=schema,
        input_validator=input_validator,
        output_validator=output_validator,
        included=expanded.included,
    )


def _check_messages(content: PromptContent) -> None:
    if not content.messages:
        raise PromptInvalid("A prompt has at least one message.", param="messages")
    if len(content.messages) > MAX_MESSAGES:
        raise PromptInvalid(f"A prompt has at most {MAX_MESSAGES} messages.", param="messages")
    for index, message in enumerate(content.messages):
        if not message.template.strip():
            raise PromptInvalid(f"Message {index + 1} is empty.", param="messages")
        if message.role is Role.SYSTEM and index:
            # Models whose template knows one system message, first, would silently drop or move another.
            raise PromptInvalid("Only the first message can be the system message.", param="messages")
    if len(content.model) > 120:
        raise PromptInvalid("The name of a model has at most 120 characters.", param="model")


def _derive(expanded: Expanded) -> JsonObject:
    parsed = [parse_without_bound(message.source) for message in expanded.messages]
    iterated = frozenset[str]().union(*(names for names, _ in parsed))
    optional = frozenset[str]().union(*(names for _, names in parsed))
    return derive_input_schema(Messages(expanded.messages).paths(), iterated=iterated, optional=optional)


def parse_without_bound(source: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the iterated and the optional names of an expanded source, which may be longer than one message may be."""
    template = parse_template(source, is_expanded=True)
    return template.iterated, template.optional


def _check_inputs_match(messages: Messages, expanded: Expanded, schema: JsonObject) -> None:
    """Refuse a template that uses what the schema does not promise: it would fail while customers call it."""
    used = messages.variables()
    missing = sorted(used - property_names(schema))
    if missing:
        raise PromptInvalid(
            f"The messages use {', '.join(missing)}, which the input schema does not have.", param="input_schema"
        )
    asked = frozenset[str]().union(*(parse_without_bound(m.source)[1] for m in expanded.messages))
    loose = sorted(used - required_names(schema) - asked)
    if loose:
        raise PromptInvalid(
            f"{', '.join(loose)} may be left out by a caller, and the messages use it all the same. Make it required, "
            f'or write {{{{ {loose[0]}|default("...") }}}} or {{% if {loose[0]} is defined %}}.',
            param="input_schema",
        )
