"""What the tests of a batch share."""

import pytest

from common.clock import FrozenClock
from gateway.admission.context import BatchContext
from tests.admitting import make_context
from tests.conftest import NOON_US


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(NOON_US)


@pytest.fixture
def context(clock: FrozenClock) -> BatchContext:
    return make_context(clock)
