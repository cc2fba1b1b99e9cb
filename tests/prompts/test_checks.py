"""Each kind of check holds exactly when it should, and a badly written one is refused before it is stored."""

import pytest

from prompts.checks import Check, CheckKind, Verdict, check_output, read_checks, write_checks
from prompts.errors import PromptTestInvalid
from prompts.json_values import JsonObject, JsonValue
from prompts.schemas import compile_schema

OUTPUT = '{"name": "Ada", "items": [{"sku": "A-1", "n": 2}], "ok": true}'
SCHEMA: JsonObject = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def holds(check: JsonObject, output: str = OUTPUT, *, verdict: Verdict | None = None) -> bool:
    (result,) = check_output(
        read_checks([check]),
        output,
        output_validator=compile_schema(SCHEMA, param="output_schema"),
        tokens=100,
        cost_nanousd=2_000,
        verdicts={} if verdict is None else {0: verdict},
    )
    assert result.is_passed == (not result.reason)
    return result.is_passed


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ({"kind": "schema"}, True),
        ({"kind": "contains", "value": "Ada"}, True),
        ({"kind": "contains", "value": "Bob"}, False),
        ({"kind": "not_contains", "value": "Bob"}, True),
        ({"kind": "not_contains", "value": "Ada"}, False),
        ({"kind": "matches", "value": "A-[0-9]+"}, True),
        ({"kind": "matches", "value": "^A-[0-9]+$"}, False),
        ({"kind": "equals", "value": {"ok": True, "items": [{"n": 2, "sku": "A-1"}], "name": "Ada"}}, True),
        ({"kind": "equals", "value": "Ada"}, False),
        ({"kind": "json_path", "path": "$.items[0].sku", "value": "A-1"}, True),
        ({"kind": "json_path", "path": "$['items'][-1].n", "value": 2}, True),
        ({"kind": "json_path", "path": "$.items[1].sku", "value": "A-1"}, False),
        ({"kind": "json_path", "path": "$.name.first", "value": "Ada"}, False),
        ({"kind": "max_tokens", "value": 100}, True),
        ({"kind": "max_tokens", "value": 99}, False),
        ({"kind": "max_cost_usd", "value": "0.000002"}, True),
        ({"kind": "max_cost_usd", "value": "0.000001999"}, False),
    ],
)
def test_a_check_holds_exactly_when_it_should(check: JsonObject, expected: bool) -> None:
    assert holds(check) is expected


@pytest.mark.parametrize("check", [{"kind": "schema"}, {"kind": "json_path", "path": "$.a", "value": 1}])
def test_what_is_no_json_fails_checks_of_json(check: JsonObject) -> None:
    assert not holds(check, "Hello")
    assert not holds(check, "{}")


def test_a_judged_check_needs_a_verdict() -> None:
    check: JsonObject = {"kind": "judged", "value": "It is polite."}
    assert not holds(check)
    assert holds(check, verdict=Verdict(is_passed=True, reason=""))
    assert not holds(check, verdict=Verdict(is_passed=False, reason="rude"))


def test_a_prompt_without_output_schema_fails_the_check_for_it() -> None:
    (result,) = check_output((Check(kind=CheckKind.SCHEMA),), "{}", output_validator=None, tokens=0, cost_nanousd=0)
    assert not result.is_passed


@pytest.mark.parametrize(
    "checks",
    [
        {},
        ["contains"],
        [{}],
        [{"kind": "unknown", "value": "x"}],
        [{"kind": "contains"}],
        [{"kind": "contains", "value": " "}],
        [{"kind": "contains", "value": 3}],
        [{"kind": "contains", "value": "x", "more": 1}],
        [{"kind": "matches", "value": "(?=a)"}],
        [{"kind": "matches", "value": "("}],
        [{"kind": "equals"}],
        [{"kind": "json_path", "path": "items", "value": 1}],
        [{"kind": "json_path", "path": "$.a..b", "value": 1}],
        [{"kind": "json_path", "path": "$.a"}],
        [{"kind": "max_tokens", "value": 0}],
        [{"kind": "max_tokens", "value": True}],
        [{"kind": "max_cost_usd", "value": 0.5}],
        [{"kind": "max_cost_usd", "value": "1e3"}],
        [{"kind": "judged", "value": ""}],
        [{"kind": "schema"}] * 21,
    ],
)
def test_a_badly_written_check_is_refused(checks: JsonValue) -> None:
    with pytest.raises(PromptTestInvalid):
        read_checks(checks)


def test_checks_survive_being_written_and_read() -> None:
    checks = read_checks(
        [
            {"kind": "schema"},
            {"kind": "judged", "value": "Polite?", "model": "judge"},
            {"kind": "json_path", "path": "$.a", "value": None},
        ]
    )
    assert read_checks(write_checks(checks)) == checks
