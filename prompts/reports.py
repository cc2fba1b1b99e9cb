"""Running the test cases of whatever a pin means, and what came of it: for the command line and the API."""

from dataclasses import dataclass

from django.db import connection

from common.money import format_usd
from common.sql import Sql
from prompts.errors import PromptNotFound
from prompts.json_values import JsonObject, JsonValue, from_json
from prompts.models import PromptTestResult
from prompts.names import parse_pin
from prompts.ports import open_runner
from prompts.release_table import find_pinned, read_release_table
from prompts.testing import run_test_cases


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseReport:
    """The results of one version's cases. Without a case nothing was proven, so nothing has passed."""

    prompt: str
    version: str
    results: tuple[PromptTestResult, ...]

    @property
    def failed(self) -> int:
        return sum(not result.is_passed for result in self.results)

    @property
    def is_passed(self) -> bool:
        return bool(self.results) and not self.failed

    def as_json(self) -> JsonObject:
        """Return the report for programs."""
        return {
            "prompt": self.prompt,
            "version": self.version,
            "passed": self.is_passed,
            "results": [_result_json(result) for result in self.results],
        }

    def as_text(self) -> str:
        """Return the report for people: a line a case, and what failed below it."""
        lines = [f"{self.prompt} {self.version}"]
        for result in self.results:
            verdict = "passed" if result.is_passed else "FAILED"
            tokens = result.input_tokens + result.output_tokens
            lines.append(
                f"{verdict}  {result.case.name}  ({result.model}, {tokens} tokens, "
                f"{format_usd(result.cost_nanousd)} USD, {result.latency_ms} ms)"
            )
            lines += [f"        {failure}" for failure in _failures(result)]
        if not self.results:
            lines.append("The prompt has no active test case.")
        return "\n".join(lines)


def run_tests_of(*, name: str, pin: str, model: str, author: str) -> CaseReport:
    """Run the active test cases of the version that `pin` means (during a rollout: the old one) and return the report.

    Raises PromptNotFound, PinInvalid, PromptTestInvalid, PromptUnusable.
    """
    wanted = parse_pin(pin or None)
    entry = read_release_table(Sql(connection)).prompts.get(name)
    if entry is None:
        raise PromptNotFound(name=name)
    version = find_pinned(entry, wanted)
    if version is None:
        raise PromptNotFound(name=name, pin=str(wanted))
    with open_runner() as runner:
        results = run_test_cases(runner, version_id=version.id, author=author, model=model)
    return CaseReport(prompt=name, version=str(version.number), results=tuple(results))


def _failures(result: PromptTestResult) -> list[str]:
    found = from_json(result.failures)
    return [str(failure) for failure in found] if isinstance(found, list) else []


def _result_json(result: PromptTestResult) -> JsonValue:
    failures: list[JsonValue] = [*_failures(result)]
    return {
        "case": result.case.name,
        "model": result.model,
        "passed": result.is_passed,
        "failures": failures,
        "input_tokens": result.input_tokens,
        "output_tokens": result.output_tokens,
        "cost_usd": format_usd(result.cost_nanousd),
        "latency_ms": result.latency_ms,
    }
