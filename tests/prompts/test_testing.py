"""Test cases are run through a runner, their results stored, and a label can ask for them."""

from dataclasses import dataclass, field

import pytest

from prompts.checks import Verdict, read_checks
from prompts.errors import PromptTestInvalid, ReleaseRefused
from prompts.json_values import JsonObject, JsonValue
from prompts.models import PromptTestCase, PromptTestResult, PromptVersion
from prompts.releasing import set_label_rules
from prompts.rendering import RenderedPrompt
from prompts.statistics import read_run_numbers
from prompts.testing import RunOutcome, find_untested, run_test_cases, save_test_case
from tests.prompting import make_prompt, publish, release, text_content

pytestmark = pytest.mark.django_db


@dataclass
class ScriptedRunner:
    """A model that repeats what it was sent, unless it is told to fail."""

    failure: str = ""
    models: list[str] = field(default_factory=list)

    def run(self, prompt: RenderedPrompt, *, model: str) -> RunOutcome:
        self.models.append(model)
        if self.failure:
            return RunOutcome(output="", failure=self.failure)
        return RunOutcome(
            output=prompt.messages[-1].content, input_tokens=7, output_tokens=5, cost_nanousd=120, latency_ms=40
        )

    def judge(self, *, rubric: str, output: str, model: str) -> Verdict:
        return Verdict(is_passed=rubric in output, reason=f"it does not say {rubric}")


def add_case(
    version: PromptVersion,
    checks: JsonValue,
    *,
    name: str = "case",
    inputs: JsonObject | None = None,
    case_id: int | None = None,
) -> PromptTestCase:
    return save_test_case(
        prompt_id=version.prompt_id,
        name=name,
        inputs={"name": "Ada"} if inputs is None else inputs,
        checks=read_checks(checks),
        author="ada",
        case_id=case_id,
    )


def run(version: PromptVersion, runner: ScriptedRunner | None = None, model: str = "") -> list[PromptTestResult]:
    return run_test_cases(runner or ScriptedRunner(), version_id=version.pk, author="ada", model=model)


def test_a_result_carries_what_it_cost_and_took() -> None:
    version = publish(make_prompt())
    add_case(version, [{"kind": "contains", "value": "Ada"}, {"kind": "judged", "value": "hello"}])
    (result,) = run(version)
    assert result.is_passed
    assert (result.input_tokens, result.output_tokens, result.cost_nanousd, result.latency_ms) == (7, 5, 120, 40)
    assert (result.model, result.output) == ("some-model", "Say hello to Ada.")


def test_every_failing_check_is_named() -> None:
    version = publish(make_prompt())
    add_case(version, [{"kind": "contains", "value": "Bob"}, {"kind": "judged", "value": "sorry"}, {"kind": "schema"}])
    (result,) = run(version)
    assert not result.is_passed
    for text in ("Bob", "sorry", "no output schema"):
        assert text in result.failures


def test_an_upstream_that_fails_and_inputs_that_do_not_fit_are_results() -> None:
    version = publish(make_prompt())
    add_case(version, [{"kind": "contains", "value": "Ada"}])
    (result,) = run(version, ScriptedRunner(failure="the upstream is down"))
    assert "the upstream is down" in result.failures
    add_case(version, [{"kind": "contains", "value": "Ada"}], name="wrong", inputs={"nobody": 1})
    runner = ScriptedRunner()
    assert [r.is_passed for r in run(version, runner)] == [True, False]
    assert len(runner.models) == 1


def test_a_label_that_asks_for_green_tests_gets_no_untested_version() -> None:
    version = publish(make_prompt())
    set_label_rules(prompt_id=version.prompt_id, label="production", needs_green_tests=True)
    with pytest.raises(ReleaseRefused, match="has none"):
        release(version)
    case = add_case(version, [{"kind": "contains", "value": "Bob"}])
    for _ in range(2):
        with pytest.raises(ReleaseRefused, match="case"):
            release(version)
        run(version)
    case = add_case(version, [{"kind": "contains", "value": "Ada"}], case_id=case.pk)
    assert find_untested(version) == ["case"], "a result of another question does not count"
    run(version, model="another-model")
    assert find_untested(version) == ["case"], "a result of another model does not count"
    run(version)
    release(version)


def test_the_last_result_counts() -> None:
    version = publish(make_prompt())
    add_case(version, [{"kind": "contains", "value": "Ada"}])
    run(version)
    assert find_untested(version) == []
    run(version, ScriptedRunner(failure="down"))
    assert find_untested(version) == ["case"]


def test_a_version_without_a_model_needs_one_named() -> None:
    version = publish(make_prompt(content=text_content(model="")))
    add_case(version, [{"kind": "contains", "value": "Ada"}])
    with pytest.raises(PromptTestInvalid):
        run(version)
    assert run(version, model="m")[0].is_passed


def test_a_case_that_would_always_pass_or_exists_is_refused() -> None:
    version = publish(make_prompt())
    with pytest.raises(PromptTestInvalid):
        add_case(version, [])
    case = add_case(version, [{"kind": "schema"}])
    with pytest.raises(PromptTestInvalid):
        add_case(version, [{"kind": "schema"}])
    other = publish(make_prompt())
    with pytest.raises(PromptTestInvalid):
        add_case(other, [{"kind": "schema"}], case_id=case.pk)


def test_the_numbers_of_a_version_are_those_of_its_runs() -> None:
    version = publish(make_prompt())
    assert read_run_numbers(version.pk) == ()
    add_case(version, [{"kind": "contains", "value": "Ada"}])
    for _ in range(3):
        run(version)
    run(version, ScriptedRunner(failure="down"))
    run(version, model="other")
    other, own = read_run_numbers(version.pk)
    assert (other.model, other.runs) == ("other", 1)
    assert (own.runs, own.failed, own.tokens, own.cost_nanousd) == (4, 1, 36, 360)
    assert (own.p50_ms, own.p95_ms) == (40, 40)
