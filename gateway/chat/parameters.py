"""The contract of a chat completion's body: the openai package's own types, checked strictly.

The schema is built once from `CompletionCreateParams`. Two things are changed: the package's `Iterable` fields are
checked lazily by pydantic, here they are lists that are checked now; and top-level parameters that the package
does not know are refused instead of ignored.
"""

from functools import lru_cache
from typing import Any

from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter, ValidationError
from pydantic_core import SchemaValidator, core_schema

from gateway.errors import BodyInvalid, ParameterUnknown

# What tells the members of the unions of messages and content parts apart.
_TAGS = ("role", "type")
# See `gateway.routing` and `gateway.truncating`; checked there, and not sent upstream.
OWN_PARAMETERS = frozenset({"provider", "models", "truncation"})
_OPTIONAL_BOOLEAN = core_schema.nullable_schema(core_schema.bool_schema())


def check_parameters(body: dict[str, Any]) -> None:
    """Return when `body` is a valid call.

    Raises ParameterUnknown with every unknown top-level name, BodyInvalid with the path of the first wrong value.
    """
    unknown = [name for name in body if name not in known_parameters()]
    if unknown:
        raise ParameterUnknown(names=sorted(unknown))
    try:
        _validator().validate_python(body, strict=True)
    except ValidationError as error:
        path, message = _most_telling(error)
        raise BodyInvalid(f"'{path}': {message}.", param=path) from None


@lru_cache(maxsize=1)
def known_parameters() -> frozenset[str]:
    """Return the names of all parameters of the openai package's type, and of our own."""
    return (
        frozenset(CompletionCreateParamsNonStreaming.__required_keys__)
        | frozenset(CompletionCreateParamsNonStreaming.__optional_keys__)
        | OWN_PARAMETERS
    )


@lru_cache(maxsize=1)
def _validator() -> SchemaValidator:
    schema = _with_eager_lists(TypeAdapter(CompletionCreateParamsNonStreaming).core_schema)
    _fields(schema)["stream"]["schema"] = _OPTIONAL_BOOLEAN
    return SchemaValidator(schema)


def _with_eager_lists(node: Any) -> Any:
    if isinstance(node, dict):
        changed = {key: _with_eager_lists(value) for key, value in node.items()}
        return changed | {"type": "list"} if node.get("type") == "generator" else changed
    if isinstance(node, list | tuple):
        return type(node)(_with_eager_lists(item) for item in node)
    return node


def _fields(schema: Any) -> Any:
    return schema["fields"] if schema["type"] == "typed-dict" else _fields(schema["schema"])


def _most_telling(error: ValidationError) -> tuple[str, str]:
    """Return path and message of one problem.

    A wrong message fails in every member of the union of message types. Members whose `role` (or `type`) is another
    one say nothing about it; of what is left, the deepest problem tells what is really wrong.
    """
    problems = error.errors(include_url=False, include_input=False)
    mistagged = {p["loc"][:-1]: p for p in problems if p["type"] == "literal_error" and p["loc"][-1] in _TAGS}
    telling = [p for p in problems if not any(p["loc"][: len(loc)] == loc for loc in mistagged)]
    if telling:
        chosen = max(telling, key=lambda p: len(p["loc"]))
        return _path(chosen["loc"]), chosen["msg"][0].lower() + chosen["msg"][1:]
    # No member fits: name what would.
    place = max(mistagged.values(), key=lambda p: -len(p["loc"]))["loc"]
    expected = [p["ctx"]["expected"] for p in mistagged.values() if _path(p["loc"]) == _path(place)]
    return _path(place), f"must be {' or '.join(dict.fromkeys(map(str, expected)))}"


def _path(location: tuple[int | str, ...]) -> str:
    """Return `messages[0].content` of a location; names of union members (they are no path) are left out."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.replace("_", "").isalnum() and part[0].islower() and part not in ("str", "list", "int", "float"):
            path += f".{part}" if path else part
    return path or "body"
