"""The public contract as clients see it, against the same platform as the flows."""

from tests.flows.fixtures import own_platform, platform

__all__ = ["own_platform", "platform"]
