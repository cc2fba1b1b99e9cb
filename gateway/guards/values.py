"""What guards are made of: policies, their rules, and what was found by them. All values are frozen and hashable."""

from enum import StrEnum
from typing import NamedTuple


class Action(StrEnum):
    """What becomes of a text in which a rule finds something; nothing found is always let through."""

    FLAG = "flag"
    REDACT = "redact"
    BLOCK = "block"

    @property
    def strength(self) -> int:
        """Return the rank by which the strictest of several rules is found."""
        return _STRENGTHS[self]


_STRENGTHS = {Action.FLAG: 1, Action.REDACT: 2, Action.BLOCK: 3}


class Surface(StrEnum):
    """Whose words a text is."""

    # What the developer of an application says; the text of a prompt of the platform is nobody's but its owner's.
    SYSTEM = "system"
    USER = "user"
    # Results of tools, which may be anybody's words.
    TOOL = "tool"
    ANSWER = "answer"


class RuleKind(StrEnum):
    """What a rule looks for."""

    INJECTION = "injection"
    PII = "pii"
    SECRETS = "secrets"
    WORDS = "words"
    TOPIC = "topic"
    PATTERN = "pattern"
    LANGUAGE = "language"
    LENGTH = "length"
    MODEL = "model"


class OnFailure(StrEnum):
    """What becomes of a text whose judge gives no verdict, or not in time."""

    BLOCK = "block"
    ALLOW = "allow"


# Their findings are spans that can be replaced; those of the other kinds are verdicts on a text.
SPAN_KINDS = frozenset({RuleKind.PII, RuleKind.SECRETS, RuleKind.WORDS, RuleKind.PATTERN})


class Judge(NamedTuple):
    """Who judges texts for a rule of the kind `model`, and who pays for that."""

    # Public name of a model of the gateway.
    model: str
    # What is not let through, in the administrator's words.
    instructions: str
    # The key that makes the calls, by the first one of its line; only calls of its environment are judged.
    key_line_id: int
    environment: str
    deadline_ms: int = 2_000
    on_failure: OnFailure = OnFailure.BLOCK


class Rule(NamedTuple):
    """One rule of a policy; which fields count depends on its kind."""

    policy: str
    name: str
    kind: RuleKind
    action: Action
    surfaces: frozenset[Surface]
    # Put redacted values back where the answer names their placeholders.
    restores: bool = True
    # pii, secrets: which of the built-in kinds; empty: all.
    entities: frozenset[str] = frozenset()
    # words, topic: what to look for; a term that ends in * may go on.
    terms: tuple[str, ...] = ()
    # injection: the score, topic: the number of different terms, from which on it counts.
    threshold: int = 1
    pattern: str = ""
    # language: what is allowed, as ISO 639-1 codes.
    languages: frozenset[str] = frozenset()
    max_characters: int = 0
    # model
    judge: Judge | None = None

    def name_of(self, entity: str) -> str:
        """Return the name under which a finding is told: "pii.email"."""
        return f"{self.name}.{entity}" if entity else self.name


class Finding(NamedTuple):
    """What a rule found, never the text itself. Offsets are characters of the text as it was given."""

    policy: str
    rule: str
    action: Action
    # Which text: "messages[2].content", "inputs.mail", "choices[0].content".
    place: str
    start: int
    end: int
