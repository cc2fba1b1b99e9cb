"""Models and upstreams in the admin, and the pages of lower apps that need to know the models."""

from gateway.admin import (
    api_keys,
    attempts,
    cache,
    guard_decisions,
    guards,
    models,
    prices,
    prompts,
    refusals,
    upstreams,
    workers,
)

__all__ = [
    "api_keys",
    "attempts",
    "cache",
    "guard_decisions",
    "guards",
    "models",
    "prices",
    "prompts",
    "refusals",
    "upstreams",
    "workers",
]
