"""Test cases of prompts and their results: what has to hold before a version may get a label that asks for it.

Running a case calls a model, which this app cannot: the gateway hands in a `PromptRunner`. A result counts while the
case still asks what it asked then (its fingerprint), and for the model that the version itself names.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from django.db import connection, transaction

from common.errors import TollkeeperError
from common.sql import Sql
from prompts.authoring import lock_prompt
from prompts.checks import Check, CheckKind, CheckResult, Verdict, check_output, read_checks, write_checks
from prompts.content import read_content
from prompts.errors import PromptTestInvalid
from prompts.json_values import JsonObject, from_json, to_json, to_sorted_json
from prompts.models import PromptTestCase, PromptTestResult, PromptVersion
from prompts.rendering import RenderedPrompt, render_prompt
from prompts.snapshots import read_prompt_book
from prompts.validation import CompiledContent

_MAX_INPUT_CHARACTERS = 100_000
_MAX_STORED_OUTPUT = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """What a model answered. `failure` is why there is no answer; then the output is empty."""

    output: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nanousd: int = 0
    latency_ms: int = 0
    failure: str = ""


class PromptRunner(Protocol):
    """Calls models for tests; implemented by the gateway. Neither method raises for a failing upstream."""

    def run(self, prompt: RenderedPrompt, *, model: str) -> RunOutcome:
        """Call `model` with a filled-in prompt and return what came back."""
        ...

    def judge(self, *, rubric: str, output: str, model: str) -> Verdict:
        """Ask a model (empty: the runner's choice) whether `output` satisfies `rubric`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseStatus:
    """An active case and how a version did on it last; None: not run since the case or the version changed."""

    case: PromptTestCase
    result: PromptTestResult | None

    @property
    def is_green(self) -> bool:
        return self.result is not None and self.result.is_passed


@transaction.atomic
def save_test_case(
    *,
    prompt_id: int,
    name: str,
    inputs: JsonObject,
    checks: tuple[Check, ...],
    author: str,
    is_active: bool = True,
    case_id: int | None = None,
) -> PromptTestCase:
    """Create a test case, or replace what the one with `case_id` says, and return it. Raises PromptTestInvalid."""
    if not name.strip() or len(name) > 80:
        raise PromptTestInvalid("A test case has a name of at most 80 characters.", param="name")
    if not checks:
        raise PromptTestInvalid("A test case without a check would pass whatever comes back.", param="checks")
    written_inputs, written_checks = to_json(inputs), to_json(write_checks(checks))
    if len(written_inputs) > _MAX_INPUT_CHARACTERS:
        raise PromptTestInvalid(
            f"The inputs of a case have at most {_MAX_INPUT_CHARACTERS:,} characters.", param="inputs"
        )
    lock_prompt(prompt_id)
    same_name = PromptTestCase.objects.filter(prompt_id=prompt_id, name=name.strip()).values_list("pk", flat=True)
    if set(same_name) - {case_id}:
        raise PromptTestInvalid(f"This prompt has a test case '{name.strip()}' already.", param="name")
    asked = f"{to_sorted_json(inputs)}\n{written_checks}"
    case = PromptTestCase(prompt_id=prompt_id) if case_id is None else _get_case(prompt_id, case_id)
    case.name = name.strip()
    case.inputs = written_inputs
    case.checks = written_checks
    case.fingerprint = hashlib.sha256(asked.encode()).hexdigest()
    case.is_active = is_active
    case.updated_by = author
    case.updated_at = datetime.now(UTC)
    case.save()
    return case


def run_test_cases(
    runner: PromptRunner, *, version_id: int, author: str, model: str = "", case_ids: Sequence[int] | None = None
) -> list[PromptTestResult]:
    """Run the active cases (or those named) on a version and store the results.

    `model` defaults to the version's own. A case that cannot even be filled in is stored as failed. Raises
    PromptTestInvalid when neither names a model. Holds no transaction while models think.
    """
    version = PromptVersion.objects.select_related("prompt").get(pk=version_id)
    chosen = model or read_content(version.content).model
    if not chosen:
        raise PromptTestInvalid("This version names no model; choose one to run the cases with.", param="model")
    book = read_prompt_book(Sql(connection))
    entry = book.table.prompts[version.prompt.name].by_number[version.number]
    compiled = book.get_compiled(entry)
    cases = PromptTestCase.objects.filter(prompt_id=version.prompt_id).order_by("name", "id")
    cases = cases.filter(is_active=True) if case_ids is None else cases.filter(pk__in=case_ids)
    return [_run_case(runner, compiled, version, case, model=chosen, author=author) for case in cases]


def read_case_statuses(version: PromptVersion) -> list[CaseStatus]:
    """Return every active case of the version's prompt with the result that counts, in two queries."""
    cases = PromptTestCase.objects.filter(prompt_id=version.prompt_id, is_active=True).order_by("name", "id")
    model = read_content(version.content).model
    results = PromptTestResult.objects.filter(version=version).order_by("id")
    if model:
        results = results.filter(model=model)
    # The last of each case wins.
    latest = {(r.case_id, r.case_fingerprint): r for r in results}
    return [CaseStatus(case=case, result=latest.get((case.pk, case.fingerprint))) for case in cases]


def find_untested(version: PromptVersion) -> list[str]:
    """Return the names of the active cases that the version has not passed; a prompt without cases is untested."""
    statuses = read_case_statuses(version)
    if not statuses:
        return ["any test case (the prompt has none)"]
    return [status.case.name for status in statuses if not status.is_green]


def _run_case(
    runner: PromptRunner,
    compiled: CompiledContent,
    version: PromptVersion,
    case: PromptTestCase,
    *,
    model: str,
    author: str,
) -> PromptTestResult:
    outcome, results = _try_case(runner, compiled, case, model=model)
    failures = [outcome.failure] if outcome.failure else []
    failures += [f"{r.check.describe()}: {r.reason}" for r in results if not r.is_passed]
    return PromptTestResult.objects.create(
        version=version,
        case=case,
        case_fingerprint=case.fingerprint,
        model=model,
        is_passed=not failures,
        failures=to_json(list(failures)),
        output=outcome.output[:_MAX_STORED_OUTPUT],
        input_tokens=outcome.input_tokens,
        output_tokens=outcome.output_tokens,
        cost_nanousd=outcome.cost_nanousd,
        latency_ms=outcome.latency_ms,
        author=author,
        created_at=datetime.now(UTC),
    )


def _try_case(
    runner: PromptRunner, compiled: CompiledContent, case: PromptTestCase, *, model: str
) -> tuple[RunOutcome, tuple[CheckResult, ...]]:
    inputs = from_json(case.inputs)
    assert isinstance(inputs, dict)
    try:
        prompt = render_prompt(compiled, inputs)
    except TollkeeperError as error:
        return RunOutcome(output="", failure=error.message), ()
    outcome = runner.run(prompt, model=model)
    if outcome.failure:
        return outcome, ()
    checks = read_checks(from_json(case.checks))
    verdicts = {
        index: runner.judge(rubric=str(check.value), output=outcome.output, model=check.model)
        for index, check in enumerate(checks)
        if check.kind is CheckKind.JUDGED
    }
    results = check_output(
        checks,
        outcome.output,
        output_validator=compiled.output_validator,
        tokens=outcome.input_tokens + outcome.output_tokens,
        cost_nanousd=outcome.cost_nanousd,
        verdicts=verdicts,
    )
    return outcome, results


def _get_case(prompt_id: int, case_id: int) -> PromptTestCase:
    case = PromptTestCase.objects.filter(pk=case_id, prompt_id=prompt_id).first()
    if case is None:
        raise PromptTestInvalid("There is no such test case of this prompt.")
    return case
