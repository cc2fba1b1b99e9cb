"""The platform that most end-to-end tests share: one server a test process, a model and customer of its own a test."""

from collections.abc import Callable, Iterator

import pytest
from pytest_django import DjangoDbBlocker

from tests.flows.database import drop_templates
from tests.flows.platform import Platform

_SHARED = pytest.StashKey[Platform]()

# Small enough that a test reaches the bound, large enough that none does by chance.
_VARIABLES = {
    "CLIENT_STALL_SECONDS": "2",
    "MAX_BODY_BYTES": "4000000",
    "MAX_MESSAGES": "50",
    "WEBSOCKET_CALLS_LIMIT": "4",
}


def shared_platform(config: pytest.Config, blocker: DjangoDbBlocker) -> Platform:
    """Return the platform of this test process, started at its first use.

    Two folders ask for it; a session fixture in the conftest of each would start it twice.
    """
    if _SHARED not in config.stash:
        config.add_cleanup(drop_templates)
        platform = Platform(blocker=blocker, **_VARIABLES)
        config.add_cleanup(platform.close)
        platform.start()
        config.stash[_SHARED] = platform
    return config.stash[_SHARED]


@pytest.fixture
def platform(pytestconfig: pytest.Config, django_db_blocker: DjangoDbBlocker) -> Iterator[Platform]:
    """Return the shared platform with an upstream that remembers nothing of earlier tests."""
    shared = shared_platform(pytestconfig, django_db_blocker)
    shared.upstream.reset()
    said_before = len(shared.server.log)
    yield shared
    # A test that failed half-way leaves no answer held for the next one.
    shared.upstream.reset()
    said = shared.server.log[said_before:]
    assert "Traceback" not in said, said


@pytest.fixture
def own_platform(pytestconfig: pytest.Config, django_db_blocker: DjangoDbBlocker) -> Iterator[Callable[..., Platform]]:
    """Return a function that makes a platform for this test alone, for tests that end its servers."""
    made: list[Platform] = []
    pytestconfig.add_cleanup(drop_templates)

    def make(*, servers: int = 1, **variables: str) -> Platform:
        platform = Platform(blocker=django_db_blocker, **variables)
        made.append(platform)
        platform.start(servers=servers)
        return platform

    yield make
    for platform in made:
        platform.close()
