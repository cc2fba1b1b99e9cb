"""What a caller asked its answer to be: read from `response_format`, carried by the call."""

from typing import Any, NamedTuple

from gateway.errors import BodyInvalid
from gateway.structured.schemas import OutputSchema, compile_output_schema, prepare_output_schema
from gateway.structured.strictness import asks_for_more

_PARAM = "response_format.json_schema"


class OutputContract(NamedTuple):
    """The shape that an answer must have."""

    name: str
    schema: OutputSchema
    # What an upstream with a mode of its own is sent as `response_format`.
    native_format: dict[str, Any]


async def prepare_contract(body: dict[str, Any]) -> None:
    """Do what `read_contract` would hold up the event loop with. Raises OutputSchemaInvalid."""
    wanted = body.get("response_format")
    if wanted is None or wanted["type"] != "json_schema":
        return
    schema = wanted["json_schema"].get("schema")
    if isinstance(schema, dict):
        await prepare_output_schema(schema, param=f"{_PARAM}.schema")


def read_contract(body: dict[str, Any]) -> OutputContract | None:
    """Return the contract of a checked chat body, or None where any text will do.

    Raises OutputSchemaInvalid, or BodyInvalid for a format without a schema.
    """
    wanted = body.get("response_format")
    if wanted is None or wanted["type"] != "json_schema":
        return None
    given = wanted["json_schema"]
    schema = given.get("schema")
    if not isinstance(schema, dict):
        raise BodyInvalid(f"'{_PARAM}.schema' is missing: without it any text would do.", param=f"{_PARAM}.schema")
    compiled = compile_output_schema(schema, param=f"{_PARAM}.schema")
    native = wanted
    if given.get("strict") and compiled.strict is not None:
        # OpenAI refuses a strict schema that is not in its strict form.
        native = {"type": "json_schema", "json_schema": {**given, "schema": compiled.strict}}
    return OutputContract(name=given["name"], schema=compiled, native_format=native)


def format_of_schema(name: str, schema: OutputSchema) -> dict[str, Any]:
    """Return the `response_format` that asks for a schema of our own.

    Strict where that makes nothing required that the schema leaves open.
    """
    strict = schema.strict
    is_strict = strict is not None and not asks_for_more(strict, schema.schema)
    shown = strict if is_strict else schema.schema
    return {"type": "json_schema", "json_schema": {"name": name[:64], "schema": shown, "strict": is_strict}}
