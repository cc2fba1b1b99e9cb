"""Schemas of answers, compiled once and kept: bounded in size, in the work that they make, and in what they may read.

A schema comes from a caller. It never makes the server fetch a file or an address, its patterns are matched in linear
time (`prompts.schemas.compile_schema`), and what it would cost to check an answer is known before the call is admitted.
"""

import asyncio
import hashlib
import threading
from dataclasses import dataclass

import orjson

from gateway.structured.errors import OutputSchemaInvalid
from gateway.structured.growing import loosen_schema
from gateway.structured.strictness import make_strict
from prompts.errors import SchemaInvalid
from prompts.json_values import JsonObject, JsonValue
from prompts.schemas import MAX_SCHEMA_CHARACTERS, Validator, compile_schema

_MOST_KEPT_CHARACTERS = 4_000_000
# A thread costs 0.1 ms; so much is compiled in 2.
_SMALL_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSchema:
    """A schema ready to check answers; shared by all calls that send it."""

    schema: JsonObject
    # JSON text of the schema, as it is put before models that have no mode for it.
    text: str
    # The schema in OpenAI's strict form; None where it has none.
    strict: JsonObject | None
    validator: Validator
    # Accepts every value that can still grow into a valid one; see `growing`.
    growing_validator: Validator

    def find_problems(self, value: JsonValue, text: bytes) -> list[str]:
        """Return what is wrong with a value whose JSON is `text`; empty: it is valid."""
        return self.validator.find_problems(value, text)

    def accepts_so_far(self, value: JsonValue, text: bytes) -> bool:
        """Return whether a value that is still growing can become valid."""
        return self.growing_validator.is_valid(value, text)


class _Kept:
    """Compiled schemas by hash, oldest out first, bounded by the characters of their texts."""

    def __init__(self) -> None:
        self._schemas: dict[bytes, OutputSchema] = {}
        self._characters = 0
        # Large ones are compiled in threads.
        self._lock = threading.Lock()

    def find(self, key: bytes) -> OutputSchema | None:
        return self._schemas.get(key)

    def keep(self, key: bytes, schema: OutputSchema) -> None:
        with self._lock:
            if key in self._schemas:
                return
            while self._schemas and self._characters + len(schema.text) > _MOST_KEPT_CHARACTERS:
                self._characters -= len(self._schemas.pop(next(iter(self._schemas))).text)
            self._schemas[key] = schema
            self._characters += len(schema.text)


_kept = _Kept()


def compile_output_schema(schema: JsonObject, *, param: str) -> OutputSchema:
    """Return a schema compiled, from the kept ones where it is one of them. Raises OutputSchemaInvalid."""
    raw = _text_of(schema, param)
    key = _key_of(raw)
    found = _kept.find(key)
    if found is None:
        found = _compile(schema, raw.decode(), param)
        _kept.keep(key, found)
    return found


async def prepare_output_schema(schema: JsonObject, *, param: str) -> None:
    """Compile a large schema beside the event loop, which it would hold up, so that `compile_output_schema` finds it.

    Raises OutputSchemaInvalid.
    """
    raw = _text_of(schema, param)
    if len(raw) > _SMALL_CHARACTERS and _kept.find(_key_of(raw)) is None:
        await asyncio.to_thread(compile_output_schema, schema, param=param)


def _text_of(schema: JsonObject, param: str) -> bytes:
    try:
        return orjson.dumps(schema)
    except orjson.JSONEncodeError:
        raise OutputSchemaInvalid("It is nested too deeply.", param=param) from None


def _key_of(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=20).digest()


def _compile(schema: JsonObject, text: str, param: str) -> OutputSchema:
    if len(text) > MAX_SCHEMA_CHARACTERS:
        raise OutputSchemaInvalid(f"It has {len(text):,} of at most {MAX_SCHEMA_CHARACTERS:,} characters.", param=param)
    try:
        validator = compile_schema(schema, param=param)
        growing = compile_schema(loosen_schema(schema), param=param)
    except SchemaInvalid as error:
        raise OutputSchemaInvalid(error.message, param=param) from None
    return OutputSchema(
        schema=schema,
        text=text,
        strict=make_strict(schema),
        validator=validator,
        growing_validator=growing,
    )
