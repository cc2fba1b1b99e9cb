"""The public contract as clients see it, against the same platform as the flows."""

from tests.contracts.clients import async_client, caller, client
from tests.flows.fixtures import own_platform, platform

__all__ = ["async_client", "caller", "client", "own_platform", "platform"]
