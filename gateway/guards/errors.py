"""What guards refuse. The rule and the place are told, the text is not: an answer is no place to repeat a secret."""

from common.errors import InvalidRequest
from gateway.guards.values import Finding
from gateway.structured.errors import OutputError


class ContentBlocked(InvalidRequest):
    code = "content_blocked"
    summary = "A content rule of the platform blocks the input; `details` name the rule, the place and the characters."

    def __init__(self, *, finding: Finding) -> None:
        super().__init__(
            f"The rule '{finding.rule}' does not let this content through: characters {finding.start} to {finding.end} "
            f"of {finding.place}. Nothing was charged; change or remove them, or ask for another rule.",
            param=finding.place,
            details=_details(finding),
        )
        self.finding = finding


class AnswerBlocked(OutputError):
    code = "answer_blocked"
    summary = "A content rule of the platform blocks the model's answer; what was produced by then is charged."

    def __init__(self, *, finding: Finding) -> None:
        super().__init__(
            f"The rule '{finding.rule}' does not let the model's answer through ({finding.place}, from character "
            f"{finding.start}). What was produced by then is charged. Ask differently, or have the rule changed.",
            details=_details(finding),
        )
        self.finding = finding


class GuardRuleInvalid(InvalidRequest):
    code = "invalid_guard_rule"
    summary = "A rule of a guard policy cannot work as it is written (admin and declarations only)."


def _details(finding: Finding) -> dict[str, str | int]:
    return {
        "rule": finding.rule,
        "policy": finding.policy,
        "place": finding.place,
        "start": finding.start,
        "end": finding.end,
    }
