"""JSON Schemas of inputs and outputs: derived, checked, compiled.

The validator never leaves the machine (`offline`: it would fetch http and read file references otherwise) and matches
patterns in linear time. Only schemas with local references get as far as the validator, and the work that a schema
makes of a value is known beforehand (`prompts.schema_weight`): customers and models send the values, and they are
checked on the event loop.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

from prompts.errors import SchemaInvalid
from prompts.json_values import JsonObject, JsonValue, to_json
from prompts.schema_weight import SchemaWeight, weigh_schema

MAX_SCHEMA_CHARACTERS = 50_000
_MAX_SCHEMA_DEPTH = 40
_MOST_PROBLEMS = 5
_LINEAR = RegexOptions(size_limit=1_000_000, dfa_size_limit=1_000_000)
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")

# Compiling one takes up to 5 ms (Unicode classes, repeated), and nothing else runs meanwhile.
MAX_PATTERNS = 50
# Checks of one value: a large generated schema has some thousands.
MAX_CHECKS = 20_000
# Checks times values: about half a second at the very worst (50 ns each), an ordinary megabyte takes a hundredth of it.
_MOST_WORK = 10_000_000
# Patterns times characters: likewise (12 ns each).
_MOST_MATCHING = 50_000_000
# Checks times values of which all that is wrong is collected (3 us each, the validator collects before it yields), and
# characters of which the first fault is told: its message quotes the value.
_MOST_WORK_LISTED = 30_000
_MOST_CHARACTERS_TOLD = 200_000
_UNTOLD = "it does not fit the schema"


@dataclass(frozen=True, slots=True, kw_only=True)
class Validator:
    """A schema ready to check values of any origin, in bounded time."""

    validator: Draft202012Validator
    weight: SchemaWeight

    def is_valid(self, value: JsonValue, text: bytes) -> bool:
        """Return whether a value fits. `text` is the value as JSON; what is too much to check does not fit."""
        return self._is_checkable(text) and self.validator.is_valid(value)

    def find_problems(self, value: JsonValue, text: bytes) -> list[str]:
        """Return what is wrong with a value, the first few: "customer.age: "x" is not of type "integer"".

        `text` is the value as JSON. Empty: the value fits. Where saying more could take long, there is one
        problem, that it does not fit.
        """
        if not self._is_checkable(text):
            return ["it is too large to be checked against this schema"]
        if self.validator.is_valid(value):
            return []
        if self.weight.is_explosive or len(text) > _MOST_CHARACTERS_TOLD:
            return [_UNTOLD]
        if self.weight.checks * _most_values(text) > _MOST_WORK_LISTED:
            return [self._first_problem(value)]
        return _list_problems(self.validator, value) or [_UNTOLD]

    def _is_checkable(self, text: bytes) -> bool:
        # A value takes a character at least, so most texts need not be counted.
        checks = self.weight.checks
        if self.weight.patterns * len(text) > _MOST_MATCHING:
            return False
        return checks * len(text) <= _MOST_WORK or checks * _most_values(text) <= _MOST_WORK

    def _first_problem(self, value: JsonValue) -> str:
        try:
            self.validator.validate(value)
        except ValidationError as error:
            return _problem_text(error)
        return _UNTOLD


def _most_values(text: bytes) -> int:
    """Return an upper bound of the values in a JSON text: each but the first is behind one of these."""
    return text.count(b",") + text.count(b"[") + text.count(b"{") + 1


def compile_schema(schema: JsonObject, *, param: str) -> Validator:
    """Return the validator of a schema (draft 2020-12). Raises SchemaInvalid with `param` as the field at fault."""
    if len(to_json(schema)) > MAX_SCHEMA_CHARACTERS:
        raise SchemaInvalid(f"A schema has at most {MAX_SCHEMA_CHARACTERS:,} characters.", param=param)
    patterns = 0
    for depth, node in _walk(schema):
        patterns += _count_patterns(node)
        if depth > _MAX_SCHEMA_DEPTH:
            raise SchemaInvalid(f"A schema is at most {_MAX_SCHEMA_DEPTH} levels deep.", param=param)
        for name in _REFERENCES:
            target = node.get(name, "#")
            if not isinstance(target, str) or not target.startswith("#"):
                raise SchemaInvalid(f"'{name}' may only point into the schema itself ('#/$defs/...').", param=param)
    if patterns > MAX_PATTERNS:
        raise SchemaInvalid(f"A schema has at most {MAX_PATTERNS} patterns, this one has {patterns}.", param=param)
    try:
        validator = Draft202012Validator(schema, offline=True, pattern_options=_LINEAR, validate_formats=True)
    except (ValidationError, ValueError) as error:
        message = error.message if isinstance(error, ValidationError) else str(error)
        raise SchemaInvalid(f"The schema is not valid: {message[:300]}", param=param) from None
    return Validator(validator=validator, weight=_weigh(schema, param))


def _count_patterns(node: JsonObject) -> int:
    by_name = node.get("patternProperties")
    return isinstance(node.get("pattern"), str) + (len(by_name) if isinstance(by_name, dict) else 0)


def _weigh(schema: JsonObject, param: str) -> SchemaWeight:
    try:
        weight = weigh_schema(schema)
    except ValueError as error:
        _refuse(str(error), param)
    except RecursionError:
        _refuse("Its references form a chain that is too long.", param)
    if weight.checks > MAX_CHECKS:
        _refuse(f"Its references multiply into more than {MAX_CHECKS:,} checks of one value.", param)
    return weight


def _refuse(reason: str, param: str) -> NoReturn:
    raise SchemaInvalid(f"The schema cannot be checked in bounded time: {reason}", param=param) from None


def check_input_schema(schema: JsonObject) -> Validator:
    """Return the validator of a prompt's inputs, which are always an object with named properties."""
    if schema.get("type") != "object":
        raise SchemaInvalid('The inputs of a prompt are an object: say "type": "object".', param="input_schema")
    if not isinstance(schema.get("properties", {}), dict):
        raise SchemaInvalid("'properties' must be an object.", param="input_schema")
    return compile_schema(schema, param="input_schema")


def _list_problems(validator: Draft202012Validator, value: JsonValue) -> list[str]:
    found = []
    for error in validator.iter_errors(value):
        found.append(_problem_text(error))
        if len(found) == _MOST_PROBLEMS:
            break
    return found


def _problem_text(error: ValidationError) -> str:
    place = path_text(error.instance_path)
    # A message quotes the value; a caller's own megabyte is not sent back.
    message = error.message if len(error.message) <= 200 else f"{error.message[:150]} ..."
    return f"{place}: {message}" if place else message


def path_text(path: Iterable[str | int]) -> str:
    """Return a place in a value as people write it: items[0].name."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def derive_input_schema(paths: Iterable[str], *, iterated: frozenset[str], optional: frozenset[str]) -> JsonObject:
    """Return the schema of the names that templates use ("name", "customer.name"): text unless they are used otherwise.

    A name with names below it is an object, one that a loop runs over a list. Names that the template asks
    about (`is defined`, `default`) are optional.
    """
    tree: dict[str, set[str]] = {}
    for path in sorted(paths):
        name, _, below = path.partition(".")
        tree.setdefault(name, set())
        if below:
            tree[name].add(below.partition(".")[0])
    properties: JsonObject = {}
    for name, inner in tree.items():
        if inner:
            # What is deeper is left open: any value.
            members: JsonObject = {member: {} for member in sorted(inner)}
            properties[name] = {"type": "object", "properties": members, "required": [*sorted(inner)]}
        elif name in iterated:
            properties[name] = {"type": "array"}
        else:
            properties[name] = {"type": "string"}
    required: list[JsonValue] = [name for name in tree if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def property_names(schema: JsonObject) -> frozenset[str]:
    """Return the names of an object's properties."""
    found = schema.get("properties")
    return frozenset(found) if isinstance(found, dict) else frozenset()


def required_names(schema: JsonObject) -> frozenset[str]:
    """Return the names that an object must have."""
    found = schema.get("required")
    return frozenset(str(name) for name in found) if isinstance(found, list) else frozenset()


def authored_texts(schema: JsonObject) -> frozenset[str]:
    """Return the texts that a schema itself spells out (`enum`, `const`): a value equal to one is the author's text."""
    found: set[str] = set()
    for _, node in _walk(schema):
        listed = node.get("enum")
        values = [*(listed if isinstance(listed, list) else []), node.get("const")]
        found.update(value for value in values if isinstance(value, str))
    return frozenset(found)


def _walk(schema: JsonValue) -> Iterator[tuple[int, JsonObject]]:
    """Yield every object inside `schema` with its depth; without recursion, so that depth is a number and no crash."""
    waiting: list[tuple[int, JsonValue]] = [(0, schema)]
    while waiting:
        depth, node = waiting.pop()
        if isinstance(node, dict):
            yield depth, node
            waiting += [(depth + 1, value) for value in node.values()]
        elif isinstance(node, list):
            waiting += [(depth + 1, value) for value in node]
