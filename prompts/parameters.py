"""Parameters of a call that a prompt may fix and a caller may be allowed to override.

Names and ranges are those of OpenAI's chat completions (API reference, 2026-11). What a prompt decides otherwise
(messages, model, response format, streaming) is not among them.
"""

from collections.abc import Mapping

import orjson

from prompts.errors import PromptInvalid, PromptParameterRefused
from prompts.json_values import JsonObject, JsonValue
from prompts.schemas import compile_schema

MODEL = "model"
_SCHEMAS: Mapping[str, JsonObject] = {
    "temperature": {"type": "number", "minimum": 0, "maximum": 2},
    "top_p": {"type": "number", "minimum": 0, "maximum": 1},
    "max_completion_tokens": {"type": "integer", "minimum": 1},
    "presence_penalty": {"type": "number", "minimum": -2, "maximum": 2},
    "frequency_penalty": {"type": "number", "minimum": -2, "maximum": 2},
    "seed": {"type": "integer"},
    "stop": {
        "anyOf": [
            {"type": "string", "minLength": 1},
            {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": 4},
        ]
    },
    "reasoning_effort": {"enum": ["none", "minimal", "low", "medium", "high", "xhigh"]},
    "verbosity": {"enum": ["low", "medium", "high"]},
}
PARAMETER_NAMES = tuple(_SCHEMAS)
OVERRIDE_NAMES = (*PARAMETER_NAMES, MODEL)
_VALIDATORS = {name: compile_schema(schema, param="parameters") for name, schema in _SCHEMAS.items()}
_MODEL_LENGTH = 120


def check_parameters(parameters: JsonObject) -> None:
    """Return when a prompt may fix these. Raises PromptInvalid."""
    for name, value in parameters.items():
        problem = _problem(name, value)
        if problem:
            raise PromptInvalid(problem, param="parameters")


def check_allowed_overrides(names: tuple[str, ...]) -> None:
    """Return when callers may be allowed to set these. Raises PromptInvalid."""
    unknown = [name for name in names if name not in OVERRIDE_NAMES]
    if unknown:
        raise PromptInvalid(
            f"Callers cannot be allowed to set {', '.join(unknown)}; known are {', '.join(OVERRIDE_NAMES)}.",
            param="allowed_overrides",
        )


def apply_overrides(parameters: JsonObject, overrides: JsonObject, *, allowed: tuple[str, ...]) -> JsonObject:
    """Return a prompt's parameters with what the caller sets, the model aside.

    Raises PromptParameterRefused for a name that the prompt does not open, PromptInvalid for a wrong value.
    """
    for name, value in overrides.items():
        if name not in allowed:
            raise PromptParameterRefused(name=name, allowed=allowed)
        problem = _model_problem(value) if name == MODEL else _problem(name, value)
        if problem:
            raise PromptInvalid(problem, param=name)
    return {**parameters, **{name: value for name, value in overrides.items() if name != MODEL}}


def _problem(name: str, value: JsonValue) -> str:
    validator = _VALIDATORS.get(name)
    if validator is None:
        return f"There is no parameter '{name[:50]}'; known are {', '.join(PARAMETER_NAMES)}."
    problems = validator.find_problems(value, orjson.dumps(value))
    return f"'{name}': {problems[0]}" if problems else ""


def _model_problem(value: JsonValue) -> str:
    is_name = isinstance(value, str) and 0 < len(value) <= _MODEL_LENGTH
    return "" if is_name else f"'model' must be a name of at most {_MODEL_LENGTH} characters."
