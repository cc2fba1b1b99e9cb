"""Is a rule sane? Asked wherever one is written; the request path trusts the answer."""

import re2

from gateway.guards.detectors import ENTITIES
from gateway.guards.errors import GuardRuleInvalid
from gateway.guards.languages import LANGUAGES
from gateway.guards.phrases import DEFAULT_THRESHOLD
from gateway.guards.values import SPAN_KINDS, Action, Judge, Rule, RuleKind
from gateway.guards.width import UnboundedPattern, widest_match

DEFAULT_TOPIC_TERMS = 3
_MOST_TERMS = 10_000
_MOST_CHARACTERS_OF_TERM = 100
MOST_INSTRUCTIONS = 4_000
DEADLINES_MS = range(100, 10_001)
_DEFAULT_THRESHOLDS = {RuleKind.INJECTION: DEFAULT_THRESHOLD, RuleKind.TOPIC: DEFAULT_TOPIC_TERMS}


def default_threshold(kind: RuleKind) -> int:
    """Return the threshold of a rule that names none."""
    return _DEFAULT_THRESHOLDS.get(kind, 1)


def split_list(text: str) -> frozenset[str]:
    """Return the items of a comma-separated list."""
    return frozenset(item.strip().lower() for item in text.split(",") if item.strip())


def split_terms(text: str) -> tuple[str, ...]:
    """Return the terms of a text with one a line, each once."""
    return tuple(dict.fromkeys(line.strip().lower() for line in text.splitlines() if line.strip()))


def check_rule(rule: Rule) -> None:
    """Return when a rule can be used. Raises GuardRuleInvalid, which names the column."""
    if not rule.surfaces:
        raise GuardRuleInvalid("The rule looks at nothing: choose at least one of user, tools, system, answer.")
    if rule.action is Action.REDACT and rule.kind not in SPAN_KINDS:
        raise GuardRuleInvalid(
            f"A rule of the kind '{rule.kind}' judges a text as a whole and can only flag or block.", param="action"
        )
    if rule.threshold < 1:
        raise GuardRuleInvalid("The threshold must be at least 1.", param="threshold")
    _check_kind(rule)


def _check_kind(rule: Rule) -> None:
    """Check the columns that count for the rule's kind."""
    match rule.kind:
        case RuleKind.PII | RuleKind.SECRETS:
            _check_names("entities", rule.entities, frozenset(ENTITIES[rule.kind]))
        case RuleKind.WORDS | RuleKind.TOPIC:
            _check_terms(rule)
        case RuleKind.PATTERN:
            _check_pattern(rule.pattern)
        case RuleKind.LANGUAGE:
            if not rule.languages:
                raise GuardRuleInvalid("Name the languages that are allowed.", param="languages")
            _check_names("languages", rule.languages, LANGUAGES)
        case RuleKind.LENGTH if rule.max_characters < 1:
            raise GuardRuleInvalid("Say how long a text may be.", param="max_characters")
        case RuleKind.MODEL:
            _check_judge(rule.judge)


def _check_judge(judge: Judge | None) -> None:
    if judge is None or not judge.model:
        raise GuardRuleInvalid("Choose the model that judges.", param="judge_model")
    if not judge.key_line_id:
        raise GuardRuleInvalid("Choose the key whose customer pays for the checks.", param="judge_key")
    if not judge.instructions.strip():
        raise GuardRuleInvalid("Say what the model is not to let through.", param="instructions")
    if len(judge.instructions) > MOST_INSTRUCTIONS:
        raise GuardRuleInvalid(f"At most {MOST_INSTRUCTIONS:,} characters are accepted.", param="instructions")
    if judge.deadline_ms not in DEADLINES_MS:
        raise GuardRuleInvalid(
            f"The deadline is {DEADLINES_MS.start:,} to {DEADLINES_MS.stop - 1:,} ms.", param="deadline_ms"
        )


def _check_names(field: str, given: frozenset[str], known: frozenset[str]) -> None:
    unknown = sorted(given - known)
    if unknown:
        raise GuardRuleInvalid(f"Not known: {', '.join(unknown)}. There are: {', '.join(sorted(known))}.", param=field)


def _check_terms(rule: Rule) -> None:
    if not rule.terms:
        raise GuardRuleInvalid("Name what to look for, one a line.", param="terms")
    if len(rule.terms) > _MOST_TERMS:
        raise GuardRuleInvalid(f"At most {_MOST_TERMS:,} terms are accepted.", param="terms")
    for term in rule.terms:
        if not any(map(str.isalnum, term)) or len(term) > _MOST_CHARACTERS_OF_TERM:
            raise GuardRuleInvalid(
                f"'{term[:40]}' is no word or phrase of at most {_MOST_CHARACTERS_OF_TERM} characters.", param="terms"
            )
    if rule.kind is RuleKind.TOPIC and rule.threshold > len(rule.terms):
        raise GuardRuleInvalid("The threshold is larger than the number of terms.", param="threshold")


def _check_pattern(pattern: str) -> None:
    if not pattern:
        raise GuardRuleInvalid("Write the regular expression.", param="pattern")
    try:
        expression = re2.compile(pattern)
        width = widest_match(pattern)
    except (re2.error, UnboundedPattern) as error:
        reason = error.args[0]
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise GuardRuleInvalid(f"The expression cannot be used: {text}.", param="pattern") from None
    if not width or expression.search("") is not None:
        raise GuardRuleInvalid("The expression must not match nothing at all.", param="pattern")
