"""How far two contents differ for a caller: the arithmetic behind semantic version numbers.

Major: what callers must send or what they get back changes its form. Minor: they may send more, or the answer behaves
otherwise (model, parameters, a behaviour note). Patch: the text, and annotations of schemas.
"""

from dataclasses import dataclass

from prompts.content import PromptContent, is_same_json
from prompts.json_values import JsonObject, JsonValue
from prompts.names import ChangeLevel
from prompts.schemas import property_names, required_names

# Keywords that describe and do not restrict (JSON Schema 2020-12, validation, section 9).
_ANNOTATIONS = frozenset({"title", "description", "examples", "default", "$comment"})
# Keywords whose members are names of somebody's own, not keywords.
_NAME_MAPS = frozenset({"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One difference and how much it weighs."""

    level: ChangeLevel
    text: str


def find_reasons(old: PromptContent, new: PromptContent, *, behaviour_note: str = "") -> tuple[Reason, ...]:
    """Return what makes `new` differ from `old`, heaviest first; both with their input schemas. Empty: nothing."""
    found = [
        *_output_reasons(old.output_schema, new.output_schema),
        *_input_reasons(old.input_schema or {}, new.input_schema or {}),
        *_override_reasons(frozenset(old.allowed_overrides), frozenset(new.allowed_overrides)),
    ]
    if behaviour_note:
        found.append(Reason(level=ChangeLevel.MINOR, text=f"behaviour: {behaviour_note}"))
    if old.model != new.model:
        found.append(Reason(level=ChangeLevel.MINOR, text=f"model {old.model or 'none'} becomes {new.model or 'none'}"))
    if not is_same_json(old.parameters, new.parameters):
        found.append(Reason(level=ChangeLevel.MINOR, text="parameters changed"))
    if old.messages != new.messages:
        found.append(Reason(level=ChangeLevel.PATCH, text="messages changed"))
    return tuple(sorted(found, key=lambda reason: -reason.level))


def required_level(reasons: tuple[Reason, ...]) -> ChangeLevel:
    """Return the least level that a version with these differences must have."""
    return max((reason.level for reason in reasons), default=ChangeLevel.PATCH)


def _output_reasons(old: JsonObject | None, new: JsonObject | None) -> list[Reason]:
    if old is None and new is None:
        return []
    if old is None or new is None:
        text = "the output becomes JSON" if old is None else "the output becomes text"
        return [Reason(level=ChangeLevel.MAJOR, text=text)]
    if not is_same_json(_without_annotations(old), _without_annotations(new)):
        return [Reason(level=ChangeLevel.MAJOR, text="output schema changed")]
    if old != new:
        return [Reason(level=ChangeLevel.PATCH, text="descriptions in the output schema changed")]
    return []


def _input_reasons(old: JsonObject, new: JsonObject) -> list[Reason]:
    found = []
    major, minor, patch = ChangeLevel.MAJOR, ChangeLevel.MINOR, ChangeLevel.PATCH
    before, after = property_names(old), property_names(new)
    must_before, must_after = required_names(old), required_names(new)
    if must_before != must_after:
        names = ", ".join(sorted(must_before ^ must_after))
        found.append(Reason(level=major, text=f"required inputs changed: {names}"))
    removed, added = sorted(before - after - must_before), sorted(after - before - must_after)
    found += [Reason(level=major, text=f"optional input {name} removed") for name in removed]
    found += [Reason(level=minor, text=f"optional input {name} added") for name in added]
    for name in sorted(before & after):
        one, other = _property(old, name), _property(new, name)
        if not is_same_json(_without_annotations(one), _without_annotations(other)):
            found.append(Reason(level=major, text=f"input {name} takes other values"))
        elif not is_same_json(one, other):
            found.append(Reason(level=patch, text=f"description of input {name} changed"))
    if not is_same_json(_rest(old), _rest(new)):
        found.append(Reason(level=major, text="rules of the input schema changed"))
    return found


def _override_reasons(old: frozenset[str], new: frozenset[str]) -> list[Reason]:
    found = []
    if old - new:
        text = f"callers may no longer set {', '.join(sorted(old - new))}"
        found.append(Reason(level=ChangeLevel.MAJOR, text=text))
    if new - old:
        found.append(Reason(level=ChangeLevel.MINOR, text=f"callers may set {', '.join(sorted(new - old))}"))
    return found


def _property(schema: JsonObject, name: str) -> JsonValue:
    properties = schema["properties"]
    assert isinstance(properties, dict)
    return properties[name]


def _rest(schema: JsonObject) -> JsonObject:
    """Return what a schema says beside its properties and which of them are required."""
    return {k: v for k, v in schema.items() if k not in ("properties", "required") and k not in _ANNOTATIONS}


def _without_annotations(value: JsonValue, *, is_map_of_names: bool = False) -> JsonValue:
    if isinstance(value, dict):
        return {
            k: _without_annotations(v, is_map_of_names=not is_map_of_names and k in _NAME_MAPS)
            for k, v in value.items()
            if is_map_of_names or k not in _ANNOTATIONS
        }
    return [_without_annotations(item) for item in value] if isinstance(value, list) else value
