"""The dialects that can be spoken, by the value of `Upstream.dialect`."""

from gateway.models import Dialect
from gateway.upstreams import anthropic, openai_dialect
from gateway.upstreams.dialect import DialectModule

_MODULES: dict[Dialect, DialectModule] = {
    Dialect.OPENAI: openai_dialect,
    Dialect.LOCAL: openai_dialect,
    Dialect.ANTHROPIC: anthropic,
}


def dialect_of(dialect: Dialect) -> DialectModule:
    """Return the functions of a dialect."""
    return _MODULES[dialect]
