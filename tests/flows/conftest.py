"""End-to-end tests by use case: a real server process, real sockets, the scripted upstream.

Most are marked `slow`: `make test` leaves them to `make check`, so that it takes two minutes.
"""

from pathlib import Path

import pytest

from tests.flows.fixtures import own_platform, platform

__all__ = ["own_platform", "platform"]

# What a newcomer should see proven at once.
_QUICK = {"test_documents.py", "test_money.py", "test_websocket.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, but for the quick ones."""
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here and item.path.name not in _QUICK:
            item.add_marker(pytest.mark.slow)
