"""What a test case may ask of an output, and whether an output satisfies it. Pure.

A check is a small object with a `kind`; several kinds may be combined in a case, and all must hold. The one kind that
needs a model (`judged`) is answered by whoever runs the case (`PromptRunner.judge`) and comes in as a verdict.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import orjson

from common.money import format_usd, parse_usd
from prompts.errors import PromptTestInvalid, SchemaInvalid
from prompts.json_values import JsonObject, JsonValue, from_json, to_sorted_json
from prompts.schemas import Validator, compile_schema

MAX_CHECKS = 20
_STEP = re.compile(r"\.(?P<name>[A-Za-z_][\w-]*)|\[(?P<index>-?\d{1,6})\]|\[(?P<quoted>\"[^\"]*\"|'[^']*')\]")


class CheckKind(StrEnum):
    """The value is stored and written in files."""

    SCHEMA = "schema"
    CONTAINS = "contains"
    NOT_CONTAINS = "not_contains"
    MATCHES = "matches"
    EQUALS = "equals"
    JSON_PATH = "json_path"
    MAX_TOKENS = "max_tokens"
    MAX_COST = "max_cost_usd"
    JUDGED = "judged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition. `path` belongs to `json_path`, `model` to `judged` (whose value is the rubric)."""

    kind: CheckKind
    value: JsonValue = None
    path: str = ""
    model: str = ""

    def describe(self) -> str:
        """Return the condition as a line of text."""
        match self.kind:
            case CheckKind.SCHEMA:
                return "fits the output schema"
            case CheckKind.JSON_PATH:
                return f"{self.path} equals {to_sorted_json(self.value)}"
            case CheckKind.JUDGED:
                return f"judged by {self.model or 'the default model'}: {self.value}"
        return f"{self.kind.value.replace('_', ' ')} {self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a model said about an output by a rubric."""

    is_passed: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """Whether one check holds; `reason` says why it does not."""

    check: Check
    is_passed: bool
    reason: str = ""


def read_checks(value: JsonValue) -> tuple[Check, ...]:
    """Return the checks that a list of objects describes. Raises PromptTestInvalid, naming the place."""
    if not isinstance(value, list) or len(value) > MAX_CHECKS:
        raise PromptTestInvalid(f"Checks are a list of at most {MAX_CHECKS} objects.", param="checks")
    return tuple(_read_check(item, index) for index, item in enumerate(value))


def write_checks(checks: tuple[Check, ...]) -> JsonValue:
    """Return the list of objects that describes the checks."""
    listed: list[JsonValue] = []
    for check in checks:
        item: JsonObject = {"kind": check.kind.value}
        if check.kind is not CheckKind.SCHEMA:
            item["value"] = check.value
        if check.path:
            item["path"] = check.path
        if check.model:
            item["model"] = check.model
        listed.append(item)
    return listed


def check_output(
    checks: tuple[Check, ...],
    output: str,
    *,
    output_validator: Validator | None,
    tokens: int,
    cost_nanousd: int,
    verdicts: Mapping[int, Verdict] | None = None,
) -> tuple[CheckResult, ...]:
    """Return the result of every check; `verdicts` are by the position of the check, and a judged one without fails."""
    results = []
    for index, check in enumerate(checks):
        if check.kind is CheckKind.JUDGED:
            verdict = (verdicts or {}).get(index)
            reason = "nobody judged it" if verdict is None else "" if verdict.is_passed else verdict.reason
        else:
            reason = _failure(check, output, output_validator, tokens, cost_nanousd)
        results.append(CheckResult(check=check, is_passed=not reason, reason=reason))
    return tuple(results)


def _failure(check: Check, output: str, validator: Validator | None, tokens: int, cost_nanousd: int) -> str:
    """Return why a check does not hold, or an empty text."""
    value = check.value
    match check.kind:
        case CheckKind.SCHEMA:
            return _schema_failure(output, validator)
        case CheckKind.CONTAINS:
            return "" if str(value) in output else f"it does not contain {value!r}"
        case CheckKind.NOT_CONTAINS:
            return f"it contains {value!r}" if str(value) in output else ""
        case CheckKind.MATCHES:
            return "" if _pattern(str(value)).is_valid(output, orjson.dumps(output)) else f"it does not match {value!r}"
        case CheckKind.EQUALS:
            return "" if _equals(output, value) else f"it does not equal {to_sorted_json(value)[:200]}"
        case CheckKind.JSON_PATH:
            return _path_failure(output, check.path, value)
        case CheckKind.MAX_TOKENS:
            return "" if isinstance(value, int) and tokens <= value else f"it took {tokens} tokens"
        case CheckKind.MAX_COST:
            limit = parse_usd(str(value))
            return "" if cost_nanousd <= limit else f"it cost {format_usd(cost_nanousd)} USD"
    return "unknown check"


def _schema_failure(output: str, validator: Validator | None) -> str:
    if validator is None:
        return "the prompt has no output schema"
    try:
        problems = validator.find_problems(from_json(output), output.encode())
    except ValueError:
        return "it is not JSON"
    return "; ".join(problems)


def _equals(output: str, value: JsonValue) -> bool:
    if isinstance(value, str):
        return output.strip() == value.strip()
    try:
        return to_sorted_json(from_json(output)) == to_sorted_json(value)
    except ValueError:
        return False


def _path_failure(output: str, path: str, expected: JsonValue) -> str:
    try:
        found = from_json(output)
    except ValueError:
        return "it is not JSON"
    for step in _steps(path):
        if isinstance(found, list) and isinstance(step, int) and -len(found) <= step < len(found):
            found = found[step]
            continue
        if not isinstance(found, dict) or not isinstance(step, str) or step not in found:
            return f"it has no {path}"
        found = found[step]
    if to_sorted_json(found) == to_sorted_json(expected):
        return ""
    return f"{path} is {to_sorted_json(found)[:200]}"


def _steps(path: str) -> list[str | int]:
    """Return the steps of a path like $.items[0].name. Raises PromptTestInvalid."""
    steps: list[str | int] = []
    position = 1
    while path.startswith("$") and position < len(path):
        found = _STEP.match(path, position)
        if found is None:
            break
        position = found.end()
        if found["index"] is not None:
            steps.append(int(found["index"]))
        else:
            steps.append(found["name"] or found["quoted"][1:-1])
    if not path.startswith("$") or position < len(path):
        raise PromptTestInvalid(f"'{path[:80]}' is no path; write it like $.items[0].name.", param="checks")
    return steps


def _pattern(pattern: str) -> Validator:
    # The schema validator's engine matches in linear time, which Python's own does not.
    return compile_schema({"type": "string", "pattern": pattern}, param="checks")


def _read_check(item: JsonValue, index: int) -> Check:
    place = f"Check {index + 1}"
    if not isinstance(item, dict) or item.get("kind") not in list(CheckKind):
        kinds = ", ".join(CheckKind)
        raise PromptTestInvalid(f"{place} must be an object whose 'kind' is one of: {kinds}.", param="checks")
    unknown = sorted(set(item) - {"kind", "value", "path", "model"})
    if unknown:
        raise PromptTestInvalid(f"{place} has unknown fields: {', '.join(unknown)}.", param="checks")
    check = Check(
        kind=CheckKind(str(item["kind"])),
        value=item.get("value"),
        path=str(item.get("path") or ""),
        model=str(item.get("model") or ""),
    )
    problem = _problem(check, has_value="value" in item)
    if problem:
        raise PromptTestInvalid(f"{place} ({check.kind.value}): {problem}.", param="checks")
    return check


def _problem(check: Check, *, has_value: bool) -> str:
    value = check.value
    match check.kind:
        case CheckKind.SCHEMA:
            return ""
        case CheckKind.CONTAINS | CheckKind.NOT_CONTAINS | CheckKind.JUDGED:
            return "" if isinstance(value, str) and value.strip() else "'value' must be text"
        case CheckKind.MATCHES:
            return _pattern_problem(value)
        case CheckKind.MAX_TOKENS:
            is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
            return "" if is_count else "'value' must be a whole number above zero"
        case CheckKind.MAX_COST:
            return _amount_problem(value)
        case CheckKind.JSON_PATH:
            _steps(check.path)
    return "" if has_value else "'value' is missing"


def _pattern_problem(value: JsonValue) -> str:
    if not isinstance(value, str) or not value:
        return "'value' must be a regular expression"
    try:
        _pattern(value)
    except SchemaInvalid:
        return "'value' is no regular expression that can be matched in linear time"
    return ""


def _amount_problem(value: JsonValue) -> str:
    # As text: a JSON number would pass through a float.
    problem = "'value' must be an amount in USD as text, such as \"0.002\""
    if not isinstance(value, str):
        return problem
    try:
        return "" if parse_usd(value) >= 0 else problem
    except ValueError:
        return problem
