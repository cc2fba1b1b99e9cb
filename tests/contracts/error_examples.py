"""One example of every error there is, made from what its constructor asks for: a new error needs nothing here."""

import inspect
import pkgutil
from collections.abc import Sequence
from importlib import import_module
from typing import Any, get_type_hints

from common.errors import TollkeeperError, all_error_classes
from gateway.errors import LoadShed, ParametersContradict
from gateway.guards.values import Action, Finding
from keys import errors as keys_errors
from keys.limit_values import EndpointClass, LimitKind
from keys.limits import LimitRefusal
from platform_site.reference import ERROR_MODULES

# What only the log may say: every example carries it, and no client may ever see it.
SECRET = "provider.internal:8443 sk-of-the-platform"
_PACKAGES = ("common", "keys", "billing", "prompts", "gateway", "platform_site")
_BY_TYPE: dict[Any, Any] = {
    str: "thing",
    str | None: "thing",
    int: 7,
    int | None: 7,
    float: 0.5,
    Sequence[str]: ["one", "another"],
    Finding: Finding("policy-1", "pii.email", Action.BLOCK, "messages[0].content", 0, 15),
}
# Where the type does not say which values there are.
_BY_CLASS: dict[type[TollkeeperError], dict[str, Any]] = {
    LoadShed: {"cause": "queue", "priority": "batch"},
    ParametersContradict: {"sentence": "'a' needs 'b'. Send both."},
}
_KINDS: dict[type[TollkeeperError], tuple[LimitKind, int | None]] = {
    keys_errors.RateLimitExceeded: (LimitKind.REQUESTS, 7),
    keys_errors.ConcurrencyExceeded: (LimitKind.CONCURRENCY, 7),
    keys_errors.RequestExceedsLimit: (LimitKind.OUTPUT_TOKENS, None),
    keys_errors.LimitIsZero: (LimitKind.REQUESTS, None),
    keys_errors.BudgetExceeded: (LimitKind.SPEND_DAY, 7),
    keys_errors.TotalBudgetExceeded: (LimitKind.SPEND_TOTAL, None),
    keys_errors.BudgetTooSmall: (LimitKind.SPEND_MONTH, None),
}


def every_error() -> list[type[TollkeeperError]]:
    """Return the classes of the whole tree: every module of the project is imported first."""
    for package in _PACKAGES:
        for module in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
            if ".migrations" not in module.name:
                import_module(module.name)
    return [error for error in all_error_classes() if error.__module__.partition(".")[0] in _PACKAGES]


def has_own_words(error: type[TollkeeperError]) -> bool:
    """Return whether the class fixes its sentence; the others are given it where they are raised."""
    message = inspect.signature(error.__init__).parameters.get("message")
    return message is None or message.default is None


def make_example(error: type[TollkeeperError]) -> TollkeeperError:
    """Return an instance. Fails for a constructor that asks for something of an unknown type."""
    hints, values = get_type_hints(error.__init__), dict(_BY_CLASS.get(error, {}))
    for name, parameter in inspect.signature(error.__init__).parameters.items():
        if name == "internal_detail":
            values[name] = SECRET
        elif hints.get(name) is LimitRefusal:
            values[name] = _refusal(*_KINDS[error])
        elif name not in ("self", *values) and parameter.default is inspect.Parameter.empty:
            assert hints[name] in _BY_TYPE, f"{error.__name__}: an example of {name}: {hints[name]} is missing here"
            values[name] = _BY_TYPE[hints[name]]
    return error(**values)


def is_documented(error: type[TollkeeperError]) -> bool:
    """Return whether the generated page of errors is made from the class's module."""
    return error.__module__ in ERROR_MODULES


def _refusal(kind: LimitKind, wait: int | None) -> LimitRefusal:
    return LimitRefusal(
        kind=kind,
        endpoint_class=EndpointClass.CHAT,
        owner="key",
        source="plan",
        limit=10,
        used=8,
        requested=5,
        retry_after_seconds=wait,
        at_once=10,
        resets_in_seconds=wait,
    )
