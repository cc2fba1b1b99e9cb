"""What guards refuse. The rule and the place are told, the text is not: an answer is no place to repeat a secret."""

from common.errors import InvalidRequest, Unavailable
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


class ContentUnchecked(Unavailable):
    code = "content_unchecked"
    summary = "A content rule could not judge the input in time, and lets nothing through that it has not judged."

    def __init__(self, *, finding: Finding) -> None:
        super().__init__(
            f"The input could not be checked ({finding.rule}), and the platform lets nothing through unchecked. "
            "Nothing was charged; retry in a moment.",
            details=_details(finding),
            retry_after_seconds=1,
        )
        self.finding = finding


class AnswerBlocked(OutputError):
    code = "answer_blocked"
    summary = "A content rule of the platform blocks the model's answer; what was produced by then is charged."
    sentence = (
        "The rule '{finding.rule}' does not let the model's answer through ({finding.place}, from character "
        "{finding.start}). What was produced by then is charged. Ask differently, or have the rule changed."
    )

    def __init__(self, *, finding: Finding) -> None:
        super().__init__(self.sentence.format(finding=finding), details=_details(finding))
        self.finding = finding


class AnswerUnchecked(AnswerBlocked):
    code = "answer_unchecked"
    summary = "A content rule could not judge the model's answer in time; the answer is charged and not handed out."
    sentence = (
        "The model's answer could not be checked ({finding.rule}), and the platform hands nothing out unchecked. The "
        "model has worked, so it is charged, and a repeat would be again: wait until checks work, or have the rule "
        "changed."
    )


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
