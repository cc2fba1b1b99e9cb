"""Under load the lower classes wait outside: refused before admission, told why and for how long, charged nothing."""

from collections.abc import Callable

import pytest

from keys.models import Customer, Plan
from tests.flows.platform import Caller, Platform
from tests.flows.wire import Answer, ask
from tests.upstream import error

BATCH = {"x-priority": "batch"}


@pytest.fixture
def platform(own_platform: Callable[..., Platform]) -> Platform:
    """Return a platform whose breakers stay closed: here it is strain that tells who waits."""
    return own_platform(BREAKER_FAILURES="1000")


def make_free(platform: Platform, model: str) -> Caller:
    """Make a caller on a plan that is not paid."""
    caller = platform.make_caller(model=model)

    def set_free() -> None:
        plan = Plan.objects.get(pk=Customer.objects.get(pk=caller.customer_id).plan_id)
        plan.is_paid = False
        plan.save()

    platform.run(set_free)
    return caller


async def strain(platform: Platform, model: str, *, failures: int) -> None:
    """Let the model's upstream fail so often."""
    caller = platform.make_caller(model=model)
    platform.upstream.queue(*[error(500)] * failures, target=model)
    for _ in range(failures):
        assert (await ask(platform.server, caller)).status == 502


def assert_shed(answer: Answer, priority: str) -> None:
    assert (answer.status, answer.error["code"]) == (503, "load_shed"), answer.raw
    assert answer.error["details"]["priority"] == priority
    assert answer.error["details"]["cause"] == "upstream"
    assert 1 <= int(answer.headers["retry-after"]) <= 60


async def test_a_strained_upstream_is_left_to_the_paid_interactive_calls(platform: Platform) -> None:
    model = platform.make_model()
    paid, free = platform.make_caller(model=model), make_free(platform, model)
    for caller in (paid, free):
        assert (await ask(platform.server, caller, headers=BATCH)).status == 200
    await strain(platform, model, failures=30)
    assert_shed(await ask(platform.server, free, headers=BATCH), "free_batch")
    assert_shed(await ask(platform.server, paid, headers=BATCH), "paid_batch")
    assert_shed(await ask(platform.server, paid, service_tier="flex"), "paid_batch")
    assert_shed(await ask(platform.server, free), "free_interactive")
    assert (await ask(platform.server, paid)).status == 200
    # What was shed left no hold, no usage and no charge.
    assert len(platform.read_usage(free)) == 1
    platform.assert_settled(free)
    platform.assert_settled(paid)


async def test_other_models_do_not_suffer(platform: Platform) -> None:
    await strain(platform, platform.make_model(), failures=30)
    other = make_free(platform, platform.make_model())
    assert (await ask(platform.server, other, headers=BATCH)).status == 200


async def test_a_model_with_a_healthy_second_upstream_does_not_suffer(platform: Platform) -> None:
    model = platform.make_model()
    await strain(platform, model, failures=30)
    platform.add_deployment(model, priority=2)
    assert (await ask(platform.server, make_free(platform, model), headers=BATCH)).status == 200


@pytest.mark.parametrize("priority", ["urgent", "Batch", "0"])
async def test_an_unknown_priority_is_refused(platform: Platform, priority: str) -> None:
    answer = await ask(platform.server, platform.make_caller(), headers={"x-priority": priority})
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "unknown_priority", "x-priority")
