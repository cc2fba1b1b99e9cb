"""What a key may do: one `resource:action` a right. Operations declare the scope that they need."""

from enum import StrEnum


class Scope(StrEnum):
    """A right that a key carries; the value is stored and shown."""

    CHAT_WRITE = "chat:write"
    EMBEDDINGS_WRITE = "embeddings:write"
    MODERATIONS_WRITE = "moderations:write"
    PROMPTS_RUN = "prompts:run"
    PROMPTS_TEST = "prompts:test"
    JOBS_WRITE = "jobs:write"
    MODELS_READ = "models:read"
    USAGE_READ = "usage:read"
    BILLING_READ = "billing:read"
    KEYS_MANAGE = "keys:manage"

    @property
    def label(self) -> str:
        return _LABELS[self]


_LABELS = {
    Scope.CHAT_WRITE: "Call chat models",
    Scope.EMBEDDINGS_WRITE: "Call embedding models",
    Scope.MODERATIONS_WRITE: "Call moderation models",
    Scope.PROMPTS_RUN: "Run published prompts",
    Scope.PROMPTS_TEST: "Run the test cases of prompts, which the platform pays for",
    Scope.JOBS_WRITE: "Submit and cancel jobs",
    Scope.MODELS_READ: "List the models it may use",
    Scope.USAGE_READ: "Read the customer's usage",
    Scope.BILLING_READ: "Read the customer's balance, ledger and invoices",
    Scope.KEYS_MANAGE: "List, make, rotate and revoke the customer's keys, none wider than itself",
}

# What a key gets when nobody chose: everything a calling application needs, nothing that administers.
DEFAULT_SCOPES = tuple(scope for scope in Scope if scope not in (Scope.KEYS_MANAGE, Scope.PROMPTS_TEST))
