"""What a key may do: one `resource:action` a right. Operations declare the scope that they need."""

from enum import StrEnum


class Scope(StrEnum):
    """A right that a key carries; the value is stored and shown."""

    CHAT_WRITE = "chat:write"
    MODELS_READ = "models:read"
    USAGE_READ = "usage:read"
    BILLING_READ = "billing:read"

    @property
    def label(self) -> str:
        return _LABELS[self]


_LABELS = {
    Scope.CHAT_WRITE: "Call chat models",
    Scope.MODELS_READ: "List the models it may use",
    Scope.USAGE_READ: "Read the customer's usage",
    Scope.BILLING_READ: "Read the customer's balance",
}

# What a key gets when nobody chose: everything a calling application needs, nothing that administers.
DEFAULT_SCOPES = tuple(Scope)
