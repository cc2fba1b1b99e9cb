"""What the server allows of any call, by its settings."""

from typing import NamedTuple

from django.conf import settings


class CallBounds(NamedTuple):
    """Bounds of a body."""

    max_messages: int
    # How often a model is asked for an answer that fits its schema: by default, and at most.
    attempts: int
    attempts_limit: int


def read_bounds() -> CallBounds:
    """Return the bounds that the environment sets."""
    environment = settings.ENVIRONMENT
    return CallBounds(environment.max_messages, environment.output_attempts, environment.output_attempts_limit)
