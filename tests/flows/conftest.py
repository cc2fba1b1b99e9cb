"""End-to-end tests by use case: a real server process, real sockets, the scripted upstream."""

from tests.flows.fixtures import own_platform, platform

__all__ = ["own_platform", "platform"]
